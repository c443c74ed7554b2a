use serde_json::{Value, json};

use super::plan::{Action, Flavour, Health, Method, plan};
use crate::{params::Input, testing};

fn planned(job: &Value, flavour: Flavour) -> Result<(super::Plan, Vec<String>), String> {
    let dir = tempfile::tempdir().expect("dir");
    planned_in(dir.path(), job, flavour)
}

fn planned_in(dir: &std::path::Path, job: &Value, flavour: Flavour) -> Result<(super::Plan, Vec<String>), String> {
    let text = job.to_string();
    let input = Input { job_params: Some(&text), ..Input::default() };
    let env = testing::environment(dir);
    plan(&input, &env, flavour).map(|(plan, params)| (plan, params.warnings())).map_err(|problems| problems.to_string())
}

#[test]
fn a_script_gets_the_flags_of_the_specification_and_snake_case_names_are_the_same() {
    let dir = tempfile::tempdir().expect("dir");
    let script = dir.path().join("start.py");
    std::fs::write(&script, "").expect("written");
    let job = json!({"model_name": "m", "model_path": "/data/m", "port": "8001", "pythonBin": "python3",
        "scriptPath": script, "callback_url": "http://127.0.0.1:9/up"});
    let (plan, warnings) = planned_in(dir.path(), &job, Flavour::Control).expect("good");
    let script = std::fs::canonicalize(&script).expect("there").display().to_string();
    let words = ["python3", &script, "--model-name", "m", "--model-path", "/data/m", "--port", "8001"];
    let words: Vec<String> =
        words.into_iter().chain(["--callback-url", "http://127.0.0.1:9/up"]).map(str::to_owned).collect();
    assert_eq!(plan.method, Some(Method::Script(words)));
    assert_eq!((plan.action, plan.checks.kind), (Action::Start, Health::Http("/v1/models".into())));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn the_specifications_names_take_what_is_missing_from_the_configuration_and_say_so() {
    let (plan, warnings) = planned(&json!({}), Flavour::Launcher).expect("good");
    let Some(Method::Script(words)) = plan.method else { panic!("{:?}", plan.method) };
    assert_eq!(
        words.join(" "),
        "/opt/llm/venv/bin/python /opt/llm/scripts/start_llm.py --model-name qwen-7b --model-path /data/models/qwen-7b --port 8000"
    );
    assert_eq!(plan.checks.kind, Health::None, "the script's exit code decides");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let (plan, _) = planned(&json!({"healthCheck": {"type": "TCP"}}), Flavour::Launcher).expect("good");
    assert_eq!(plan.checks.kind, Health::Tcp);
}

#[test]
fn the_streaming_name_ignores_interpreter_script_and_callback_with_a_warning() {
    let job = json!({"modelName": "m", "modelPath": "/m", "port": 8001, "pythonBin": "/bin/sh", "scriptPath": "/etc/passwd",
        "callbackUrl": "http://127.0.0.1:9/"});
    let (plan, warnings) = planned(&job, Flavour::Streaming).expect("good");
    let Some(Method::Script(words)) = plan.method else { panic!("{:?}", plan.method) };
    assert_eq!(words[..2], ["/opt/llm/venv/bin/python", "/opt/llm/scripts/start_llm.py"]);
    assert!(!words.contains(&"--callback-url".to_owned()));
    assert_eq!(warnings.iter().filter(|text| text.contains("is ignored")).count(), 3, "{warnings:?}");
}

#[test]
fn what_is_missing_wrong_or_said_twice_is_refused_by_name() {
    let cases = [
        (json!({}), "jobParams.modelName: is missing"),
        (json!({}), "jobParams.port: is missing"),
        (json!({}), "jobParams.scriptPath: is missing; accepted: one of scriptPath, command, compose.file, unit"),
        (json!({"modelName": "m", "command": ["a"], "unit": "b"}), "jobParams.command: is given beside unit"),
        (json!({"modelName": "m", "command": []}), "jobParams.command: is empty"),
        (json!({"modelName": "m", "port": 70000, "command": ["a"]}), "jobParams.port"),
        (
            json!({"modelName": "m", "port": 1, "modelPath": "x", "pythonBin": "sh", "scriptPath": "/etc/passwd"}),
            "outside of the allowed roots",
        ),
        (json!({"modelName": "m", "compose": {"file": "/etc/passwd"}}), "jobParams.compose.file"),
        (
            json!({"modelName": "m", "unit": "u", "healthCheck": {"type": "TCP"}}),
            "jobParams.port: is missing; the health check needs it",
        ),
        (
            json!({"modelName": "m", "port": 1, "unit": "u", "healthCheck": {"type": "CMD"}}),
            "jobParams.healthCheck.command",
        ),
        (json!({"modelName": "m", "port": 1, "unit": "u", "healthCheck": {"path": "x"}}), "jobParams.healthCheck.path"),
        (
            json!({"modelName": "m", "port": 1, "modelPath": "x", "command": ["a"], "logDir": "/var/log"}),
            "jobParams.logDir",
        ),
        (json!({"modelName": "m", "action": "begin"}), "jobParams.action"),
        (json!({"modelName": "../m", "action": "stop"}), "jobParams.modelName"),
    ];
    for (job, expected) in cases {
        let text = planned(&job, Flavour::Control).err().unwrap_or_else(|| panic!("{job} was accepted"));
        assert!(text.contains(expected), "{job}: {text}");
    }
}

#[test]
fn stop_and_status_need_the_name_only() {
    for action in ["stop", "status"] {
        let (plan, _) = planned(&json!({"modelName": "m", "action": action}), Flavour::Control).expect("good");
        assert_eq!(plan.method, None);
    }
}

#[test]
fn nonsense_in_any_parameter_is_a_message_with_its_name() {
    let job = json!({"modelName": "m", "modelPath": "/m", "port": 8001, "command": ["sleep", "1"]});
    testing::try_nonsense(&super::TABLE, &job, &json!({}), |job, run| {
        let (job, run) = (job.to_string(), run.to_string());
        let dir = tempfile::tempdir().expect("dir");
        let input = Input { job_params: Some(&job), instance_params: Some(&run), ..Input::default() };
        let mut env = testing::environment(dir.path());
        env.service.log_dir = dir.path().join("logs");
        plan(&input, &env, Flavour::Control).map(drop).map_err(|problems| problems.to_string())
    });
}
