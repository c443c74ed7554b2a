//! What the tests start: `__shim SPEC` is the shim, `agent STATE_DIR BOUNDARY OUTPUT PROGRAM ARGS..` an agent that starts one
//! program, says `started` and then waits to be killed (`choosing-agent`: one that looks first what can hold it), `undying` a program that does everything not to be found and killed,
//! `scene` an agent that shows what it does under a real systemd.

#[path = "../process/nasty.rs"]
mod nasty;
mod scene;
mod undying;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use testrig_host::process::{Boundaries, ProcessRunner, ProcessSpec, ShimCommand};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|word| word.to_str()) {
        Some("__shim") => testrig_host::shim::main(args),
        Some("undying") => undying::main(&args.collect::<Vec<_>>()),
        Some("scene") => scene(&args.collect::<Vec<_>>()),
        Some("agent") => agent(&args.collect::<Vec<_>>(), Boundaries::default()),
        Some("choosing-agent") => agent(&args.collect::<Vec<_>>(), Boundaries::choose(None)),
        _ => ExitCode::FAILURE,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn agent(args: &[OsString], boundaries: Boundaries) -> ExitCode {
    let [state_dir, boundary, output, program, rest @ ..] = args else {
        return ExitCode::FAILURE;
    };
    let shim = ShimCommand::of(std::env::current_exe().expect("own path")).with(boundaries);
    let runner = ProcessRunner::new(PathBuf::from(state_dir), shim).expect("state directory");
    let boundary = boundary.to_str().expect("text").parse().expect("boundary");
    let mut spec = ProcessSpec::new(boundary, program, output);
    spec.args = rest.iter().map(|arg| arg.to_str().expect("text").to_owned()).collect();
    let _handle = runner.spawn(spec).await.expect("started");
    println!("started");
    std::future::pending().await
}

#[tokio::main(flavor = "current_thread")]
async fn scene(args: &[OsString]) -> ExitCode {
    scene::main(args).await
}
