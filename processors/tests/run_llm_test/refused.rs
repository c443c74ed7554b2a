//! Parameters that are wrong: one clear error before anything starts.

use std::path::PathBuf;

use serde_json::{Value, json};
use testrig_processors::{params::Home, schema, tables};

use crate::{common::HELPER, rig::Rig, wrong};

/// A job whose service and scripts would leave a file if one of them ran, and that file.
fn job(rig: &Rig) -> (Value, PathBuf) {
    let ran = rig.place.dir.path().join("something-ran");
    let script = rig.place.dir.path().join("touch.sh");
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\n", ran.display())).expect("written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let mut job = rig.job(&[]);
    // A host that is busy may take its time.
    job["healthCheck"]["maxRetry"] = json!(100_000);
    let service = format!("touch {}; exec {HELPER} stub --port {{servicePort}}", ran.display());
    job["service.command"] = json!(["sh", "-c", service]);
    job["env"] = json!({"setupScript": script, "teardownScript": script});
    (job, ran)
}

/// Puts a value where the reader finds it: inside of an object that is there already, or under the dotted name.
fn set(params: &mut Value, name: &str, value: Value) {
    match name.split_once('.').filter(|(head, _)| params[*head].is_object()) {
        Some((head, rest)) => params[head][rest] = value,
        None => params[name] = value,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_run_leaves_its_result_where_its_directory_would_be_and_touches_no_other_one() {
    let rig = Rig::new(2601);
    let (mut bad, ran) = job(&rig);
    let good = bad.clone();
    bad["healthCheck"]["type"] = json!("HTPP");
    let mut run = rig.run();
    run["hostPort"] = json!(-1);
    run["traceId"] = json!("t1");
    let ctx = rig.context(&bad, &run);
    let result = rig.process(&ctx).await;
    let found = rig.result();
    assert_eq!((&found["status"], &found["ending"]), (&json!("FAILED"), &json!("bad_parameters")), "{found}");
    assert_eq!((&found["instanceId"], &found["traceId"]), (&json!("2601"), &json!("t1")), "{found}");
    let paths: Vec<&Value> =
        found["failure"]["problems"].as_array().expect("a list").iter().map(|one| &one["path"]).collect();
    assert_eq!(paths, ["instanceParams.hostPort", "jobParams.healthCheck.type"]);
    let reason = found["failure"]["reason"].as_str().expect("a text");
    assert!(result.message.contains(reason), "{reason}\n{}", result.message);
    let files: Vec<_> =
        std::fs::read_dir(rig.log_dir()).expect("there").map(|file| file.expect("file").file_name()).collect();
    assert_eq!(files, ["result.json"], "nothing else was made");
    assert!(!ran.exists());
    // A further attempt with good parameters sets it aside, and one that is refused leaves what that made.
    let again = powerjob_worker::TaskContext { attempt: 2, ..rig.context(&good, &rig.run()) };
    let result = rig.process(&again).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let before = rig.read("result.json");
    let third = powerjob_worker::TaskContext { attempt: 3, ..ctx };
    assert!(!rig.process(&third).await.success);
    assert_eq!(rig.read("result.json"), before);
    // Without a name for it there is no directory.
    let nameless = Rig::new(2602);
    let (mut bad, _) = job(&nameless);
    bad["healthCheck"]["type"] = json!("HTPP");
    for (name, value) in [("logDirSuffix", json!("a/b")), ("env", json!("..")), ("platformTaskId", json!(null))] {
        let mut run = nameless.run();
        run["logDirSuffix"] = Value::Null;
        run[name] = value;
        assert!(!nameless.process(&nameless.context(&bad, &run)).await.success);
        assert!(!nameless.place.dir.path().join("logs").exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_value_of_any_parameter_is_told_with_its_path_and_nothing_is_started() {
    let rig = Rig::new(2600);
    let (good, ran) = job(&rig);
    let table = tables().iter().find(|table| table.processor == "RunLLMTest").expect("it is one");
    let mut tried = std::collections::BTreeSet::new();
    for wrong::Wrong { name, value } in wrong::values(&schema("RunLLMTest").expect("a schema")) {
        // One of each is enough here: the plan's own tests try them all.
        if !tried.insert(name.clone()) {
            continue;
        }
        let home = table.field(&name).map_or(Home::Job, |field| field.home);
        let (mut job, mut run) = (good.clone(), rig.run());
        let (label, target) = if home == Home::Job { ("jobParams", &mut job) } else { ("instanceParams", &mut run) };
        // `env` of the run is a text, the `env` of the template an object.
        set(target, &name, value.clone());
        let result = rig.process(&rig.context(&job, &run)).await;
        let text = &result.message;
        assert!(!result.success && !result.retryable, "{name} = {value}: {text}");
        let head = format!("stage plan failed: the parameters of RunLLMTest are not usable: {label}.{name}: found ");
        assert!(text.starts_with(&head), "{name} = {value}: `{head}` is not the begin of {text}");
        assert!(
            text.contains("; accepted: ") && text.ends_with("\nending: bad_parameters"),
            "{name} = {value}: {text}"
        );
    }
    assert!(tried.len() > 100, "only {} parameters were tried", tried.len());
    assert!(!ran.exists(), "a service or a script was started");
    assert!(!rig.log_text().contains("stage lease: begins"), "{}", rig.log_text());
    assert_eq!(rig.survivors(), [] as [String; 0]);
    // It is these values and nothing else: without them the run is good, and the file would have been there.
    let result = rig.process(&rig.context(&good, &rig.run())).await;
    assert!(result.success && ran.exists(), "{}\n{}", result.message, rig.log_text());
}
