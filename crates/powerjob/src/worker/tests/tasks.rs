//! Instances with tasks over whole workers: one owns them, all of them work.

use super::*;
use crate::TaskResults;

/// MAP and MAP_REDUCE: `tasks` sub-tasks of `sleep` ms each; the reduce tells how many succeeded. BROADCAST: one task a worker.
/// Anything else: `sleep`, then `fail`, as often as it is asked for. On the worker `stuck` nothing ends by itself, on the worker
/// `deaf` nothing ends at all.
struct Work;

fn params(ctx: &TaskContext) -> Value {
    ctx.job_params.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

#[async_trait]
impl Processor for Work {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let params = params(&ctx);
        let tasks = params["tasks"].as_u64().unwrap_or(0);
        if ctx.task.is_root() && tasks > 0 {
            return match ctx.map("PART", (0..tasks).map(|n| format!("part {n}"))).await {
                Ok(()) => ProcessResult::success("mapped"),
                Err(why) => why.into(),
            };
        }
        ctx.log.info(format!("task {} works", ctx.task.id));
        if params["deaf"] == json!(ctx.worker_address) {
            std::future::pending::<()>().await;
        }
        let stuck = params["stuck"] == json!(ctx.worker_address);
        let sleep = if stuck { 600_000 } else { params["sleep"].as_u64().unwrap_or(0) };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(sleep)) => {}
            reason = ctx.stop.raised() => return ProcessResult::failed(format!("{reason:?}")),
        }
        match params["fail"].as_str() {
            Some(why) => ProcessResult::failed(why),
            None => ProcessResult::success(ctx.worker_address),
        }
    }

    async fn reduce(&self, _: TaskContext, results: TaskResults) -> ProcessResult {
        match results.all().await {
            Ok(all) => ProcessResult::success(format!("reduced {}", all.iter().filter(|task| task.success).count())),
            Err(why) => ProcessResult::failed(why.to_string()),
        }
    }

    async fn post_process(&self, _: TaskContext, results: TaskResults) -> ProcessResult {
        let all = results.all().await.unwrap_or_default();
        let mut workers: Vec<String> = all.into_iter().map(|task| task.result).filter(|r| r.contains(':')).collect();
        workers.sort();
        ProcessResult::success(workers.join(" "))
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

pub(super) struct Pair {
    pub(super) rig: Rig,
    other_dir: TempDir,
}

impl Pair {
    pub(super) async fn new() -> Self {
        Self { rig: Rig::new().await, other_dir: tempfile::tempdir().expect("a directory") }
    }

    pub(super) async fn owner(&self) -> WorkerHandle {
        self.start(self.rig.config.clone()).await
    }

    pub(super) async fn other(&self) -> WorkerHandle {
        let mut config = self.rig.config.clone();
        config.state_dir = Some(self.other_dir.path().to_owned());
        self.start(config).await
    }

    async fn start(&self, config: WorkerConfig) -> WorkerHandle {
        let worker = Worker::builder(config).processor("work", Arc::new(Work)).start().await.expect("it starts");
        until("a heartbeat", || worker.status().listed).await;
        worker
    }

    /// Dispatches to the first of the workers and lists all of them.
    pub(super) async fn dispatch(&self, workers: &[&WorkerHandle], id: i64, kind: (&str, &str), params: Value) {
        let mut body = request(workers[0], id, "work", params);
        body["executeType"] = json!(kind.0);
        body["timeExpressionType"] = json!(kind.1);
        body["timeExpression"] = json!("200");
        body["taskRetryNum"] = json!(1);
        body["allWorkerAddress"] = json!(workers.iter().map(|worker| worker.address()).collect::<Vec<_>>());
        assert_eq!(self.rig.post(workers[0], "/worker/runJob", &body).await, (200, String::new()));
    }

    pub(super) async fn result(&self, id: i64) -> crate::wire::TaskTrackerReportInstanceStatusReq {
        until("the final report", || !self.rig.fake.finals(id).is_empty()).await;
        self.rig.fake.finals(id).remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_reduce_job_runs_on_both_workers_and_both_logs_reach_the_server() {
    let pair = Pair::new().await;
    let (owner, other) = (pair.owner().await, pair.other().await);
    pair.dispatch(&[&owner, &other], 1, ("MAP_REDUCE", "API"), json!({"tasks": 30, "sleep": 20})).await;
    let last = pair.result(1).await;
    assert_eq!((last.instance_status, last.result.as_deref()), (5, Some("reduced 31")), "30 tasks and the root");
    assert_eq!((last.total_task_num, last.failed_task_num), (32, 0), "with the last task");
    pair.rig.closed(&owner, 1).await;
    until("all lines", || pair.rig.fake.lines(1).iter().filter(|l| l.log_content.ends_with("works")).count() >= 30)
        .await;
    until("the other worker's log is released", || {
        journal_text(&pair.other_dir.path().join("journals"), 1).contains("RELEASED")
    })
    .await;
    assert_eq!(other.status().open_tasks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_runs_once_on_each_worker() {
    let pair = Pair::new().await;
    let (owner, other) = (pair.owner().await, pair.other().await);
    pair.dispatch(&[&owner, &other], 1, ("BROADCAST", "API"), json!({})).await;
    let mut both = [owner.address(), other.address()];
    both.sort_unstable();
    assert_eq!(pair.result(1).await.result, Some(both.join(" ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_ends_the_tasks_of_both_workers_in_silence() {
    let pair = Pair::new().await;
    let (owner, other) = (pair.owner().await, pair.other().await);
    pair.dispatch(&[&owner, &other], 1, ("MAP", "API"), json!({"tasks": 40, "sleep": 600_000})).await;
    until("both work", || owner.status().open_tasks > 0 && other.status().open_tasks > 0).await;
    pair.rig.stop(&owner, 1).await;
    pair.rig.closed(&owner, 1).await;
    until("nothing is left", || owner.status().open_tasks + other.status().open_tasks == 0).await;
    assert!(pair.rig.fake.finals(1).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_goes_on_after_its_restart() {
    let pair = Pair::new().await;
    let (owner, other) = (pair.owner().await, pair.other().await);
    let address = owner.address().to_owned();
    pair.dispatch(&[&owner, &other], 1, ("MAP_REDUCE", "API"), json!({"tasks": 60, "sleep": 100})).await;
    until("some are done", || {
        owner.status().instances.first().and_then(|i| i.tasks).is_some_and(|tasks| tasks.succeeded > 5)
    })
    .await;
    owner.crash().await;
    pair.rig.fake.book.lock().instances.insert(1, (3, address.clone()));
    let mut config = pair.rig.config.clone();
    config.listen.clone_from(&address);
    let owner = pair.start(config).await;
    assert_eq!(owner.address(), address);
    let last = pair.result(1).await;
    assert_eq!((last.instance_status, last.result.as_deref()), (5, Some("reduced 61")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_rate_job_fires_alarms_and_shows_its_runs_until_it_is_stopped() {
    let pair = Pair::new().await;
    let owner = pair.owner().await;
    pair.dispatch(&[&owner], 1, ("STANDALONE", "FIXED_RATE"), json!({"fail": "no luck"})).await;
    let alarm = || pair.rig.fake.reports(1).into_iter().find(|report| report.need_alert);
    until("an alarm", || alarm().is_some()).await;
    let report = alarm().expect("seen");
    assert!(report.total_task_num > 0 && report.alert_content.is_some_and(|text| text.contains("no luck")));
    let (_, answer) = pair.rig.post(&owner, "/worker/queryInstanceStatus", &json!({"instanceId": 1})).await;
    assert!(answer.contains("\"success\":true"), "{answer}");
    pair.rig.stop(&owner, 1).await;
    pair.rig.closed(&owner, 1).await;
    assert!(pair.rig.fake.finals(1).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_worker_serves_fails_with_the_reason() {
    let pair = Pair::new().await;
    let owner = pair.owner().await;
    let mut body = request(&owner, 1, "wrk", json!({}));
    body["executeType"] = json!("MAP");
    assert_eq!(pair.rig.post(&owner, "/worker/runJob", &body).await, (200, String::new()));
    assert_eq!(pair.result(1).await.instance_status, 4);
    until("the reason", || pair.rig.fake.lines(1).iter().any(|line| line.log_content.contains("did you mean `work`")))
        .await;
}
