//! What a worker says of itself: [`WorkerStatus`] and the counters behind it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::core::TaskCounts;

/// How a worker does, for people and for metrics.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerStatus {
    /// Name of the worker identity.
    pub lane: String,
    /// App name.
    pub app: String,
    /// The address that the server knows this worker by.
    pub address: String,
    /// Tag, if any.
    pub tag: Option<String>,
    /// True while the server takes this worker's heartbeats (the last one within 60 s was answered).
    pub listed: bool,
    /// The server that owns the app now.
    pub owner: Option<OwnerStatus>,
    /// Why there is none, in words.
    pub discovery_error: Option<String>,
    /// This host's clock minus the server's, ms; `None` before it was measured. What is sent is corrected by it.
    pub clock_skew_ms: Option<i64>,
    /// Age of the last heartbeat that the server took, ms.
    pub last_heartbeat_ago_ms: Option<u64>,
    /// Whether the last heartbeat carried the overload flag.
    pub overload: bool,
    /// True when new instances are refused on request.
    pub draining: bool,
    /// Whether the server has taken a heartbeat since `draining` was last set or taken back: it acts by what is so now.
    pub drain_told: bool,
    /// Slots that run processors.
    pub slots: usize,
    /// Processors that run now, those included that do not end after a stop.
    pub running: usize,
    /// Tasks of instances with tasks, of this worker's own and of others', that wait or run here or have not been reported yet.
    pub open_tasks: usize,
    /// Why writes to the state store fail now, if they do.
    pub store_error: Option<String>,
    /// Open instances, oldest first.
    pub instances: Vec<InstanceStatus>,
    /// Sums since the start.
    pub counters: CountersStatus,
}

/// The owner of the app.
#[derive(Clone, Debug, Serialize)]
pub struct OwnerStatus {
    /// Transport address.
    pub transport: String,
    /// Web address.
    pub web: String,
    /// The app's id.
    pub app_id: i64,
    /// When that server was born, epoch ms.
    pub born_time: Option<i64>,
}

/// One open instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceStatus {
    /// Instance id, as text: it is above 2^53.
    pub instance_id: String,
    /// Job id.
    pub job_id: i64,
    /// Workflow instance id, as text.
    pub wf_instance_id: Option<String>,
    /// Processor name.
    pub processor: String,
    /// `queued`, `running`, `draining`, `reporting` or `stopping`.
    pub stage: &'static str,
    /// Execution of the processor for this instance on this worker, 1 = first.
    pub attempt: u32,
    /// When it was dispatched here, epoch ms.
    pub received_at: i64,
    /// When the processor started, epoch ms.
    pub started_at: Option<i64>,
    /// Its tasks, if it consists of any.
    pub tasks: Option<TaskCounts>,
    /// How it ended, once it has: result text with its success flag.
    pub outcome: Option<(bool, String)>,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The worker's own counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),* }

        /// Sums since the start of the worker.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct CountersStatus { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            pub(crate) fn status(&self) -> CountersStatus {
                CountersStatus { $($name: self.$name.get()),* }
            }
        }
    };
}

counters! {
    /// `runJob` requests that were read.
    dispatches,
    /// Of these: ignored because the instance is open here already.
    duplicates_ignored,
    /// Of these: ignored because slots and backlog are full or the worker drains.
    overload_ignored,
    /// Of these: answered 500 because the record could not be stored.
    dispatches_not_stored,
    /// `stopInstance` requests.
    stops,
    /// Requests from peers that are not servers of this worker.
    refused_peers,
    /// Requests with a body that could not be read.
    bad_requests,
    /// Status reports that the server answered with 200.
    reports_sent,
    /// Status reports that were not answered so.
    reports_failed,
    /// Log lines that a server acknowledged.
    log_lines_sent,
    /// Heartbeats that the server took.
    heartbeats,
    /// Heartbeats that it did not take.
    heartbeats_failed,
    /// Discovery rounds that found the owner.
    discoveries,
    /// Discovery rounds that did not.
    discoveries_failed,
    /// Instances that ended SUCCEED.
    succeeded,
    /// Instances that ended FAILED.
    failed,
    /// Instances that were stopped.
    stopped,
    /// Processors that panicked.
    panics,
    /// Store transactions that failed and were tried again.
    store_failures,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
