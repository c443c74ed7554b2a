//! What parameters ask for reaches the service, its requests, its environment and the result.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::HeaderMap, routing::post};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{common::HELPER, rig::Rig};

/// Requests as they came: the key that they brought, and their body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// An OpenAI-compatible service that answers `yes`.
async fn answer(State(asked): State<Asked>, headers: HeaderMap, Json(body): Json<Value>) -> String {
    let key = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    asked.lock().push((key, body));
    let token = json!({"choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": null}]});
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1}});
    format!("data: {token}\n\ndata: {end}\n\ndata: [DONE]\n\n")
}

async fn service() -> (String, Asked) {
    let asked = Asked::default();
    let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(Arc::clone(&asked));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", socket.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(socket, app).await });
    (url, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_load_is_made_of_what_its_parameters_say() {
    let (url, asked) = service().await;
    let mut datasets = None;
    let rig = Rig::with(2701, |env| {
        env.secrets.insert("main".into(), "sesame".into());
        let dir = env.state_dir.with_file_name("datasets");
        env.datasets = Some(dir.clone());
        datasets = Some(dir);
    });
    let datasets = datasets.expect("set above");
    std::fs::create_dir(&datasets).expect("made");
    let item = |id: &str, reference: &str| json!({"id": id, "prompt": format!("is it {id}?"), "reference": reference});
    std::fs::write(datasets.join("own.jsonl"), format!("{}\n{}\n", item("a", "yes"), item("b", "no")))
        .expect("written");
    std::fs::write(datasets.join("other.jsonl"), format!("{}\n", item("c", "yes"))).expect("written");
    let mut job = rig.job(&[]);
    job["service.command"] = Value::Null;
    job["monitor"] = Value::Null;
    let mut run = rig.run();
    run["servicePort"] = Value::Null;
    run["service.reuse"] = json!(url);
    run["healthCheckOverrides.type"] = json!("NONE");
    // Nothing that is due is left out, however slow the host is.
    run["concurrency"] = Value::Null;
    run["qps"] = json!(40);
    run["runSeconds"] = json!(1.5);
    run["datasetId"] = json!("own");
    run["test"] = json!({"model": "served-name", "apiKeyRef": "main", "maxTokens": 3, "temperature": 0.25,
        "arrival": "poisson", "scorer": "exact", "sloTtftMs": 1e9, "sloTpotMs": 1e9, "sloE2elMs": 1e9});
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let all = std::mem::take(&mut *asked.lock());
    assert!(all.len() >= 2, "{all:?}");
    for (key, body) in &all {
        assert_eq!(key, "Bearer sesame");
        let said = (body["model"].as_str(), body["max_tokens"].as_u64(), body["temperature"].as_f64());
        assert_eq!(said, (Some("served-name"), Some(3), Some(0.25)), "{body}");
        let prompt = body["messages"][0]["content"].as_str().expect("a prompt");
        assert!(["is it a?", "is it b?"].contains(&prompt), "{prompt}");
    }
    let found = rig.result();
    let load = &found["load"];
    assert_eq!((load["arrival"].as_str(), load["qps"].as_f64()), (Some("poisson"), Some(40.0)), "{load}");
    assert_eq!((load["datasetId"].as_str(), load["runSeconds"].as_f64()), (Some("own"), Some(1.5)), "{load}");
    let metrics = &found["metrics"];
    let accuracy = metrics["accuracy"].as_f64().expect("judged");
    assert!(accuracy > 0.0 && accuracy < 1.0, "half of the references fit: {metrics}");
    assert_eq!(metrics["goodput_ratio"].as_f64(), Some(1.0), "everything is good enough: {metrics}");

    // Another file, and objectives that nothing can meet, one at a time.
    run["datasetId"] = Value::Null;
    run["datasetPath"] = json!(datasets.join("other.jsonl"));
    run["runSeconds"] = json!(0.3);
    for slo in ["sloTtftMs", "sloE2elMs"] {
        run["test"] = json!({slo: 0});
        let result = rig.process(&rig.context(&job, &run)).await;
        assert!(result.success, "{}\n{}", result.message, rig.log_text());
        assert_eq!(rig.result()["metrics"]["goodput_ratio"].as_f64(), Some(0.0), "{slo}: {}", rig.result()["metrics"]);
    }
    let all = std::mem::take(&mut *asked.lock());
    assert!(all.iter().all(|(_, body)| body["messages"][0]["content"] == "is it c?"), "{all:?}");
    assert!(all.iter().all(|(key, body)| key.is_empty() && body["model"] == "m"), "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_environment_directory_and_limits_of_a_run_are_those_of_its_parameters() {
    let rig = Rig::new(2710);
    let scripts = rig.place.dir.path().join("scripts");
    std::fs::create_dir(&scripts).expect("made");
    let mut job = rig.job(&[]);
    // A host that is busy may take its time.
    job["healthCheck"]["maxRetry"] = json!(100_000);
    job["envDefault"] = json!("lab");
    job["hostScriptDir"] = json!(scripts);
    job["resourceGuard"] = json!({"maxConcurrency": 1});
    let script = format!("echo $TRACE_ID $OWN $MODEL_KEY in $(pwd); exec {HELPER} stub --port {{servicePort}}");
    job["service.command"] = json!(["sh", "-c", script]);
    let mut run = rig.run();
    run["testPlanId"] = json!("P1");
    run["triggerUser"] = json!("u001");
    run["traceId"] = json!("trace-7");
    run["modelVersion"] = json!("v1.2");
    run["envVars"] = json!({"OWN": "value"});
    run["runSeconds"] = json!(0.5);
    let result = rig.process(&rig.context(&job, &run)).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let line = format!("trace-7 value m in {}", scripts.canonicalize().expect("there").display());
    assert!(rig.service_lines().contains(&line), "{:?}", rig.service_lines());
    // `rig.log_dir` looks below the default environment.
    let lab = rig.place.dir.path().join("logs/lab");
    let day = std::fs::read_dir(lab).expect("the environment's directory").next().expect("a day").expect("readable");
    let dir = day.path().join("task-2710");
    let found: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("result.json")).expect("there")).expect("JSON");
    for (name, value) in [
        ("testPlanId", "P1"),
        ("triggerUser", "u001"),
        ("traceId", "trace-7"),
        ("modelVersion", "v1.2"),
        ("env", "lab"),
    ] {
        assert_eq!(found[name], value, "{name}");
    }
    assert_eq!(found["load"]["concurrency"], 1, "{}", found["load"]);
    assert!(found["warnings"].to_string().contains("resourceGuard.maxConcurrency 1"), "{}", found["warnings"]);
    let records = std::fs::read_to_string(dir.join("metrics-chat_completion.log")).expect("there");
    let record: Value = serde_json::from_str(records.lines().next().expect("a record")).expect("JSON");
    for (name, value) in [("testPlanId", "P1"), ("traceId", "trace-7"), ("modelVersion", "v1.2"), ("bizLine", "tests")]
    {
        assert_eq!(record["tags"][name], value, "{record}");
    }
}
