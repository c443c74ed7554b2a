//! The worker's own HTTP server: what PowerJob servers call, and who may.

mod listen;
mod peers;
mod routes;

pub(crate) use listen::{Listener, Served, bind};
pub use peers::Cidr;
pub(crate) use peers::Peers;
pub(crate) use routes::{Inbound, Routes, StoreProblem};
