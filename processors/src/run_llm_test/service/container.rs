//! A service that is a container.

mod engine;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use testrig_host::{
    ExitStatus, LABEL_AGENT, LABEL_BOUNDARY, LABEL_INSTANCE, LABEL_PLATFORM_TASK, Signal, Unseen,
    accelerators::passing::{self, HostFiles, Passing},
    docker::{
        ContainerInfo, ContainerPhase, ContainerSpec, Docker, DockerError, EngineNotice, Mount, Network, PortPublish,
        PullSettings,
    },
    health,
    health::Probe,
};
use tokio::io::AsyncWriteExt;

use super::{Cards, Details, Fault, Found, Launch, Say, Service, Stopped};
use crate::run_llm_test::{ending::Ending, evidence::Oom, monitor::with_network, plan::ContainerPlan, state::Runs};

/// The default: a container of the run's own.
pub(in crate::run_llm_test) struct ContainerService {
    docker: Docker,
    plan: ContainerPlan,
    launch: Launch,
    /// To tell a leftover from a container of a run that is at work.
    runs: Runs,
    pulls: PullSettings,
    known: Mutex<Known>,
    /// Held while the engine makes or starts the container: it goes on with that although nobody waits any more.
    at_work: Arc<tokio::sync::Mutex<()>>,
    /// The lease, on a host that has cards.
    cards: Mutex<Option<Cards>>,
}

#[derive(Default)]
struct Known {
    id: Option<String>,
    image_id: Option<String>,
    info: Option<ContainerInfo>,
    /// Since the engine does not answer any more: its client's words.
    lost: Option<String>,
}

impl ContainerService {
    pub(in crate::run_llm_test) fn new(
        docker: Docker,
        plan: ContainerPlan,
        launch: Launch,
        runs: Runs,
        pulls: PullSettings,
    ) -> Self {
        let (known, at_work, cards) = (Mutex::default(), Arc::default(), Mutex::default());
        Self { docker, plan, launch, runs, pulls, known, at_work, cards }
    }

    fn id(&self) -> Result<String, Fault> {
        self.known.lock().id.clone().ok_or_else(|| Fault::new("there is no container yet"))
    }

    fn learn(&self, info: ContainerInfo) {
        let mut known = self.known.lock();
        known.id = Some(info.id.clone());
        known.info = Some(info);
    }

    /// What the engine is asked for, without the lease. `init`: the engine has an init program.
    pub(in crate::run_llm_test) fn spec(&self, init: bool) -> ContainerSpec {
        let plan = &self.plan;
        let mut spec = ContainerSpec::new(self.launch.boundary.clone(), &plan.name, &plan.image);
        spec.labels = self.launch.labels.clone();
        spec.env = self.launch.env.clone();
        spec.entrypoint = plan.entry_script.clone().map(|script| vec![script]);
        // With an entry point of ours the image's command would become its arguments.
        spec.command = plan.entry_script.as_ref().map(|_| Vec::new());
        spec.work_dir = plan.work_dir.clone();
        spec.mounts = plan.mounts.clone();
        spec.mounts.push(Mount {
            host: self.launch.log_dir.clone(),
            container: plan.log_dir.clone(),
            read_only: false,
        });
        spec.network = plan.network.clone();
        if matches!(plan.network, Network::Bridge | Network::Named(_)) {
            let published = |port: u16| if Some(port) == self.launch.service_port { plan.host_port } else { 0 };
            spec.publish = plan
                .ports
                .iter()
                .map(|port| PortPublish { container: *port, host: published(*port), bind: None })
                .collect();
        }
        spec.cpus = plan.cpus;
        spec.memory = plan.memory;
        spec.shm_size = plan.shm_size;
        spec.ulimits = plan.ulimits.clone();
        spec.runtime = plan.runtime.clone();
        spec.privileged = plan.privileged;
        spec.init = init;
        spec
    }

