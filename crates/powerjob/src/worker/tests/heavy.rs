//! Instances with tasks, with a stand-in for the task trackers.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::*;
use crate::{
    tasks::{
        TrackerStart,
        api::{Progress, TrackerEnd},
    },
    wire::InstanceDetail,
    worker::heavy::Trackers,
};

/// Ends after `sleep` ms of the job's parameters, or when it is told to.
#[derive(Default)]
pub(super) struct Stand {
    starts: Mutex<Vec<(i64, bool)>>,
    progress: Mutex<HashMap<i64, Progress>>,
}

#[async_trait]
impl Trackers for Stand {
    async fn run(&self, start: TrackerStart) -> TrackerEnd {
        let TrackerStart { request, attempt: _, resumed, time_left_ms, stop, log } = start;
        assert_eq!(time_left_ms, None, "no limit was set");
        let params: Value = serde_json::from_str(request.job_params.as_deref().unwrap_or("{}")).expect("JSON");
        assert_eq!(request.thread_concurrency, 5, "the whole dispatch is there, also after a restart");
        self.starts.lock().push((request.instance_id, resumed));
        let alert = params["alert"].as_str().map(str::to_owned);
        self.progress.lock().insert(request.instance_id, Progress { total: 3, succeeded: 1, failed: 0, alert });
        log.info("tracking");
        let sleep = if resumed { 0 } else { params["sleep"].as_u64().unwrap_or(0) };
        let result = tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(sleep)) => ProcessResult::success("reduced 3"),
            reason = stop.raised() => ProcessResult::failed(format!("{reason:?}")),
        };
        let progress = Progress { total: 3, succeeded: 3, failed: 0, alert: None };
        TrackerEnd { result, appended_context: [("k".to_owned(), "v".to_owned())].into(), progress }
    }

    fn progress(&self, instance_id: i64) -> Option<Progress> {
        self.progress.lock().get(&instance_id).cloned()
    }

    fn take_alert(&self, instance_id: i64) -> Option<String> {
        self.progress.lock().get_mut(&instance_id)?.alert.take()
    }

    async fn detail(&self, _: i64, _: Option<&str>) -> Option<InstanceDetail> {
        None
    }

    fn give_back_alert(&self, instance_id: i64, alert: String) {
        if let Some(progress) = self.progress.lock().get_mut(&instance_id) {
            progress.alert.get_or_insert(alert);
        }
    }
}

async fn start(rig: &Rig, stand: &Arc<Stand>) -> WorkerHandle {
    let worker = rig.builder().trackers(stand.clone()).start().await.expect("the worker starts");
    until("a heartbeat", || worker.status().listed).await;
    worker
}

async fn dispatch(rig: &Rig, worker: &WorkerHandle, id: i64, kind: (&str, &str), params: Value) {
    let mut body = request(worker, id, "any.Name", params);
    body["executeType"] = json!(kind.0);
    body["timeExpressionType"] = json!(kind.1);
    body["wfInstanceId"] = json!(77);
    assert_eq!(rig.post(worker, "/worker/runJob", &body).await, (200, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_tasks_is_reported_with_its_numbers_from_the_first_report_to_the_last() {
    let rig = Rig::new().await;
    let stand = Arc::new(Stand::default());
    let worker = start(&rig, &stand).await;
    dispatch(&rig, &worker, 1, ("MAP_REDUCE", "API"), json!({"sleep": 1500})).await;
    until("a RUNNING report", || !rig.fake.reports(1).is_empty()).await;
    let status = worker.status();
    let tasks = status.instances.first().and_then(|instance| instance.tasks).expect("it has tasks");
    assert_eq!((tasks.total, tasks.succeeded), (3, 1));
    until("the final report", || !rig.fake.finals(1).is_empty()).await;
    let running = rig.fake.reports(1).into_iter().find(|report| report.instance_status == 3).expect("RUNNING");
    assert_eq!((running.total_task_num, running.succeed_task_num, running.wf_instance_id), (3, 1, Some(77)));
    let last = rig.fake.finals(1).remove(0);
    assert_eq!((last.instance_status, last.total_task_num, last.succeed_task_num), (5, 3, 3));
    assert_eq!(last.result.as_deref(), Some("reduced 3"));
    assert_eq!(last.appended_wf_context.and_then(|mut context| context.remove("k")), Some("v".to_owned()));
    rig.closed(&worker, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frequent_job_reports_firings_and_each_alarm_once_without_a_workflow() {
    let rig = Rig::new().await;
    let stand = Arc::new(Stand::default());
    let worker = start(&rig, &stand).await;
    dispatch(&rig, &worker, 1, ("STANDALONE", "FIXED_RATE"), json!({"sleep": 600_000, "alert": "boom"})).await;
    until("two RUNNING reports", || rig.fake.reports(1).len() > 1).await;
    let reports = rig.fake.reports(1);
    assert_eq!((reports[0].need_alert, reports[0].alert_content.as_deref()), (true, Some("boom")));
    assert!(!reports[1].need_alert && reports[1].alert_content.is_none());
    assert!(reports.iter().all(|report| report.wf_instance_id.is_none() && report.total_task_num == 3));
    rig.stop(&worker, 1).await;
    rig.closed(&worker, 1).await;
    assert!(rig.fake.finals(1).is_empty(), "a stop is silence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_takes_its_trackers_up_with_the_whole_dispatch_whatever_the_processor() {
    let rig = Rig::new().await;
    let stand = Arc::new(Stand::default());
    let worker = start(&rig, &stand).await;
    dispatch(&rig, &worker, 1, ("BROADCAST", "CRON"), json!({"sleep": 600_000})).await;
    until("it runs", || !stand.starts.lock().is_empty()).await;
    worker.crash().await;
    rig.fake.book.lock().instances.insert(1, (3, String::new()));
    let worker = start(&rig, &stand).await;
    until("the final report", || !rig.fake.finals(1).is_empty()).await;
    assert_eq!(*stand.starts.lock(), [(1, false), (1, true)]);
    rig.closed(&worker, 1).await;
}
