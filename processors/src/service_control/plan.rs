//! What one run of service control is to do, checked before anything is touched.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::table::{LAUNCHER, TABLE};
use crate::{
    Access, Environment,
    params::{Input, Params, Problems},
    platform_log,
};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start,
    Stop,
    Restart,
    Status,
}

/// How the service is started. Stored, so that a later job can stop it the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Method {
    /// A script that starts it and ends: program and arguments.
    Script(Vec<String>),
    /// The service itself.
    Command(Vec<String>),
    /// `docker compose` with this file and project.
    Compose {
        /// The file.
        file: PathBuf,
        /// The project.
        project: String,
    },
    /// A systemd unit.
    Unit(String),
}

/// How it is asked whether it is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Health {
    Http(String),
    Tcp,
    Cmd(Vec<String>),
    None,
}

/// The checks of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checks {
    pub(super) kind: Health,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) max: u64,
    pub(super) successes: u64,
}

/// A checked plan.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) action: Action,
    pub(super) model: String,
    /// `modelPath`; empty where nobody says it.
    pub(super) path: String,
    pub(super) port: Option<u16>,
    pub(super) env: Option<String>,
    pub(super) trace: Option<String>,
    /// `None` for stop and status, which go by what was started.
    pub(super) method: Option<Method>,
    pub(super) log_dir: PathBuf,
    pub(super) callback: Option<String>,
    pub(super) checks: Checks,
}

/// What kind of job asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// `ServiceControl`: what is missing is an error.
    Control,
    /// `llmPythonProcessor#pythonLauncher`: what is missing comes from `[service]`.
    Launcher,
    /// `llmPythonProcessor#pythonLauncherWithStreamingLog`: interpreter and script always come from there.
    Streaming,
}

/// Reads and checks.
pub(super) fn plan(input: &Input<'_>, env: &Environment, flavour: Flavour) -> Result<(Plan, Params), Problems> {
    let mut params = platform_log::read(env, if flavour == Flavour::Control { &TABLE } else { &LAUNCHER }, input);
    let plan = Reader { p: &mut params, env, flavour }.plan();
    params.check()?;
    Ok((plan, params))
}

struct Reader<'a> {
    p: &'a mut Params,
    env: &'a Environment,
    flavour: Flavour,
}