    /// Puts the lease into the container, and nothing else that chooses cards.
    fn pass(&self, spec: &mut ContainerSpec, passing: Passing) {
        spec.env.retain(|(name, _)| !passing::GOVERNED.contains(&name.as_str()));
        spec.env.extend(passing.env);
        spec.devices = passing.devices;
        // A run that mounts its own driver knows why.
        let own: Vec<String> = spec.mounts.iter().map(|mount| mount.container.clone()).collect();
        spec.mounts.extend(passing.mounts.into_iter().filter(|mount| !own.contains(&mount.container)));
        spec.device_requests = passing.requests;
        spec.groups = passing.groups;
        spec.runtime = passing.runtime.or(spec.runtime.take());
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.launch.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Made by this agent: another one on the same engine may know the same instance ids.
    fn is_ours(&self, info: &ContainerInfo) -> bool {
        info.label(LABEL_AGENT) == self.label(LABEL_AGENT)
    }

    /// The engine's words, and which parameter they are about.
    fn not_started(&self, error: &DockerError) -> Fault {
        let mut fault = Fault::of(error);
        if let Some(meaning) = passing::explain(&fault.text) {
            fault.text = format!("{} ({meaning})", fault.text);
        }
        let says = |words: &str| fault.text.contains(words);
        let plan = &self.plan;
        if let Network::Named(network) = &plan.network
            && says(network.as_str())
            && says("not found")
        {
            return Fault::lasting(format!(
                "{}; the network `{network}` ({}) is not known to the engine; accepted: host, bridge, or a network that \
                 `docker network ls` shows",
                fault.text, plan.said_in.network
            ));
        }
        if plan.host_port != 0 && (says("already in use") || says("already allocated")) {
            return Fault::new(format!(
                "{}; port {} ({}) is in use on this host already; stop what listens there, choose another port, or leave \
                 hostPort out for a free one",
                fault.text, plan.host_port, plan.said_in.host_port
            ));
        }
        fault
    }

    /// Lets a call that changes the engine's state run to its end even if the caller is dropped. [`Service::stop`] waits
    /// for it, or the container would appear behind its back.
    async fn whole<T: Send + 'static>(
        &self,
        call: BoxFuture<'static, Result<T, DockerError>>,
    ) -> Result<T, DockerError> {
        let at_work = Arc::clone(&self.at_work).lock_owned().await;
        let task = tokio::spawn(async move {
            let done = call.await;
            drop(at_work);
            done
        });
        match task.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Removes what an earlier try of this run left; a container of somebody else under the wanted name is an error.
    async fn clear(&self, say: &Say) -> Result<(), Fault> {
        let own = self.launch.instance_id.to_string();
        let (mut left, named) = tokio::try_join!(
            self.patient(|| self.docker.find_by_label(LABEL_INSTANCE, Some(&own))),
            self.patient(|| self.docker.find_by_name(&self.plan.name)),
        )?;
        left.retain(|info| self.is_ours(info));
        if let Some(named) = named
            && !left.iter().any(|info| info.id == named.id)
        {
            self.check_is_leftover(&named).await?;
            left.push(named);
        }
        for info in left {
            say(format!("removing the container `{}` that an earlier try left", info.name));
            self.patient(|| self.docker.remove(&info.id)).await?;
        }
        Ok(())
    }

    async fn check_is_leftover(&self, info: &ContainerInfo) -> Result<(), Fault> {
        let foreign = |why: &str| {
            Err(Fault::lasting(format!(
                "a container named `{}` exists already and {why}; remove it, or choose another name ({})",
                info.name, self.plan.said_in.name
            ))
            .ends(Ending::Refused))
        };
        let Some(owner) = info.label(LABEL_INSTANCE).and_then(|id| id.parse::<i64>().ok()) else {
            return foreign("was not made by this agent");
        };
        if !self.is_ours(info) {
            return foreign(&format!("belongs to another agent on this engine (instance {owner} there)"));
        }
        if info.label(LABEL_PLATFORM_TASK) != self.label(LABEL_PLATFORM_TASK) {
            return foreign(&format!("belongs to another run (instance {owner})"));
        }
        if self.runs.is_open(owner).await.map_err(|e| Fault::of(&e))? {
            return foreign(&format!("belongs to instance {owner} of the same task, which is still at work"));
        }
        Ok(())
    }

    /// Asks again for a while when the engine does not answer: that is no verdict on anything.
    async fn patient<T, F>(&self, call: impl Fn() -> F + Send) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, DockerError>> + Send,
    {
        engine::patient(call).await.map_err(|error| Fault::of(&error))
    }
}

#[async_trait]
impl Service for ContainerService {
    fn kind(&self) -> &'static str {
        "container"
    }

