//! CollectLogs with much to collect.

use std::{
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use libtest_mimic::Trial;
use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::{
    check,
    support::{Agent, AgentOptions, App, Needs, Parts, TestResult, parts::unique, s3, trial},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![trial(
        "archive::three_hundred_mib_are_streamed_to_s3_in_parts_without_a_temporary_file",
        Needs::S3,
        large_archive,
    )]
}

const MIB: u64 = 1 << 20;

async fn large_archive() -> TestResult {
    let app = App::new("large").await?;
    let bucket = format!("large-{}", unique());
    let temp = Parts::get().dir("large-tmp");
    let mut options = AgentOptions::new(&app.name).with(&s3::bucket(&bucket).await?);
    options.env.push(("TMPDIR".into(), temp.display().to_string()));
    let agent = Agent::start("large", options).await?;
    let run = agent.logs().join("it/20260101/big");
    std::fs::create_dir_all(&run)?;
    write_noise(&run.join("svc-m-1.log"), 300 * MIB)?;
    let before = rss(agent.pid().ok_or("running")?);
    let (most, stop) = watch_memory(agent.pid().ok_or("running")?);

    let job = app
        .job("CollectLogs", &json!({ "jobType": "COLLECT_LOGS", "logBaseDir": agent.logs(), "uploadBase": format!("s3://{bucket}/logs") }), &[])
        .await?;
    let params = json!({ "platformTaskId": "T-big", "upstreamInstanceId": "1", "env": "it", "date": 20_260_101, "logDirSuffix": "big" });
    let instance = app.run(job, &params).await?;
    let info = app.ended(instance).await?;
    stop.store(true, Ordering::Relaxed);
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}\n{}", agent.tail());

    let objects = s3::client()?.list_objects_v2().bucket(&bucket).send().await.map_err(|e| format!("{e:?}"))?;
    let objects = objects.contents();
    check!(objects.len() == 1, "one object is wanted: {objects:?}");
    let etag = objects[0].e_tag().unwrap_or_default();
    let parts: u32 = etag.trim_matches('"').rsplit_once('-').and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
    check!(parts > 1, "the ETag {etag} is not that of a multipart upload");
    check!(objects[0].size().unwrap_or(0) > 290 * MIB as i64, "noise does not shrink: {objects:?}");
    let grown = most.load(Ordering::Relaxed).saturating_sub(before);
    println!("archive of 300 MiB: {parts} parts, the agent's memory grew by {} KiB", grown / 1024);
    check!(grown < 32 * MIB, "the agent's memory grew by {} MiB", grown / MIB);
    let left: Vec<_> = std::fs::read_dir(&temp)?.flatten().map(|e| e.path()).collect();
    check!(left.is_empty(), "temporary files: {left:?}");
    Ok(())
}

/// What no compressor makes smaller: a generator's output, quick to make.
fn write_noise(file: &Path, bytes: u64) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(file)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&state.to_le_bytes())?;
    }
    out.flush()
}

fn rss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Keeps the highest memory of a process until told to stop.
fn watch_memory(pid: u32) -> (Arc<AtomicU64>, Arc<AtomicBool>) {
    let (most, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (m, s) = (Arc::clone(&most), Arc::clone(&stop));
    std::thread::spawn(move || {
        while !s.load(Ordering::Relaxed) {
            m.fetch_max(rss(pid), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    (most, stop)
}
