//! The plan of a run in words, before the run.

use testrig_host::{
    BoundaryId,
    accelerators::{Accelerator, LeaseRequest},
    docker::{Network, PullPolicy, registry_of},
};
use testrig_loadgen::Arrival;

use super::{
    plan::{self, ContainerPlan, Driver, HealthKind, Plan, Target, TrackMode},
    run::{docker, engine},
};
use crate::{
    Environment,
    params::{Params, Problems, mask},
    preview::Step,
};

/// The steps of a run with these parameters, and what stands against them now.
///
/// # Errors
/// The problems that would end it before anything starts.
pub(crate) async fn preview(env: &Environment, params: &mut Params) -> Result<Vec<Step>, Problems> {
    let mode = match plan::track_mode(params) {
        Some(mode) => mode,
        None if engine(env).await.is_ok() => TrackMode::Container,
        None => TrackMode::Process,
    };
    let plan = Plan::build(params, env, mode, 0)?;
    let mut steps = vec![step("log directory", log_dir(&plan)), accelerators(env, &plan).await];
    match &plan.target {
        Target::Container(container) => steps.extend(container_steps(env, container).await),
        Target::Process(process) => {
            let limit = process.memory.map(|bytes| format!(", at most {bytes} bytes of memory")).unwrap_or_default();
            steps.push(step("service", format!("host process `{}`{limit}", process.command.join(" "))));
        }
        Target::Reuse(url) => steps.push(step("service", format!("{url}, which runs already; nothing is started"))),
    }
    steps.push(step("health check", health(&plan)));
    match &plan.load.driver {
        Driver::Builtin { .. } => steps.push(step("load", load(&plan))),
        Driver::Script(script) => steps.push(step("test script", mask::command(&script.command).join(" "))),
        Driver::Container(command) => {
            steps.push(step("test in the container", mask::command(command).join(" ")));
        }
    }
    let scripts = [("set-up", &plan.setup_script), ("tear-down", &plan.teardown_script)];
    steps.extend(
        scripts.into_iter().filter_map(|(about, path)| Some(step(about, path.as_ref()?.display().to_string()))),
    );
    steps.push(step("end", end(&plan)));
    Ok(steps)
}

fn step(about: &'static str, text: String) -> Step {
    Step { about, text, hindered: false }
}

fn log_dir(plan: &Plan) -> String {
    let suffix =
        plan.log_suffix.clone().unwrap_or_else(|| format!("task-{}-{{instance id}}", plan.who.platform_task_id));
    let day = jiff::Zoned::now().strftime("%Y%m%d").to_string();
    plan.log_base.join(&plan.who.env).join(day).join(suffix).display().to_string()
}

async fn accelerators(env: &Environment, plan: &Plan) -> Step {
    let asked = &plan.accelerators;
    let request = LeaseRequest {
        // Never granted: the name only has to be one that no run has.
        holder: BoundaryId::new(0, 0),
        count: asked.count,
        kind: asked.kind.clone(),
        min_memory_bytes: asked.min_memory,
        device_ids: asked.device_ids.clone(),
        words: format!("dry run of task {}", plan.who.platform_task_id),
        waits: false,
    };
    if !request.wants_any() {
        return step("accelerators", "none".to_owned());
    }
    match env.accelerators.would_get(&request).await {
        Ok(cards) => {
            let cards: Vec<String> = cards.iter().map(Accelerator::in_words).collect();
            step("accelerators", format!("{}, for {}", cards.join(", "), request.in_words()))
        }
        Err(error) => {
            let wait = match asked.queue.is_zero() {
                true => String::new(),
                false => format!("; it would wait for {} s at most", asked.queue.as_secs()),
            };
            Step { about: "accelerators", text: format!("{error}{wait}"), hindered: true }
        }
    }
}

