//! What tests the service: the built-in load generator, a script on the host, or a command in the service's container.

use std::path::{Path, PathBuf};

use testrig_loadgen::{Dataset, Scenario};

use super::{TrackMode, interpreter};
use crate::{Access, Environment, params::Params};

/// The longest script that is searched for the flags that it takes.
const SEARCHED: u64 = 1 << 20;

/// What tests the service.
#[derive(Debug)]
pub(in crate::run_llm_test) enum Driver {
    /// The built-in load generator.
    Builtin { scenario: Scenario, dataset: Dataset },
    /// A script on the host.
    Script(ScriptPlan),
    /// A command in the service's container, placeholders not filled in yet.
    Container(Vec<String>),
}

/// A script on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::run_llm_test) struct ScriptPlan {
    /// Interpreter with its arguments and the script.
    pub(in crate::run_llm_test) command: Vec<String>,
    /// `test.args`, placeholders not filled in yet; without it the flags that the script's text names.
    pub(in crate::run_llm_test) args: Option<Vec<String>>,
    /// What the script's text says, to find these flags in; empty where it cannot be read.
    pub(in crate::run_llm_test) text: String,
}

/// The kinds of drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Builtin,
    Script,
    Container,
}

impl Kind {
    /// As `test.driver` says, else as what is given lets guess.
    pub(super) fn of(params: &Params) -> Self {
        match params.str("test.driver") {
            Some("script") => Self::Script,
            Some("container") => Self::Container,
            Some(_) => Self::Builtin,
            None if params.given("test.script") => Self::Script,
            None if params.given("test.command") => Self::Container,
            None => Self::Builtin,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Script => "script",
            Self::Container => "container",
        }
    }

    /// Says which of the parameters are for another driver.
    fn check_others(self, params: &mut Params) {
        let others: &[&str] = match self {
            Self::Builtin => &["test.script", "test.interpreter", "test.args", "test.command"],
            Self::Script => &["test.command", "test.scorer"],
            Self::Container => &["test.script", "test.interpreter", "test.args", "test.scorer"],
        };
        for name in others.iter().filter(|name| params.given(name)).copied().collect::<Vec<_>>() {
            let path = params.path(name);
            params.warn(format!("{path} is not used: the test driver is {}", self.name()));
        }
    }
}

/// The driver; `None` where a problem was noted.
pub(super) fn plan(
    params: &mut Params,
    env: &Environment,
    mode: TrackMode,
    kind: Kind,
    dataset: Option<Dataset>,
) -> Option<Driver> {
    kind.check_others(params);
    match kind {
        Kind::Builtin => builtin(params, dataset),
        Kind::Script => script(params, env).map(Driver::Script),
        Kind::Container => command(params, mode).map(Driver::Container),
    }
}

fn builtin(params: &mut Params, dataset: Option<Dataset>) -> Option<Driver> {
    let names = Scenario::NAMES.join(", ");
    if params.is_missing("scenario") {
        params.refuse("scenario", format!("is missing; accepted by the built-in load generator: one of {names}"));
        return None;
    }
    let text = params.str("scenario")?.to_owned();
    match text.parse::<Scenario>() {
        Ok(scenario) => Some(Driver::Builtin { scenario, dataset: dataset? }),
        Err(_) => {
            let hint = crate::params::nearest(&text, Scenario::NAMES)
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            let shown = crate::params::shown_text(&text);
            let text = format!(
                "found the text {shown}; accepted: one of {names}{hint} (any other name needs test.driver script or container)"
            );
            params.refuse("scenario", text);
            None
        }
    }
}

fn script(params: &mut Params, env: &Environment) -> Option<ScriptPlan> {
    let Some(given) = params.str("test.script").map(PathBuf::from).filter(|path| !path.as_os_str().is_empty()) else {
        if !params.problem_with("test.script") {
            params.refuse(
                "test.script",
                "is missing; accepted: a script on the host, absolute or below hostScriptDir (test.driver is script)",
            );
        }
        return None;
    };
    let path = match (given.is_absolute(), params.str("hostScriptDir")) {
        (true, _) => given,
        (false, Some(dir)) => Path::new(dir).join(given),
        (false, None) => {
            let text = format!(
                "found `{}`; accepted: an absolute path, or one below hostScriptDir, which is not given",
                given.display()
            );
            params.refuse("test.script", text);
            return None;
        }
    };
    let path = super::allowed(params, env, "test.script", &path, Access::Read)?;
    if !path.is_file() {
        let text = format!("`{}` is no file; accepted: a script inside the allowed roots", path.display());
        params.refuse("test.script", text);
        return None;
    }
    let chosen = params.str("test.interpreter").map(str::to_owned);
    let command = match interpreter::command(env, &path, chosen.as_deref()) {
        Ok(command) => command,
        Err(text) => {
            params.refuse(if chosen.is_some() { "test.interpreter" } else { "test.script" }, text);
            return None;
        }
    };
    let args = params.given("test.args").then(|| params.strings("test.args"));
    Some(ScriptPlan { command, args, text: text_of(&path) })
}

/// A script's text; what is no text has no flags to be found.
fn text_of(path: &Path) -> String {
    let small = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= SEARCHED);
    if small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() }
}

fn command(params: &mut Params, mode: TrackMode) -> Option<Vec<String>> {
    if mode != TrackMode::Container {
        let name = if params.given("test.driver") { "test.driver" } else { "test.command" };
        params.refuse(
            name,
            "needs a container to run the command in, and this run's service is none; accepted: builtin, script",
        );
        return None;
    }
    let command = params.strings("test.command");
    if command.first().is_none_or(String::is_empty) {
        if !params.problem_with("test.command") {
            params.refuse(
                "test.command",
                "is missing or empty; accepted: program and arguments as a list (test.driver is container)",
            );
        }
        return None;
    }
    Some(command)
}
