//! What the end-to-end tests stand on: the real parts, agents as real processes, and ways to wait for a state.

pub(crate) mod agent;
pub(crate) mod api;
pub(crate) mod example_worker;
pub(crate) mod llm;
pub(crate) mod odd;
pub(crate) mod pair;
pub(crate) mod parts;
pub(crate) mod s3;
pub(crate) mod wait;
pub(crate) mod ws;

use std::future::Future;

use libtest_mimic::{Failed, Trial};

pub(crate) use agent::{Agent, AgentOptions};
pub(crate) use api::App;
pub(crate) use example_worker::ExampleWorker;
pub(crate) use llm::Run;
pub(crate) use parts::Parts;
pub(crate) use wait::{eventually, eventually_within};

/// What a test returns: a message is a failure.
pub(crate) type TestResult = Result<(), Failed>;

/// How often something is done: the second number when the long versions are wanted (`scripts/test.sh --long`).
pub(crate) fn times(short: usize, long: usize) -> usize {
    if std::env::var_os("TESTRIG_LONG").is_some() { long } else { short }
}

/// Which real parts a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The binary alone.
    Nothing,
    /// A real PowerJob server.
    Server,
    /// Server and Docker engine.
    Docker,
    /// Server and S3.
    S3,
    /// Server, MariaDB and PostgreSQL.
    Sql,
    /// Server, Docker engine and S3.
    All,
}

/// One test as a trial; it is skipped, counted and named, when a part is missing.
pub(crate) fn trial<F, Fut>(name: &'static str, needs: Needs, test: F) -> Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = TestResult>,
{
    let missing = Parts::get().missing(needs);
    if let Some(reason) = &missing {
        parts::record_skip(name, reason);
    }
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test())
    })
    .with_ignored_flag(missing.is_some())
}

/// Fails the test with a text unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($text:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err(libtest_mimic::Failed::from(format!($($text)+)));
        }
    };
}
