mod each;
mod hostile;

use std::path::Path;

use serde_json::{Value, json};
use testrig_host::docker::{Network, PullPolicy};
use testrig_loadgen::Arrival;

use super::{super::table::TABLE, *};
use crate::{
    params::{self, Input},
    testing::environment,
};

fn build(env: &Environment, job: &Value, run: &Value) -> Result<Plan, String> {
    let (job, run) = (job.to_string(), run.to_string());
    let mut params =
        params::read(&TABLE, &Input { job_params: Some(&job), instance_params: Some(&run), ..Input::default() });
    let mode = track_mode(&params).unwrap_or(TrackMode::Container);
    Plan::build(&mut params, env, mode, 1).map_err(|problems| problems.to_string())
}

fn job(dir: &Path) -> Value {
    json!({"jobType": "RUN_LLM_TEST", "hostLogBaseDir": dir.join("logs"), "docker.baseImage": "registry/base"})
}

fn run() -> Value {
    json!({"platformTaskId": "T 1", "modelKey": "m", "modelVersion": "v1", "scenario": "chat_completion", "servicePort": 8000})
}

fn container(plan: &Plan) -> &ContainerPlan {
    match &plan.target {
        Target::Container(container) => container,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plan_takes_the_specifications_parameters_as_they_stand_there() {
    let dir = tempfile::tempdir().expect("dir");
    let scripts = dir.path().join("scripts");
    std::fs::create_dir(&scripts).expect("dir");
    let env = environment(dir.path());
    let job = json!({
        "jobType": "RUN_LLM_TEST", "envDefault": "staging", "hostLogBaseDir": dir.path().join("logs"), "containerLogBaseDir": "/app/logs",
        "hostScriptDir": scripts, "containerWorkDir": "/app", "containerEntryScript": "/app/run_llm_test.sh",
        "docker": {"runtime": "runc", "networkMode": "bridge", "baseImage": "registry/llm-test-base:latest", "pullPolicy": "Always",
            "defaultCpuLimit": "4", "defaultMemoryLimit": "8g", "defaultGpuCount": 0},
        "healthCheck": {"type": "HTTP", "path": "/healthz", "portKey": "servicePort", "intervalMillis": 2000, "timeoutMillis": 1000,
            "maxRetry": 30, "successThreshold": 2, "failureThreshold": 4},
        "monitor": {"trackMode": "CONTAINER", "statsSampleIntervalSeconds": 5, "collectMetrics": true, "killOnTimeout": true,
            "stopTimeoutSeconds": 30, "cleanupPolicy": "REMOVE_ON_SUCCESS"},
        "defaultLoad": {"qps": 5, "concurrency": 8, "warmupSeconds": 3, "runSeconds": 60},
    });
    let run = json!({
        "platformTaskId": "T20251123-0001", "testPlanId": "P1", "triggerUser": "u001", "modelKey": "qwen2_7b", "modelVersion": "v1.0.3",
        "scenario": "chat_completion", "image": "registry/llm/llm-qwen2", "containerName": "llm-test-T20251123-0001",
        "resources": {"cpu": "8", "memory": "16g", "gpus": 1}, "servicePort": 18080, "hostPort": 28080,
        "volumes": [{"hostPath": scripts, "containerPath": "/data", "mode": "ro"}], "envVars": {"MODEL_KEY": "qwen2_7b"},
        "qps": 20, "concurrency": 10, "warmupSeconds": 1, "runSeconds": 30, "logDirSuffix": "task-T20251123-0001",
        "extraTags": {"bizLine": "llm_test"}, "healthCheckOverrides": {"path": "/ready", "maxRetry": 60},
        "monitorOverrides": {"maxRunSeconds": 900, "killSignal": "SIGINT", "forceKillAfterSeconds": 7},
    });
    let plan = build(&env, &job, &run).expect("good");
    assert_eq!(plan.who.env, "staging");
    assert_eq!(
        (plan.health.kind.clone(), plan.health.max_retry, plan.health.port),
        (HealthKind::Http("/ready".into()), 60, Some(18080))
    );
    assert_eq!((plan.health.success_threshold, plan.health.failure_threshold), (2, 4));
    assert_eq!(plan.monitor.max_run, Some(Duration::from_secs(900)));
    assert_eq!((plan.monitor.kill_signal, plan.monitor.grace), (Signal::INT, Duration::from_secs(7)));
    assert_eq!(plan.monitor.cleanup, Cleanup::OnSuccess);
    assert_eq!(plan.accelerators.count, 1);
    assert_eq!(plan.load.arrival, Arrival::Constant { qps: 20.0, concurrency: Some(10) });
    assert_eq!((plan.load.warmup, plan.load.run), (Duration::from_secs(1), Duration::from_secs(30)));
    let container = container(&plan);
    assert_eq!(container.image, "registry/llm/llm-qwen2:v1.0.3", "the version is the tag that the image has not");
    assert_eq!((container.pull, &container.network), (PullPolicy::Always, &Network::Bridge));
    assert_eq!((container.cpus, container.memory), (Some(8.0), Some(16 << 30)));
    assert_eq!((container.ports.as_slice(), container.host_port), (&[18080][..], 28080));
    let mounts: Vec<_> = container.mounts.iter().map(|mount| (mount.container.as_str(), mount.read_only)).collect();
    assert_eq!(mounts, [("/app/scripts", true), ("/data", true)]);
}

#[test]
fn what_is_not_given_has_the_documented_default() {
    let dir = tempfile::tempdir().expect("dir");
    let plan = build(&environment(dir.path()), &job(dir.path()), &run()).expect("good");
    assert_eq!(plan.who.env, "dev");
    assert_eq!(plan.load.arrival, Arrival::Closed { concurrency: 1 });
    assert_eq!((plan.load.warmup, plan.load.run), (Duration::ZERO, Duration::from_secs(60)));
    assert_eq!(plan.load.dataset_id, "builtin");
    assert_eq!(plan.load.model, "m");
    assert_eq!((plan.monitor.grace, plan.monitor.kill_signal), (Duration::from_secs(30), Signal::TERM));
    assert_eq!(plan.monitor.sample_every, Some(Duration::from_secs(5)));
    let container = container(&plan);
    assert_eq!((container.image.as_str(), container.name.as_str()), ("registry/base:v1", "llm-test-T_1"));
    assert_eq!((container.log_dir.as_str(), container.host_port), ("/app/logs", 0));
}

#[test]
fn a_rate_alone_is_not_throttled_by_the_closed_loops_default_concurrency() {
    let dir = tempfile::tempdir().expect("dir");
    let mut run = run();
    run["qps"] = json!(50);
    let plan = build(&environment(dir.path()), &job(dir.path()), &run).expect("good");
    assert_eq!(plan.load.arrival, Arrival::Constant { qps: 50.0, concurrency: None });
}

#[test]
fn the_health_port_may_be_in_any_parameter_that_port_key_names() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut job, mut run) = (job(dir.path()), run());
    job["healthCheck.portKey"] = json!("adminPort");
    run["adminPort"] = json!("9100");
    let plan = build(&environment(dir.path()), &job, &run).expect("good");
    assert_eq!(plan.health.port, Some(9100));
    assert_eq!(container(&plan).ports, [8000, 9100]);
    run["adminPort"] = json!(70000);
    let text = build(&environment(dir.path()), &job, &run).expect_err("no port");
    assert!(text.contains("jobParams.healthCheck.portKey: names `adminPort`, where 70000 was found"), "{text}");
}

