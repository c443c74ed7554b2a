//! Examples, one sentence a test, and a simulation against a model of the server.

mod admission;
mod cancel;
mod finals;
mod heavy;
mod restarts;
mod rig;
mod running;
mod runs;
mod servers;
mod simulation;
mod stops;
