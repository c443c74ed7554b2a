//! The service under test behind one set of calls: a container, a host process, or one that runs already.

mod container;
mod process;
mod reuse;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;
use testrig_host::{
    BoundaryId, ExitStatus, Signal,
    accelerators::{Accelerator, passing},
    docker::Docker,
    health::Probe,
};

pub(super) use container::ContainerService;
pub(super) use process::ProcessService;
pub(super) use reuse::ReusedService;

use super::{ending::Ending, evidence::Oom};

/// Says a line into the run's log.
pub(super) type Say = Arc<dyn Fn(String) + Send + Sync>;

/// Something that did not work, in words, and whether another try may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) text: String,
    pub(super) retryable: bool,
    /// What it is by itself; `None` = what its stage says.
    pub(super) ending: Option<Ending>,
}

impl Fault {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), retryable: true, ending: None }
    }

    /// It would go the same way again.
    pub(super) fn lasting(text: impl Into<String>) -> Self {
        Self { text: text.into(), retryable: false, ending: None }
    }

    /// The same as an ending of its own.
    pub(super) fn ends(self, ending: Ending) -> Self {
        Self { ending: Some(ending), ..self }
    }

    /// An error with its causes on one line.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { ending: Ending::of_error(error), ..Self::new(chain(error)) }
    }
}

/// An error with its causes on one line, each said once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// The cards of a run's lease on a host that has cards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cards(pub(super) Vec<Accelerator>);

impl Cards {
    /// What a process on the host has in its environment.
    pub(super) fn process_env(&self) -> Vec<(String, String)> {
        passing::for_process(&self.0, true)
    }
}

/// What a service needs to know of its run.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) instance_id: i64,
    pub(super) boundary: BoundaryId,
    /// The run's log directory on the host.
    pub(super) log_dir: PathBuf,
    /// Where the service's output goes.
    pub(super) output: PathBuf,
    /// Environment, weakest first.
    pub(super) env: Vec<(String, String)>,
    /// Labels of a container.
    pub(super) labels: Vec<(String, String)>,
    /// Fills `{servicePort}` and the like.
    pub(super) placeholders: Vec<(&'static str, String)>,
    pub(super) service_port: Option<u16>,
    /// The parameter that it is from, for messages.
    pub(super) service_port_in: String,
}

impl Launch {
    /// A service port that somebody listens on already would make another service answer in place of this one.
    fn check_port_is_free(&self) -> Result<(), Fault> {
        self.service_port.map_or(Ok(()), |port| check_port_is_free(port, &self.service_port_in))
    }
}

/// What is known of a service that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Details {
    pub(super) name: Option<String>,
    pub(super) container_id: Option<String>,
    pub(super) image_id: Option<String>,
    pub(super) pid: Option<i64>,
    /// Where the service port is reachable from this host.
    pub(super) address: Option<SocketAddr>,
    pub(super) host_port: Option<u16>,
}

/// What a restarted agent finds of a boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing exists under its name, and nothing will.
    Nothing,
    /// It is made but was never started.
    Made,
    /// It runs.
    Running,
    /// It ended while nobody looked.
    Ended(ExitStatus),
}

/// How a service ended that was told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) exit: ExitStatus,
    /// It had ended before it was told.
    pub(super) before: bool,
}

/// A service under test. Every call may be dropped and made again.
#[async_trait]
pub(super) trait Service: Send + Sync {
    /// `container`, `process` or `reuse`.
    fn kind(&self) -> &'static str;

    /// What it is, for messages.
    fn words(&self) -> String;

    /// What is known of it now.
    fn details(&self) -> Details;

    /// Says which cards it gets. Comes before [`Service::create`]; without it nothing is said of cards at all.
    fn use_cards(&self, cards: Cards);

    /// Fetches what it needs (the image).
    async fn pull(&self, say: Say) -> Result<(), Fault>;

    /// Makes it, without starting it. What an earlier try left is removed first.
    async fn create(&self, say: Say) -> Result<(), Fault>;

    /// Starts it.
    async fn start(&self) -> Result<(), Fault>;

    /// What holds its processes together, where that is a choice of this host.
    fn held_by(&self) -> Option<String> {
        None
    }

    /// Looks for what an earlier process of the agent started under this boundary, and takes it over.
    async fn find(&self) -> Result<Found, Fault>;

    /// Waits for the end of its main process. `None` = it has none of ours.
    async fn ended(&self, say: Say) -> Result<Option<ExitStatus>, Fault>;

    /// Brings its output into the output file, from where the file ends, until there will be no more of it. Ends at once
    /// where the service writes the file itself.
    async fn copy_output(&self) -> Result<(), Fault>;

    /// Base address that the load is sent to.
    fn base_url(&self) -> Option<String>;

    /// Where a port of the service is reachable from this host.
    fn reachable(&self, port: u16) -> Option<SocketAddr>;

    /// Runs a health check command where the service is. `Err` = nothing was learnt about the service.
    async fn probe_command(&self, command: &[String], limit: Duration) -> Result<Probe, Fault>;

    /// The engine and the container's id, where the service is a container that exists.
    fn container(&self) -> Option<(Docker, String)> {
        None
    }

    /// What it uses now; `None` where that cannot be said.
    async fn sample(&self) -> Option<Value>;

    /// Ends it: the signal, the grace time, then everything in the boundary is killed. Returns once that was looked at.
    async fn stop(&self, signal: Signal, grace: Duration) -> Result<Option<Stopped>, Fault>;

    /// What the kernel did to it for want of memory up to now; `None` where nobody counts.
    async fn oom(&self) -> Option<Oom>;

    /// Why the engine that keeps it does not answer just now.
    fn engine_lost(&self) -> Option<String>;

    /// Removes what is left of the ended service.
    async fn remove(&self) -> Result<(), Fault>;
}

/// Fills `{name}`; what is not known stays as it is.
pub(super) fn fill(text: &str, placeholders: &[(&'static str, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let known = from.find('}').and_then(|close| {
            let (_, value) = placeholders.iter().find(|(name, _)| *name == &from[1..close])?;
            Some((value, close))
        });
        match known {
            Some((value, close)) => {
                out.push_str(value);
                rest = &from[close + 1..];
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn check_port_is_free(port: u16, said_in: &str) -> Result<(), Fault> {
    for address in [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0, 0, 0, 0], port))] {
        match std::net::TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(Fault::new(format!(
                    "port {port} ({said_in}) is in use on this host already; stop what listens there or choose another port"
                )));
            }
            // Anything else (a port below 1024 without the right) is for the service to say.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_placeholders_are_filled_and_unknown_ones_stay_as_they_are() {
        let known = [("servicePort", "8000".to_owned()), ("modelKey", "{x}".to_owned())];
        assert_eq!(
            fill("--port={servicePort} {modelKey} {other} {{servicePort}} {", &known),
            "--port=8000 {x} {other} {8000} {"
        );
    }

    #[test]
    fn a_port_that_is_taken_is_said_before_the_start() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
        let port = listener.local_addr().expect("bound").port();
        let text = check_port_is_free(port, "jobParams.servicePort").expect_err("taken").text;
        assert!(
            text.contains(&format!("port {port} (jobParams.servicePort) is in use on this host already")),
            "{text}"
        );
        drop(listener);
        check_port_is_free(port, "jobParams.servicePort").expect("free");
    }
}
