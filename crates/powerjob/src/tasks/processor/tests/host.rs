//! The host with real processors, a store, and a tracker that writes down what it is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use testrig_joblog::{Journals, Limits};
use testrig_store::Store;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::rig::{OTHER, OWN, task, with};
use crate::{
    JobLogger, ProcessResult, Processor, RestartPolicy, TaskContext, TaskResult, TaskResults,
    core::Now,
    server::Engaged,
    task::TaskBody,
    tasks::{
        api::{
            LAST_TASK, MapTask, PeerError, ROOT_TASK, ReportTask, ReportWorker, ResultSource, TrackerPeer, WorkerPeer,
        },
        kryo,
        processor::{InstanceLogs, Options, ProcessorDeps, ProcessorTrackers},
    },
    worker::{Counters, MIGRATIONS, Registry},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A tracker that writes down what it is told.
struct Tracker {
    reports: watch::Sender<Vec<ReportTask>>,
    loads: Mutex<Vec<ReportWorker>>,
    maps: Mutex<Vec<MapTask>>,
    away: AtomicBool,
}

#[async_trait]
impl TrackerPeer for Tracker {
    async fn report_task(&self, _: &str, report: ReportTask) -> Result<(), PeerError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(PeerError::Unreachable("away".to_owned()));
        }
        self.reports.send_modify(|all| all.push(report));
        Ok(())
    }

    async fn report_worker(&self, _: &str, report: ReportWorker) -> Result<(), PeerError> {
        self.loads.lock().push(report);
        Ok(())
    }

    async fn map_task(&self, _: &str, map: MapTask) -> Result<(), PeerError> {
        self.maps.lock().push(map);
        Ok(())
    }
}

struct Logs {
    journals: Journals,
    released: Mutex<Vec<i64>>,
    /// Lines of the worker's own and releases, in the order in which they took effect.
    order: Mutex<Vec<&'static str>>,
}

#[async_trait]
impl InstanceLogs for Logs {
    async fn logger(&self, instance_id: i64, _: Option<&str>, _: bool) -> Result<JobLogger, String> {
        self.journals.journal(instance_id).map(JobLogger::new).map_err(|why| why.to_string())
    }

    async fn line(&self, instance_id: i64, _: Option<String>, level: testrig_joblog::Level, text: String) {
        // A driver that is busy takes it late.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.order.lock().push("line");
        self.journals.journal(instance_id).expect("a journal").append(level, "agent", &text);
    }

    async fn release(&self, instance_id: i64) {
        self.order.lock().push("release");
        self.released.lock().push(instance_id);
    }
}

/// Does what the task's body says.
#[derive(Default)]
struct Does {
    at_work: AtomicUsize,
    most: AtomicUsize,
    policy: Option<RestartPolicy>,
}

#[async_trait]
impl Processor for Does {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let now = self.at_work.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let result = match ctx.task.body.as_str().unwrap_or_default() {
            "panic" => {
                self.at_work.fetch_sub(1, Ordering::SeqCst);
                panic!("no way")
            }
            "wait" => ProcessResult::rejected(format!("{:?}", ctx.stop.raised().await)),
            "map" => match ctx.map("SHARD", ["a", "b"]).await {
                Ok(()) => ProcessResult::success("mapped"),
                Err(why) => why.into(),
            },
            text => {
                ctx.log.info(format!("task {} with {text}", ctx.task.id));
                ProcessResult::success(format!("{text} {} {}", ctx.task.retry, ctx.resumed))
            }
        };
        self.at_work.fetch_sub(1, Ordering::SeqCst);
        result
    }

    async fn reduce(&self, _: TaskContext, results: TaskResults) -> ProcessResult {
        let count = results.count().await.expect("readable");
        ProcessResult::success(format!("reduced {}", count.succeeded))
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.policy.unwrap_or(RestartPolicy::Fail)
    }
}

struct Host {
    trackers: ProcessorTrackers,
    tracker: Arc<Tracker>,
    logs: Arc<Logs>,
    does: Arc<Does>,
    store: Store,
    _dir: tempfile::TempDir,
}

impl Host {
    async fn new() -> Self {
        let store = Store::open_in_memory(&[MIGRATIONS, testrig_joblog::MIGRATIONS].concat()).expect("a store");
        Self::on(store, Does::default()).await
    }

