//! `kill -9` at each moment that can make a difference: around every commit of the store and before every action.
//!
//! A child process runs the worker and dies at its Nth such moment; another one takes its place. The server of this test
//! does what a real one would: it dispatches again what it has not heard of, and answers what it is asked. In the end
//! nothing is lost, nothing has run twice that should run once, and nothing has ended as it did not.
//!
//! A usual run takes every fourth moment; with `TESTRIG_LONG` set it takes all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use super::*;

/// Processes at once.
const SIDE_BY_SIDE: u64 = 6;
/// A server that has not heard of a dispatch repeats it after 60 s; this one is less patient.
const AGAIN_AFTER: Duration = Duration::from_secs(3);
const FIRST: i64 = 1_004_402_621_408_084_032;
/// The instances, by what becomes of them.
const ONCE: i64 = FIRST;
const AGAIN: i64 = FIRST + 1;
const TAKEN_UP: i64 = FIRST + 2;
const STOPPED: i64 = FIRST + 3;
const JOBS: [(i64, &str, u64); 4] =
    [(ONCE, "fail", 150), (AGAIN, "rerun", 150), (TAKEN_UP, "resume", 150), (STOPPED, "fail", 60_000)];

/// Runs in the child: notes each start in a file before anything else.
struct Noted(PathBuf, Play);

#[async_trait]
impl Processor for Noted {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let line = format!("{} {}\n", ctx.instance_id, if ctx.resumed { "resumed" } else { "started" });
        let file = std::fs::File::options().append(true).create(true).open(&self.0);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes())).expect("noted");
        self.1.process(ctx).await
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.1.restart_policy()
    }
}

/// Does nothing unless [`spawn`] started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_child_does() {
    let Some(dir) = std::env::var_os("POINTS_DIR").map(PathBuf::from) else {
        return;
    };
    let mut config = WorkerConfig::new([std::env::var("POINTS_SERVER").expect("a server")], APP);
    config.listen = "127.0.0.1:0".to_owned();
    config.state_dir = Some(dir.clone());
    let mut builder = Worker::builder(config);
    for (name, policy) in
        [("fail", RestartPolicy::Fail), ("rerun", RestartPolicy::Rerun), ("resume", RestartPolicy::Resume)]
    {
        builder = builder.processor(name, Arc::new(Noted(dir.join("starts"), Play(policy))));
    }
    let _worker = builder.start().await.expect("the worker starts");
    // Until the parent kills it, or is gone itself.
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One worker that dies at its Nth moment, and what its server sees.
struct Round {
    nth: u64,
    fake: Fake,
    dir: TempDir,
    child: Child,
    died: bool,
    /// The address in the newest heartbeat of the living child, and when it was first seen.
    address: Option<(String, Instant)>,
    /// Heartbeats of earlier children.
    beats_before: usize,
    dispatched: BTreeMap<i64, Instant>,
    /// The stop was told (or the worker was dead and asks), with the reports that the server had by then.
    stopped: Option<usize>,
}

impl Round {
    async fn start(nth: u64) -> Self {
        let (fake, dir) = (Fake::start().await, tempfile::tempdir().expect("a directory"));
        let child = spawn(dir.path(), &fake.server(), Some(nth));
        Self {
            nth,
            fake,
            dir,
            child,
            died: false,
            address: None,
            beats_before: 0,
            dispatched: BTreeMap::new(),
            stopped: None,
        }
    }

    /// Runs to the end of all instances. Tells whether the child died on the way.
    async fn run(mut self) -> bool {
        let http = crate::client::http_client().expect("a client");
        let end = Instant::now() + 4 * PATIENCE;
        while !self.all_closed(&http).await {
            assert!(Instant::now() < end, "moment {}: not settled: {}", self.nth, self.shown());
            self.mourn();
            self.look();
            self.dispatch(&http).await;
            self.stop(&http).await;
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("gone");
        self.check();
        self.died
    }

    /// A dead child is followed by another one, which lives.
    fn mourn(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child") {
            assert!(!self.died, "moment {}: the second child ended by itself: {status}", self.nth);
            self.died = true;
            self.address = None;
            self.beats_before = self.fake.heartbeats().len();
            self.child = spawn(self.dir.path(), &self.fake.server(), None);
        }
    }

    fn look(&mut self) {
        if self.address.is_none() {
            self.address =
                self.fake.heartbeats().get(self.beats_before).map(|beat| (beat.worker_address.clone(), Instant::now()));
        }
        for (id, ..) in JOBS {
            if let Some(end) = self.fake.finals(id).first() {
                let mut book = self.fake.book.lock();
                let address = book.instances.get(&id).map(|(_, address)| address.clone()).unwrap_or_default();
                book.instances.insert(id, (end.instance_status, address));
            }
        }
    }

    /// What was never heard of is dispatched, and again after a while.
    async fn dispatch(&mut self, http: &reqwest::Client) {
        let Some((address, known)) = self.address.clone() else { return };
        for (id, processor, sleep) in JOBS {
            let rests = |since: &Instant| since.max(&known).elapsed() < AGAIN_AFTER;
            if !self.fake.reports(id).is_empty() || self.dispatched.get(&id).is_some_and(rests) {
                continue;
            }
            if id == STOPPED && self.stopped.is_some() {
                continue;
            }
            self.dispatched.insert(id, Instant::now());
            self.fake.book.lock().instances.insert(id, (3, address.clone()));
            let body = json!({"allWorkerAddress": [address], "jobId": 11, "instanceId": id,
                "executeType": "STANDALONE", "processorType": "BUILT_IN", "processorInfo": processor,
                "jobParams": json!({"sleep": sleep, "lines": 2}).to_string(), "timeExpressionType": "API"});
            // The child may die in the middle of it.
            let _ = http.post(format!("http://{address}/worker/runJob")).body(body.to_string()).send().await;
        }
    }

