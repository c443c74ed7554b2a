//! Carrying out what the core wants done.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use super::{Batch, Driver, Input};
use crate::{
    causes::with_causes,
    core::{Action, Event, InstanceInfo, Stage, Write},
    openapi::OpenApi,
    processor::StopReason,
    wire::WorkerHeartbeat,
    worker::{metrics::HostMetrics, reports::Report, runs::StartRun, shared::Shared},
};

impl Driver {
    /// What is durable is shown and done.
    pub(super) async fn carry_out(&mut self, batch: Batch) {
        let mut requests: HashMap<i64, String> = batch.requests.into_iter().collect();
        for write in batch.outputs.iter().flat_map(|output| &output.writes) {
            self.show(write, &mut requests);
        }
        for answer in batch.answers {
            // The server may have hung up.
            let _ = answer.send(Ok(()));
        }
        for output in batch.outputs {
            let mut actions = VecDeque::from(output.actions);
            while let Some(action) = actions.pop_front() {
                testrig_store::kill_point();
                self.act(action, &actions).await;
            }
        }
        if batch.owner_seen {
            let owner = self.p.core.owner().cloned();
            let changed = *self.p.shared.log_owner.borrow() != owner;
            if changed {
                self.rewind_foreign_logs(owner.as_ref()).await;
                self.p.shared.log_owner.send_replace(owner);
                self.p.logs.kick();
            }
        }
    }

    fn show(&mut self, write: &Write, requests: &mut HashMap<i64, String>) {
        let mut records = self.p.shared.records.write();
        match write {
            Write::Put(record) => {
                let id = record.dispatch.instance_id;
                if let Some(request) = requests.remove(&id).filter(|_| record.dispatch.is_heavy()) {
                    self.p.requests.insert(id, request);
                }
                records.insert(id, Arc::new((**record).clone()));
            }
            Write::Close(closed) => {
                records.remove(&closed.instance_id);
                self.p.requests.remove(&closed.instance_id);
                self.p.shared.silence.forget(closed.instance_id);
                let counters = &self.p.shared.counters;
                match closed.status.as_str() {
                    "SUCCEED" => counters.succeeded.one(),
                    "FAILED" => counters.failed.one(),
                    _ => counters.stopped.one(),
                }
            }
            Write::Owner(_) => {}
        }
    }

    async fn act(&mut self, action: Action, behind: &VecDeque<Action>) {
        match action {
            Action::Discover { current } => self.discover(current),
            Action::SendHeartbeat { overload, light_task_trackers, heavy_task_trackers } => {
                self.send_heartbeat(overload, light_task_trackers, heavy_task_trackers);
            }
            Action::ReportRunning { instance_id, report_time } => {
                self.report(instance_id, Report::Running { report_time });
            }
            Action::ReportFinal { instance_id, report } => self.report(instance_id, Report::Final(report)),
            Action::AskInstanceInfo(instance_id) => self.ask_instance_info(instance_id),
            Action::OpenLog { instance_id, send } => {
                self.own_log(instance_id);
                self.p.logs.open(instance_id, send);
            }
            Action::LogLine { instance_id, level, text } => self.p.logs.line(instance_id, level, &text),
            Action::StartProcessor { instance_id, attempt, resumed, time_left_ms } => {
                let stop_first = behind.iter().find_map(|action| match action {
                    Action::StopProcessor { instance_id: stopped, reason } if *stopped == instance_id => Some(*reason),
                    _ => None,
                });
                self.start(instance_id, attempt, resumed, time_left_ms, stop_first);
            }
            Action::StopProcessor { instance_id, reason } => self.p.runs.stop(instance_id, reason),
            Action::DrainLog { instance_id, attempt, limit_ms } => self.p.logs.drain(instance_id, attempt, limit_ms),
            Action::RewindLog(instance_id) => self.p.logs.rewind(instance_id).await,
            Action::CloseLog { instance_id, status } => self.close_log(instance_id, status),
            Action::Warn(text) => tracing::warn!("{text}"),
        }
    }

    fn discover(&self, current: Option<String>) {
        let (discovery, peers, inbox) = (self.p.discovery.clone(), self.p.peers.clone(), self.p.inbox.clone());
        self.p.tasks.spawn(async move {
            let found = discovery.run(current.as_deref()).await;
            if let Ok(found) = &found {
                // Before the first heartbeat: the server may dispatch a millisecond after it.
                peers.set_owner(&found.owner.transport).await;
            }
            // A closed channel means that the worker has ended; so below.
            let _ = inbox.send(Input::Discovered(found)).await;
        });
    }