impl Reader<'_> {
    fn plan(&mut self) -> Plan {
        let action = match self.p.str("action") {
            Some("stop") => Action::Stop,
            Some("restart") => Action::Restart,
            Some("status") => Action::Status,
            _ => Action::Start,
        };
        let starts = matches!(action, Action::Start | Action::Restart);
        let defaults = &self.env.service;
        let model = self.text(&["modelName", "model_name"], &defaults.model_name, true);
        let path = self.text(&["modelPath", "model_path"], &defaults.model_path, starts && !self.other_method());
        let port = self.port(starts);
        let callback = match self.flavour {
            Flavour::Streaming => {
                self.ignored(&["callbackUrl", "callback_url", "pythonBin", "scriptPath"]);
                None
            }
            _ => self.given(&["callbackUrl", "callback_url"]),
        };
        if let Some(url) = &callback
            && let Err(denied) = self.env.allow_url(url)
        {
            self.p.refuse("callbackUrl", denied.to_string());
        }
        let method = starts.then(|| self.method(&model, &path, port, callback.as_deref())).flatten();
        Plan {
            action,
            port,
            env: self.p.str("env").map(str::to_owned),
            trace: self.p.str("traceId").map(str::to_owned),
            log_dir: self.log_dir(matches!(method, Some(Method::Command(_)))),
            callback,
            checks: self.checks(port),
            method,
            model,
            path,
        }
    }

    /// The first of these names that somebody gave.
    fn given(&self, names: &[&str]) -> Option<String> {
        names.iter().find(|name| self.p.given(name)).and_then(|name| self.p.str(name)).map(str::to_owned)
    }

    /// A text that must be there, or for the launchers comes from the configuration.
    fn text(&mut self, names: &[&'static str], default: &str, needed: bool) -> String {
        if let Some(text) = self.given(names).filter(|text| !text.trim().is_empty()) {
            return text;
        }
        if self.flavour == Flavour::Control {
            if needed && names.iter().all(|name| self.p.is_missing(name) || self.p.given(name)) {
                self.p.refuse(names[0], "is missing; it is needed here");
            }
            return String::new();
        }
        self.p.warn(format!("{} is missing: {default:?} of [service] in the configuration is used", names[0]));
        default.to_owned()
    }

    fn port(&mut self, starts: bool) -> Option<u16> {
        if let Some(value) = self.p.get("port").cloned() {
            // Jobs of the specification write it either way.
            let text = value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_owned());
            let port = text.parse().ok().filter(|port| *port > 0);
            if port.is_none() {
                let shown: String = value.to_string().chars().take(60).collect();
                self.p.refuse("port", format!("found {shown}; accepted: 1 to 65535"));
            }
            return port;
        }
        if self.flavour != Flavour::Control {
            let default = self.env.service.port;
            self.p.warn(format!("port is missing: {default} of [service] in the configuration is used"));
            return Some(default);
        }
        if starts && !self.other_method() {
            self.p.refuse("port", "is missing; it is needed here; accepted: 1 to 65535");
        }
        None
    }

    /// Whether something else than script or command starts the service.
    fn other_method(&self) -> bool {
        self.p.given("compose.file") || self.p.given("unit")
    }

    fn ignored(&mut self, names: &[&str]) {
        let given: Vec<&str> = names.iter().copied().filter(|name| self.p.given(name)).collect();
        for name in given {
            self.p.warn(format!("{name} is ignored by this processor, as the specification has it"));
        }
    }

    fn method(&mut self, model: &str, path: &str, port: Option<u16>, callback: Option<&str>) -> Option<Method> {
        if self.flavour == Flavour::Control {
            let ways = ["scriptPath", "command", "compose.file", "unit"];
            let chosen: Vec<&str> = ways.into_iter().filter(|way| self.p.given(way)).collect();
            match chosen.as_slice() {
                ["command"] => return self.command(model, path, port),
                ["compose.file"] => return self.compose(model),
                ["unit"] => return self.p.str("unit").map(|unit| Method::Unit(unit.to_owned())),
                ["scriptPath"] => {}
                [] => {
                    if ways.iter().all(|way| self.p.is_missing(way)) {
                        let text = "is missing; accepted: one of scriptPath, command, compose.file, unit";
                        self.p.refuse("scriptPath", text);
                    }
                    return None;
                }
                [first, rest @ ..] => {
                    let text =
                        format!("is given beside {}; accepted: only one way to start a service", rest.join(", "));
                    self.p.refuse(first, text);
                    return None;
                }
            }
        }
        Some(Method::Script(self.script(model, path, port, callback)))
    }

    fn script(&mut self, model: &str, path: &str, port: Option<u16>, callback: Option<&str>) -> Vec<String> {
        let own = &self.env.service;
        let of_job = self.flavour != Flavour::Streaming;
        let python = self.p.str("pythonBin").filter(|_| of_job).map(str::to_owned);
        let python = python.unwrap_or_else(|| own.python_bin.clone());
        if let Err(denied) = self.env.allow_program(&python) {
            self.p.refuse("pythonBin", denied.to_string());
        }
        let script = match self.p.str("scriptPath").filter(|_| of_job) {
            // The configuration's own script is the operator's.
            None => own.script_path.display().to_string(),
            Some(script) => match self.env.allow_path(Path::new(script), Access::Read) {
                Ok(script) => script.display().to_string(),
                Err(denied) => {
                    self.p.refuse("scriptPath", denied.to_string());
                    String::new()
                }
            },
        };
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        let mut words = vec![python, script];
        for (flag, value) in [("--model-name", model), ("--model-path", path), ("--port", &port)] {
            words.extend([flag.to_owned(), value.to_owned()]);
        }
        if let Some(url) = callback {
            words.extend(["--callback-url".to_owned(), url.to_owned()]);
        }
        words
    }

    fn command(&mut self, model: &str, path: &str, port: Option<u16>) -> Option<Method> {
        let port = port.map(|port| port.to_string()).unwrap_or_default();
        let known = [("{modelName}", model), ("{modelPath}", path), ("{port}", &port)];
        let fill = |word: &String| known.iter().fold(word.clone(), |word, (name, value)| word.replace(name, value));
        let command: Vec<String> = self.p.strings("command").iter().map(fill).collect();
        let Some(program) = command.first() else {
            self.p.refuse("command", "is empty; accepted: program and arguments as a list");
            return None;
        };
        if let Err(denied) = self.env.allow_program(program) {
            self.p.refuse("command", denied.to_string());
        }
        Some(Method::Command(command))
    }

    fn compose(&mut self, model: &str) -> Option<Method> {
        let project = self.p.str("compose.project").unwrap_or(model).to_lowercase();
        let file = PathBuf::from(self.p.str("compose.file")?);
        let problem = match self.env.allow_path(&file, Access::Read) {
            Ok(file) if file.is_file() => return Some(Method::Compose { file, project }),
            Ok(_) => format!("`{}` is no file; accepted: a compose file", file.display()),
            Err(denied) => denied.to_string(),
        };
        self.p.refuse("compose.file", problem);
        None
    }

    fn log_dir(&mut self, writes: bool) -> PathBuf {
        match self.p.str("logDir").map(PathBuf::from) {
            None => self.env.service.log_dir.clone(),
            Some(dir) if !writes => dir,
            Some(dir) => self.env.allow_path(&dir, Access::Write).unwrap_or_else(|denied| {
                self.p.refuse("logDir", denied.to_string());
                dir
            }),
        }
    }

    fn checks(&mut self, port: Option<u16>) -> Checks {
        let asked = ["type", "path", "command"].iter().any(|name| self.p.given(&format!("healthCheck.{name}")));
        let kind = match self.p.str("healthCheck.type") {
            // There the script's exit code decides.
            _ if self.flavour != Flavour::Control && !asked => Health::None,
            Some("NONE") => Health::None,
            Some("TCP") => Health::Tcp,
            Some("CMD") => Health::Cmd(self.p.strings("healthCheck.command")),
            // Whoever starts with compose or a unit and names no port is not asked for one.
            _ if port.is_none() && !asked => Health::None,
            _ => Health::Http(self.p.string("healthCheck.path")),
        };
        match &kind {
            Health::Http(path) if !path.starts_with('/') || path[1..].starts_with(['/', '\\']) => {
                self.p.refuse("healthCheck.path", format!("found {path:?}; accepted: a path that begins with one `/`"));
            }
            Health::Cmd(command) if command.is_empty() => {
                self.p.refuse("healthCheck.command", "is missing or empty; accepted: program and arguments as a list");
            }
            Health::Http(_) | Health::Tcp if port.is_none() && !self.p.problem_with("port") => {
                self.p.refuse("port", "is missing; the health check needs it; accepted: 1 to 65535");
            }
            _ => {}
        }
        let number = |name: &str| self.p.u64(&format!("healthCheck.{name}")).unwrap_or(1);
        Checks {
            kind,
            interval: Duration::from_millis(number("intervalMillis")),
            timeout: Duration::from_millis(number("timeoutMillis")),
            max: number("maxRetry"),
            successes: number("successThreshold"),
        }
    }
}
