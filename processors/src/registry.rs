//! All processors by name.

use std::sync::Arc;

use powerjob_worker::{Processor, TaskContext};
use serde_json::Value;
use testrig_store::{Migration, Store};

use crate::{
    Environment,
    aggregate_metrics::{self, AggregateMetrics},
    collect_logs::{self, CollectLogs},
    notify_result::{self, NotifyResult},
    official,
    params::{Input, Table},
    platform_log::{self, PlatformLogs, Told},
    run_llm_test::{self, RunLlmTest},
    service_control,
};

/// The tables of all processors in the store.
pub const MIGRATIONS: &[Migration] = &[
    run_llm_test::MIGRATIONS[0],
    run_llm_test::MIGRATIONS[1],
    run_llm_test::MIGRATIONS[2],
    notify_result::MIGRATIONS[0],
    service_control::MIGRATIONS[0],
    platform_log::MIGRATIONS[0],
];

/// A list cannot be joined to another where a constant is made: none may be forgotten above.
const _: () = assert!(
    MIGRATIONS.len()
        == run_llm_test::MIGRATIONS.len()
            + notify_result::MIGRATIONS.len()
            + service_control::MIGRATIONS.len()
            + platform_log::MIGRATIONS.len()
);

static TABLES: [&Table; 5] = [
    &run_llm_test::TABLE,
    &collect_logs::TABLE,
    &aggregate_metrics::TABLE,
    &notify_result::TABLE,
    &service_control::TABLE,
];

/// The parameter tables of all processors.
pub fn tables() -> &'static [&'static Table] {
    &TABLES
}

/// Every processor under the name that jobs call it by; of the official ones those that the configuration lets in.
pub fn registry(env: &Arc<Environment>, store: &Store) -> Vec<(&'static str, Arc<dyn Processor>)> {
    let mut all: Vec<(&'static str, Arc<dyn Processor>)> = vec![
        (run_llm_test::TABLE.processor, Arc::new(RunLlmTest::new(Arc::clone(env), store.clone()))),
        (collect_logs::TABLE.processor, Arc::new(CollectLogs::new(Arc::clone(env)))),
        (aggregate_metrics::TABLE.processor, Arc::new(AggregateMetrics::new(Arc::clone(env)))),
        (notify_result::TABLE.processor, Arc::new(NotifyResult::new(Arc::clone(env), store.clone()))),
    ];
    all.extend(service_control::processors(env, store));
    let own = || Arc::new(PlatformLogs::new(store.clone(), env.http.clone()));
    let logs = env.platform_logs.clone().unwrap_or_else(own);
    for (name, processor) in &mut all {
        let of_name = || tables().iter().copied().find(|table| table.processor == *name);
        if let Some(table) = service_control::table_of(name).or_else(of_name) {
            let inner = Arc::clone(processor);
            *processor = Arc::new(Told { inner, table, env: Arc::clone(env), logs: Arc::clone(&logs) });
        }
    }
    all.extend(official::served(env));
    all
}

/// Names that are known and not served under this configuration, each with what a job that names it is told.
pub fn refused(env: &Environment) -> Vec<(&'static str, String)> {
    official::refused(env)
}

/// The JSON Schema of a processor's parameters; `None` for a name that is no processor.
pub fn schema(processor: &str) -> Option<Value> {
    // The names of the specification take what ServiceControl takes.
    let launcher = [service_control::PYTHON_LAUNCHER, service_control::PYTHON_LAUNCHER_STREAMING].contains(&processor);
    let name = if launcher { service_control::TABLE.processor } else { processor };
    tables().iter().find(|table| table.processor == name).map(|table| crate::params::schema(table))
}

/// The parameters of a task, as [`crate::params::read`] takes them.
pub fn input_of(ctx: &TaskContext) -> Input<'_> {
    Input {
        job_params: ctx.job_params.as_deref(),
        instance_params: ctx.instance_params.as_deref(),
        in_workflow: ctx.wf_instance_id.is_some(),
        neighbours: tables(),
    }
}