    fn words(&self) -> String {
        format!("the container `{}` of image `{}`", self.plan.name, self.plan.image)
    }

    fn details(&self) -> Details {
        let (container_id, image_id) = {
            let known = self.known.lock();
            (known.id.clone(), known.image_id.clone().or_else(|| known.info.as_ref().map(|info| info.image_id.clone())))
        };
        let address = self.launch.service_port.and_then(|port| self.reachable(port));
        Details {
            name: Some(self.plan.name.clone()),
            container_id,
            image_id,
            pid: self.known.lock().info.as_ref().and_then(|info| info.pid),
            address,
            host_port: address.map(|address| address.port()),
        }
    }

    fn use_cards(&self, cards: Cards) {
        *self.cards.lock() = Some(cards);
    }

    async fn pull(&self, say: Say) -> Result<(), Fault> {
        let line = say.clone();
        let image = self
            .docker
            .ensure_image(&self.plan.image, self.plan.pull, &self.pulls, move |progress| {
                line(format!("pull: {progress}"));
            })
            .await
            .map_err(|error| Fault { retryable: !error.is_lasting(), ..Fault::of(&error) })?;
        say(format!("image {} is {}", self.plan.image, image.id));
        self.known.lock().image_id = Some(image.id);
        Ok(())
    }

    async fn create(&self, say: Say) -> Result<(), Fault> {
        // The engine's settings are asked meanwhile.
        let ((), engine) = tokio::try_join!(self.clear(&say), self.patient(|| self.docker.ping()))?;
        if self.plan.network == Network::Host {
            self.launch.check_port_is_free()?;
        }
        if let Some(runtime) = &self.plan.runtime
            && !engine.runtimes.iter().any(|known| known == runtime)
        {
            return Err(Fault::lasting(format!(
                "the container engine has no runtime `{runtime}` ({}); accepted: {}, or leave it out",
                self.plan.said_in.runtime,
                engine.runtimes.join(", ")
            )));
        }
        let (docker, mut spec) = (self.docker.clone(), self.spec(engine.init));
        if let Some(Cards(cards)) = self.cards.lock().clone() {
            let passing = passing::for_container(&cards, self.plan.runtime.as_deref(), &engine, &HostFiles::default())
                .map_err(Fault::lasting)?;
            if !cards.is_empty() {
                say(format!("the container gets its accelerators by {}", passing.way));
            }
            self.pass(&mut spec, passing);
        }
        let agent = self.label(LABEL_AGENT).map(str::to_owned);
        let id = self.whole(Box::pin(engine::make(docker, spec, agent))).await.map_err(|error| match error {
            DockerError::Refused { .. } | DockerError::NotFound { .. } => {
                Fault { retryable: false, ..Fault::of(&error) }
            }
            other => Fault::of(&other),
        })?;
        self.known.lock().id = Some(id);
        Ok(())
    }

    async fn start(&self) -> Result<(), Fault> {
        let id = self.id()?;
        let (docker, own) = (self.docker.clone(), id.clone());
        self.whole(Box::pin(async move { engine::launch(&docker, &own).await }))
            .await
            .map_err(|error| self.not_started(&error))?;
        let info = self.patient(|| self.docker.inspect(&id)).await?;
        self.learn(info);
        Ok(())
    }

    async fn find(&self) -> Result<Found, Fault> {
        let boundary = self.launch.boundary.as_str();
        let found = self.patient(|| self.docker.find_by_label(LABEL_BOUNDARY, Some(boundary))).await?;
        let Some(info) = found.into_iter().find(|info| self.is_ours(info)) else { return Ok(Found::Nothing) };
        let phase = info.phase;
        let exit = info.exit.clone();
        self.learn(info);
        Ok(match phase {
            ContainerPhase::Created => Found::Made,
            ContainerPhase::Running => Found::Running,
            ContainerPhase::Exited => Found::Ended(exit.unwrap_or_default()),
            ContainerPhase::Removing => Found::Nothing,
        })
    }

