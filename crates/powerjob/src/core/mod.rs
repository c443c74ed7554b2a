//! The worker's life as a state machine without sockets, clocks or tasks.
//!
//! Messages and time go in ([`Event`], [`Now`]), writes and actions come out ([`Output`]). Whoever drives the core makes the
//! writes durable *before* it carries out the actions of the same output; that one rule is what makes a crash at any
//! moment harmless.

mod api;
mod machine;
mod view;

pub use api::*;
pub use machine::Core;
pub use view::{InstanceView, WorkerView};
