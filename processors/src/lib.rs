//! The processors of testrig, RunLLMTest first: what turns a dispatched job into a run.

mod environment;
pub mod params;
mod registry;
pub mod run_llm_test;
#[cfg(test)]
mod testing;

pub use environment::{Access, Database, Denied, Environment, MailServer, ObjectStore, PathDenied, Person, Root};
pub use registry::{MIGRATIONS, input_of, registry, schema, tables};
