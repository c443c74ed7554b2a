//! The running server: one lock around the world, tasks for its loops, and the effects carried out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::faults::Faults;
use crate::java;
use crate::thrown::Thrown;
use crate::world::{Effect, World};

/// Everything a request handler or a loop needs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) faults: Faults,
    pub(crate) transport: String,
    http: reqwest::Client,
    stop: CancellationToken,
}

impl Server {
    pub(crate) fn new(
        world: Arc<Mutex<World>>,
        faults: Faults,
        transport: String,
        stop: CancellationToken,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .pool_idle_timeout(Duration::from_secs(75))
            .no_proxy()
            .build()?;
        Ok(Self { world, faults, transport, http, stop })
    }

    /// Changes the world and carries out in the background what that asks for.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World, i64) -> T) -> T {
        let (value, effects) = self.locked(change);
        if !effects.is_empty() {
            let server = self.clone();
            self.spawn(async move {
                if let Err(thrown) = server.carry_out(effects).await {
                    warn!(error = %thrown.0, "a dispatch was not possible");
                }
            });
        }
        value
    }

    /// Changes the world and carries out what that asks for before it returns; what fails then is the answer.
    pub(crate) async fn change_and_wait<T>(
        &self,
        change: impl FnOnce(&mut World, i64) -> Result<T, Thrown>,
    ) -> Result<T, Thrown> {
        let (value, effects) = self.locked(change);
        let value = value?;
        self.carry_out(effects).await?;
        Ok(value)
    }

    /// Starts the loops of the server; they end with it.
    pub(crate) fn spawn_loops(&self) {
        let timers = self.world.lock().config.timers.clone();
        let server = self.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(timers.check_interval).await;
                server.change(World::check);
            }
        });
        let server = self.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(timers.schedule_interval).await;
                server.change(World::schedule);
            }
        });
    }

    /// Asks a worker and waits at most 5 s for its answer.
    pub(crate) async fn ask(&self, address: &str, path: &str, body: &Value) -> Option<Value> {
        let request = self.http.post(format!("http://{address}{path}")).timeout(Duration::from_secs(5)).json(body);
        let response = request.send().await.ok().filter(|response| response.status().as_u16() == 200)?;
        response.json().await.ok()
    }

    fn locked<T>(&self, change: impl FnOnce(&mut World, i64) -> T) -> (T, Vec<Effect>) {
        let mut world = self.world.lock();
        let value = change(&mut world, java::now());
        (value, std::mem::take(&mut world.effects))
    }

    async fn carry_out(&self, effects: Vec<Effect>) -> Result<(), Thrown> {
        let mut outcome = Ok(());
        for effect in effects {
            match effect {
                Effect::Dispatch { instance_id, as_node } => {
                    let dispatched = self.dispatch(instance_id, as_node).await;
                    outcome = outcome.and(dispatched);
                }
                Effect::DispatchAt { instance_id, at } => self.later(at, move |world, _| {
                    let waits = world.instances.get(&instance_id).is_some_and(|instance| instance.in_timer);
                    if waits {
                        world.effects.push(Effect::Dispatch { instance_id, as_node: false });
                    }
                }),
                Effect::StartWorkflowAt { wf_instance_id, at } => {
                    self.later(at, move |world, now| {
                        world.start_workflow(wf_instance_id, now);
                    });
                }
                Effect::SyncLog { instance_id } => {
                    let at = java::now() + java::millis(self.world.lock().config.timers.log_sync);
                    self.later(at, move |world, _| {
                        // Unless it was taken out meanwhile.
                        if world.instances.contains_key(&instance_id) {
                            let zone = world.config.zone.clone();
                            world.logs.sync(instance_id, &zone);
                        }
                    });
                }
                Effect::Tell { address, path, body } => self.tell(address, path, body),
            }
        }
        outcome
    }

    /// Sends, then writes down. Effects of a failed dispatch (its workflow moves on) run in the background.
    async fn dispatch(&self, instance_id: i64, as_node: bool) -> Result<(), Thrown> {
        let at = java::now();
        let sending = self.change(|world, now| world.prepare_dispatch(instance_id, as_node, now))?;
        let Some(sending) = sending else {
            return Ok(());
        };
        let write = self.world.lock().config.timers.dispatch_write;
        self.tell(sending.address.clone(), "/worker/runJob", sending.body);
        tokio::time::sleep(write).await;
        self.change(|world, _| world.dispatch_written(instance_id, &sending.address, at));
        Ok(())
    }

    fn later(&self, at: i64, change: impl FnOnce(&mut World, i64) + Send + 'static) {
        let server = self.clone();
        let wait = Duration::from_millis(u64::try_from(at - java::now()).unwrap_or(0));
        self.spawn(async move {
            tokio::time::sleep(wait).await;
            server.change(change);
        });
    }

    fn tell(&self, address: String, path: &'static str, body: Value) {
        let http = self.http.clone();
        self.spawn(async move {
            let sent =
                http.post(format!("http://{address}{path}")).timeout(Duration::from_secs(10)).json(&body).send().await;
            match sent {
                Ok(response) if response.status().as_u16() == 200 => {}
                Ok(response) => {
                    warn!(address, path, status = response.status().as_u16(), "a worker did not take what it was told");
                }
                Err(error) => warn!(address, path, %error, "a worker was not reached"),
            }
        });
    }

    /// A task that ends with the server.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            if stop.run_until_cancelled(work).await.is_none() {
                debug!("work was cut off by the end of the server");
            }
        });
    }
}