    async fn ended(&self, say: Say) -> Result<Option<ExitStatus>, Fault> {
        let notice = |notice| match notice {
            EngineNotice::Lost(why) => {
                say(format!(
                    "the container engine was lost, the state of the container is unknown until it is back: {why}"
                ));
                self.known.lock().lost = Some(why);
            }
            EngineNotice::Back => {
                self.known.lock().lost = None;
                say("the container engine is back, the container runs".to_owned());
            }
        };
        match self.docker.wait(&self.id()?, notice).await {
            Ok(exit) => Ok(Some(exit)),
            Err(error) if error.is_not_found() => Ok(Some(ExitStatus {
                error: Some("the container is gone: somebody removed it".into()),
                unseen: Some(Unseen::Removed),
                ..ExitStatus::default()
            })),
            Err(error) => Err(Fault::of(&error)),
        }
    }

    async fn copy_output(&self) -> Result<(), Fault> {
        let file = &self.launch.output;
        let fail = |error: std::io::Error| Fault::new(format!("failed to write `{}`: {error}", file.display()));
        let mut output = tokio::fs::OpenOptions::new().append(true).create(true).open(file).await.map_err(fail)?;
        // The engine gives the same bytes from the first line on each time, so what the file has already is skipped.
        let mut there = output.metadata().await.map_err(fail)?.len();
        let mut lines = self.docker.logs(&self.id()?, 0);
        loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                // Removed: there is no more of it.
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(Fault::of(&error)),
            };
            let mut bytes = line.bytes.to_vec();
            if !line.continues {
                bytes.push(b'\n');
            }
            let skip = there.min(bytes.len() as u64);
            there -= skip;
            let skip = usize::try_from(skip).unwrap_or(bytes.len());
            if skip < bytes.len() {
                output.write_all(&bytes[skip..]).await.map_err(fail)?;
                output.flush().await.map_err(fail)?;
            }
        }
    }

    fn base_url(&self) -> Option<String> {
        self.reachable(self.launch.service_port?).map(|address| format!("http://{address}"))
    }

    fn reachable(&self, port: u16) -> Option<SocketAddr> {
        let host = match self.plan.network {
            Network::Host => Some(port),
            _ => self.known.lock().info.as_ref().and_then(|info| info.host_port(port)),
        };
        host.map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
    }

    async fn probe_command(&self, command: &[String], limit: Duration) -> Result<Probe, Fault> {
        match health::container_command(&self.docker, &self.id()?, command, limit).await {
            Ok(probe) => Ok(probe),
            // A program that is not in the image: the engine says so, and it is about the check.
            Err(error @ (DockerError::Refused { .. } | DockerError::Conflict { .. })) => {
                Ok(Probe { healthy: false, detail: error.to_string(), took: Duration::ZERO })
            }
            Err(error) => Err(Fault::of(&error)),
        }
    }

    fn container(&self) -> Option<(Docker, String)> {
        Some((self.docker.clone(), self.id().ok()?))
    }

    async fn sample(&self) -> Option<Value> {
        let stats = self.docker.stats(&self.id().ok()?).await.ok()?;
        let stats = serde_json::to_value(stats).ok()?;
        // The engine counts nothing of a container that has the host's network.
        if self.plan.network != Network::Host {
            return Some(stats);
        }
        let pid = self.known.lock().info.as_ref().and_then(|info| info.pid);
        Some(with_network(stats, pid.and_then(|pid| i32::try_from(pid).ok())))
    }

    async fn stop(&self, signal: Signal, grace: Duration) -> Result<Option<Stopped>, Fault> {
        // What the engine was told to make or start is there, or is not, once that call is over.
        drop(self.at_work.lock().await);
        // By label and not by id: a create that was cut may have happened all the same.
        match self.find().await? {
            Found::Nothing => Ok(None),
            Found::Made => Ok(None),
            Found::Ended(exit) => Ok(Some(Stopped { exit, before: true })),
            Found::Running => {
                let id = self.id()?;
                let exit = self.patient(|| self.docker.stop(&id, signal, grace)).await?;
                Ok(Some(Stopped { exit, before: false }))
            }
        }
    }

    async fn oom(&self) -> Option<Oom> {
        let info = self.docker.inspect(&self.id().ok()?).await.ok()?;
        Some(Oom { kills: info.oom_kills(), engine_flag: Some(info.oom_killed) })
    }

    fn engine_lost(&self) -> Option<String> {
        self.known.lock().lost.clone()
    }

    async fn remove(&self) -> Result<(), Fault> {
        match self.id() {
            Ok(id) => self.patient(|| self.docker.remove(&id)).await,
            Err(_) => Ok(()),
        }
    }
}
