//! The official script processors with real interpreters and the real shim.

#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod cut;
mod rig;
mod scripts;