    /// A worker on what another one left.
    async fn on(store: Store, does: Does) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let journals = Journals::open(dir.path(), Limits::default(), store.clone()).expect("journals");
        let logs = Arc::new(Logs { journals, released: Mutex::default(), order: Mutex::default() });
        let tracker = Arc::new(Tracker {
            reports: watch::Sender::new(Vec::new()),
            loads: Mutex::default(),
            maps: Mutex::default(),
            away: AtomicBool::new(false),
        });
        let does = Arc::new(does);
        let mut registry = Registry::default();
        registry.insert("p".to_owned(), does.clone());
        let origin = Instant::now();
        let deps = ProcessorDeps {
            lane: "main".to_owned(),
            address: OWN.to_owned(),
            store: store.clone(),
            registry,
            logs: logs.clone(),
            trackers: tracker.clone(),
            clock: Arc::new(move || Now {
                mono_ms: u64::try_from(origin.elapsed().as_millis()).expect("short"),
                wall_ms: crate::client::now_ms(),
                server_ms: crate::client::now_ms(),
            }),
            counters: Arc::new(Counters::default()),
            tasks: TaskTracker::new(),
            options: Options::default(),
        };
        let trackers = ProcessorTrackers::start(deps).await.expect("a readable store");
        Self { trackers, tracker, logs, does, store, _dir: dir }
    }

    async fn start(&self, tracker: &str, id: &str, body: &str) {
        let mut task = task(tracker, 7, id);
        task.task_content = Some(kryo::write(&TaskBody::from(body)));
        self.trackers.start_task(OWN, task, None).await.expect("taken");
    }

    /// The report of this task with this status, when it comes.
    async fn report(&self, id: &str, status: i32) -> ReportTask {
        let found = |all: &Vec<ReportTask>| all.iter().find(|r| r.task_id == id && r.status == status).cloned();
        let mut reports = self.tracker.reports.subscribe();
        let seen = tokio::time::timeout(PATIENCE, reports.wait_for(|all| found(all).is_some())).await;
        let seen = seen.unwrap_or_else(|_| panic!("no {status} of {id} in {:?}", *self.tracker.reports.borrow()));
        found(&seen.expect("the sender lives")).expect("just seen")
    }

    async fn text(&self, id: &str, status: i32) -> String {
        self.report(id, status).await.result.unwrap_or_default()
    }
}

#[tokio::test]
async fn a_task_is_run_logged_and_reported() {
    let host = Host::new().await;
    host.start(OTHER, "0.1", "hello").await;
    assert_eq!(host.text("0.1", 6).await, "hello 0 false");
    let load = host.tracker.loads.lock()[0].clone();
    assert_eq!((load.kind, load.address.as_str()), (2, OWN));
    let journal = host.logs.journals.journal(7).expect("a journal");
    let lines = journal.read(0, 10, 1 << 20).expect("lines");
    assert_eq!(lines[0].text, "task 0.1 with hello");
    tokio::time::timeout(PATIENCE, host.trackers.idle()).await.expect("nothing is left");
}

#[tokio::test]
async fn whatever_hinders_a_task_becomes_its_failure_with_the_reason() {
    let host = Host::new().await;
    host.start(OTHER, "0.1", "panic").await;
    let text = host.text("0.1", 5).await;
    assert!(text.contains("processor `p` panicked: no way"), "{text}");

    let unknown = with(task(OTHER, 7, "0.2"), |info| info.processor_info = "com.example.P".to_owned());
    host.trackers.start_task(OWN, unknown, None).await.expect("taken");
    let text = host.text("0.2", 5).await;
    assert!(text.contains("`com.example.P` is not served"), "{text}");

    let shell = with(task(OTHER, 7, "0.3"), |info| info.processor_type = "SHELL".to_owned());
    host.trackers.start_task(OWN, shell, None).await.expect("taken");
    assert!(host.text("0.3", 5).await.contains("processor type `SHELL`"));

    let mut object = task(OTHER, 7, "0.4");
    object.task_content = Some([&[1, 0][..], b"com.example.Orde\xf2", &[0; 100]].concat());
    host.trackers.start_task(OWN, object, None).await.expect("taken");
    let text = host.text("0.4", 5).await;
    assert!(text.contains("class `com.example.Order`, which only a Java worker can read"), "{text}");

    let mut last = task(OTHER, 7, "9999");
    last.task_name = LAST_TASK.to_owned();
    host.trackers.start_task(OWN, last, None).await.expect("taken");
    assert!(host.text("9999", 5).await.contains("only the worker that owns it has"));
}

