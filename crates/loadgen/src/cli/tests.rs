use clap::{Parser, Subcommand};

use super::*;
use crate::{Arrival, Scenario};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Load(Box<LoadArgs>),
    LlmStub(StubArgs),
}

fn parse(line: &str) -> Result<Command, String> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command).map_err(|error| error.to_string())
}

#[test]
fn the_arguments_hold_together() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn all_arguments_of_a_load_are_read() {
    let line = "testrig load --url http://h --model m --scenario embedding --qps 2.5 --concurrency 4 --warmup-seconds 0.5 --run-seconds 3 \
        --dataset d.jsonl --out o --json --tag a=b=c --header X-A:b --slo-ttft-ms 200 --extra {\"k\":1}";
    let Command::Load(args) = parse(line).expect("good arguments") else { panic!("load") };
    assert_eq!((args.scenario, args.qps, args.concurrency, args.json), (Scenario::Embedding, Some(2.5), Some(4), true));
    assert_eq!((args.warmup_seconds.as_millis(), args.run_seconds.as_secs()), (500, 3));
    assert_eq!(args.tags, [("a".to_owned(), "b=c".to_owned())]);
    assert_eq!(args.headers, [("X-A".to_owned(), "b".to_owned())]);
}

#[test]
fn all_arguments_of_the_stub_are_read() {
    let line = "testrig llm-stub --listen 127.0.0.1:0 --ttft-ms 120 --itl-ms 2.5 --tokens 9 --tokens-per-event 3 --fault http500=0.1 \
        --fault stall=0.05 --truth t.jsonl --seed 3 --ready-after-ms 1500 --exit-after-requests 7";
    let Command::LlmStub(args) = parse(line).expect("good arguments") else { panic!("llm-stub") };
    assert_eq!((args.ttft_ms.as_micros(), args.itl_ms.as_micros()), (120_000, 2_500));
    assert_eq!((args.faults.len(), args.exit_after_requests), (2, Some(7)));
}