/// Job and run parameters that spoil a good plan, and what must be said.
#[test]
fn every_bad_parameter_is_one_clear_problem_with_its_path() {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("broken.jsonl"), "{\"prompt\":\"a\"}\nnot json\n").expect("file");
    std::fs::write(dir.path().join("empty.jsonl"), "\n").expect("file");
    let mut env = environment(dir.path());
    env.allowed_images = Some(vec!["registry/*".into()]);
    env.datasets = Some(dir.path().to_owned());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let cases: Vec<(Value, Value, &str)> = vec![
        (
            json!({"hostLogBaseDir": "/etc"}),
            json!({}),
            "jobParams.hostLogBaseDir: `/etc` is outside of the allowed roots",
        ),
        (json!({"hostScriptDir": path("no")}), json!({}), "jobParams.hostScriptDir: "),
        (json!({"docker.privileged": true}), json!({}), "jobParams.docker.privileged: is not allowed here"),
        (
            json!({"docker.pullPolicy": "Sometimes"}),
            json!({}),
            "jobParams.docker.pullPolicy: found the text \"Sometimes\"; accepted: one of IfNotPresent, Always, Never",
        ),
        (
            json!({"docker.networkMode": "none"}),
            json!({}),
            "jobParams.docker.networkMode: `none` leaves the service unreachable",
        ),
        (
            json!({"docker.ulimits": [{"name": "nofile", "soft": "x", "hard": 1}]}),
            json!({}),
            "jobParams.docker.ulimits[0].soft: ",
        ),
        (json!({"healthCheck.type": "CMD"}), json!({}), "jobParams.healthCheck.command: is missing or empty"),
        (
            json!({"healthCheck.path": "healthz"}),
            json!({}),
            "jobParams.healthCheck.path: found \"healthz\"; accepted: a path that begins with one `/`",
        ),
        (
            json!({"monitor.trackMode": "SIDEWAYS"}),
            json!({}),
            "jobParams.monitor.trackMode: found the text \"SIDEWAYS\"; accepted: one of CONTAINER, PROCESS, BOTH",
        ),
        (json!({"monitor.trackMode": "PROCESS"}), json!({}), "instanceParams.service.command: is missing or empty"),
        (json!({"metricsPushEndpoint": "ftp://gw/x"}), json!({}), "jobParams.metricsPushEndpoint: found "),
        (
            json!({}),
            json!({"image": "docker.io/evil"}),
            "instanceParams.image: the image `docker.io/evil:v1` is not allowed here",
        ),
        (json!({"docker.baseImage": ""}), json!({}), "jobParams.docker.baseImage: is missing"),
        (json!({"docker.baseImage": null}), json!({}), "instanceParams.image: is missing"),
        (json!({}), json!({"containerName": "a/b"}), "instanceParams.containerName: found \"a/b\""),
        (json!({}), json!({"servicePort": null}), "instanceParams.servicePort: is missing"),
        (json!({}), json!({"scenario": null}), "instanceParams.scenario: is missing"),
        (
            json!({}),
            json!({"scenario": "chat"}),
            "instanceParams.scenario: found the text \"chat\"; accepted: one of chat_completion, completion, embedding; did you mean \"chat_completion\"? (any other name needs test.driver script or container)",
        ),
        (
            json!({}),
            json!({"volumes": [{"hostPath": "/etc", "containerPath": "/x"}]}),
            "instanceParams.volumes[0].hostPath: `/etc` is outside",
        ),
        (
            json!({}),
            json!({"volumes": [{"hostPath": path("no"), "containerPath": "/x"}]}),
            "does not exist on this host",
        ),
        (
            json!({}),
            json!({"volumes": [{"hostPath": path("."), "containerPath": "/app/logs"}]}),
            "instanceParams.volumes[0].containerPath: `/app/logs` is mounted already",
        ),
        (json!({}), json!({"datasetPath": path("broken.jsonl")}), "line 2"),
        (json!({}), json!({"datasetPath": path("empty.jsonl")}), "instanceParams.datasetPath: dataset"),
        (json!({}), json!({"datasetPath": "/etc/passwd"}), "instanceParams.datasetPath: `/etc/passwd` is outside"),
        (json!({}), json!({"datasetId": "gsm8k_v1"}), "instanceParams.datasetId: `gsm8k_v1` is not in"),
        (
            json!({}),
            json!({"test.apiKeyRef": "main"}),
            "instanceParams.test.apiKeyRef: names `main`, which is not in [secrets]",
        ),
        (
            json!({}),
            json!({"test.arrival": "closed", "qps": 3}),
            "instanceParams.test.arrival: is `closed`, but qps is 3",
        ),
        (json!({}), json!({"test.arrival": "poisson"}), "instanceParams.test.arrival: is `poisson`, which needs qps"),
        (json!({}), json!({"runSeconds": 0}), "instanceParams.runSeconds: is 0"),
        (
            json!({}),
            json!({"monitorOverrides.killSignal": "SIGNOPE"}),
            "instanceParams.monitorOverrides.killSignal: `SIGNOPE` is no signal",
        ),
        (json!({"env.setupScript": path("no.sh")}), json!({}), "jobParams.env.setupScript: "),
        (
            json!({"docker.networkMode": "host"}),
            json!({"hostPort": 1}),
            "instanceParams.hostPort: cannot differ from servicePort",
        ),
        (json!({}), json!({"platformTaskId": "a/b"}), "instanceParams.platformTaskId: found \"a/b\""),
    ];
    for (job_change, run_change, expected) in cases {
        let (mut job, mut run) = (job(dir.path()), run());
        for (target, change) in [(&mut job, job_change), (&mut run, run_change)] {
            for (key, value) in change.as_object().expect("an object") {
                target[key] = value.clone();
            }
        }
        let text = build(&env, &job, &run).map(|_| ()).expect_err(expected);
        assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
        assert!(!text.contains("problems"), "one problem, not several:\n{text}");
    }
}