    /// The server says stop once, whether or not somebody listens.
    async fn stop(&mut self, http: &reqwest::Client) {
        let known = self.fake.book.lock().instances.get(&STOPPED).map(|(_, address)| address.clone());
        let ended = !self.fake.finals(STOPPED).is_empty();
        let Some(address) = known.filter(|_| self.stopped.is_none() && !ended) else { return };
        if self.fake.reports(STOPPED).is_empty() {
            return;
        }
        self.fake.book.lock().instances.insert(STOPPED, (10, address.clone()));
        let body = json!({"instanceId": STOPPED}).to_string();
        let _ = http.post(format!("http://{address}/worker/stopInstance")).body(body).send().await;
        // One that was under way when the stop arrived counts as sent before.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.stopped = Some(self.fake.reports(STOPPED).len());
    }

    /// Whether every instance has an end and the worker knows none of them any more.
    async fn all_closed(&self, http: &reqwest::Client) -> bool {
        let Some((address, _)) = &self.address else { return false };
        let ended = |id: i64| (id == STOPPED && self.stopped.is_some()) || !self.fake.finals(id).is_empty();
        if !JOBS.iter().all(|(id, ..)| ended(*id)) {
            return false;
        }
        for (id, ..) in JOBS {
            let query = http.post(format!("http://{address}/worker/queryInstanceStatus"));
            let Ok(answer) = query.body(json!({"instanceId": id}).to_string()).send().await else { return false };
            if !answer.text().await.unwrap_or_default().contains("can't find TaskTracker") {
                return false;
            }
        }
        true
    }

    fn check(&self) {
        let nth = self.nth;
        let starts = std::fs::read_to_string(self.dir.path().join("starts")).unwrap_or_default();
        let started = |id: i64| starts.lines().filter(|line| *line == format!("{id} started")).count();
        // One that was killed between the record of its start and the start itself is taken up without having begun.
        let touched = |id: i64| starts.lines().any(|line| line.starts_with(&id.to_string()));
        for (id, processor, _) in JOBS {
            let reports = self.fake.reports(id);
            let shown = || format!("moment {nth}, {processor} {id}: {reports:#?}\n{starts}");
            let times: Vec<i64> = reports.iter().map(|report| report.report_time).collect();
            assert!(times.is_sorted(), "report times go back: {}", shown());
            let running: BTreeSet<i64> =
                reports.iter().filter(|r| r.instance_status == 3).map(|r| r.report_time).collect();
            let count = reports.iter().filter(|r| r.instance_status == 3).count();
            assert_eq!(running.len(), count, "a report time stands twice: {}", shown());
            if id == STOPPED {
                assert!(self.stopped.is_none_or(|then| then == reports.len()), "reported after its stop: {}", shown());
                // One that was cut before the stop could be told has failed, and says so.
                let honest = |result: &Option<String>| result.as_ref().is_some_and(|text| text.contains("restarted"));
                assert!(self.fake.finals(id).iter().all(|end| self.died && honest(&end.result)), "{}", shown());
                assert!(started(id) <= 1, "ran twice: {}", shown());
                continue;
            }
            let finals = self.fake.finals(id);
            assert!(finals.iter().all(|end| *end == finals[0]), "two outcomes: {}", shown());
            assert!(times.iter().all(|time| *time <= finals[0].report_time), "told more after its end: {}", shown());
            let result = finals[0].result.clone().unwrap_or_default();
            match (processor, finals[0].instance_status) {
                (_, 5) => {
                    assert!(touched(id) && (result == "done" || result.starts_with("resumed")), "{}", shown());
                }
                ("fail", 4) => assert!(self.died && result.contains("restarted"), "{}", shown()),
                _ => panic!("failed: {}", shown()),
            }
            assert!(processor == "rerun" || started(id) <= 1, "ran twice: {}", shown());
        }
    }

    fn shown(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("child.log")).unwrap_or_default();
        let ends: Vec<_> =
            JOBS.iter().map(|(id, ..)| (*id, self.fake.reports(*id).len(), self.fake.finals(*id))).collect();
        format!("{ends:#?}\nstopped {:?}, died {}\n{log}", self.stopped, self.died)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        // A failed check leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, server: &str, nth: Option<u64>) -> Child {
    let log = std::fs::File::options().append(true).create(true).open(dir.join("child.log")).expect("a file");
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "worker::tests::points::what_a_child_does", "--nocapture", "--test-threads=1"]);
    command.env("POINTS_DIR", dir).env("POINTS_SERVER", server).env_remove("TESTRIG_DIE_AT");
    if let Some(nth) = nth {
        command.env("TESTRIG_DIE_AT", nth.to_string());
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
    command.spawn().expect("this test's binary starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_any_write_or_action_loses_nothing_runs_nothing_twice_and_tells_nothing_wrong() {
    let step: u64 = if std::env::var_os("TESTRIG_LONG").is_some() { 1 } else { 4 };
    let mut deaths = 0;
    // Counted from 1; the moments before the first dispatch are among them.
    for group in 0.. {
        let mut rounds = tokio::task::JoinSet::new();
        for n in 0..SIDE_BY_SIDE {
            let nth = 1 + (group * SIDE_BY_SIDE + n) * step;
            rounds.spawn(async move { Round::start(nth).await.run().await });
        }
        let died = rounds.join_all().await.into_iter().filter(|died| *died).count();
        deaths += died;
        if died == 0 {
            break;
        }
    }
    // Four instances' worth of commits and actions; fewer would mean that the moments are not hit any more.
    assert!(deaths as u64 * step >= 60, "only {deaths} deaths, each {step}. moment");
}
