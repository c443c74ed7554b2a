//! `testPlatformBaseUrl`: the lines of an instance reach a test platform, whatever the platform or the agent does meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use parking_lot::Mutex;
use powerjob_worker::{ProcessResult, Processor};
use serde_json::{Value, json};
use testrig_processors::{Environment, PlatformLogs, registry};

use crate::rig::Rig;

/// How long a test waits for what it knows will come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A test platform that can be closed: then it answers 503.
#[derive(Clone, Default)]
struct Platform {
    open: Arc<AtomicBool>,
    got: Arc<Mutex<Vec<Value>>>,
    turned_away: Arc<AtomicBool>,
}

async fn append(State(platform): State<Platform>, Json(body): Json<Value>) -> StatusCode {
    if !platform.open.load(Ordering::SeqCst) {
        platform.turned_away.store(true, Ordering::SeqCst);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    platform.got.lock().push(body);
    StatusCode::OK
}

impl Platform {
    /// Serves; the base address.
    async fn serve(&self) -> String {
        let app = Router::new().route("/base/api/log/append", post(append)).with_state(self.clone());
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}/base/", socket.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(socket, app).await });
        url
    }

    fn lines(&self) -> Vec<String> {
        let got = self.got.lock();
        let lines = got.iter().flat_map(|body| body["lines"].as_array().cloned().expect("a list of lines"));
        lines.map(|line| line.as_str().expect("a text").to_owned()).collect()
    }

    /// Waits until it has this many lines.
    async fn has(&self, count: usize) {
        let wait = async {
            while self.lines().len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("{} of {count} lines came: {:?}", self.lines().len(), self.lines());
        }
    }
}

/// The processor as an agent has it, and what brings its logs to the platform.
fn agent(rig: &Rig) -> (Arc<dyn Processor>, Arc<PlatformLogs>) {
    let logs = Arc::new(PlatformLogs::new(rig.place.store.clone(), rig.env.http.clone()));
    let env = Environment { platform_logs: Some(Arc::clone(&logs)), ..(*rig.env).clone() };
    let all = registry(&Arc::new(env), &rig.place.store);
    let (_, found) = all.into_iter().find(|(name, _)| *name == "RunLLMTest").expect("it is served");
    (found, logs)
}

/// What the agent says of a platform that takes nothing.
const OUTAGE: &str = "the log does not reach the test platform";

/// A run whose service says much, and the text of every line in its journal. With `outage` it lasts until the agent has said
/// that there is one.
async fn run(rig: &Rig, processor: &dyn Processor, base: &str, outage: bool) -> (ProcessResult, Vec<String>) {
    let mut job = rig.job(&[]);
    let script = format!(
        "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; done; exec {} stub --port {{servicePort}}",
        crate::common::HELPER
    );
    job["service.command"] = json!(["sh", "-c", script]);
    // A host that is busy may take its time.
    job["healthCheck"]["maxRetry"] = json!(100_000);
    job["testPlatformBaseUrl"] = json!(base);
    let mut run = rig.run();
    run["runSeconds"] = json!(0.3);
    let said = async {
        if outage {
            rig.logged(OUTAGE).await;
            rig.logged("stage load: begins").await;
            std::fs::write(rig.log_dir().join("go"), "").expect("written");
        }
    };
    if outage {
        let wait = rig.place.dir.path().join("wait.sh");
        std::fs::write(&wait, "until [ -e go ]; do sleep 0.05; done\n").expect("written");
        run["test.script"] = json!(wait);
    }
    let work = tokio::time::timeout(PATIENCE, processor.process(rig.context(&job, &run)));
    let (result, ()) = tokio::join!(work, said);
    let result = result.expect("it ends");
    let journal = rig.place.journals.journal(rig.instance).expect("journal");
    journal.close("SUCCEED");
    (result, rig.lines().into_iter().map(|line| line.text).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_an_instance_are_posted_to_the_platform_in_order_with_the_specifications_body() {
    let rig = Rig::new(2801);
    let platform = Platform::default();
    platform.open.store(true, Ordering::SeqCst);
    // `testPlatformBaseUrl` with a path and a stroke at its end.
    let base = platform.serve().await;
    let (processor, logs) = agent(&rig);
    let (result, written) = run(&rig, processor.as_ref(), &base, false).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    platform.has(written.len()).await;
    logs.finish(PATIENCE).await;
    assert_eq!(platform.lines(), written, "every line once and in order");
    assert!(written.iter().filter(|line| line.starts_with("line ")).count() == 300, "{written:?}");
    let got = platform.got.lock();
    assert!(got.len() < written.len() / 4, "lines come in batches: {} requests", got.len());
    let mut before = 0;
    for body in got.iter() {
        let keys: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{keys:?}");
        assert_eq!(body["instanceId"], rig.instance);
        let time = body["timestamp"].as_i64().expect("milliseconds");
        assert!(time > before, "{time} after {before}");
        before = time;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_takes_nothing_holds_no_run_up_and_has_every_line_when_it_does() {
    let rig = Rig::new(2802);
    let platform = Platform::default();
    let base = platform.serve().await;
    let (processor, _logs) = agent(&rig);
    let (result, written) = run(&rig, processor.as_ref(), &base, true).await;
    assert!(result.success, "the run does not wait for it: {}\n{}", result.message, rig.log_text());
    assert!(platform.turned_away.load(Ordering::SeqCst) && platform.lines().is_empty());
    assert_eq!(written.iter().filter(|line| line.contains(OUTAGE)).count(), 1, "told once: {written:?}");
    platform.open.store(true, Ordering::SeqCst);
    platform.has(written.len()).await;
    assert_eq!(platform.lines(), written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_not_reached_the_platform_when_the_agent_ended_is_sent_by_the_next_one() {
    let rig = Rig::new(2803);
    let platform = Platform::default();
    let base = platform.serve().await;
    let (processor, logs) = agent(&rig);
    let (_, written) = run(&rig, processor.as_ref(), &base, true).await;
    logs.finish(Duration::ZERO).await;
    drop((processor, logs));
    platform.open.store(true, Ordering::SeqCst);
    let (_processor, next) = agent(&rig);
    next.resume(&rig.place.journals).await.expect("readable");
    platform.has(written.len()).await;
    next.finish(PATIENCE).await;
    assert_eq!(platform.lines(), written);
    // Nothing is left for a third one.
    let (_processor, third) = agent(&rig);
    third.resume(&rig.place.journals).await.expect("readable");
    third.finish(PATIENCE).await;
    assert_eq!(platform.lines().len(), written.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_the_agent_may_not_talk_to_is_refused_before_anything_starts() {
    let rig = Rig::with(2804, |env| env.allowed_hosts = Some(vec!["good.example".into()]));
    let (processor, _logs) = agent(&rig);
    let (result, _) = run(&rig, processor.as_ref(), "http://127.0.0.1:9", false).await;
    assert!(!result.success && !result.retryable, "{}", result.message);
    let wanted = "jobParams.testPlatformBaseUrl: the host `127.0.0.1` is not allowed here";
    assert!(result.message.contains(wanted) && result.message.contains("ending: refused"), "{}", result.message);
}
