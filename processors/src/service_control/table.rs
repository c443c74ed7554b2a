//! Every parameter of service control.

use crate::params::{Field, Kind, Table};

const HEALTH: &[&str] = &["HTTP", "TCP", "CMD", "NONE"];
const ACTIONS: &[&str] = &["start", "stop", "restart", "status"];
const ENVIRONMENTS: &[&str] = &["dev", "test", "prod"];

/// The table of `ServiceControl`.
pub(crate) static TABLE: Table =
    Table { processor: "ServiceControl", job_type: None, not_from_upstream: &["env", "logDir"], fields: FIELDS };

/// The table of the two `llmPythonProcessor` names: the same parameters; what is missing comes from `[service]`.
pub(crate) static LAUNCHER: Table =
    Table { processor: "llmPythonProcessor", job_type: None, not_from_upstream: &["env", "logDir"], fields: FIELDS };

static FIELDS: &[Field] = &[
    Field::job("action", Kind::Enum(ACTIONS), "what is to be done").default("\"start\""),
    Field::job("modelName", Kind::Component, "name of the service on this host; one of the same name is replaced"),
    Field::job("model_name", Kind::Component, "the same as modelName"),
    Field::job("modelPath", Kind::Str, "where the model lies, or its name in a registry of models"),
    Field::job("model_path", Kind::Str, "the same as modelPath"),
    Field::job("port", Kind::Any, "port on which the service answers, 1 to 65535, as a number or a text"),
    Field::job("env", Kind::Enum(ENVIRONMENTS), "environment, given to the service as ENV"),
    Field::job("pythonBin", Kind::Str, "interpreter of scriptPath"),
    Field::job(
        "scriptPath",
        Kind::Path,
        "script that starts the service and ends, called with --model-name, --model-path, --port and --callback-url",
    ),
    Field::job(
        "command",
        Kind::List(&Kind::Str),
        "command that is the service itself, instead of a script; {modelName}, {modelPath} and {port} are filled in",
    ),
    Field::job("compose.file", Kind::Path, "compose file whose services are started, instead of a script"),
    Field::job("compose.project", Kind::Component, "project name for the compose file; default: modelName"),
    Field::job("unit", Kind::Component, "systemd unit that is started, instead of a script"),
    Field::job("logDir", Kind::Path, "where the log of a command goes: {logDir}/{modelName}-{yyyy-MM-dd_HHmmss}.log"),
    Field::job(
        "callbackUrl",
        Kind::Url(&["http", "https"]),
        "gets {model, port, pid, log_file} once the service is up",
    ),
    Field::job("callback_url", Kind::Url(&["http", "https"]), "the same as callbackUrl"),
    Field::job("healthCheck.type", Kind::Enum(HEALTH), "how the service is asked whether it is up").default("\"HTTP\""),
    Field::job("healthCheck.path", Kind::Str, "path of the HTTP check").default("\"/v1/models\""),
    Field::job("healthCheck.command", Kind::List(&Kind::Str), "command of the CMD check, exit code 0 = healthy"),
    Field::job("healthCheck.intervalMillis", Kind::Int(10, 3_600_000), "between the starts of two checks")
        .default("2000"),
    Field::job("healthCheck.timeoutMillis", Kind::Int(10, 3_600_000), "one check").default("1000"),
    Field::job("healthCheck.maxRetry", Kind::Int(1, 1_000_000), "checks before the start counts as failed")
        .default("150"),
    Field::job("healthCheck.successThreshold", Kind::Int(1, 1000), "consecutive successes = up").default("1"),
];
