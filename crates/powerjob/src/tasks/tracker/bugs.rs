//! Mistakes that the simulation must find. They exist in tests only: elsewhere `bug!(tracker, ..)` is the word `false`.

/// A seeded mistake.
#[cfg(test)]
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

#[cfg(test)]
macro_rules! bug {
    ($tracker:expr, $name:ident) => {
        $tracker.spec.options.bug == Some($crate::tasks::tracker::bugs::Bug::$name)
    };
}

#[cfg(not(test))]
macro_rules! bug {
    ($tracker:expr, $name:ident) => {
        false
    };
}

pub(super) use bug;
