//! `testrig run FILE --dry-run`: the exit code says whether anything stands against a start, and nothing is left behind.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    check,
    support::{Needs, Parts, TestResult, trial},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("dry_run::a_good_run_is_shown_and_nothing_of_it_is_done", Needs::Nothing, good),
        trial("dry_run::what_stands_against_a_start_is_named_and_changes_the_exit_code", Needs::Nothing, hindered),
    ]
}

struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

fn dry_run(dir: &std::path::Path, file: &Value, more: &[&str]) -> Result<Said, libtest_mimic::Failed> {
    let path = dir.join("run.json");
    std::fs::write(&path, file.to_string())?;
    let out = Command::new(&Parts::get().testrig)
        .arg("run")
        .arg(&path)
        .args(["--dry-run", "--state-dir"])
        .arg(dir.join("state"))
        .args(more)
        .output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { code: out.status.code(), out: text(&out.stdout), error: text(&out.stderr) })
}

/// A host process that would be noticed if it ran.
fn job(dir: &std::path::Path) -> Value {
    json!({
        "processor": "RunLLMTest",
        "jobParams": {"jobType": "RUN_LLM_TEST", "hostLogBaseDir": dir.join("state/logs"), "monitor.trackMode": "PROCESS",
            "service.command": ["/bin/sh", "-c", format!("touch {}", dir.join("it-ran").display())]},
        "instanceParams": {"platformTaskId": "T1", "modelKey": "m", "servicePort": 8000, "scenario": "chat_completion"},
    })
}

async fn good() -> TestResult {
    let dir = Parts::get().dir("dry-run-good");
    let said = dry_run(&dir, &job(&dir), &["--json"])?;
    check!(said.code == Some(0), "exit code {:?}: {}{}", said.code, said.out, said.error);
    let shown: Value = serde_json::from_str(&said.out)?;
    check!(shown["wouldStart"] == true, "{shown:#}");
    let plan = shown["nodes"][0]["preview"]["plan"].as_array().cloned().unwrap_or_default();
    let service = plan.iter().find(|step| step["about"] == "service").cloned().unwrap_or_default();
    check!(
        service["text"].as_str().is_some_and(|text| text.starts_with("host process `/bin/sh -c touch")),
        "{shown:#}"
    );
    let left: Vec<_> = std::fs::read_dir(&dir)?.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    check!(left == ["run.json"], "it left {left:?}");
    Ok(())
}

async fn hindered() -> TestResult {
    let dir = Parts::get().dir("dry-run-hindered");
    let mut job = job(&dir);
    job["instanceParams"]["resources"] = json!({"gpus": 1});
    let said = dry_run(&dir, &job, &["--set", "accelerators.provider=none"])?;
    check!(said.code == Some(1), "exit code {:?}: {}{}", said.code, said.out, said.error);
    check!(said.out.contains("accelerators (!)") && said.out.contains("asked were 1 accelerator"), "{}", said.out);
    job["instanceParams"]["servicePort"] = json!("many");
    let said = dry_run(&dir, &job, &[])?;
    check!(said.code == Some(1) && said.out.contains("PROBLEM: instanceParams.servicePort"), "{}", said.out);
    job["processor"] = json!("RunLLMTes");
    let said = dry_run(&dir, &job, &[])?;
    check!(said.code == Some(2) && said.error.contains("did you mean `RunLLMTest`"), "{}", said.error);
    Ok(())
}
