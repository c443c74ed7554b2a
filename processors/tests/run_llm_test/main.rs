//! RunLLMTest as a whole, with a host process as the service.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod cards;
mod containers;
mod endings;
mod engine;
mod good;
mod hostile;
mod resume;
mod rig;
