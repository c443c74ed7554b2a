//! The worker's own HTTP server: what PowerJob servers call, and who may.

mod gate;
mod listen;
mod peers;
mod routes;
mod task_routes;
#[cfg(test)]
mod task_routes_tests;
mod workers;

pub(crate) use gate::Engaged;
pub(crate) use listen::{JobOf, Listener, Served, bind};
pub use peers::Cidr;
pub(crate) use peers::Peers;
pub(crate) use routes::{Inbound, Reading, Routes, StoreProblem};
pub(crate) use task_routes::TaskRoutes;
pub(crate) use workers::Cluster;
