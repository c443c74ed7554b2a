//! Runs against the stand-in service, held against its own account of what it did.

mod accuracy;
mod arrivals;
mod ends;
mod faults;
mod wire;

use std::{collections::HashMap, path::Path, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    LoadPlan, Record, RecordSink, Summary,
    stub::{self, StubOptions, Truth},
};

/// A finished run: its summary, its records by number, and the truth about each by id.
struct Measured {
    summary: Summary,
    records: Vec<Record>,
    truths: HashMap<String, Truth>,
}

impl Measured {
    fn truth(&self, record: &Record) -> &Truth {
        self.truths.get(&record.id).unwrap_or_else(|| panic!("the service has seen {}", record.id))
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A plan for a service whose address is not known yet.
fn plan() -> LoadPlan {
    LoadPlan::new("http://127.0.0.1:1", "stub-model")
}

/// Runs `plan` against a stand-in with `options`.
async fn measure(plan: LoadPlan, options: StubOptions) -> Measured {
    measure_until(plan, options, CancellationToken::new()).await
}

async fn measure_until(mut plan: LoadPlan, options: StubOptions, stop: CancellationToken) -> Measured {
    let dir = tempfile::tempdir().expect("a directory");
    let truth = dir.path().join("truth.jsonl");
    let options = StubOptions { truth: Some(truth.clone()), ..options };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    plan.base_url = format!("http://{}", listener.local_addr().expect("bound"));
    let shutdown = CancellationToken::new();
    let service = tokio::spawn(stub::serve(listener, options, shutdown.clone()));
    let sink = RecordSink::in_dir(dir.path(), plan.scenario);
    let scenario = plan.scenario;
    let summary = crate::run(plan, sink, |_| {}, stop).await.expect("the run is made");
    shutdown.cancel();
    service.await.expect("no panic").expect("the service ran");
    let mut records = records(&dir.path().join(format!("metrics-{scenario}.log")));
    records.sort_by(|a, b| a.id.cmp(&b.id));
    let readable = std::fs::read_to_string(dir.path().join(format!("client-req-{scenario}.log"))).expect("is there");
    assert_eq!(readable.lines().count(), records.len(), "one readable line a record");
    let truths = std::fs::read_to_string(&truth).expect("is there");
    let mut by_id = HashMap::new();
    for line in truths.lines() {
        let truth: Truth = serde_json::from_str(line).expect("a truth");
        let id = truth.request_id.clone().expect("we send ids");
        assert!(by_id.insert(id, truth).is_none(), "no request is sent twice: {line}");
    }
    Measured { summary, records, truths: by_id }
}

fn records(path: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(path).expect("is there");
    text.lines().map(|line| Record::parse(line).expect("a record")).collect()
}