    pub(super) fn send_heartbeat(&mut self, overload: bool, light: u32, heavy: u32) {
        self.heartbeats += 1;
        let number = self.heartbeats;
        let (shared, metrics, inbox) = (self.p.shared.clone(), self.p.metrics.clone(), self.p.inbox.clone());
        self.p.tasks.spawn(async move {
            let ok = heartbeat(&shared, &metrics, overload, light, heavy).await;
            let _ = inbox.send(Input::Heartbeat { number, ok, overload }).await;
        });
    }

    fn report(&mut self, instance_id: i64, report: Report) {
        match self.p.shared.record(instance_id) {
            // Stopped in the same batch: a report that comes after the stop would bring the instance back to life there.
            Some(record) if record.stage == Stage::Stopping => {
                tracing::debug!(instance_id, "a report of an instance that was just stopped is left out");
            }
            Some(record) => self.p.reports.submit(record, report),
            // The core reports only what it has; closed in the same batch means that nobody waits for an answer.
            None => tracing::debug!(instance_id, "a report of an instance that is closed already is left out"),
        }
    }

    fn start(
        &mut self,
        instance_id: i64,
        attempt: u32,
        resumed: bool,
        time_left_ms: Option<u64>,
        stop_first: Option<StopReason>,
    ) {
        let log =
            self.p.logs.logger(instance_id).map_err(|why| format!("failed to open the log of the instance: {why}"));
        let Some(record) = self.p.shared.record(instance_id) else {
            return tracing::error!(instance_id, "the record of an instance that is to start is missing");
        };
        let request = self.p.requests.get(&instance_id).cloned();
        self.p.runs.start(StartRun { record, attempt, resumed, time_left_ms, request, log, stop_first });
    }

    fn ask_instance_info(&self, instance_id: i64) {
        let (api, shared, inbox) = (self.p.openapi.clone(), self.p.shared.clone(), self.p.inbox.clone());
        self.p.tasks.spawn(async move {
            let info = instance_info(api, &shared, instance_id).await;
            let _ = inbox.send(Input::Event(Event::InstanceInfo { instance_id, info })).await;
        });
    }
}

async fn heartbeat(shared: &Shared, metrics: &HostMetrics, overload: bool, light: u32, heavy: u32) -> bool {
    let owner = shared.owner.borrow().clone();
    let Some(owner) = owner else { return false };
    let config = &shared.config;
    let mut system_metrics = metrics.get().await;
    system_metrics.extra = config.host.as_ref().and_then(|host| host.borrow().extra.clone());
    let message = WorkerHeartbeat {
        worker_address: shared.address.clone(),
        app_name: config.app.clone(),
        app_id: owner.app_id,
        container_infos: [],
        version: config.version.clone(),
        protocol: "HTTP".to_owned(),
        tag: config.tag.clone(),
        client: config.client.clone(),
        light_task_tracker_num: i32::try_from(light).unwrap_or(i32::MAX),
        heavy_task_tracker_num: i32::try_from(heavy).unwrap_or(i32::MAX),
        system_metrics,
        overload,
        // Last: the server drops a heartbeat that is older than the one it has.
        heartbeat_time: shared.clock.heartbeat_time(&owner),
    };
    let sent = shared.transport.tell(&owner.transport, "/server/workerHeartbeat", &message).await;
    if let Err(why) = &sent {
        tracing::debug!(%why, "a heartbeat was not taken");
    }
    sent.is_ok()
}

async fn instance_info(
    api: Option<OpenApi>,
    shared: &Shared,
    instance_id: i64,
) -> Result<Option<InstanceInfo>, String> {
    let app_id = shared.owner.borrow().as_ref().map(|owner| owner.app_id);
    let (Some(api), Some(app_id)) = (api, app_id) else {
        return Err("no server is known now".to_owned());
    };
    match api.fetch_instance_info(app_id, instance_id).await {
        Ok(info) => Ok(Some(InstanceInfo {
            status: info.status,
            task_tracker_address: info.task_tracker_address,
            finished_at: info.finished_time,
        })),
        Err(error) if error.instance_unknown() => Ok(None),
        Err(error) => Err(with_causes(&error)),
    }
}
