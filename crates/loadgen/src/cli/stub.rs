//! `testrig llm-stub`: the stand-in service as a process.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use tokio::net::TcpListener;

use super::{complain, milliseconds, on_signal};
use crate::stub::{Ended, FaultKind, Faults, StubOptions, serve};

/// Serve a stand-in for an OpenAI-compatible LLM service, with known timing and injected faults
///
/// The first line on standard output is `listening on http://ADDRESS:PORT`. Ends on SIGTERM or SIGINT with exit code 0.
#[derive(Debug, Args)]
pub struct StubArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub listen: String,
    /// Milliseconds from a request to its first token
    #[arg(long, default_value = "50", value_parser = milliseconds, value_name = "N")]
    pub ttft_ms: Duration,
    /// Milliseconds from one token event to the next
    #[arg(long, default_value = "10", value_parser = milliseconds, value_name = "N")]
    pub itl_ms: Duration,
    /// Tokens of an answer, unless the request asks for fewer
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=1_000_000), value_name = "N")]
    pub tokens: u32,
    /// Tokens in one event of a stream
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub tokens_per_event: u32,
    /// Share of requests that go wrong: http500, http429, in_band_error, truncate, abort, stall, reset, empty, malformed or slow
    /// = 0 to 1; can be repeated
    #[arg(long = "fault", value_name = "KIND=RATE", value_parser = Faults::parse_one)]
    pub faults: Vec<(FaultKind, f64)>,
    /// File that gets one JSON line a request with what was really sent and when
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// Chooses the requests that go wrong: the same seed chooses the same ones
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Answer 503 for so many milliseconds first, as a service that loads its model
    #[arg(long, default_value = "0", value_parser = milliseconds, value_name = "N")]
    pub ready_after_ms: Duration,
    /// End with --exit-code after so many answered requests, as a service that dies
    #[arg(long, value_name = "N")]
    pub exit_after_requests: Option<u64>,
    /// Exit code for --exit-after-requests
    #[arg(long, default_value_t = 1, value_name = "CODE")]
    pub exit_code: u8,
    /// Model name in /v1/models
    #[arg(long, default_value = "stub-model", value_name = "NAME")]
    pub model: String,
    /// Key that requests must bring as bearer token [default: none asked]
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
}

/// Runs `testrig llm-stub`.
pub async fn run_stub(args: StubArgs) -> ExitCode {
    stub(args, &mut std::io::stdout()).await
}

/// Runs with `out` in the place of standard output.
pub(super) async fn stub(args: StubArgs, out: &mut (impl Write + Send)) -> ExitCode {
    match serve_until_told(args, out).await {
        Ok(code) => code,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

async fn serve_until_told(
    args: StubArgs,
    out: &mut (impl Write + Send),
) -> Result<ExitCode, Box<dyn std::error::Error + Send + Sync>> {
    let faults = Faults::new(args.faults)?;
    let listener = TcpListener::bind(&args.listen)
        .await
        .map_err(|error| format!("failed to listen on `{}`: {error}", args.listen))?;
    let stop = on_signal();
    let address = listener.local_addr()?;
    // Whoever started us reads this line to learn the port; a closed pipe is no reason to end.
    let _ = writeln!(out, "listening on http://{address}").and_then(|()| out.flush());
    let options = StubOptions {
        ttft: args.ttft_ms,
        itl: args.itl_ms,
        tokens: args.tokens,
        tokens_per_event: args.tokens_per_event,
        faults,
        truth: args.truth,
        seed: args.seed,
        ready_after: args.ready_after_ms,
        exit_after_requests: args.exit_after_requests,
        model: args.model,
        api_key: args.api_key,
    };
    Ok(match serve(listener, options, stop).await? {
        Ended::ShutDown => ExitCode::SUCCESS,
        Ended::RequestsAnswered => ExitCode::from(args.exit_code),
    })
}
