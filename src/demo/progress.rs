//! Watches the workflow and shows on standard error what happens.

use std::time::{Duration, Instant};

use anyhow::bail;
use powerjob_worker::openapi::{InstanceStatus, OpenApi, WfInstanceInfo};
use testrig_joblog::Level;

use super::jobs::DemoJob;
use crate::agent::Agent;

/// Nothing in the demo takes this long.
const LIMIT: Duration = Duration::from_secs(600);
const EVERY: Duration = Duration::from_millis(150);

/// One node as it was shown last.
#[derive(Default)]
struct Shown {
    started: Option<Instant>,
    ended: bool,
    next_line: u64,
}

/// Returns when the workflow instance has ended.
pub(super) async fn follow(
    api: &OpenApi,
    app_id: i64,
    run: &i64,
    jobs: &[DemoJob],
    agent: &Agent,
) -> anyhow::Result<WfInstanceInfo> {
    let mut shown: Vec<Shown> = jobs.iter().map(|_| Shown::default()).collect();
    let began = Instant::now();
    loop {
        let info = api.fetch_wf_instance_info(app_id, *run).await?;
        let nodes = info.nodes()?;
        for (i, job) in jobs.iter().enumerate() {
            let Some(node) = nodes.iter().find(|n| n.node_name.as_deref() == Some(job.name)) else { continue };
            let Some(id) = node.instance_id else { continue };
            let shown = &mut shown[i];
            if shown.started.is_none() {
                shown.started = Some(Instant::now());
                eprintln!("\n[{}/{}] {}  instance {id}", i + 1, jobs.len(), job.processor);
            }
            print_lines(agent, id, &mut shown.next_line);
            let status = node.status.and_then(|s| InstanceStatus::from_code(i64::from(s)));
            if let Some(status) = status.filter(|s| s.is_final() && !shown.ended) {
                shown.ended = true;
                let took = shown.started.map_or(0.0, |s| s.elapsed().as_secs_f64());
                eprintln!("[{}/{}] {} {} after {took:.1} s", i + 1, jobs.len(), job.processor, status.name());
                if status != InstanceStatus::Succeed {
                    eprintln!("      {}", node.result.as_deref().unwrap_or("no result text"));
                }
            }
        }
        if info.status().is_some_and(|s| s.is_final()) {
            return Ok(info);
        }
        if began.elapsed() > LIMIT {
            bail!("the workflow did not end within {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The agent's own lines; what the service prints stays in its file.
fn print_lines(agent: &Agent, instance: i64, next: &mut u64) {
    let Ok(Some(journal)) = agent.journals().existing(instance) else { return };
    while let Ok(lines) = journal.read(*next, 500, 1 << 20) {
        let Some(last) = lines.last() else { return };
        *next = last.index + 1;
        // The resolved parameters stand in the journal; here they would fill the screen.
        for line in lines
            .iter()
            .filter(|l| (l.source == "agent" || l.level >= Level::Warn) && !l.text.starts_with("parameters: "))
        {
            eprintln!("      {}", line.text);
        }
    }
}
