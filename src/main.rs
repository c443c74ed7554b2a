//! The testrig agent: command line, configuration, wiring, admin HTTP API, demo.

mod accelerators;
mod admin;
mod agent;
mod cli;
mod client;
mod config;
mod demo;
mod dev_server;
mod local_run;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};

/// Exit code of a command that could not do what it was asked to do.
const FAILED: u8 = 1;
/// Exit code of a wrong command line or configuration, as clap's.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // The shim outlives the agent and must stay small: no runtime, no command line parser.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|a| a == "__shim") {
        return testrig_host::shim::main(args);
    }
    let cli = Cli::parse();
    init_tracing(&cli.command);
    let only_prints = matches!(cli.command, Command::Config(_) | Command::Status(_) | Command::Accelerators(_));
    if only_prints || matches!(cli.command, Command::Drain(_) | Command::Resume(_)) {
        end_quietly_when_nobody_reads();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("the runtime could not be started: {e}")),
    };
    let code = runtime.block_on(dispatch(cli.command));
    // Blocking reads (a terminal, a slow disk) must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    code
}

/// `testrig config schema | head`: commands that only print end like every other program of a pipe, without a panic.
fn end_quietly_when_nobody_reads() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no thread but this one is there yet, and the default action runs no code of ours.
    let restored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    restored.expect("SIGPIPE is a signal that may be set");
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

async fn dispatch(command: Command) -> ExitCode {
    powerjob_worker::install_tls();
    match command {
        Command::Agent(args) => agent::command(&args).await,
        Command::Run(args) => local_run::command(&args).await,
        Command::Config(command) => config::commands::command(&command),
        Command::Accelerators(args) => accelerators::command(&args).await,
        Command::Logs(args) => client::logs(&args).await,
        Command::Status(args) => client::status(&args).await,
        Command::Drain(args) => client::drain::drain(&args).await,
        Command::Resume(args) => client::drain::resume(&args).await,
        Command::Load(args) => testrig_loadgen::cli::run_load(*args).await,
        Command::LlmStub(args) => testrig_loadgen::cli::run_stub(args).await,
        Command::DevServer(args) => dev_server::command(args).await,
        Command::Demo(args) => demo::command(args).await,
    }
}

fn init_tracing(command: &Command) {
    let quiet = !matches!(command, Command::Agent(_) | Command::DevServer(_));
    let default = if quiet { "warn" } else { "info,aws_config=warn,hyper=warn" };
    let filter = EnvFilter::try_from_env("TESTRIG_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // Colours are for terminals; the system's journal keeps the text.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
}

/// Says on standard error what went wrong and gives the exit code for it.
fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(FAILED)
}

fn usage(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(USAGE)
}
