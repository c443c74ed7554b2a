//! What goes into a tracker and what comes out.

use crate::{
    processor::StopReason,
    tasks::api::{MapTask, PeerError, ReportTask, ReportWorker, StartTask},
};

use super::End;

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A worker reports a task.
    Report(ReportTask),
    /// A worker reports its load, or that it is idle.
    Worker(ReportWorker),
    /// A task leads to more tasks.
    Map(MapTask),
    /// A task could not be handed over.
    StartFailed {
        /// The action's ticket.
        ticket: StartTicket,
        /// Why.
        error: PeerError,
    },
    /// The answer to [`Action::AskCluster`].
    Cluster(Result<Vec<String>, String>),
    /// The worker around the tracker wants it to end.
    Stop(StopReason),
    /// Whoever shows alarms has taken the one that waited.
    AlertTaken,
    /// An alarm that was taken could not be delivered.
    AlertBack(String),
}

/// Names one sending of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartTicket {
    /// The run.
    pub(crate) sub: i64,
    /// The task.
    pub(crate) task_id: String,
    /// Which sending, over all tasks.
    pub(crate) sending: u64,
    /// Where to.
    pub(crate) address: String,
}

/// What the sender of an event is told when its transaction is committed.
pub(crate) type Answer = Result<(), PeerError>;

/// What is to be done after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Hand a task over; a failure comes back as [`Event::StartFailed`].
    Start {
        /// For the answer.
        ticket: StartTicket,
        /// The task.
        task: Box<StartTask>,
        /// The run whose results go with it, and the id of its root task.
        results: Option<(i64, String)>,
    },
    /// Ask the server for the workers of the job; answer with [`Event::Cluster`].
    AskCluster,
    /// Write a line into the instance's log: PowerJob level number and text.
    Log(u8, String),
    /// Rows wait for their deletion.
    Sweep,
    /// The instance has ended: stop all workers.
    Finish(End),
}

/// What a batch of events led to.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// In order.
    pub(crate) actions: Vec<Action>,
}

impl Output {
    pub(super) fn info(&mut self, text: impl Into<String>) {
        self.actions.push(Action::Log(2, text.into()));
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.actions.push(Action::Log(3, text.into()));
    }
}
