//! Every parameter by itself changes the plan, and nothing but it makes that change: what is accepted is not ignored. How the
//! plan's values are carried out is tested where that happens (`docs/parameters.md` says where).

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use async_trait::async_trait;

use super::*;
use crate::{NotStarted, StartJobs, params::Home};

/// One parameter: its name, what it needs beside it, its value, and what the plan holds with it and not without it.
type Case = (&'static str, Value, Value, String);

/// A server that is never asked: a plan starts nothing.
#[derive(Debug)]
struct Server;

#[async_trait]
impl StartJobs for Server {
    async fn start(&self, _job: &str, _params: &str) -> Result<i64, NotStarted> {
        Err(NotStarted::Refused("nobody asks".into()))
    }
}

fn host(dir: &Path) -> Environment {
    let mut env = environment(dir);
    env.allow_privileged = true;
    env.datasets = Some(dir.to_owned());
    env.secrets.insert("main".into(), "sesame".into());
    env.jobs = Some(Arc::new(Server));
    std::fs::write(dir.join("set.jsonl"), "{\"prompt\": \"of the set\"}\n").expect("written");
    for script in ["a.sh", "b.sh"] {
        std::fs::write(dir.join(script), "true\n").expect("written");
        std::fs::set_permissions(dir.join(script), std::fs::Permissions::from_mode(0o755)).expect("mode");
    }
    env
}

fn cases(dir: &Path) -> Vec<Case> {
    let path = |name: &str| -> PathBuf { dir.canonicalize().expect("there").join(name) };
    let alone = |name, value: Value, plan: &str| -> Case { (name, json!({}), value, plan.to_owned()) };
    let beside = |name, with: Value, value: Value, plan: &str| -> Case { (name, with, value, plan.to_owned()) };
    let shown = |value: &dyn std::fmt::Debug| format!("{value:?}");
    let mut all = vec![
        alone("envDefault", json!("lab"), "env: \"lab\""),
        alone("hostLogBaseDir", json!(path("other")), &format!("log_base: {}", shown(&path("other")))),
        alone("containerLogBaseDir", json!("/elsewhere"), "log_dir: \"/elsewhere\""),
        alone("hostScriptDir", json!(path(".")), "container: \"/scripts\", read_only: true"),
        alone("containerWorkDir", json!("/w"), "work_dir: Some(\"/w\")"),
        alone("containerEntryScript", json!("/e.sh"), "entry_script: Some(\"/e.sh\")"),
        alone("docker.runtime", json!("runc"), "runtime: Some(\"runc\")"),
        alone("docker.networkMode", json!("host"), "network: Host"),
        alone("docker.baseImage", json!("registry/other"), "image: \"registry/other:v1\""),
        alone("docker.pullPolicy", json!("Never"), "pull: Never"),
        alone("docker.defaultCpuLimit", json!("1.5"), "cpus: Some(1.5)"),
        alone("docker.defaultMemoryLimit", json!("1g"), "memory: Some(1073741824)"),
        alone("docker.defaultGpuCount", json!(2), "AcceleratorPlan { count: 2"),
        alone("docker.shmSize", json!("64m"), "shm_size: Some(67108864)"),
        alone(
            "docker.ulimits",
            json!([{"name": "nofile", "soft": 1, "hard": 2}]),
            "Ulimit { name: \"nofile\", soft: 1, hard: 2 }",
        ),
        alone("docker.privileged", json!(true), "privileged: true"),
        alone("monitor.statsSampleIntervalSeconds", json!(2), "sample_every: Some(2s)"),
        alone("monitor.collectMetrics", json!(false), "sample_every: None"),
        alone("monitor.killOnTimeout", json!(false), "kill_on_timeout: false"),
        alone("monitor.stopTimeoutSeconds", json!(3), "grace: 3s"),
        alone("monitor.cleanupPolicy", json!("NEVER"), "cleanup: Never"),
        beside("monitor.trackMode", json!({"service.command": ["x"]}), json!("PROCESS"), "target: Process("),
        alone("defaultLoad.qps", json!(3), "arrival: Constant { qps: 3.0"),
        alone("defaultLoad.concurrency", json!(4), "arrival: Closed { concurrency: 4 }"),
        alone("defaultLoad.warmupSeconds", json!(2), "warmup: 2s"),
        alone("defaultLoad.runSeconds", json!(3), "run: 3s"),
        alone("metricsPushEndpoint", json!("http://gw:1"), "push: Some(\"http://gw:1\")"),
        alone("downstream", json!([{"job": "next"}]), "Downstream { job: \"next\""),
        alone("env.setupScript", json!(path("a.sh")), &format!("setup_script: Some({})", shown(&path("a.sh")))),
        alone("env.teardownScript", json!(path("b.sh")), &format!("teardown_script: Some({})", shown(&path("b.sh")))),
        alone("resourceGuard.maxQps", json!(2), "host_max_qps: Some(2.0)"),
        alone("resourceGuard.maxConcurrency", json!(3), "host_max_concurrency: Some(3)"),
        alone("platformTaskId", json!("T2"), "platform_task_id: \"T2\""),
        alone("testPlanId", json!("P"), "test_plan_id: Some(\"P\")"),
        alone("triggerUser", json!("U"), "trigger_user: Some(\"U\")"),
        alone("traceId", json!("trace"), "trace_id: Some(\"trace\")"),
        alone("env", json!("prod"), "env: \"prod\""),
        alone("modelKey", json!("q"), "model_key: \"q\""),
        alone("modelVersion", json!("v2"), "image: \"registry/base:v2\""),
        alone("scenario", json!("embedding"), "scenario: Embedding"),
        alone("datasetId", json!("set"), "of the set"),
        alone("datasetPath", json!(path("set.jsonl")), "of the set"),
        alone("image", json!("registry/i"), "image: \"registry/i:v1\""),
        alone("containerName", json!("c-1"), "name: \"c-1\""),
        alone("resources.cpu", json!(2), "cpus: Some(2.0)"),
        alone("resources.memory", json!("2g"), "memory: Some(2147483648)"),
        alone("resources.gpus", json!(3), "AcceleratorPlan { count: 3"),
        beside("resources.gpuType", json!({"resources.gpus": 1}), json!("910B"), "kind: Some(\"910B\")"),
        beside("resources.gpuMemory", json!({"resources.gpus": 1}), json!("1g"), "min_memory: Some(1073741824)"),
        alone("resources.deviceIds", json!(["7"]), "device_ids: [\"7\"]"),
        alone("resources.queueTimeoutSeconds", json!(6), "queue: 6s"),
        alone("networkModeOverride", json!("host"), "network: Host"),
        alone("servicePort", json!(8001), "service_port: Some(8001)"),
        alone("hostPort", json!(9), "host_port: 9"),
        alone(
            "volumes",
            json!([{"hostPath": path("."), "containerPath": "/v", "mode": "ro"}]),
            "container: \"/v\", read_only: true",
        ),
        alone("envVars", json!({"A": "b"}), "env_vars: {\"A\": \"b\"}"),
        alone("qps", json!(2), "arrival: Constant { qps: 2.0"),
        alone("concurrency", json!(5), "arrival: Closed { concurrency: 5 }"),
        alone("warmupSeconds", json!(4), "warmup: 4s"),
        alone("runSeconds", json!(7), "run: 7s"),
        alone("logDirSuffix", json!("s"), "log_suffix: Some(\"s\")"),
        alone("extraTags", json!({"k": "v"}), "tags: {\"k\": \"v\"}"),
        alone("monitorOverrides.maxRunSeconds", json!(9), "max_run: Some(9s)"),
        alone("monitorOverrides.killSignal", json!("SIGINT"), &format!("kill_signal: {}", shown(&Signal::INT))),
        alone("monitorOverrides.forceKillAfterSeconds", json!(8), "grace: 8s"),
        alone("monitorOverrides.trackMode", json!("BOTH"), "inside: true"),
        alone("monitorOverrides.statsSampleIntervalSeconds", json!(3), "sample_every: Some(3s)"),
        alone("monitorOverrides.collectMetrics", json!(false), "sample_every: None"),
        alone("monitorOverrides.killOnTimeout", json!(false), "kill_on_timeout: false"),
        alone("monitorOverrides.stopTimeoutSeconds", json!(4), "grace: 4s"),
        alone("monitorOverrides.cleanupPolicy", json!("REMOVE_ON_SUCCESS"), "cleanup: OnSuccess"),
        beside("test.driver", json!({"test.script": path("a.sh")}), json!("builtin"), "driver: Builtin"),
        alone("test.script", json!(path("a.sh")), "driver: Script("),
        beside("test.interpreter", json!({"test.script": path("a.sh")}), json!("sh"), "command: [\"sh\""),
        beside("test.args", json!({"test.script": path("a.sh")}), json!(["--x"]), "args: Some([\"--x\"])"),
        alone("test.command", json!(["c"]), "driver: Container([\"c\"])"),
        alone("test.model", json!("mm"), "model: \"mm\""),
        alone("test.apiKeyRef", json!("main"), "api_key: Some(\"sesame\")"),
        alone("test.maxTokens", json!(3), "max_tokens: Some(3)"),
        alone("test.temperature", json!(0.5), "temperature: Some(0.5)"),
        beside("test.arrival", json!({"qps": 2}), json!("poisson"), "arrival: Poisson { qps: 2.0"),
        alone("test.scorer", json!("exact"), "scorer: Exact"),
        alone("test.sloTtftMs", json!(1), "ttft_ms: Some(1.0)"),
        alone("test.sloTpotMs", json!(2), "tpot_ms: Some(2.0)"),
        alone("test.sloE2elMs", json!(3), "e2el_ms: Some(3.0)"),
        beside("service.command", json!({"monitor.trackMode": "PROCESS"}), json!(["x"]), "command: [\"x\"]"),
        alone("service.reuse", json!("http://h:1"), "target: Reuse("),
    ];
    for (group, command, own_port) in [("healthCheck", "c", 9), ("healthCheckOverrides", "d", 10)] {
        // Tables hold names for ever.
        let name = |field: &str| -> &'static str { TABLE.field(&format!("{group}.{field}")).expect(field).name };
        let kind = json!({format!("{group}.type"): "CMD"});
        all.extend([
            alone(name("type"), json!("TCP"), "kind: Tcp"),
            alone(name("path"), json!("/p"), "kind: Http(\"/p\")"),
            beside(
                name("portKey"),
                json!({"hostPort": own_port}),
                json!("hostPort"),
                &format!("port: Some({own_port})"),
            ),
            beside(name("command"), kind, json!([command]), &format!("kind: Cmd([\"{command}\"])")),
            alone(name("initialDelayMillis"), json!(7), "initial_delay: 7ms"),
            alone(name("intervalMillis"), json!(70), "interval: 70ms"),
            alone(name("timeoutMillis"), json!(80), "timeout: 80ms"),
            alone(name("maxRetry"), json!(9), "max_retry: 9"),
            alone(name("successThreshold"), json!(4), "success_threshold: 4"),
            alone(name("failureThreshold"), json!(5), "failure_threshold: 5"),
        ]);
    }
    all
}

/// A plan with these parameters beside those of a good run, each in the place that the documentation gives it, as text.
fn planned(env: &Environment, dir: &Path, given: &[(&str, &Value)]) -> Result<String, String> {
    let (mut job, mut run) = (job(dir), run());
    for (name, value) in given {
        let home = TABLE.field(name).unwrap_or_else(|| panic!("{name} is no parameter")).home;
        let target = if home == Home::Job { &mut job } else { &mut run };
        target[*name] = (*value).clone();
    }
    build(env, &job, &run).map(|plan| format!("{plan:?}"))
}

#[test]
fn each_parameter_alone_changes_the_plan_and_none_is_ignored() {
    let dir = tempfile::tempdir().expect("dir");
    let env = host(dir.path());
    let cases = cases(dir.path());
    let mut wrong = Vec::new();
    for (name, with, value, wanted) in &cases {
        let beside: Vec<(&str, &Value)> =
            with.as_object().expect("an object").iter().map(|(name, value)| (name.as_str(), value)).collect();
        match planned(&env, dir.path(), &beside) {
            Ok(without) if without.contains(wanted) => {
                wrong.push(format!("without {name} the plan holds `{wanted}`, too: {without}"));
            }
            Ok(_) => {}
            // Then it, or what it overrides, must be there.
            Err(text) => {
                let leaf = name.rsplit('.').next().unwrap_or(name);
                if !text.contains(&format!("{leaf}: is missing")) {
                    wrong.push(format!("without {name}: {text}"));
                }
            }
        }
        let all: Vec<(&str, &Value)> = beside.into_iter().chain([(*name, value)]).collect();
        match planned(&env, dir.path(), &all) {
            Ok(plan) if plan.contains(wanted) => {}
            Ok(plan) => wrong.push(format!("{name} = {value}: `{wanted}` is not in the plan: {plan}")),
            Err(text) => wrong.push(format!("{name} = {value}: {text}")),
        }
    }
    assert!(wrong.is_empty(), "{} are wrong\n{}", wrong.len(), wrong.join("\n"));
    let tested: BTreeSet<&str> = cases.iter().map(|(name, ..)| *name).collect();
    // What is the same for every processor has tests of its own.
    let known: BTreeSet<&str> =
        TABLE.all().map(|field| field.name).filter(|name| *name != "testPlatformBaseUrl").collect();
    assert_eq!(tested, known, "every parameter of the table stands above, and nothing else");
}

#[test]
fn an_override_is_stronger_than_what_it_overrides_and_a_run_than_its_template() {
    let dir = tempfile::tempdir().expect("dir");
    let env = host(dir.path());
    for (weak, weak_value, strong, strong_value, wanted) in [
        ("envDefault", json!("lab"), "env", json!("prod"), "env: \"prod\""),
        ("docker.baseImage", json!("registry/b:1"), "image", json!("registry/i:1"), "image: \"registry/i:1\""),
        ("docker.networkMode", json!("host"), "networkModeOverride", json!("net"), "network: Named(\"net\")"),
        ("docker.defaultCpuLimit", json!(1), "resources.cpu", json!(2), "cpus: Some(2.0)"),
        ("docker.defaultMemoryLimit", json!(1 << 20), "resources.memory", json!(2 << 20), "memory: Some(2097152)"),
        ("docker.defaultGpuCount", json!(1), "resources.gpus", json!(0), "AcceleratorPlan { count: 0"),
        ("defaultLoad.qps", json!(1), "qps", json!(2), "qps: 2.0"),
        ("defaultLoad.concurrency", json!(1), "concurrency", json!(2), "Closed { concurrency: 2 }"),
        ("defaultLoad.warmupSeconds", json!(1), "warmupSeconds", json!(0), "warmup: 0ns"),
        ("defaultLoad.runSeconds", json!(1), "runSeconds", json!(2), "run: 2s"),
        ("monitor.stopTimeoutSeconds", json!(1), "monitorOverrides.stopTimeoutSeconds", json!(2), "grace: 2s"),
        (
            "monitor.collectMetrics",
            json!(false),
            "monitorOverrides.collectMetrics",
            json!(true),
            "sample_every: Some(5s)",
        ),
        ("monitor.killOnTimeout", json!(false), "monitorOverrides.killOnTimeout", json!(true), "kill_on_timeout: true"),
        ("monitor.cleanupPolicy", json!("NEVER"), "monitorOverrides.cleanupPolicy", json!("ALWAYS"), "cleanup: Always"),
        ("healthCheck.maxRetry", json!(1), "healthCheckOverrides.maxRetry", json!(2), "max_retry: 2"),
        ("healthCheck.type", json!("NONE"), "healthCheckOverrides.type", json!("TCP"), "kind: Tcp"),
    ] {
        let given = [(weak, &weak_value), (strong, &strong_value)];
        let plan = planned(&env, dir.path(), &given).unwrap_or_else(|text| panic!("{weak}, {strong}: {text}"));
        assert!(plan.contains(wanted), "{weak}, {strong}: `{wanted}` is not in the plan:\n{plan}");
    }
}
