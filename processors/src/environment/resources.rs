//! What configuration keys stand for. `Debug` never shows a secret.

use std::{fmt, path::PathBuf};

/// `[databases.<key>]`.
#[derive(Clone, Default)]
pub struct Database {
    /// `sqlite:///path`, `mysql://..`, `postgres://..`, or the same as a `jdbc:` URL.
    pub url: String,
    /// Who logs in, where the database wants that.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<String>,
}

/// `[object_stores.<key>]`.
#[derive(Clone)]
pub struct ObjectStore {
    /// Address, e.g. `http://minio:9000`; `None` = AWS itself.
    pub endpoint: Option<String>,
    /// Region; MinIO takes any.
    pub region: Option<String>,
    /// The buckets that are in this store.
    pub buckets: Vec<String>,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

/// `[disk]`: how much room runs leave and take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// Free bytes that must be there, below which no run begins; 0 = no such limit.
    pub floor_bytes: u64,
    /// Bytes that the directory of one run may take before the run is ended.
    pub run_max_bytes: Option<u64>,
    /// Days after its end that the directory of a run is kept; `None` = for ever.
    pub runs_retention_days: Option<u32>,
    /// Bytes that the directories of ended runs may take together; the oldest go first.
    pub runs_max_bytes: Option<u64>,
}

/// `[mail.<key>]`.
#[derive(Clone)]
pub struct MailServer {
    /// `smtp://` or `smtps://`.
    pub url: String,
    /// Sender.
    pub from: String,
    /// Receivers where the job names none.
    pub to: Vec<String>,
    /// User and password, if the server wants them.
    pub login: Option<(String, String)>,
}

/// `[people.<id>]`: whom `receiversOverride` means.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// Mail address.
    pub mail: Option<String>,
    /// Mobile number, for robots that mention by it.
    pub mobile: Option<String>,
}

/// `[service]`: what the two `llmPythonProcessor` names start where their job leaves something out. The defaults are those
/// of the platform's specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDefaults {
    /// `modelName`.
    pub model_name: String,
    /// `modelPath`.
    pub model_path: String,
    /// `port`.
    pub port: u16,
    /// Interpreter.
    pub python_bin: String,
    /// Start script.
    pub script_path: PathBuf,
    /// Where logs of services go.
    pub log_dir: PathBuf,
}

impl Default for ServiceDefaults {
    fn default() -> Self {
        Self {
            model_name: "qwen-7b".into(),
            model_path: "/data/models/qwen-7b".into(),
            port: 8000,
            python_bin: "/opt/llm/venv/bin/python".into(),
            script_path: "/opt/llm/scripts/start_llm.py".into(),
            log_dir: "/opt/llm/logs".into(),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("url", &crate::params::mask::url(&self.url)).finish_non_exhaustive()
    }
}

impl fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStore")
            .field("endpoint", &self.endpoint)
            .field("buckets", &self.buckets)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MailServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailServer")
            .field("url", &crate::params::mask::url(&self.url))
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}