#[tokio::test]
async fn sub_tasks_go_to_the_tracker_before_their_parent_has_ended() {
    let host = Host::new().await;
    host.start(OTHER, "0", "map").await;
    assert_eq!(host.text("0", 6).await, "mapped");
    let maps = host.tracker.maps.lock();
    let ids: Vec<&str> = maps[0].sub_tasks.iter().map(|task| task.task_id.as_str()).collect();
    assert_eq!((maps.len(), maps[0].task_name.as_str(), ids), (1, "SHARD", vec!["0.0", "0.1"]));
}

#[tokio::test]
async fn the_steps_of_a_broadcast_and_of_a_reduce_are_told_apart() {
    struct Listed;
    #[async_trait]
    impl ResultSource for Listed {
        async fn page(&self, after: Option<&TaskResult>, _: usize) -> Result<Vec<TaskResult>, String> {
            let one = |id: &str| TaskResult { task_id: id.to_owned(), success: true, result: String::new() };
            Ok(if after.is_none() { vec![one("0"), one("0.0")] } else { Vec::new() })
        }
    }
    let host = Host::new().await;
    let step = |instance, id: &str, name: &str, kind: &str| {
        let mut task = with(task(OWN, instance, id), |info| info.execute_type = kind.to_owned());
        task.task_name = name.to_owned();
        task
    };
    for task in [step(7, "0", ROOT_TASK, "BROADCAST"), step(8, "1", ROOT_TASK, "MAP_REDUCE")] {
        host.trackers.start_task(OWN, task, None).await.expect("taken");
    }
    assert_eq!(host.text("0", 6).await, "NO_PREPOST_TASK");
    assert_eq!(host.text("1", 6).await, " 0 false");
    for task in [step(7, "9999", LAST_TASK, "BROADCAST"), step(8, "9998", LAST_TASK, "MAP_REDUCE")] {
        host.trackers.start_task(OWN, task, Some(Arc::new(Listed))).await.expect("taken");
    }
    assert_eq!(host.text("9999", 6).await, "succeed:2, failed:0");
    assert_eq!(host.text("9998", 6).await, "reduced 2");
}

#[tokio::test]
async fn the_own_tracker_waits_for_a_place_and_nothing_of_it_is_lost() {
    let host = Host::new().await;
    let hand_over = async {
        for n in 0..400 {
            host.start(OWN, &format!("0.{n}"), "x").await;
        }
    };
    tokio::time::timeout(PATIENCE, hand_over).await.expect("all are taken");
    for n in [0, 399] {
        host.report(&format!("0.{n}"), 6).await;
    }
    tokio::time::timeout(PATIENCE, host.trackers.idle()).await.expect("all have ended");
    let ends = host.tracker.reports.borrow().iter().filter(|report| report.status == 6).count();
    assert_eq!(ends, 400);
    assert!(host.does.most.load(Ordering::SeqCst) <= 2, "two slots");
}

#[tokio::test]
async fn a_task_that_the_own_tracker_takes_up_is_resumed() {
    let host = Host::new().await;
    let mut cut = task(OWN, 7, "0.1");
    cut.task_content = Some(kryo::write(&TaskBody::from("x")));
    cut.resumed = true;
    host.trackers.start_task(OWN, cut, None).await.expect("taken");
    assert_eq!(host.text("0.1", 6).await, "x 0 true");
}

