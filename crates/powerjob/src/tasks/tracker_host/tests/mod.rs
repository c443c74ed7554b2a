//! The host with a table on disk, a real clock and workers that are only acted.

mod life;
mod many;
mod restart;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use testrig_joblog::{Journals, Limits};
use testrig_store::Store;

use super::{TrackerDeps, TrackerHost, TrackerStart};
use crate::{
    JobLogger, RestartPolicy, StopSignal,
    core::Now,
    tasks::{api::*, table::TaskStore, tracker::TrackerOptions},
    wire::ServerScheduleJobReq,
};

const OWN: &str = "10.0.0.1:27777";
const OTHER: &str = "10.0.0.2:27777";

/// What a worker makes of a task: sub-tasks to map first, success, result text. `None` = it is at work for ever.
type Script = dyn Fn(&StartTask, &str) -> Option<(usize, bool, String)> + Send + Sync;

/// Workers that are only acted.
struct Acted {
    host: OnceLock<TrackerHost>,
    script: Box<Script>,
    dead: Mutex<HashSet<String>>,
    /// Workers that never answer a start.
    mute: Mutex<HashSet<String>>,
    /// In this order: starts at mute workers that were given up, stops of the own one.
    last_words: Mutex<Vec<&'static str>>,
    begun: Mutex<Vec<(String, String)>>,
    stops: Mutex<Vec<(String, i64)>>,
    reduced: Mutex<Vec<TaskResult>>,
    results: AtomicUsize,
    time: AtomicI64,
    /// Kept short where a test runs many tasks.
    remember: bool,
}

impl Acted {
    fn now(&self) -> i64 {
        self.time.fetch_add(1, Ordering::Relaxed)
    }

    fn report(&self, task: &StartTask, status: i32, result: Option<String>) -> ReportTask {
        ReportTask {
            instance_id: task.instance.instance_id,
            sub_instance_id: task.sub_instance_id,
            task_id: task.task_id.clone(),
            status,
            result,
            report_time: self.now(),
            cmd: None,
            appended_wf_context: (status > 4).then(|| BTreeMap::from([(task.task_id.clone(), "v".to_owned())])),
            rejected: false,
        }
    }

    async fn work(self: Arc<Self>, address: String, task: StartTask, results: Option<Arc<dyn ResultSource>>) {
        let host = self.host.get().expect("the host is there before any task").clone();
        let load = ReportWorker {
            kind: 2,
            instance_id: task.instance.instance_id,
            time: self.now(),
            remain_task_num: 0,
            address: address.clone(),
        };
        let _ = host.report_worker(OWN, load).await;
        let _ = host.report_task(OWN, self.report(&task, 3, None)).await;
        let Some((mapped, success, text)) = (self.script)(&task, &address) else { return };
        for first in (0..mapped).step_by(500) {
            let sub_tasks = (first..mapped.min(first + 500))
                .map(|i| SubTask { task_id: format!("{}.{i}", task.task_id), content: vec![1, 2, 3] })
                .collect();
            let map = MapTask {
                instance_id: task.instance.instance_id,
                sub_instance_id: task.sub_instance_id,
                task_name: "SHARD".to_owned(),
                sub_tasks,
            };
            host.map_task(OWN, map).await.expect("mapped");
        }
        if let Some(results) = results {
            let mut after = None;
            loop {
                let page = results.page(after.as_ref(), 1_000).await.expect("a page");
                let Some(last) = page.last() else { break };
                after = Some(last.clone());
                self.results.fetch_add(page.len(), Ordering::Relaxed);
                if self.remember {
                    self.reduced.lock().extend(page);
                }
            }
        }
        let status = if success { 6 } else { 5 };
        let _ = host.report_task(OWN, self.report(&task, status, Some(text))).await;
    }
}

/// The peer of the host: starts the acting.
struct Peers(Arc<Acted>);

#[async_trait]
impl WorkerPeer for Peers {
    async fn start_task(
        &self,
        address: &str,
        task: StartTask,
        results: Option<Arc<dyn ResultSource>>,
    ) -> Result<(), PeerError> {
        if self.0.dead.lock().contains(address) {
            return Err(PeerError::Unreachable("connection refused".to_owned()));
        }
        if self.0.remember {
            self.0.begun.lock().push((address.to_owned(), task.task_id.clone()));
        }
        if self.0.mute.lock().contains(address) {
            let _given_up = GivenUp(&self.0);
            std::future::pending::<()>().await;
        }
        tokio::spawn(self.0.clone().work(address.to_owned(), task, results));
        Ok(())
    }

    async fn stop_instance(&self, address: &str, instance_id: i64) -> Result<(), PeerError> {
        if self.0.dead.lock().contains(address) {
            return Err(PeerError::Unreachable("connection refused".to_owned()));
        }
        if address == OWN {
            self.0.last_words.lock().push("own stop");
        }
        self.0.stops.lock().push((address.to_owned(), instance_id));
        Ok(())
    }
}