#[test]
fn what_describes_cards_without_asking_for_any_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let warnings = |resources: Value| {
        let run = json!({"platformTaskId": "T 1", "modelKey": "m", "modelVersion": "v1", "scenario": "chat_completion",
            "servicePort": 8000, "resources": resources});
        let (job, run) = (job(dir.path()).to_string(), run.to_string());
        let mut params =
            params::read(&TABLE, &Input { job_params: Some(&job), instance_params: Some(&run), ..Input::default() });
        Plan::build(&mut params, &environment(dir.path()), TrackMode::Container, 1).expect("a plan");
        params.warnings().join("\n")
    };
    assert!(warnings(json!({"gpuType": "910B"})).contains("`resources.gpuType` is not used"));
    assert!(warnings(json!({"gpuMemory": "60g", "gpus": 0})).contains("`resources.gpuMemory` is not used"));
    assert_eq!(warnings(json!({"gpuType": "910B", "gpus": 1})), "");
}

#[test]
fn what_the_kind_of_service_cannot_use_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let warnings = |mode: TrackMode, given: Value| {
        let mut run = run();
        run.as_object_mut().expect("an object").extend(given.as_object().expect("an object").clone());
        let (job, run) =
            (json!({"jobType": "RUN_LLM_TEST", "hostLogBaseDir": dir.path()}).to_string(), run.to_string());
        let mut params =
            params::read(&TABLE, &Input { job_params: Some(&job), instance_params: Some(&run), ..Input::default() });
        Plan::build(&mut params, &environment(dir.path()), mode, 1).expect("a plan");
        params.warnings().join("\n")
    };
    let container = json!({"image": "i:1", "docker.pullPolicy": "Never", "hostPort": 1, "containerWorkDir": "/w"});
    let mut process = container.clone();
    process["service.command"] = json!(["x"]);
    let said = warnings(TrackMode::Process, process.clone());
    for name in ["image", "docker.pullPolicy", "hostPort", "containerWorkDir"] {
        assert!(said.contains(&format!("instanceParams.{name} is for containers and is not used")), "{name}: {said}");
    }
    let mut reuse = process;
    reuse["service.reuse"] = json!("http://h:1");
    let said = warnings(TrackMode::Reuse, reuse);
    for name in ["image", "docker.pullPolicy", "hostPort", "containerWorkDir", "service.command"] {
        assert!(said.contains(&format!("instanceParams.{name}")), "{name}: {said}");
    }
    assert_eq!(warnings(TrackMode::Process, json!({"service.command": ["x"]})), "");
    assert_eq!(warnings(TrackMode::Reuse, json!({"service.reuse": "http://h:1"})), "");
}

