//! `downstream`: jobs that a run starts when it ends.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;
use powerjob_worker::{StopReason, TaskContext};
use serde_json::{Value, json};
use testrig_processors::{NotStarted, StartJobs};

use crate::rig::Rig;

/// A server that gives these answers in order and keeps what it was asked.
#[derive(Debug, Default)]
struct Server {
    answers: Mutex<VecDeque<Result<i64, NotStarted>>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Server {
    fn answering(answers: Vec<Result<i64, NotStarted>>) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into()), asked: Mutex::default() })
    }

    fn jobs(&self) -> Vec<String> {
        self.asked.lock().iter().map(|(job, _)| job.clone()).collect()
    }
}

#[async_trait]
impl StartJobs for Server {
    async fn start(&self, job: &str, params: &str) -> Result<i64, NotStarted> {
        self.asked.lock().push((job.to_owned(), serde_json::from_str(params).expect("JSON")));
        let answer = self.answers.lock().pop_front();
        match answer {
            Some(answer) => answer,
            // No answer at all, as when the agent is killed in the midst.
            None => std::future::pending().await,
        }
    }
}

fn rig(instance: i64, server: &Arc<Server>) -> Rig {
    let jobs: Arc<dyn StartJobs> = server.clone();
    Rig::with(instance, |env| env.jobs = Some(jobs))
}

fn job(rig: &Rig, stub_args: &[&str]) -> Value {
    let mut job = rig.job(stub_args);
    job["downstream"] = json!([
        {"job": 7, "when": "success"},
        {"job": "collect", "params": {"retentionDays": 3}},
        {"job": "alarm", "when": "failure"},
    ]);
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_jobs_that_fit_the_end_get_what_the_run_leaves() {
    let refused = NotStarted::Refused("the app has no job named `collect`".into());
    let server = Server::answering(vec![Ok(886_543_210_123_456_789), Err(refused)]);
    let rig = rig(6201, &server);
    let result = rig.process(&rig.context(&job(&rig, &[]), &rig.run())).await;
    assert!(result.success, "a job that cannot be started makes no other result: {}", result.message);
    assert!(
        result.message.ends_with("the downstream job `collect` was not started: the app has no job named `collect`")
    );
    assert_eq!(server.jobs(), ["7", "collect"]);
    let asked = server.asked.lock().clone();
    let (first, second) = (&asked[0].1, &asked[1].1);
    assert_eq!((first["platformTaskId"].as_str(), first["upstreamInstanceId"].as_str()), (Some("T1"), Some("6201")));
    assert_eq!((first["runStatus"].as_str(), first["finalStatus"].as_str()), (Some("SUCCEED"), Some("SUCCEED")));
    assert_eq!(first["relatedInstances"], json!(["6201"]));
    assert!(first["timeRange"]["start"].is_i64() && first["metricsSummary"]["requests"].is_u64(), "{first}");
    assert!(std::path::Path::new(first["logDir"].as_str().expect("text")).is_dir());
    assert_eq!((first.get("retentionDays"), &second["retentionDays"]), (None, &json!(3)));
    let told = rig.result()["downstream"].clone();
    assert_eq!(told[0], json!({"job": "7", "instanceId": "886543210123456789", "problem": null}));
    assert!(told[1]["problem"].as_str().is_some_and(|why| why.contains("no job named")), "{told}");
    assert!(rig.result()["warnings"].to_string().contains("`collect` was not started"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_run_starts_those_for_failures_and_a_stopped_one_none() {
    let server = Server::answering(vec![Ok(1), Ok(2)]);
    let rig_failed = rig(6202, &server);
    let result =
        rig_failed.process(&rig_failed.context(&job(&rig_failed, &["--exit-code", "3"]), &rig_failed.run())).await;
    assert!(!result.success, "{}", result.message);
    assert_eq!(server.jobs(), ["collect", "alarm"]);
    assert_eq!(server.asked.lock()[1].1["finalStatus"], "FAILED");

    let server = Server::answering(vec![Ok(1)]);
    let rig = rig(6203, &server);
    let mut run = rig.run();
    run["runSeconds"] = json!(600);
    let ctx = rig.context(&job(&rig, &[]), &run);
    let stop = async {
        rig.logged("stage load: begins").await;
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(rig.process(&ctx), stop);
    assert!(!result.success, "{}", result.message);
    assert_eq!(server.jobs(), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_a_job_is_asked_for_does_not_start_it_twice() {
    let server = Server::answering(vec![Ok(1)]);
    let rig = rig(6204, &server);
    let ctx = rig.context(&job(&rig, &[]), &rig.run());
    // The first is known to run; of the second nobody heard an answer.
    let asked_twice = async {
        while server.jobs().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    rig.cut_when(&ctx, asked_twice).await;
    let result = rig.process(&TaskContext { resumed: true, ..ctx.clone() }).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!(server.jobs(), ["7", "collect"], "nothing is asked for twice");
    let told = rig.result()["downstream"].clone();
    assert_eq!(told[0]["instanceId"], "1");
    assert!(told[1]["problem"].as_str().is_some_and(|why| why.contains("whether it runs is not known")), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_entries_are_told_before_the_start_and_without_a_server_it_is_a_warning() {
    let server = Server::answering(Vec::new());
    let rig_bad = rig(6205, &server);
    let mut job = rig_bad.job(&[]);
    job["downstream"] = json!([{"when": "later"}, {"job": 1.5}, {"job": "a", "params": "x"}]);
    let result = rig_bad.process(&rig_bad.context(&job, &rig_bad.run())).await;
    for expected in ["jobParams.downstream[0].job", "jobParams.downstream[0].when: found the text \"later\""] {
        assert!(result.message.contains(expected), "`{expected}` is not in {}", result.message);
    }
    job["downstream"] = json!([{"job": 1.5}, {"job": "a", "params": "x"}]);
    let result = rig_bad.process(&rig_bad.context(&job, &rig_bad.run())).await;
    for expected in [
        "jobParams.downstream[0].job: found \"1.5\"; accepted: the id or the name of a job",
        "jobParams.downstream[1].params: found \"\\\"x\\\"\"; accepted: an object",
    ] {
        assert!(result.message.contains(expected), "`{expected}` is not in {}", result.message);
    }

    let rig = Rig::new(6206);
    let mut job = rig.job(&[]);
    job["downstream"] = json!([{"job": 1}]);
    let result = rig.process(&rig.context(&job, &rig.run())).await;
    assert!(result.success, "{}", result.message);
    assert!(rig.result()["warnings"].to_string().contains("jobParams.downstream is not used"), "{}", rig.result());
}
