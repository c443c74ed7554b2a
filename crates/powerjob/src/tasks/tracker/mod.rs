//! The task tracker: owns an instance with tasks, without sockets, clocks and tasks of its own.
//!
//! ```text
//!  start ─► root waits ─► sent ─► received ─► ended ┬─ MAP, MAP_REDUCE: the mapped tasks ─┬─ all ended ─┬─ MAP, STANDALONE: end
//!             ▲              │        │             └─ BROADCAST: one task a worker ──────┘             └─ others: last task ─► end
//!             └──────────────┴────────┴─ not acknowledged, failed with retries left, worker lost
//! ```
//!
//! The work between a root task and its end is a *run*. An ordinary instance is one run; a frequent job (FIXED_RATE,
//! FIXED_DELAY) is a run for every firing.
//!
//! [`Tracker::handle`] changes the rows of a [`Table`](super::table::Table) and collects actions. Whoever drives it hands over
//! everything that is waiting, calls [`Tracker::settle`] once, commits, and only then carries the actions out. A transaction that failed
//! leaves the tracker in memory ahead of the table: it is thrown away and [recovered](Tracker::recover) from the table, as after a restart.
//!
//! Promises:
//! * A task ends once: what is reported of it afterwards changes nothing. The first final report counts, whatever its time.
//! * A task fails at most `taskRetryNum` + 1 times before it has failed for good.
//! * The last task starts when no other task of its run is open, and never before.
//! * Nothing waits for ever: what was sent and not acknowledged is sent again, workers that fell silent lose their tasks.

mod alarm;
mod api;
mod bugs;
mod dispatch;
mod frequent;
mod machine;
mod mapped;
mod recover;
mod repair;
mod reports;
mod run;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod workers;

pub(crate) use alarm::{AlarmRule, AlarmState};
pub(crate) use api::{Action, Answer, Event, Output, StartTicket};
pub(crate) use machine::{Tracker, why_it_ends};
pub(crate) use recover::Recovery;
pub(crate) use spec::{Spec, TrackerOptions};
pub(crate) use state::{End, Firing};
