//! The official processors of PowerJob by their full class names: the same parameters and results as the Java ones.
//!
//! What can do harm is off until `[official] enable` names it. Different from Java on purpose: a script that is stopped or
//! reaches its time limit is killed with all its children and is FAILED; every run has a script file of its own; secrets do
//! not go into the log; hosts, paths and programs are held to the agent's allow-lists.

mod age;
mod cleanup;
mod config;
mod fields;
mod http;
mod inject;
mod json;
mod outside;
mod params;
mod pattern;
mod script;
mod settings;
mod sql;
mod verification;

use std::sync::Arc;

use powerjob_worker::Processor;

pub use config::fetch_config;
pub use settings::{Deny, Official, Switch};

use crate::Environment;

/// Class names of those that are always served: they touch nothing that the configuration does not allow anyway.
pub const ALWAYS: [&str; 3] = [inject::CLASS, config::CLASS, verification::CLASS];

/// Those that are served under this configuration, by class name.
pub(crate) fn served(env: &Arc<Environment>) -> Vec<(&'static str, Arc<dyn Processor>)> {
    let mut all: Vec<(&'static str, Arc<dyn Processor>)> = vec![
        (inject::CLASS, Arc::new(inject::InjectWorkflowContext)),
        (config::CLASS, Arc::new(config::Config::new(Arc::clone(env)))),
        (verification::CLASS, Arc::new(verification::Verification)),
    ];
    for switch in Switch::ALL.into_iter().filter(|switch| env.official.enabled.contains(switch)) {
        let env = Arc::clone(env);
        let processor: Arc<dyn Processor> = match switch {
            Switch::Shell => Arc::new(script::Script::new(script::Kind::Shell, env)),
            Switch::Python => Arc::new(script::Script::new(script::Kind::Python, env)),
            Switch::PowerShell => Arc::new(script::Script::new(script::Kind::PowerShell, env)),
            Switch::Http => Arc::new(http::Http::new(env)),
            Switch::DynamicSql => Arc::new(sql::Sql::new(sql::Source::Dynamic, env)),
            Switch::SpringSql => Arc::new(sql::Sql::new(sql::Source::Spring, env)),
            Switch::FileCleanup => Arc::new(cleanup::FileCleanup::new(env)),
        };
        all.push((switch.class(), processor));
    }
    all
}

/// Those that are known and not enabled, each with the result text of a job that names it.
pub(crate) fn refused(env: &Environment) -> Vec<(&'static str, String)> {
    Switch::ALL
        .into_iter()
        .filter(|switch| !env.official.enabled.contains(switch))
        .map(|switch| (switch.class(), switch.refusal()))
        .collect()
}