/// Notes that nobody waits for the answer to a start any more.
struct GivenUp<'a>(&'a Acted);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.last_words.lock().push("start given up");
    }
}

struct Alone;

#[async_trait]
impl ClusterQuery for Alone {
    async fn workers(&self, _: i64) -> Result<Vec<String>, String> {
        Ok(vec![OWN.to_owned()])
    }
}

/// A host in a directory of its own; opened again in the same one it is the next process.
struct Rig {
    host: TrackerHost,
    acted: Arc<Acted>,
    stop: StopSignal,
    journals: Journals,
    silent: Arc<AtomicI64>,
    /// The only instance that the worker has open; 0 = none.
    open: Arc<AtomicI64>,
}

impl Rig {
    fn open(
        dir: &std::path::Path,
        policy: RestartPolicy,
        remember: bool,
        script: impl Fn(&StartTask, &str) -> Option<(usize, bool, String)> + Send + Sync + 'static,
    ) -> Self {
        let acted = Arc::new(Acted {
            host: OnceLock::new(),
            script: Box::new(script),
            dead: Mutex::default(),
            mute: Mutex::default(),
            last_words: Mutex::default(),
            begun: Mutex::default(),
            stops: Mutex::default(),
            reduced: Mutex::default(),
            results: AtomicUsize::new(0),
            time: AtomicI64::new(1),
            remember,
        });
        let (origin, began) = (Instant::now(), epoch_ms());
        let silent = Arc::new(AtomicI64::new(0));
        let of_server = silent.clone();
        let open = Arc::new(AtomicI64::new(7));
        let of_worker = open.clone();
        let deps = TrackerDeps {
            lane: "main".to_owned(),
            address: OWN.to_owned(),
            table: TaskStore::at(dir.join("tasks.db")),
            peers: Arc::new(Peers(acted.clone())),
            cluster: Arc::new(Alone),
            clock: Arc::new(move || {
                let mono_ms = u64::try_from(origin.elapsed().as_millis()).expect("short");
                let wall_ms = began + i64::try_from(mono_ms).expect("short");
                Now { mono_ms, wall_ms, server_ms: wall_ms }
            }),
            server_silent_ms: Arc::new(move |_| of_server.load(Ordering::Relaxed).unsigned_abs()),
            is_open: Arc::new(move |id| of_worker.load(Ordering::Relaxed) == id),
            restart_policy: Arc::new(move |_| policy),
            options: TrackerOptions {
                unanswered_ms: 1_500,
                lost_ms: 8_000,
                unreachable_ms: 2_500,
                ..TrackerOptions::default()
            },
        };
        let host = TrackerHost::new(deps);
        assert!(acted.host.set(host.clone()).is_ok());
        let store = Store::open_in_memory(testrig_joblog::MIGRATIONS).expect("a store");
        let journals = Journals::open(&dir.join("journals"), Limits::default(), store).expect("journals");
        Self { host, acted, stop: StopSignal::new(), journals, silent, open }
    }

    fn start(&self, request: &Arc<ServerScheduleJobReq>, resumed: bool) -> TrackerStart {
        let log = JobLogger::new(self.journals.journal(request.instance_id).expect("a journal"));
        TrackerStart { request: request.clone(), attempt: 1, resumed, time_left_ms: None, log, stop: self.stop.clone() }
    }

    async fn run(&self, request: &Arc<ServerScheduleJobReq>, resumed: bool) -> TrackerEnd {
        let run = self.host.run(self.start(request, resumed));
        tokio::time::timeout(Duration::from_secs(60), run).await.expect("it ends")
    }

    fn begun(&self) -> Vec<(String, String)> {
        let mut begun = self.acted.begun.lock().clone();
        begun.sort();
        begun
    }

    fn log(&self, instance_id: i64) -> String {
        let lines = self.journals.journal(instance_id).expect("a journal").read(0, 10_000, 1 << 20).expect("lines");
        lines.iter().map(|line| line.text.clone() + "\n").collect()
    }
}

fn job(execute_type: &str, time: &str, more: &str) -> Arc<ServerScheduleJobReq> {
    let text = format!(
        r#"{{"jobId":1,"instanceId":7,"executeType":"{execute_type}","timeExpressionType":"{time}","processorType":"BUILT_IN",
            "processorInfo":"p","allWorkerAddress":["{OWN}","{OTHER}"],"threadConcurrency":5,"instanceTimeoutMS":0{more}}}"#
    );
    Arc::new(ServerScheduleJobReq::parse(text.as_bytes()).expect("a dispatch"))
}

fn ok(text: impl Into<String>) -> Option<(usize, bool, String)> {
    Some((0, true, text.into()))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn epoch_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292,000,000")
}