#[test]
fn the_kind_of_service_follows_from_what_is_given() {
    let dir = tempfile::tempdir().expect("dir");
    let mode = |change: Value| {
        let mut job = job(dir.path());
        for (key, value) in change.as_object().expect("an object") {
            job[key] = value.clone();
        }
        let text = job.to_string();
        track_mode(&params::read(&TABLE, &Input { job_params: Some(&text), ..Input::default() }))
    };
    assert_eq!(mode(json!({})), Some(TrackMode::Container));
    assert_eq!(mode(json!({"monitor.trackMode": "PROCESS"})), Some(TrackMode::Process));
    assert_eq!(mode(json!({"service.reuse": "http://h"})), Some(TrackMode::Reuse));
    assert_eq!(mode(json!({"service.command": ["x"], "docker.baseImage": null})), Some(TrackMode::Process));
    assert_eq!(mode(json!({"service.command": ["x"]})), None, "the engine decides");
}

#[test]
fn every_parameter_of_the_documentation_is_in_the_table() {
    for name in [
        "envDefault",
        "hostLogBaseDir",
        "containerLogBaseDir",
        "hostScriptDir",
        "containerWorkDir",
        "containerEntryScript",
        "docker.runtime",
        "docker.networkMode",
        "docker.baseImage",
        "docker.pullPolicy",
        "docker.defaultCpuLimit",
        "docker.defaultMemoryLimit",
        "docker.defaultGpuCount",
        "docker.shmSize",
        "docker.ulimits",
        "docker.privileged",
        "healthCheck.type",
        "healthCheck.path",
        "healthCheck.portKey",
        "healthCheck.command",
        "healthCheck.intervalMillis",
        "healthCheck.timeoutMillis",
        "healthCheck.maxRetry",
        "healthCheck.successThreshold",
        "healthCheck.failureThreshold",
        "monitor.trackMode",
        "monitor.statsSampleIntervalSeconds",
        "monitor.collectMetrics",
        "monitor.killOnTimeout",
        "monitor.stopTimeoutSeconds",
        "monitor.cleanupPolicy",
        "defaultLoad.qps",
        "defaultLoad.concurrency",
        "defaultLoad.warmupSeconds",
        "defaultLoad.runSeconds",
        "metricsPushEndpoint",
        "downstream",
        "env.setupScript",
        "env.teardownScript",
        "resourceGuard.maxQps",
        "resourceGuard.maxConcurrency",
        "platformTaskId",
        "testPlanId",
        "triggerUser",
        "env",
        "modelKey",
        "modelVersion",
        "scenario",
        "datasetId",
        "datasetPath",
        "image",
        "containerName",
        "resources.cpu",
        "resources.memory",
        "resources.gpus",
        "resources.gpuType",
        "resources.gpuMemory",
        "resources.deviceIds",
        "resources.queueTimeoutSeconds",
        "networkModeOverride",
        "servicePort",
        "hostPort",
        "volumes",
        "envVars",
        "qps",
        "concurrency",
        "warmupSeconds",
        "runSeconds",
        "logDirSuffix",
        "extraTags",
        "healthCheckOverrides.failureThreshold",
        "monitorOverrides.maxRunSeconds",
        "monitorOverrides.killSignal",
        "monitorOverrides.forceKillAfterSeconds",
        "monitorOverrides.cleanupPolicy",
        "test.driver",
        "test.script",
        "test.command",
        "test.model",
        "test.apiKeyRef",
        "test.maxTokens",
        "test.temperature",
        "test.arrival",
        "test.scorer",
        "test.sloTtftMs",
        "test.sloTpotMs",
        "test.sloE2elMs",
        "service.command",
        "service.reuse",
        "testPlatformBaseUrl",
        "traceId",
    ] {
        assert!(TABLE.field(name).is_some(), "{name}");
    }
    let unique: std::collections::BTreeSet<_> = TABLE.all().map(|field| field.name).collect();
    assert_eq!(unique.len(), TABLE.all().count(), "no name twice");
}

#[test]
fn a_privileged_container_cannot_have_a_lease() {
    let dir = tempfile::tempdir().expect("dir");
    let mut env = environment(dir.path());
    env.allow_privileged = true;
    let mut job = job(dir.path());
    job["docker.privileged"] = json!(true);
    build(&env, &job, &run()).expect("without cards it may");
    job["docker.defaultGpuCount"] = json!(1);
    let error = build(&env, &job, &run()).expect_err("with cards it would see all of them");
    assert!(error.contains("docker.privileged: gives a container every card of the host"), "{error}");
}
