//! The official script processors with real interpreters and the real shim.

#[path = "../common/mod.rs"]
mod common;
mod cut;
mod rig;
mod scripts;
