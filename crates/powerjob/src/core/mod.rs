//! The worker's life as a state machine without sockets, clocks or tasks.
//!
//! Messages and time go in ([`Event`], [`Now`]), writes and actions come out ([`Output`]). Whoever drives the core makes the
//! writes durable *before* it carries out the actions of the same output; that one rule is what makes a crash at any
//! moment harmless.
//!
//! ```text
//!  runJob ──► Queued ──► Running ──► Draining ──► Reporting ──► closed SUCCEED | FAILED
//!     │        │  slot     │ ended    │ log        │ accepted (and repeated after 1 s when it was early)
//!     │        │  free     │          │ drained    │
//!     │        └───────────┴────┬─────┴────────────┘
//!     │                         │ stop told by the server, or found out by asking it
//!     │                         ▼
//!     │                      Stopping ──► closed STOPPED        (boundary empty, log sent for at most 45 s)
//!     │                         │ a new runJob of the id
//!     └── kind not served ──► Draining(FAILED)  └──► starts clean when the boundary is empty
//! ```
//!
//! An instance with tasks (BROADCAST, MAP, MAP_REDUCE, FIXED_RATE, FIXED_DELAY) is "heavy": it takes no slot and never waits in
//! the backlog, it has a limit of its own, and what runs for it is the task tracker. All else is as for any other.
//!
//! What the core promises:
//!
//! - A run has one outcome, and the server is told of it until it accepts it. Every repeat carries the same `reportTime`.
//! - `reportTime` strictly increases per instance: through wall clock steps, restarts, attempts, and the closing and coming
//!   back of an id (of the newest [`CLOSED_KEPT`]). It is durable before it is sent.
//! - After a stop nothing is reported for the instance until it is dispatched anew.
//! - After a restart, or 30 s without a server, no instance is reported (and no log line of it is sent) before the server
//!   was asked whether it still wants it, or could not say so five times.
//! - An instance that succeeded is not run again because its report was slow or lost.
//! - No request for the same thing is sent twice at once: one discovery, one heartbeat, one report per instance.
//!
//! | file | decides |
//! |---|---|
//! | `machine` | which file gets an event; writes; the next wake-up |
//! | `open` | the open instances and the index of their timers and places |
//! | `admission` | what becomes of a `runJob`: duplicate, start, backlog, refusal |
//! | `unserved` | which kinds of job end FAILED at once, and with what text |
//! | `run` | start, task retry, time limit, outcome |
//! | `report` | RUNNING and final reports, back-off, repeats |
//! | `stop` | stop requests, early stops |
//! | `server` | discovery, heartbeat, owner changes, outages |
//! | `ask` | what the server thinks of an instance |
//! | `recovery` | what a restarted worker does with its records |
//! | `bugs` | nothing: mistakes for the simulation to find, in tests only |
//! | `limits` | result text and workflow context |

mod admission;
mod api;
mod ask;
mod bugs;
mod instance;
pub(crate) mod limits;
mod machine;
mod memory;
mod open;
mod recovery;
mod report;
mod run;
mod server;
mod stop;
#[cfg(test)]
mod tests;
mod unserved;
mod view;

pub use api::*;
pub use limits::ContextTooLong;
pub(crate) use limits::check_context;
pub use machine::Core;
pub(crate) use server::is_another;
pub use view::{InstanceView, WorkerView};
