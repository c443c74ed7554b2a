//! RunLLMTest as a whole, with a host process as the service.

mod cards;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod containers;
mod downstream;
mod endings;
mod engine;
mod good;
mod hostile;
mod monitoring;
mod outages;
mod pulls;
mod resume;
mod rig;
mod scripts;
mod taxonomy;
