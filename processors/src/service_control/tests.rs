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
    let dir = tempfile::tempdir().expect("dir");
    let mut env = testing::environment(dir.path());
    env.service.log_dir = dir.path().join("logs");
    testing::try_nonsense(&super::TABLE, &job, &json!({}), |job, run| {
        let (job, run) = (job.to_string(), run.to_string());
        let input = Input { job_params: Some(&job), instance_params: Some(&run), ..Input::default() };
        plan(&input, &env, Flavour::Control).map(drop).map_err(|problems| problems.to_string())
    });
}

#[test]
fn every_wrong_value_of_every_parameter_is_one_problem_with_its_path_and_what_is_accepted() {
    for flavour in [Flavour::Control, Flavour::Launcher] {
        let table = if flavour == Flavour::Control { &super::TABLE } else { &super::table::LAUNCHER };
        let job = match flavour {
            Flavour::Control => json!({"modelName": "m", "modelPath": "/m", "port": 8001, "unit": "u"}),
            _ => json!({}),
        };
        let dir = tempfile::tempdir().expect("dir");
        let env = testing::environment(dir.path());
        testing::try_wrong_values(table, &job, &json!({}), |job, run| {
            let (job, run) = (job.to_string(), run.to_string());
            let input = Input { job_params: Some(&job), instance_params: Some(&run), ..Input::default() };
            plan(&input, &env, flavour).map(drop).map_err(|problems| problems.to_string())
        });
    }
}

/// `model_name` as `modelName`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}

#[test]
fn each_parameter_alone_changes_the_plan_and_none_is_ignored() {
    let dir = tempfile::tempdir().expect("dir");
    let path = |name: &str| dir.path().canonicalize().expect("there").join(name).display().to_string();
    for name in ["start.py", "compose.yml"] {
        std::fs::write(path(name), "").expect("written");
    }
    let script = json!({"command": null, "scriptPath": path("start.py")});
    let composed = json!({"command": null, "compose.file": path("compose.yml")});
    let url = "http://127.0.0.1:9/up";
    // Name, what it needs beside it, its value, what the plan holds with it and not without it.
    let cases: Vec<(&str, Value, Value, String)> = vec![
        ("action", json!({}), json!("restart"), "action: Restart".into()),
        ("modelName", json!({}), json!("q"), "model: \"q\"".into()),
        ("model_name", json!({"modelName": null}), json!("q"), "model: \"q\"".into()),
        ("modelPath", json!({}), json!("/other"), "path: \"/other\"".into()),
        ("model_path", json!({"modelPath": null}), json!("/other"), "path: \"/other\"".into()),
        ("port", json!({}), json!(9001), "port: Some(9001)".into()),
        ("env", json!({}), json!("test"), "env: Some(\"test\")".into()),
        ("traceId", json!({}), json!("trace"), "trace: Some(\"trace\")".into()),
        ("pythonBin", script.clone(), json!("sh"), "Script([\"sh\"".into()),
        ("scriptPath", json!({"command": null}), json!(path("start.py")), "method: Some(Script(".into()),
        ("command", json!({}), json!(["y", "{modelName}:{port}"]), "Command([\"y\", \"m:8001\"])".into()),
        ("compose.file", json!({"command": null}), json!(path("compose.yml")), "method: Some(Compose {".into()),
        ("compose.project", composed, json!("Own"), "project: \"own\"".into()),
        ("unit", json!({"command": null}), json!("u"), "method: Some(Unit(\"u\"))".into()),
        ("logDir", json!({}), json!(path("own-logs")), format!("log_dir: {:?}", path("own-logs"))),
        ("callbackUrl", json!({}), json!(url), format!("callback: Some({url:?})")),
        ("callback_url", json!({}), json!(url), format!("callback: Some({url:?})")),
        ("healthCheck.type", json!({}), json!("TCP"), "kind: Tcp".into()),
        ("healthCheck.path", json!({}), json!("/p"), "kind: Http(\"/p\")".into()),
        ("healthCheck.command", json!({"healthCheck.type": "CMD"}), json!(["c"]), "kind: Cmd([\"c\"])".into()),
        ("healthCheck.intervalMillis", json!({}), json!(70), "interval: 70ms".into()),
        ("healthCheck.timeoutMillis", json!({}), json!(80), "timeout: 80ms".into()),
        ("healthCheck.maxRetry", json!({}), json!(9), "max: 9".into()),
        ("healthCheck.successThreshold", json!({}), json!(4), "successes: 4".into()),
    ];
    let mut env = testing::environment(dir.path());
    env.service.log_dir = dir.path().join("logs");
    let planned_with = |given: &[(&str, &Value)]| {
        let mut job = json!({"modelName": "m", "modelPath": "/m", "port": 8001, "command": ["x"]});
        for (name, value) in given {
            job[*name] = (*value).clone();
        }
        let text = job.to_string();
        let input = Input { job_params: Some(&text), ..Input::default() };
        plan(&input, &env, Flavour::Control)
            .map(|(plan, _)| format!("{plan:?}"))
            .map_err(|problems| problems.to_string())
    };
    for (name, with, value, wanted) in &cases {
        let beside: Vec<(&str, &Value)> =
            with.as_object().expect("an object").iter().map(|(name, value)| (name.as_str(), value)).collect();
        match planned_with(&beside) {
            Ok(without) => {
                assert!(!without.contains(wanted), "without {name} the plan holds `{wanted}`, too: {without}");
            }
            // Then it, or another way to start, must be there.
            Err(text) => {
                let way = text.contains("one of scriptPath, command, compose.file, unit");
                assert!(way || text.contains(&camel(name)), "without {name}: {text}");
            }
        }
        let all: Vec<(&str, &Value)> = beside.into_iter().chain([(*name, value)]).collect();
        let plan = planned_with(&all).unwrap_or_else(|text| panic!("{name} = {value}: {text}"));
        assert!(plan.contains(wanted), "{name} = {value}: `{wanted}` is not in {plan}");
    }
    let tested: std::collections::BTreeSet<&str> = cases.iter().map(|(name, ..)| *name).collect();
    let known: std::collections::BTreeSet<&str> =
        // What is the same for every processor has tests of its own.
        super::TABLE.all().map(|field| field.name).filter(|name| *name != "testPlatformBaseUrl").collect();
    assert_eq!(tested, known, "every parameter of the table stands above, and nothing else");
}
