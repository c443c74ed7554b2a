//! The servers under test.

use std::io::Write as _;
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::OpenApi;
use testrig_devserver::{DevServer, DevServerConfig, Timers};
use tokio::runtime::Runtime;

/// The stand-in's own waiting times, as a part of the real ones: what takes a minute there takes six seconds here.
const SCALE: f64 = 0.1;
/// The real servers: the name of a target, and the variable with its address.
pub(crate) const REAL: [(&str, &str); 2] = [("real", "POWERJOB_URL"), (CORE_5, "POWERJOB5_URL")];
/// The core of 5.1.1 under a REST layer of our own.
pub(crate) const CORE_5: &str = "real-5.1.1";

/// A server that the suite runs against.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// `http://host:port` of the web port.
    pub(crate) url: String,
    /// How its own waiting times relate to those of a real server.
    pub(crate) scale: f64,
    pub(crate) api: OpenApi,
    /// Keeps the embedded one alive.
    _embedded: Option<Arc<DevServer>>,
}

impl Target {
    pub(crate) fn embedded(runtime: &Runtime) -> Self {
        let config = DevServerConfig { timers: Timers::scaled(SCALE), ..DevServerConfig::default() };
        let server = runtime.block_on(DevServer::start(config)).expect("the stand-in starts on free ports");
        let url = server.url();
        Self { name: "stand-in", api: api(&url), url, scale: SCALE, _embedded: Some(Arc::new(server)) }
    }

    /// The server whose address stands in this variable, if there is one.
    pub(crate) fn real(name: &'static str, variable: &str) -> Option<Self> {
        let url = std::env::var(variable).ok().filter(|url| !url.is_empty())?;
        Some(Self { name, api: api(&url), url, scale: 1.0, _embedded: None })
    }
}

/// The place of a case against a real server that is not there; the skip is told to whoever counts.
pub(crate) fn skip_real(target: &str, variable: &str, case: &str, tell: bool) -> Trial {
    let name = format!("{target}::{case}");
    let reason = format!("needs a real PowerJob server ({variable})");
    if tell && let Ok(path) = std::env::var("TESTRIG_SKIPS_FILE") {
        let line = serde_json::json!({"name": format!("conformance {name}"), "reason": reason});
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        if let Err(error) = written {
            eprintln!("the skip of {name} could not be written to {path}: {error}");
        }
    }
    Trial::test(name, move || Err(Failed::from(reason))).with_ignored_flag(true)
}

fn api(url: &str) -> OpenApi {
    OpenApi::new(&[url])
        .and_then(|api| api.with_timeout(std::time::Duration::from_secs(15)))
        .expect("a server's URL is an address")
}