#[test]
fn wrong_values_are_refused_with_what_is_accepted() {
    let cases = [
        ("load --url http://h --scenario chat", "accepted are chat_completion, completion, embedding"),
        ("load --url http://h --scorer gsm8k", "accepted are none, exact"),
        ("load --url http://h --run-seconds -5", "accepted are seconds from 0"),
        ("load --url http://h --tag x", "`x` is not KEY=VALUE"),
        ("load --url http://h --extra [1]", "it is not a JSON object"),
        ("llm-stub --fault oom=1", "accepted are http500"),
        ("llm-stub --tokens-per-event 0", "0 is not in 1"),
    ];
    for (line, expected) in cases {
        let error = parse(&format!("testrig {line}").replace("-seconds -5", "-seconds=-5")).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn qps_chooses_an_open_loop_and_concurrency_caps_it() {
    let choose = |name, qps, concurrency| Arrival::choose(name, qps, concurrency, 7);
    assert_eq!(choose(None, Some(5.0), Some(3)), Ok(Arrival::Constant { qps: 5.0, concurrency: Some(3) }));
    assert_eq!(choose(Some("poisson"), Some(5.0), None), Ok(Arrival::Poisson { qps: 5.0, concurrency: None, seed: 7 }));
    assert_eq!(choose(None, None, Some(3)), Ok(Arrival::Closed { concurrency: 3 }));
    assert_eq!(choose(Some("closed"), None, None), Ok(Arrival::Closed { concurrency: 1 }));
    let refused = |name, qps| choose(Some(name), qps, None).expect_err("does not fit").to_string();
    assert_eq!(
        refused("closed", Some(5.0)),
        "arrival is `closed`, but qps is 5: a closed loop has no rate; leave qps out or choose constant or poisson"
    );
    assert_eq!(refused("constant", None), "arrival is `constant`, which needs qps");
    assert_eq!(refused("burst", Some(1.0)), "arrival is `burst`; accepted are constant, poisson, closed");
}

#[test]
fn the_table_shows_what_was_measured() {
    let lines = r#"{"id":"a","ok":true,"intended_us":0,"sent_us":1000,"first_token_us":51000,"last_token_us":151000,"end_us":152000,"completion_tokens":11,"prompt_tokens":5}
{"id":"b","ok":false,"error_class":"http_5xx","intended_us":100000,"sent_us":100000,"end_us":1000000}"#;
    let records = lines.lines().map(|line| crate::Record::parse(line).expect("a record"));
    let text = table(&crate::summarize(records, crate::Window::default(), crate::Slo::default()));
    let expected = "\
requests            2 (1 succeeded, 1 failed, 0 of these cancelled)
  http_5xx          1
error rate          50.00 %
duration            1.00 s
throughput          1.00 requests/s
input tokens        5.00 tokens/s
output tokens       11.00 tokens/s

milliseconds                avg        p50        p90        p95        p99        min        max
TTFT                      50.00      50.00      50.00      50.00      50.00      50.00      50.00
TPOT                      10.00      10.00      10.00      10.00      10.00      10.00      10.00
E2E latency              151.00     151.00     151.00     151.00     151.00     151.00     151.00
E2E from due time        152.00     152.00     152.00     152.00     152.00     152.00     152.00
send delay                 0.50       0.50       0.90       0.95       0.99       0.00       1.00
";
    assert_eq!(text, expected);
}

fn code(code: std::process::ExitCode) -> String {
    format!("{code:?}")
}

/// A standard output that is read while it is written.
#[derive(Clone, Default)]
struct Output(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).expect("UTF-8")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_by_hand_against_a_stub_by_hand_prints_one_json_object() {
    let dir = tempfile::tempdir().expect("a directory");
    let Command::LlmStub(args) =
        parse("testrig llm-stub --ttft-ms 5 --itl-ms 0 --model qwen --exit-after-requests 3 --exit-code 7")
            .expect("good")
    else {
        panic!("llm-stub")
    };
    let said = Output::default();
    let mut output = said.clone();
    let service = tokio::spawn(async move { code(stub::stub(args, &mut output).await) });
    while !said.text().ends_with('\n') {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first_line = said.text();
    let url = first_line.trim_end().strip_prefix("listening on ").expect("says where").to_owned();
    let out = dir.path().join("new").join("dir");
    let line =
        format!("testrig load --url {url} --max-requests 3 --max-tokens 4 --json --out {} --tag k=v", out.display());
    let Command::Load(args) = parse(&line).expect("good arguments") else { panic!("load") };
    let mut printed = Output::default();
    assert_eq!(code(load::load(*args, &mut printed).await), code(std::process::ExitCode::SUCCESS));
    let summary: serde_json::Value = serde_json::from_str(&printed.text()).expect("one JSON object");
    assert_eq!((summary["succeeded"].as_u64(), summary["output_tokens"].as_u64()), (Some(3), Some(12)));
    let records = std::fs::read_to_string(out.join("metrics-chat_completion.log")).expect("is there");
    let records: Vec<_> = records.lines().map(|line| crate::Record::parse(line).expect("a record")).collect();
    assert_eq!((records.len(), records[0].completion_tokens, records[0].tags["k"].as_str()), (3, Some(4), Some("v")));
    assert_eq!(service.await.expect("no panic"), code(std::process::ExitCode::from(7)));
    // Nobody is there any more, so nobody can be asked for a model and no request can succeed.
    for model in ["", " --model m"] {
        let Command::Load(args) =
            parse(&format!("testrig load --url {url} --max-requests 1{model}")).expect("good arguments")
        else {
            panic!("load")
        };
        assert_eq!(code(load::load(*args, &mut printed).await), code(std::process::ExitCode::FAILURE));
    }
}

#[tokio::test]
async fn a_stub_that_cannot_listen_says_where() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("bound");
    let Command::LlmStub(args) = parse(&format!("testrig llm-stub --listen {address}")).expect("good arguments") else {
        panic!("llm-stub")
    };
    let output = Output::default();
    assert_eq!(code(stub::stub(args, &mut output.clone()).await), code(std::process::ExitCode::FAILURE));
    assert_eq!(output.text(), "", "nobody is told of an address that is not served");
}
