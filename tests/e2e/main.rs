//! End to end: real agents against the real PowerJob server, a real Docker engine, a real S3 server.
//!
//! `scripts/test.sh` starts the parts and tells their addresses in the environment; a test whose parts are missing is
//! skipped, named and counted. Tests that take a part away from everybody run one at a time, after the others.

mod support;

mod accelerators;
mod archive;
mod bad_input;
mod context;
mod crash;
mod demo;
mod dry_run;
mod endings;
mod failover;
mod lanes;
mod log_config;
mod logs;
mod official;
mod outage;
mod service;
mod status;
mod tasks;
mod worker;
mod workflow;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    powerjob_worker::install_tls();
    let mut args = Arguments::from_args();
    let together: Vec<Trial> = [
        accelerators::tests(),
        workflow::tests(),
        bad_input::tests(),
        worker::tests(),
        endings::tests(),
        context::tests(),
        crash::tests(),
        demo::tests(),
        dry_run::tests(),
        outage::tests(),
        archive::tests(),
        logs::tests(),
        lanes::tests(),
        tasks::tests(),
        service::tests(),
        status::tests(),
        official::tests(),
        log_config::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let alone: Vec<Trial> = outage::alone().into_iter().chain(failover::alone()).collect();
    if args.list {
        libtest_mimic::run(&args, together.into_iter().chain(alone).collect()).exit();
    }
    // Tests mostly wait; two cores carry several of them.
    args.test_threads = args.test_threads.or(Some(4));
    let first = libtest_mimic::run(&args, together);
    args.test_threads = Some(1);
    let second = libtest_mimic::run(&args, alone);
    if first.has_failed() || second.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
