//! Mistakes that tests put in, to see that the simulation finds them.

/// One of them. Outside of tests there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests make them"))]
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

impl super::Options {
    /// Whether this mistake is made.
    #[cfg(test)]
    pub(super) fn has_bug(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Never.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the same call as in tests")]
    pub(super) fn has_bug(&self, _: Bug) -> bool {
        false
    }
}
