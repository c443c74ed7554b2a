//! The stand-in for a PowerJob server, in memory: for `testrig dev-server`, the demo and fast tests.
//!
//! It answers like server 4.3.9 on two ports, web and transport, and one conformance suite (`tests/conformance` of the workspace)
//! holds it against the real one. Inside, what decides is apart from what touches the world: `world` and the files that extend it
//! (`dispatch`, `report`, `checks`, `schedule`, `instances`, `jobs`, `workflow`, `wf_run`, `workers`, `logs`) change state and name
//! effects, with the time as an argument; `server` carries the effects out; `web`, `openapi`, `console`, `transport` translate HTTP.
//!
//! Absent on purpose: logins and tokens (as in 4.3.9), containers, decision nodes and nested workflows, frequent and distributed
//! jobs, alarms, forwarding between servers. What is not served is refused with a message that says so.

mod answer;
mod checks;
mod config;
mod console;
mod dispatch;
mod enums;
mod faults;
mod handle;
mod instances;
mod java;
mod jobs;
mod listen;
mod logs;
mod model;
mod openapi;
mod page;
mod render;
mod report;
mod schedule;
mod server;
mod thrown;
mod transport;
mod web;
mod wf_run;
mod workers;
mod workflow;
mod world;

pub use config::{AppSeed, DevServerConfig, Timers};
pub use faults::{Fault, Faults};
pub use handle::{DevServer, InstanceView, StartError};
