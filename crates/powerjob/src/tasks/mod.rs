//! Instances that consist of tasks: BROADCAST, MAP, MAP_REDUCE and all FIXED_RATE / FIXED_DELAY jobs.
//!
//! Two roles, each a state machine without sockets and clocks and a host that drives it:
//!
//! ```text
//!  runJob ─► core ─► TrackerHost (this worker owns the instance) ──startTask──► WorkerPeer: own ProcessorTrackers, or HTTP
//!                         ▲                                                            │
//!                         └───────reportTaskStatus, load, mapTask────────── TrackerPeer: own TrackerHost, or HTTP
//! ```
//!
//! For the core such an instance is one run like any other: it begins with `StartProcessor`, ends with `ProcessorEnded`, and
//! everything between server and worker (reports, log, stop, recovery) stays as it is.

pub mod api;
mod exchange;
mod http;
pub mod kryo;
pub(crate) mod processor;
#[cfg(test)]
mod simulation;
mod table;
mod tracker;
mod tracker_host;

pub(crate) use self::{
    exchange::Exchange,
    http::{HttpPeers, ServerCluster, addresses},
    table::{Query, TaskStore},
    tracker::{AlarmRule, AlarmState, Spec, TrackerOptions},
    tracker_host::{TrackerDeps, TrackerHost, TrackerStart},
};
pub(crate) use processor::{InstanceLogs, RECEIPTS};
