//! Every parameter of RunLLMTest, and whether it works in this version.

use testrig_loadgen::{ARRIVAL_NAMES, Scorer};

use crate::params::{Field, Kind, Table};

const HEALTH: &[&str] = &["HTTP", "TCP", "CMD", "READY_TOKEN", "NONE"];
const TRACK: &[&str] = &["CONTAINER", "PROCESS", "BOTH"];
const CLEANUP: &[&str] = &["REMOVE_ON_SUCCESS", "ALWAYS", "NEVER"];
const PULL: &[&str] = &["IfNotPresent", "Always", "Never"];
const DRIVERS: &[&str] = &["builtin", "script", "container"];
const SECONDS: Kind = Kind::Num(0.0, 31_536_000.0);
const COUNT: Kind = Kind::Int(0, 4096);

const VOLUME: &[Field] = &[
    Field::instance("hostPath", Kind::Path, "path on the host, inside the allowed roots").required(),
    Field::instance("containerPath", Kind::Path, "path in the container").required(),
    Field::instance("mode", Kind::Enum(&["ro", "rw"]), "whether the container may write").default("\"rw\""),
];

const ULIMIT: &[Field] = &[
    Field::job("name", Kind::Str, "e.g. nofile, memlock").required(),
    Field::job("soft", Kind::Int(-1, i64::MAX), "soft limit, -1 = none").required(),
    Field::job("hard", Kind::Int(-1, i64::MAX), "hard limit, -1 = none").required(),
];

const DOWNSTREAM: &[Field] = &[
    Field::job("job", Kind::Any, "id or name of a job of the same app").required(),
    Field::job("params", Kind::Any, "further instance parameters, stronger than what the run leaves"),
    Field::job("when", Kind::Enum(&["success", "failure", "always"]), "after what end").default("\"always\""),
];

/// The table.
pub static TABLE: Table = Table {
    processor: "RunLLMTest",
    job_type: Some("RUN_LLM_TEST"),
    not_from_upstream: &["logDirSuffix"],
    fields: FIELDS,
};

