//! RunLLMTest as a whole, with a host process as the service.

mod asked;
mod cards;
mod commands;
#[path = "../common/mod.rs"]
mod common;
mod containers;
mod downstream;
mod endings;
mod engine;
mod given;
mod good;
mod hostile;
mod monitoring;
mod outages;
mod platform;
mod pulls;
mod refused;
mod resume;
mod rig;
mod scripts;
mod taxonomy;
#[path = "../common/wrong.rs"]
mod wrong;
