//! Mistakes that the simulation must find. They exist in tests only: elsewhere `bug!(..)` is the word `false`.

#[cfg(test)]
use std::cell::Cell;

/// A seeded mistake.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A stopped instance is still reported RUNNING.
    StopIsNotSilence,
    /// Report times are those of the wall clock, wherever it steps.
    WallClockReports,
    /// Each repeat of a final report has a time of its own.
    FinalTimeAnew,
    /// A final report is sent before it is stored.
    FinalNotStored,
    /// An acknowledged final report is never repeated, however early it was.
    EarlyFinalTrusted,
    /// A final report that was not accepted is not sent again.
    FinalSentOnce,
    /// A dispatch of an instance that has succeeded runs it again.
    SucceededRunsAgain,
    /// A closed instance is forgotten with its report time and attempt.
    ClosedForgotten,
    /// A new dispatch of a stopped instance starts while the old run is still there.
    StopNotAwaited,
    /// A restarted worker reports without asking what it has missed.
    RestartNotAsked,
    /// Log lines go out for 45 s after a stop that was found out late.
    LateLogSent,
    /// A failed task tracker is started again as a single run would be.
    TrackerRetried,
}

#[cfg(test)]
impl Bug {
    /// All of them.
    pub(super) const ALL: [Self; 12] = [
        Self::StopIsNotSilence,
        Self::WallClockReports,
        Self::FinalTimeAnew,
        Self::FinalNotStored,
        Self::EarlyFinalTrusted,
        Self::FinalSentOnce,
        Self::SucceededRunsAgain,
        Self::ClosedForgotten,
        Self::StopNotAwaited,
        Self::RestartNotAsked,
        Self::LateLogSent,
        Self::TrackerRetried,
    ];
}

#[cfg(test)]
thread_local! {
    static SEEDED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Seeds a mistake into the cores of this thread.
#[cfg(test)]
pub(super) fn seed(bug: Option<Bug>) {
    SEEDED.set(bug);
}

/// Whether the mistake is seeded.
#[cfg(test)]
pub(super) fn is(bug: Bug) -> bool {
    SEEDED.get() == Some(bug)
}

#[cfg(test)]
macro_rules! bug {
    ($name:ident) => {
        $crate::core::bugs::is($crate::core::bugs::Bug::$name)
    };
}

#[cfg(not(test))]
macro_rules! bug {
    ($name:ident) => {
        false
    };
}

pub(super) use bug;