async fn container_steps(env: &Environment, plan: &ContainerPlan) -> Vec<Step> {
    let network = match &plan.network {
        Network::Host => "the host's network".to_owned(),
        Network::Named(name) => format!("network `{name}`"),
        Network::Bridge | Network::None => "the engine's default network".to_owned(),
    };
    let mut service = format!("container `{}` in {network}", plan.name);
    if plan.network != Network::Host {
        let port = match plan.host_port {
            0 => "a free port".to_owned(),
            port => format!("port {port}"),
        };
        service.push_str(&format!(", its service port published as {port} of the host"));
    }
    for (name, value) in [
        ("runtime", plan.runtime.clone()),
        ("CPUs", plan.cpus.map(|cpus| cpus.to_string())),
        ("bytes of memory", plan.memory.map(|bytes| bytes.to_string())),
        ("bytes of shared memory", plan.shm_size.map(|bytes| bytes.to_string())),
    ] {
        if let Some(value) = value {
            service.push_str(&format!(", {name} {value}"));
        }
    }
    if plan.privileged {
        service.push_str(", privileged");
    }
    let mut steps = vec![image(env, plan).await, step("service", service)];
    for mount in &plan.mounts {
        let mode = if mount.read_only { "read-only" } else { "writable" };
        steps.push(step("mount", format!("{} as {} ({mode})", mount.host.display(), mount.container)));
    }
    steps
}

async fn image(env: &Environment, plan: &ContainerPlan) -> Step {
    let found = match docker(env) {
        Ok(docker) => docker.image(&plan.image).await.map_err(|error| error.to_string()),
        Err(message) => Err(message),
    };
    let (text, hindered) = match (found, plan.pull) {
        (Err(why), _) => (format!("whether it is on this host cannot be said: {why}"), true),
        (Ok(Some(image)), PullPolicy::Always) => {
            let from = from_registry(env, plan);
            (format!("on this host as {}; it would be asked of {from} all the same (Always)", image.id), false)
        }
        (Ok(Some(image)), _) => (format!("on this host as {}", image.id), false),
        (Ok(None), PullPolicy::Never) => {
            ("not on this host, and docker.pullPolicy is Never: the run would fail".to_owned(), true)
        }
        (Ok(None), _) => (format!("not on this host; it would be pulled from {}", from_registry(env, plan)), false),
    };
    Step { about: "image", text: format!("{}; {text}", plan.image), hindered }
}

/// The registry and who would log in there.
fn from_registry(env: &Environment, plan: &ContainerPlan) -> String {
    let registry = registry_of(&plan.image);
    match env.pulls.login_for(&plan.image) {
        Some(login) => format!("{registry} as user `{}`", login.username),
        None => format!("{registry} without a login"),
    }
}

fn health(plan: &Plan) -> String {
    let port = plan.health.port.map(|port| format!(" on port {port}")).unwrap_or_default();
    let what = match &plan.health.kind {
        HealthKind::Http(path) => format!("GET {path}{port}"),
        HealthKind::Tcp => format!("a connection{port}"),
        HealthKind::Cmd(command) => format!("`{}`", command.join(" ")),
        HealthKind::ReadyToken => format!("a first token, once ready a connection{port}"),
        HealthKind::None => return "none: a started service counts as ready".to_owned(),
    };
    let delay = plan.health.initial_delay;
    let begin =
        if delay.is_zero() { String::new() } else { format!(", the first {} ms after the start", delay.as_millis()) };
    format!(
        "{what} every {} ms{begin}, each at most {} ms; ready after {} in a row, given up after {} tries, lost after {} failures in a row",
        plan.health.interval.as_millis(),
        plan.health.timeout.as_millis(),
        plan.health.success_threshold,
        plan.health.max_retry,
        plan.health.failure_threshold,
    )
}

fn load(plan: &Plan) -> String {
    let load = &plan.load;
    let at_most = |limit: &Option<usize>| limit.map(|n| format!(", at most {n} at once")).unwrap_or_default();
    let arrival = match &load.arrival {
        Arrival::Closed { concurrency } => format!("{concurrency} at a time, one after the other"),
        Arrival::Constant { qps, concurrency } => format!("{qps} a second, evenly{}", at_most(concurrency)),
        Arrival::Poisson { qps, concurrency, .. } => format!("{qps} a second, at random times{}", at_most(concurrency)),
    };
    format!(
        "{} requests to model `{}` with dataset {}: {arrival}; {} s of warm-up, {} s measured",
        load.scenario,
        load.model,
        load.dataset_id,
        load.warmup.as_secs_f64(),
        load.run.as_secs_f64(),
    )
}

fn end(plan: &Plan) -> String {
    let limit =
        plan.monitor.max_run.map(|limit| format!("after {} s at the latest; ", limit.as_secs())).unwrap_or_default();
    format!("{limit}{}, then SIGKILL after {} s", plan.monitor.kill_signal, plan.monitor.grace.as_secs_f64())
}
