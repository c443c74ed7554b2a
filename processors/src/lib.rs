//! The processors of testrig, RunLLMTest first: what turns a dispatched job into a run.

mod environment;
pub mod params;
#[cfg(test)]
mod testing;

pub use environment::{Access, Database, Denied, Environment, MailServer, ObjectStore, PathDenied, Person, Root};
