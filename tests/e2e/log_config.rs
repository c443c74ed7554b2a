//! `logConfig` on the real server: where a log goes, and which lines.

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::InstanceStatus;
use serde_json::{Value, json};

use crate::{
    check,
    support::{Agent, AgentOptions, App, ExampleWorker, Needs, TestResult, eventually, trial, ws},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("log_config::every_type_sends_its_lines_where_it_says", Needs::Server, types),
        trial("log_config::every_level_keeps_its_lines_and_graver_ones", Needs::Server, levels),
        trial("log_config::a_log_that_keeps_nothing_still_tells_the_websocket_how_it_ended", Needs::Server, websocket),
    ]
}

/// Runs `echo` with these settings; gives the instance, what the journal has, and what the server shows.
async fn run(
    app: &App,
    worker: &ExampleWorker,
    config: Value,
    params: Value,
) -> Result<(i64, Vec<String>, String), Failed> {
    let job = app.job("echo", &params, &[("logConfig", config)]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    check!(info.running_times == Some(1), "{info:?}");
    let journal = worker.journal(instance)?;
    Ok((instance, journal, app.api.whole_log(app.id, instance).await?))
}

const NO_LOG: &str = "SYSTEM: There is no online log for this job instance.";

async fn types() -> TestResult {
    let app = App::new("log-types").await?;
    let worker = ExampleWorker::start(&app).await?;
    let last = "line 2 of 2: ";
    for (kind, online, kept, printed) in [
        (1, true, true, false),
        (2, false, true, false),
        (3, false, true, true),
        (4, true, true, false),
        (999, false, false, false),
    ] {
        let (id, journal, shown) =
            run(&app, &worker, json!({ "type": kind, "level": 2 }), json!({ "lines": 2 })).await?;
        check!(journal.iter().any(|line| line.starts_with(last)) == kept, "type {kind}: journal {journal:#?}");
        check!(kept || journal.is_empty(), "type {kind}: the worker's own lines obey, too: {journal:#?}");
        check!(shown.contains(last) == online && shown.contains(NO_LOG) != online, "type {kind}: server {shown}");
        let line = format!("[PowerJob] [INFO] [{id}] {last}");
        if printed {
            eventually("it is printed", || async {
                let log = worker.log();
                if log.matches(&line).count() == 1 { Ok(()) } else { Err(log) }
            })
            .await?;
        }
        check!(worker.log().contains(&line) == printed, "type {kind}: printed {}", worker.log());
    }
    Ok(())
}

async fn levels() -> TestResult {
    let app = App::new("log-levels").await?;
    let worker = ExampleWorker::start(&app).await?;
    for (level, debug, info, error) in [
        (1, true, true, true),
        (2, false, true, true),
        (3, false, false, true),
        (4, false, false, true),
        (99, false, false, false),
    ] {
        let (_, journal, shown) =
            run(&app, &worker, json!({ "type": 1, "level": level }), json!({ "lines": 2, "fail": "on purpose" }))
                .await?;
        for (text, wanted) in [("job parameters Some", debug), ("line 2 of 2: ", info), ("FAILED after ", error)] {
            check!(journal.iter().any(|line| line.starts_with(text)) == wanted, "level {level}, {text}: {journal:#?}");
            check!(shown.contains(text) == wanted, "level {level}, {text}: server {shown}");
        }
    }
    Ok(())
}

async fn websocket() -> TestResult {
    let app = App::new("log-null").await?;
    let agent = Agent::start("log-null", AgentOptions::new(&app.name)).await?;
    for (kind, kept) in [(2, true), (999, false)] {
        let job =
            app.job("RunLLMTest", &json!("no json"), &[("logConfig", json!({ "type": kind, "level": 2 }))]).await?;
        let instance = app.run(job, &Value::Null).await?;
        let info = app.ended(instance).await?;
        check!(info.status() == Some(InstanceStatus::Failed), "{info:?}");
        let socket = ws::subscribe(&agent.admin, instance, 0, usize::MAX).await?;
        check!(socket.closed == Some((1000, "FAILED".into())), "type {kind}: {:?}", socket.closed);
        check!(socket.lines.is_empty() != kept, "type {kind}: {:#?}", socket.lines);
    }
    Ok(())
}
