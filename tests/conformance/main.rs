//! One suite, three servers: the embedded stand-in, a real PowerJob server 4.3.9 (`POWERJOB_URL`) and the core of 5.1.1
//! (`POWERJOB5_URL`). Every case runs unchanged against all, with expectations written once; a difference fails. The cases drive
//! the server through its OpenAPI and with hand-made workers that record what they get and say what the case wants.

mod check;
mod context;
mod flow;
mod raw_worker;
mod target;

mod control;
mod details;
mod discovery;
mod dispatch;
mod heartbeat;
mod lists;
mod logs;
mod overdue;
mod refusals;
mod reports;
mod workflow;
mod workflow_ends;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::context::Case;
use crate::target::{REAL, Target, skip_real};

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // Cases mostly wait, each on an app of its own; the slow ones come first.
    args.test_threads = args.test_threads.or(Some(96));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a tokio runtime starts");
    let runtime = Arc::new(runtime);
    let cases: Vec<Case> = [
        overdue::cases(),
        logs::cases(),
        dispatch::cases(),
        workflow::cases(),
        workflow_ends::cases(),
        control::cases(),
        reports::cases(),
        heartbeat::cases(),
        details::cases(),
        discovery::cases(),
        lists::cases(),
        refusals::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let embedded = Target::embedded(&runtime);
    let real = REAL.map(|(name, variable)| (name, variable, Target::real(name, variable)));
    let mut trials: Vec<Trial> = Vec::new();
    for case in &cases {
        trials.push(case.trial(&runtime, &embedded));
        for (name, variable, target) in &real {
            trials.push(match target {
                Some(target) => case.trial(&runtime, target),
                None => skip_real(name, variable, case.name, !args.list),
            });
        }
    }
    let conclusion = libtest_mimic::run(&args, trials);
    if conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
