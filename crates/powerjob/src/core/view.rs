//! What the core lets others see of itself.

use serde::Serialize;

use super::{
    api::{Now, Owner, Stage},
    instance::{Instance, mono},
    machine::Core,
};

/// One open instance, for status pages and `queryInstanceStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceView {
    /// Instance id.
    pub instance_id: i64,
    /// Job id.
    pub job_id: i64,
    /// Set iff it belongs to a workflow.
    pub wf_instance_id: Option<i64>,
    /// Processor name.
    pub processor: String,
    /// `queued`, `running`, `draining`, `reporting` or `stopping`.
    pub stage: &'static str,
    /// Which execution on this worker.
    pub attempt: u32,
    /// Place in the backlog, 1 = next; `None` unless queued.
    pub queue_position: Option<usize>,
    /// Arrival of the dispatch, epoch ms.
    pub received_at: i64,
    /// Start of the processor, epoch ms.
    pub started_at: Option<i64>,
    /// What is left of the time limit, ms.
    pub time_left_ms: Option<u64>,
    /// Highest `reportTime` used so far.
    pub last_report_time: i64,
    /// How often the final report was sent without being accepted, since this process started.
    pub final_report_failures: u32,
}

/// The worker as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    /// Processors that hold a slot.
    pub slots_used: usize,
    /// All slots.
    pub slots: usize,
    /// Instances in the backlog.
    pub queued: usize,
    /// Places in the backlog.
    pub backlog: usize,
    /// The overload flag as the next heartbeat carries it.
    pub overload: bool,
    /// New instances are refused.
    pub draining: bool,
    /// Open instances in every stage.
    pub open: usize,
    /// Monotonic ms of the last heartbeat that the server took, in the clock of [`super::Now`].
    pub last_heartbeat_ms: Option<u64>,
    /// Why there is no owner, or why the last exchange with it failed.
    pub trouble: Option<String>,
}

impl Core {
    /// The open instances in order of arrival.
    pub fn instances(&self, now: Now) -> Vec<InstanceView> {
        let mut open = self.instances.values().collect::<Vec<_>>();
        open.sort_by_key(|instance| instance.record.seq);
        let mut queued = 0;
        open.into_iter()
            .map(|instance| {
                let position = (instance.record.stage == Stage::Queued).then(|| {
                    queued += 1;
                    queued
                });
                view(instance, position, now)
            })
            .collect()
    }

    /// One open instance.
    pub fn instance(&self, now: Now, instance_id: i64) -> Option<InstanceView> {
        Some(view(self.instances.get(&instance_id)?, self.position(instance_id), now))
    }

    /// The worker as a whole.
    pub fn worker(&self) -> WorkerView {
        WorkerView {
            slots_used: self.slots_used(),
            slots: self.config.slots,
            queued: self.queued(),
            backlog: self.config.backlog,
            overload: self.overload(),
            draining: self.draining,
            open: self.instances.len(),
            last_heartbeat_ms: self.server.last_heartbeat.map(|at| u64::try_from(at).unwrap_or(0)),
            trouble: self.server.trouble.clone(),
        }
    }

    /// The app's server, when known.
    pub fn owner(&self) -> Option<&Owner> {
        self.server.owner.as_ref()
    }
}

fn view(instance: &Instance, queue_position: Option<usize>, now: Now) -> InstanceView {
    let record = &instance.record;
    InstanceView {
        instance_id: instance.id(),
        job_id: record.dispatch.job_id,
        wf_instance_id: record.dispatch.wf_instance_id,
        processor: record.dispatch.processor_info.clone(),
        stage: match record.stage {
            Stage::Queued => "queued",
            Stage::Running => "running",
            Stage::Draining(_) => "draining",
            Stage::Reporting(_) => "reporting",
            Stage::Stopping => "stopping",
        },
        attempt: record.attempt,
        queue_position,
        received_at: record.received_at,
        started_at: record.started_at,
        time_left_ms: instance.time_left(mono(now)),
        last_report_time: record.last_report_time,
        final_report_failures: instance.last.failures,
    }
}
