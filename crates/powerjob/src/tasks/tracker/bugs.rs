//! Mistakes that the simulation must find. They exist in tests only.

use super::Tracker;

/// A seeded mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A final report older than an acknowledgement is dropped, as in the Java worker.
    OldFinalDropped,
    /// A final report of an ended task counts again.
    EndedTwice,
    /// The last task does not wait for tasks at workers.
    LastTooEarly,
    /// A lost worker keeps its tasks.
    LostKeepsTasks,
    /// What is not acknowledged is not sent again.
    UnansweredForgotten,
    /// Retries are not counted.
    RetriesUncounted,
    /// A repeated map adds its tasks to the count again.
    MapCountedTwice,
    /// A restarted tracker takes tasks that were at its own worker for still at work.
    RestartForgotten,
}

impl Tracker {
    #[cfg(test)]
    pub(super) fn has_bug(&self, bug: Bug) -> bool {
        self.spec.options.bug == Some(bug)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the same call in tests and outside")]
    pub(super) fn has_bug(&self, _: Bug) -> bool {
        false
    }
}
