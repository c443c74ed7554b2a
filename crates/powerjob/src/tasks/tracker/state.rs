//! What is stored of a tracker beside its tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::alarm::AlarmState;

/// As many firings of a frequent job are shown.
pub(crate) const HISTORY: usize = 10;

/// The tracker's row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Which execution of the instance on this worker the rows belong to.
    #[serde(default)]
    pub(crate) attempt: u32,
    /// When the instance began, epoch ms by the server's clock, beside whose times it is shown.
    pub(crate) started_at: i64,
    /// Workers that may have tasks of it: all are told to stop.
    pub(crate) used: Vec<String>,
    /// Workers that may take tasks.
    pub(crate) workers: Vec<String>,
    /// Entries for the workflow context.
    pub(crate) context: BTreeMap<String, String>,
    /// What would have made the context too long, for the result text: the instance fails by it.
    #[serde(default)]
    pub(crate) context_too_long: Option<String>,
    /// Tasks, by run and id, that a restart cut and that their processor takes up on this worker.
    #[serde(default)]
    pub(crate) cut: BTreeSet<(i64, String)>,
    /// Firings of a frequent job.
    pub(crate) firings: i64,
    /// Runs of a frequent job that succeeded.
    pub(crate) succeeded: i64,
    /// Runs of a frequent job that failed.
    pub(crate) failed: i64,
    /// The newest runs of a frequent job that have ended, oldest first.
    pub(crate) history: VecDeque<Firing>,
    /// Alarms of a frequent job.
    pub(crate) alarm: AlarmState,
    /// Set when the instance has ended; it is not taken up again then.
    pub(crate) end: Option<End>,
}

/// One run of a frequent job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Firing {
    /// Its number.
    pub(crate) sub: i64,
    /// Epoch ms by the server's clock, as the next.
    pub(crate) started_at: i64,
    /// Epoch ms; `None` while it runs.
    pub(crate) finished_at: Option<i64>,
    /// Outcome; `None` while it runs.
    pub(crate) success: Option<bool>,
    /// Result text.
    pub(crate) result: String,
}

/// The end of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// SUCCEED or FAILED.
    pub(crate) success: bool,
    /// Result text.
    pub(crate) result: String,
    /// Nothing of it may be reported: it was stopped.
    pub(crate) stopped: bool,
    /// Tasks, succeeded and failed ones.
    pub(crate) counts: (i64, i64, i64),
    /// Entries for the workflow context.
    pub(crate) context: BTreeMap<String, String>,
}

/// A run's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunState {
    /// Epoch ms.
    pub(crate) started_at: i64,
    /// The last task has been created.
    pub(crate) last: bool,
}
