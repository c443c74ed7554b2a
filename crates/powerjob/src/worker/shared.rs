//! What the tasks of a worker share: who it is, where its server is, what is open. Readers never wait for the driver.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    Counters, InstanceStatus, OwnerStatus, WorkerConfig, WorkerStatus, clock::ServerClock, heavy::Trackers,
    silence::Silence,
};
use crate::tasks::processor::ProcessorTrackers;
use crate::{
    client::Transport,
    core::{InstanceRecord, Owner, Stage, TaskCounts},
    wire::{InstanceDetail, TaskDetail},
};

/// The server forgets a worker 60 s after its last heartbeat.
pub(super) const LISTED_FOR: Duration = Duration::from_secs(60);

pub(crate) struct Shared {
    pub(crate) config: WorkerConfig,
    pub(crate) address: String,
    pub(crate) counters: Arc<Counters>,
    pub(crate) transport: Transport,
    /// Who runs instances with tasks.
    pub(crate) trackers: Arc<dyn Trackers>,
    /// Who executes tasks of own and other workers' instances.
    pub(crate) processors: Option<Arc<ProcessorTrackers>>,
    pub(crate) clock: Arc<ServerClock>,
    pub(crate) silence: Silence,
    /// Where heartbeats and reports go.
    pub(crate) owner: watch::Sender<Option<Owner>>,
    /// Where log lines go: follows `owner` when the logs that a new one needs from the start have been rewound.
    pub(crate) log_owner: watch::Sender<Option<Owner>>,
    pub(crate) records: RwLock<BTreeMap<i64, Arc<InstanceRecord>>>,
    pub(crate) state: RwLock<State>,
    /// Grows with everything that happened.
    pub(crate) generation: watch::Sender<u64>,
}

/// What the driver and its tasks leave for status pages.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) last_heartbeat: Option<Instant>,
    /// The newest heartbeat that the server took: its number and its flag.
    pub(crate) heartbeat_heard: u64,
    pub(crate) heartbeat_overload: bool,
    pub(crate) draining: bool,
    /// Heartbeats up to this number do not know of the last change of `draining`.
    pub(crate) heartbeats_before_drain: u64,
    pub(crate) running: usize,
    pub(crate) discovery_error: Option<String>,
    pub(crate) store_error: Option<String>,
}

impl Shared {
    pub(crate) fn record(&self, instance_id: i64) -> Option<Arc<InstanceRecord>> {
        self.records.read().get(&instance_id).cloned()
    }

    pub(crate) fn changed(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// The answer to `queryInstanceStatus`; an instance that is being stopped is no longer ours to speak of.
    pub(crate) fn detail(&self, instance_id: i64) -> Option<InstanceDetail> {
        let record = self.record(instance_id).filter(|record| record.stage != Stage::Stopping)?;
        Some(InstanceDetail {
            actual_trigger_time: Some(record.received_at),
            status: 3,
            task_tracker_address: self.address.clone(),
            job_params: record.dispatch.job_params.clone(),
            task_detail: Some(match self.counts(&record) {
                Some(TaskCounts { total, succeeded, failed }) => TaskDetail {
                    total_task_num: total,
                    succeed_task_num: succeeded,
                    failed_task_num: failed,
                    ..TaskDetail::default()
                },
                None => TaskDetail { total_task_num: 1, ..TaskDetail::default() },
            }),
            ..InstanceDetail::default()
        })
    }

    /// The numbers of an instance's tasks now, if it has any.
    pub(crate) fn counts(&self, record: &InstanceRecord) -> Option<TaskCounts> {
        if !record.dispatch.is_heavy() {
            return None;
        }
        match &record.stage {
            Stage::Draining(outcome) => outcome.tasks,
            Stage::Reporting(report) => report.outcome.tasks,
            Stage::Queued | Stage::Running | Stage::Stopping => {
                let progress = self.trackers.progress(record.dispatch.instance_id)?;
                Some((&progress).into())
            }
        }
    }

    /// For how long no server has taken heartbeats, or reports of the instance, ms. A server that is found and refuses them is
    /// none.
    pub(crate) fn server_silent_ms(&self, instance_id: i64) -> u64 {
        u64::try_from(self.silence.of(instance_id, Instant::now()).as_millis()).unwrap_or(u64::MAX)
    }

    /// Tasks, of whichever worker's instances, that wait or run here or have not been reported yet.
    pub(crate) fn open_tasks(&self) -> usize {
        self.processors.as_ref().map_or(0, |processors| processors.open_tasks())
    }

    pub(crate) fn status(&self) -> WorkerStatus {
        let mut records: Vec<Arc<InstanceRecord>> = self.records.read().values().cloned().collect();
        records.sort_by_key(|record| record.seq);
        let owner = self.owner.borrow().clone();
        let state = self.state.read();
        let heard = state.last_heartbeat.map(|at| at.elapsed());
        WorkerStatus {
            lane: self.config.lane.clone(),
            app: self.config.app.clone(),
            address: self.address.clone(),
            tag: self.config.tag.clone(),
            listed: owner.is_some() && heard.is_some_and(|ago| ago < LISTED_FOR),
            owner: owner.map(|owner| OwnerStatus {
                transport: owner.transport,
                web: owner.web,
                app_id: owner.app_id,
                born_time: owner.born_time,
            }),
            discovery_error: state.discovery_error.clone(),
            clock_skew_ms: self.clock.skew_ms(),
            last_heartbeat_ago_ms: heard.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
            overload: state.heartbeat_overload,
            draining: state.draining,
            drain_told: state.heartbeat_heard > state.heartbeats_before_drain,
            slots: self.config.slots,
            running: state.running,
            open_tasks: self.open_tasks(),
            store_error: state.store_error.clone(),
            instances: records.iter().map(|record| instance_status(record, self.counts(record))).collect(),
            counters: self.counters.status(),
        }
    }
}

fn instance_status(record: &InstanceRecord, tasks: Option<TaskCounts>) -> InstanceStatus {
    let dispatch = &record.dispatch;
    let (stage, outcome) = match &record.stage {
        Stage::Queued => ("queued", None),
        Stage::Running => ("running", None),
        Stage::Draining(outcome) => ("draining", Some(outcome)),
        Stage::Reporting(report) => ("reporting", Some(&report.outcome)),
        Stage::Stopping => ("stopping", None),
    };
    InstanceStatus {
        instance_id: dispatch.instance_id.to_string(),
        job_id: dispatch.job_id,
        wf_instance_id: dispatch.wf_instance_id.map(|id| id.to_string()),
        processor: dispatch.processor_info.clone(),
        stage,
        attempt: record.attempt,
        received_at: record.received_at,
        started_at: record.started_at,
        tasks,
        outcome: outcome.map(|outcome| (outcome.success, outcome.result.clone())),
    }
}
