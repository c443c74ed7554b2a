//! The worker's own HTTP server: what PowerJob servers call, and who may.

mod gate;
mod listen;
mod peers;
mod routes;
#[allow(dead_code, reason = "goes with the wiring into the worker")]
mod task_routes;
#[cfg(test)]
mod task_routes_tests;
mod workers;

pub(crate) use listen::{JobOf, Listener, Served, bind};
pub use peers::Cidr;
pub(crate) use peers::Peers;
pub(crate) use routes::{Inbound, Reading, Routes, StoreProblem};
#[allow(unused_imports, reason = "goes with the wiring into the worker")]
pub(crate) use task_routes::TaskRoutes;
pub(crate) use workers::Cluster;