#[tokio::test]
async fn a_stop_returns_when_the_processors_have_ended_and_lets_go_of_what_waits() {
    let host = Host::new().await;
    for n in 0..5 {
        host.start(OWN, &format!("0.{n}"), "wait").await;
    }
    let stopped = host.trackers.stop_instance(OWN, 7);
    tokio::time::timeout(PATIENCE, stopped).await.expect("it ends").expect("stopped");
    assert_eq!(host.does.at_work.load(Ordering::SeqCst), 0);
    host.trackers.stop_instance(OWN, 7).await.expect("stopped twice");
    host.trackers.stop_instance(OWN, 99).await.expect("an unknown one");
    assert!(host.tracker.reports.borrow().iter().all(|report| report.status < 5));
    assert!(host.logs.released.lock().is_empty());
    host.start(OTHER, "0.9", "x").await;
    host.report("0.9", 6).await;
    host.trackers.stop_instance(OTHER, 7).await.expect("stopped");
    let released = async {
        while host.logs.released.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, released).await.expect("the log is let go");
}

#[tokio::test]
async fn after_a_kill_the_tracker_hears_the_end_of_every_task_that_was_acknowledged() {
    let first = Host::new().await;
    first.start(OTHER, "0.0", "done").await;
    first.report("0.0", 6).await;
    tokio::time::timeout(PATIENCE, first.trackers.idle()).await.expect("accepted");
    first.start(OTHER, "0.1", "wait").await;
    first.report("0.1", 4).await;
    first.tracker.away.store(true, Ordering::Relaxed);
    first.start(OTHER, "0.2", "unheard").await;
    let ended = async {
        loop {
            let rows = first.store.read(|db| {
                let mut rows = db.prepare("SELECT record FROM task_receipt")?;
                rows.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
            });
            if rows.await.expect("readable").iter().any(|record| record.contains("unheard 0 false")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("its outcome is stored");
    let store = first.store.clone();
    drop(first);

    let second = Host::on(store.clone(), Does::default()).await;
    assert_eq!(second.text("0.2", 6).await, "unheard 0 false");
    let text = second.text("0.1", 5).await;
    assert!(text.contains("the worker was restarted"), "{text}");
    tokio::time::timeout(PATIENCE, second.trackers.idle()).await.expect("accepted");
    assert!(second.tracker.reports.borrow().iter().all(|report| report.task_id != "0.0"));
    drop(second);

    let third = Host::on(store, Does::default()).await;
    assert_eq!(third.trackers.open_tasks(), 0);
}

#[tokio::test]
async fn after_a_kill_a_processor_that_can_takes_its_task_up() {
    let first = Host::new().await;
    first.start(OTHER, "0.1", "wait").await;
    first.report("0.1", 4).await;
    let store = first.store.clone();
    drop(first);
    let does = Does { policy: Some(RestartPolicy::Resume), ..Does::default() };
    let second = Host::on(store, does).await;
    second.report("0.1", 4).await;
    second.trackers.stop_instance(OTHER, 7).await.expect("stopped");
}

#[tokio::test]
async fn a_cancel_ends_tasks_of_other_workers_and_returns_when_those_know() {
    let host = Host::new().await;
    for n in 0..3 {
        host.start(OTHER, &format!("0.{n}"), "wait").await;
    }
    host.report("0.1", 4).await;
    assert!(host.trackers.has_tasks_of(7, OTHER).await);
    assert!(!host.trackers.has_tasks_of(7, OWN).await && !host.trackers.has_tasks_of(8, OTHER).await);
    host.trackers.cancel().await;
    for (id, what) in [("0.0", "was running"), ("0.1", "Cancelled"), ("0.2", "was waiting for a slot")] {
        let text = host.text(id, 5).await;
        assert!(text.contains("cancelled by the agent's shutdown") && text.contains(what), "{id}: {text}");
    }
    tokio::time::timeout(PATIENCE, host.trackers.idle()).await.expect("nothing is left");
    assert_eq!(host.does.at_work.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_line_is_written_before_the_release_that_follows_it() {
    let host = Host::new().await;
    let mut task = with(task(OTHER, 7, "0.1"), |info| info.instance_timeout_ms = 200);
    task.task_content = Some(kryo::write(&TaskBody::from("hello")));
    host.trackers.start_task(OWN, task, None).await.expect("taken");
    let since = Instant::now();
    while host.logs.order.lock().len() < 2 {
        assert!(since.elapsed() < PATIENCE, "the time limit tells and releases: {:?}", host.logs.order.lock());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(*host.logs.order.lock(), ["line", "release"]);
}