static FIELDS: &[Field] = &[
    Field::job("envDefault", Kind::Component, "environment when the run names none").default("\"dev\""),
    Field::job("hostLogBaseDir", Kind::Path, "root of the log tree on the host").required(),
    Field::job("containerLogBaseDir", Kind::Path, "where the run's log directory is in the container")
        .default("\"/app/logs\""),
    Field::job(
        "hostScriptDir",
        Kind::Path,
        "test scripts on the host, mounted read-only as {containerWorkDir}/scripts",
    ),
    Field::job("containerWorkDir", Kind::Path, "working directory in the container"),
    Field::job("containerEntryScript", Kind::Path, "entry script run in the container"),
    Field::job("docker.runtime", Kind::Str, "runtime that the engine has registered"),
    Field::job("docker.networkMode", Kind::Str, "host, bridge, or the name of a network").default("\"bridge\""),
    Field::job("docker.baseImage", Kind::Str, "used when the run names no image"),
    Field::job("docker.pullPolicy", Kind::Enum(PULL), "when the image is asked of its registry")
        .default("\"IfNotPresent\""),
    Field::job("docker.defaultCpuLimit", Kind::Cpu, "CPUs"),
    Field::job("docker.defaultMemoryLimit", Kind::Size, "memory"),
    Field::job("docker.defaultGpuCount", COUNT, "accelerators to lease").default("0"),
    Field::job("docker.shmSize", Kind::Size, "size of /dev/shm"),
    Field::job("docker.ulimits", Kind::List(&Kind::Object(ULIMIT)), "limits such as nofile"),
    Field::job(
        "docker.privileged",
        Kind::Bool,
        "all capabilities and devices; only where the agent's configuration allows it",
    ),
    Field::job("healthCheck.type", Kind::Enum(HEALTH), "how the service is asked whether it is healthy")
        .default("\"HTTP\""),
    Field::job("healthCheck.path", Kind::Str, "path of the HTTP check").default("\"/healthz\""),
    Field::job("healthCheck.portKey", Kind::Str, "name of the instance parameter that holds the port")
        .default("\"servicePort\""),
    Field::job("healthCheck.command", Kind::List(&Kind::Str), "command of the CMD check, exit code 0 = healthy"),
    Field::job(
        "healthCheck.initialDelayMillis",
        Kind::Int(0, 86_400_000),
        "from the start of the service to the first check",
    )
    .default("0"),
    Field::job("healthCheck.intervalMillis", Kind::Int(10, 3_600_000), "between the starts of two checks")
        .default("2000"),
    Field::job("healthCheck.timeoutMillis", Kind::Int(10, 3_600_000), "one check; READY_TOKEN 30000 unless given")
        .default("1000"),
    Field::job(
        "healthCheck.maxRetry",
        Kind::Int(1, 1_000_000),
        "checks before giving up while the service has never been ready",
    )
    .default("30"),
    Field::job("healthCheck.successThreshold", Kind::Int(1, 1000), "consecutive successes = ready").default("1"),
    Field::job("healthCheck.failureThreshold", Kind::Int(1, 1000), "consecutive failures after ready = failed")
        .default("3"),
    Field::job("monitor.trackMode", Kind::Enum(TRACK), "what the service is: a container, or a host process"),
    Field::job("monitor.statsSampleIntervalSeconds", Kind::Num(0.1, 3600.0), "between two samples").default("5"),
    Field::job("monitor.collectMetrics", Kind::Bool, "keep samples").default("true"),
    Field::job("monitor.killOnTimeout", Kind::Bool, "at the time limit kill the service; if false leave it running")
        .default("true"),
    Field::job("monitor.stopTimeoutSeconds", SECONDS, "time for a graceful stop").default("30"),
    Field::job("monitor.cleanupPolicy", Kind::Enum(CLEANUP), "whether the ended container is removed")
        .default("\"ALWAYS\""),
    Field::job("defaultLoad.qps", Kind::Num(0.001, 1e6), "requests per second when the run names none"),
    Field::job(
        "defaultLoad.concurrency",
        Kind::Int(1, 65_536),
        "requests at once when the run names none (1 in a closed loop)",
    ),
    Field::job("defaultLoad.warmupSeconds", SECONDS, "warm-up when the run names none").default("0"),
    Field::job("defaultLoad.runSeconds", SECONDS, "measured time when the run names none").default("60"),
    Field::job("metricsPushEndpoint", Kind::Url(&["http", "https"]), "Prometheus Pushgateway for samples and results"),
    Field::job("downstream", Kind::List(&Kind::Object(DOWNSTREAM)), "jobs that this one starts when it ends"),
    Field::job("env.setupScript", Kind::Path, "run on the host before the service starts, into env-setup.log"),
    Field::job("env.teardownScript", Kind::Path, "run on the host after the service has ended, into env-teardown.log"),
    Field::job("resourceGuard.maxQps", Kind::Num(0.001, 1e6), "most requests per second of this host over all runs"),
    Field::job(
        "resourceGuard.maxConcurrency",
        Kind::Int(1, 1_000_000),
        "most requests at once of this host over all runs",
    ),
    Field::instance("platformTaskId", Kind::Component, "the platform's task id").required(),
    Field::instance("testPlanId", Kind::Str, "kept as a label"),
    Field::instance("triggerUser", Kind::Str, "kept as a label"),
    Field::instance("env", Kind::Component, "environment, overrides envDefault"),
    Field::instance("modelKey", Kind::Str, "the model, e.g. qwen2_7b").required(),
    Field::instance("modelVersion", Kind::Str, "its version; tag of an image that has neither tag nor digest"),
    Field::instance(
        "scenario",
        Kind::Component,
        "what is tested: an API of the load generator, or a test script's name",
    ),
    Field::instance("datasetId", Kind::Component, "a file of the agent's dataset directory"),
    Field::instance("datasetPath", Kind::Path, "a dataset file inside the allowed roots"),
    Field::instance("image", Kind::Str, "overrides docker.baseImage"),
    Field::instance("containerName", Kind::Str, "name of the container, default llm-test-{platformTaskId}"),
    Field::instance("resources.cpu", Kind::Cpu, "CPUs, overrides docker.defaultCpuLimit"),
    Field::instance("resources.memory", Kind::Size, "memory, overrides docker.defaultMemoryLimit"),
    Field::instance("resources.gpus", COUNT, "accelerators, overrides docker.defaultGpuCount"),
    Field::instance("resources.gpuType", Kind::Str, "only accelerators of this type"),
    Field::instance("resources.gpuMemory", Kind::Size, "only accelerators with at least this memory"),
    Field::instance("resources.deviceIds", Kind::List(&Kind::Str), "exactly these accelerators, indices or UUIDs"),
    Field::instance("resources.queueTimeoutSeconds", SECONDS, "how long to wait for accelerators").default("0"),
    Field::instance("networkModeOverride", Kind::Str, "overrides docker.networkMode"),
    Field::instance("servicePort", Kind::Int(1, 65_535), "port that the service listens on"),
    Field::instance("hostPort", Kind::Int(0, 65_535), "published port in bridge mode, 0 = a free one"),
    Field::instance("volumes", Kind::List(&Kind::Object(VOLUME)), "host paths to mount"),
    Field::instance("envVars", Kind::StrMap, "environment of the service"),
    Field::instance("qps", Kind::Num(0.001, 1e6), "requests per second (open loop)"),
    Field::instance("concurrency", Kind::Int(1, 65_536), "requests at once"),
    Field::instance("warmupSeconds", SECONDS, "time before the measurement"),
    Field::instance("runSeconds", SECONDS, "measured time"),
    Field::instance(
        "logDirSuffix",
        Kind::Component,
        "last directory of the log path, default task-{platformTaskId}-{instanceId}",
    ),
    Field::instance("extraTags", Kind::StrMap, "labels of container and metrics"),
    Field::instance("healthCheckOverrides.type", Kind::Enum(HEALTH), "overrides healthCheck.type"),
    Field::instance("healthCheckOverrides.path", Kind::Str, "overrides healthCheck.path"),
    Field::instance("healthCheckOverrides.portKey", Kind::Str, "overrides healthCheck.portKey"),
    Field::instance("healthCheckOverrides.command", Kind::List(&Kind::Str), "overrides healthCheck.command"),
    Field::instance(
        "healthCheckOverrides.initialDelayMillis",
        Kind::Int(0, 86_400_000),
        "overrides healthCheck.initialDelayMillis",
    ),
    Field::instance(
        "healthCheckOverrides.intervalMillis",
        Kind::Int(10, 3_600_000),
        "overrides healthCheck.intervalMillis",
    ),
    Field::instance(
        "healthCheckOverrides.timeoutMillis",
        Kind::Int(10, 3_600_000),
        "overrides healthCheck.timeoutMillis",
    ),
    Field::instance("healthCheckOverrides.maxRetry", Kind::Int(1, 1_000_000), "overrides healthCheck.maxRetry"),
    Field::instance(
        "healthCheckOverrides.successThreshold",
        Kind::Int(1, 1000),
        "overrides healthCheck.successThreshold",
    ),
    Field::instance(
        "healthCheckOverrides.failureThreshold",
        Kind::Int(1, 1000),
        "overrides healthCheck.failureThreshold",
    ),
    Field::instance("monitorOverrides.maxRunSeconds", Kind::Num(0.1, 31_536_000.0), "longest run"),
    Field::instance("monitorOverrides.killSignal", Kind::Str, "signal of the graceful stop").default("\"SIGTERM\""),
    Field::instance(
        "monitorOverrides.forceKillAfterSeconds",
        SECONDS,
        "then SIGKILL; default monitor.stopTimeoutSeconds",
    ),
    Field::instance("monitorOverrides.trackMode", Kind::Enum(TRACK), "overrides monitor.trackMode"),
    Field::instance(
        "monitorOverrides.statsSampleIntervalSeconds",
        Kind::Num(0.1, 3600.0),
        "overrides monitor.statsSampleIntervalSeconds",
    ),
    Field::instance("monitorOverrides.collectMetrics", Kind::Bool, "overrides monitor.collectMetrics"),
    Field::instance("monitorOverrides.killOnTimeout", Kind::Bool, "overrides monitor.killOnTimeout"),
    Field::instance("monitorOverrides.stopTimeoutSeconds", SECONDS, "overrides monitor.stopTimeoutSeconds"),
    Field::instance("monitorOverrides.cleanupPolicy", Kind::Enum(CLEANUP), "overrides monitor.cleanupPolicy"),
    Field::instance("test.driver", Kind::Enum(DRIVERS), "what tests the service"),
    Field::instance("test.script", Kind::Str, "test script on the host, absolute or below hostScriptDir"),
    Field::instance("test.interpreter", Kind::Str, "program that runs test.script"),
    Field::instance("test.args", Kind::List(&Kind::Str), "arguments of test.script, instead of the flags it knows"),
    Field::instance("test.command", Kind::List(&Kind::Str), "test command in the container"),
    Field::instance("test.model", Kind::Str, "model name sent to the service, default modelKey"),
    Field::instance(
        "test.apiKeyRef",
        Kind::Str,
        "key of the service's API key in [secrets] of the agent's configuration",
    ),
    Field::instance("test.maxTokens", Kind::Int(1, 1_000_000), "output tokens of a request"),
    Field::instance("test.temperature", Kind::Num(0.0, 100.0), "sampling temperature"),
    Field::instance("test.arrival", Kind::Enum(&ARRIVAL_NAMES), "when requests are sent"),
    Field::instance("test.scorer", Kind::Enum(&Scorer::NAMES), "how answers are judged"),
    Field::instance("test.sloTtftMs", Kind::Num(0.0, 1e9), "longest good time to the first token"),
    Field::instance("test.sloTpotMs", Kind::Num(0.0, 1e9), "longest good time per further token"),
    Field::instance("test.sloE2elMs", Kind::Num(0.0, 1e9), "longest good time of a request"),
    Field::instance("service.command", Kind::List(&Kind::Str), "command of the host process (trackMode PROCESS)"),
    Field::instance("service.reuse", Kind::Url(&["http", "https"]), "address of a service that already runs"),
];
