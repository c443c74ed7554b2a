//! Mistakes that the simulation must find. They exist in tests only: elsewhere `bug!(options, ..)` is the word `false`.

/// A seeded mistake.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// An outcome whose report was lost is not reported again.
    OutcomeOnce,
    /// Nothing is stored of tasks of other workers' trackers.
    NoReceipts,
    /// A task that comes twice runs twice.
    RunsTwice,
    /// A stop tells the processors nothing.
    SilentStop,
    /// More tasks at once than slots.
    SlotsIgnored,
    /// A task that waited when the worker was killed is forgotten.
    WaitingForgotten,
}

#[cfg(test)]
macro_rules! bug {
    ($options:expr, $name:ident) => {
        $options.bug == Some($crate::tasks::processor::Bug::$name)
    };
}

#[cfg(not(test))]
macro_rules! bug {
    ($options:expr, $name:ident) => {
        false
    };
}

pub(super) use bug;
