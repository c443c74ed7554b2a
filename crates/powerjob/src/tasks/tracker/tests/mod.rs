//! The tracker on a table in memory: examples of every rule, and a simulation of everything that can go wrong.

mod broadcast;
mod firings;
mod held;
mod mapping;
mod rig;
mod simulation;
mod tasks;
mod workers;
