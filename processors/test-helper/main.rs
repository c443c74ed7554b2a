//! A stand-in for the agent's binary in the tests of this crate: the shim, and the stand-in LLM service as a program.
//!
//! `__shim SPEC`, `stub --port N [--ready-after-ms N] [--exit-after N] [--exit-code N] [--fault KIND]`, or `eat`, which takes
//! memory until it is killed.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use testrig_loadgen::stub::{Ended, Faults, StubOptions, serve};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|word| word.to_str()) {
        Some("__shim") => testrig_host::shim::main(args),
        Some("stub") => stub(&args.filter_map(|arg| arg.into_string().ok()).collect::<Vec<_>>()),
        Some("eat") => eat(),
        _ => ExitCode::from(2),
    }
}

/// Pages that are written to, so that they count.
fn eat() -> ExitCode {
    println!("helper: taking memory");
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        taken.push(vec![u8::try_from(taken.len() % 251 + 1).unwrap_or(1); 4 << 20]);
        std::hint::black_box(&taken);
    }
}

fn stub(args: &[String]) -> ExitCode {
    let given: HashMap<&str, &str> =
        args.chunks(2).filter_map(|pair| Some((pair.first()?.as_str(), pair.get(1)?.as_str()))).collect();
    let number = |name: &str| given.get(name).and_then(|text| text.parse::<u64>().ok());
    println!("stub: loading the model");
    if let Some(code) = number("--exit-code") {
        println!("stub: CUDA out of memory");
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let options = StubOptions {
        ttft: Duration::from_millis(5),
        itl: Duration::from_millis(1),
        tokens: 4,
        ready_after: Duration::from_millis(number("--ready-after-ms").unwrap_or(0)),
        exit_after_requests: number("--exit-after"),
        faults: given.get("--fault").map_or_else(Faults::default, |kind| {
            Faults::new(vec![(kind.parse().expect("a kind of fault"), 1.0)]).expect("all requests")
        }),
        ..StubOptions::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let port = u16::try_from(number("--port").unwrap_or(0)).unwrap_or(0);
    let ended = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        println!("stub: listening on {port} for instance {}", std::env::var("INSTANCE_ID").unwrap_or_default());
        serve(listener, options, CancellationToken::new()).await
    });
    match ended {
        Ok(Ended::ShutDown) => ExitCode::SUCCESS,
        Ok(Ended::RequestsAnswered) => {
            println!("stub: giving up");
            ExitCode::from(7)
        }
        Err(error) => {
            println!("stub: {error}");
            ExitCode::FAILURE
        }
    }
}
