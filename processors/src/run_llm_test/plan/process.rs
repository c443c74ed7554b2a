//! A service that is a host process.

use crate::{Environment, params::Params};

/// What to start.
#[derive(Debug)]
pub(in crate::run_llm_test) struct ProcessPlan {
    /// Program and arguments, placeholders not filled in yet.
    pub(in crate::run_llm_test) command: Vec<String>,
    /// Memory limit of the boundary in bytes.
    pub(in crate::run_llm_test) memory: Option<u64>,
    /// CPUs' worth of time that the boundary may use.
    pub(in crate::run_llm_test) cpus: Option<f64>,
    /// Where it starts: `hostScriptDir`, if given.
    pub(in crate::run_llm_test) work_dir: Option<std::path::PathBuf>,
}

/// Only what a container needs and a process cannot have.
pub(super) const CONTAINER_ONLY: &[&str] = &[
    "image",
    "docker.baseImage",
    "docker.pullPolicy",
    "docker.networkMode",
    "containerLogBaseDir",
    "docker.runtime",
    "docker.shmSize",
    "docker.ulimits",
    "docker.privileged",
    "containerWorkDir",
    "containerEntryScript",
    "containerName",
    "networkModeOverride",
    "hostPort",
    "volumes",
];

pub(super) fn plan(params: &mut Params, env: &Environment) -> Option<ProcessPlan> {
    let command = params.strings("service.command");
    for name in CONTAINER_ONLY.iter().filter(|name| params.given(name)).copied().collect::<Vec<_>>() {
        let path = params.path(name);
        params.warn(format!("{path} is for containers and is not used: the service is a host process"));
    }
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        if params.problem_with("service.command") {
            return None;
        }
        params.refuse(
            "service.command",
            "is missing or empty; accepted: the command of the host process as a list (trackMode is PROCESS)",
        );
        return None;
    };
    if let Err(denied) = env.allow_program(program) {
        params.deny("service.command[0]", &denied);
    }
    let work_dir = match params.str("hostScriptDir").map(std::path::PathBuf::from) {
        Some(dir) => super::allowed(params, env, "hostScriptDir", &dir, crate::Access::Read),
        None => None,
    };
    if let Some(dir) = &work_dir
        && !dir.is_dir()
    {
        params.refuse("hostScriptDir", format!("`{}` is no directory", dir.display()));
    }
    let memory = params.first(&["resources.memory"]).and_then(|name| params.u64(name));
    let cpus = params.first(&["resources.cpu"]).and_then(|name| params.num(name));
    for (name, own, given) in [
        ("docker.defaultMemoryLimit", "resources.memory", memory.is_some()),
        ("docker.defaultCpuLimit", "resources.cpu", cpus.is_some()),
    ] {
        if params.given(name) && !given {
            let path = params.path(name);
            params.warn(format!("{path} is for containers and is not used; {own} limits a host process"));
        }
    }
    Some(ProcessPlan { command, memory, cpus, work_dir })
}
