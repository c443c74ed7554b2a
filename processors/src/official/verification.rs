//! `VerificationProcessor`: every ending of a job on demand, for trying a server and its workers.

use std::time::Duration;

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext, TaskResults};
use rand::{Rng, distr::Alphabetic};

use super::{fields::Fields, params};
use crate::related;

/// Its class name.
pub(super) const CLASS: &str = "tech.powerjob.official.processors.impl.VerificationProcessor";

/// The longest result that a run makes; the worker cuts it shorter.
const MOST: i64 = 1 << 20;

/// Bytes of a reduced result that are worth making.
const REDUCED: usize = 1 << 16;
/// A sub-task of MR sleeps for less than this.
const SUB_TASK_MS: u64 = 277;

/// See the module.
pub(super) struct Verification;

/// What a run shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Base,
    Error,
    Exception,
    Timeout,
    Retry,
    Mr,
}

impl Mode {
    /// In any case; an unknown word means BASE.
    fn of(word: &str) -> Self {
        match word.trim().to_uppercase().as_str() {
            "ERROR" => Self::Error,
            "EXCEPTION" => Self::Exception,
            "TIMEOUT" => Self::Timeout,
            "RETRY" => Self::Retry,
            "MR" => Self::Mr,
            _ => Self::Base,
        }
    }
}

#[async_trait]
impl Processor for Verification {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let text = params::of(&ctx);
        params::tell(&ctx, text);
        match Settings::read(text) {
            Ok(settings) => settings.run(&ctx).await,
            Err(error) => ProcessResult::rejected(format!("the parameters of VerificationProcessor: {error}")),
        }
    }

    async fn pre_process(&self, _: TaskContext) -> ProcessResult {
        ProcessResult::success("preProcess successfully!")
    }

    async fn post_process(&self, _: TaskContext, _: TaskResults) -> ProcessResult {
        ProcessResult::success("postProcess successfully!")
    }

    async fn reduce(&self, _: TaskContext, mut results: TaskResults) -> ProcessResult {
        let mut text = String::new();
        loop {
            match results.next().await {
                // What is beyond the limit would be cut off anyway.
                Ok(Some(_)) if text.len() > REDUCED => {}
                Ok(Some(task)) => {
                    text.push_str(&format!("tId:{};tSuc:{};tRes:{}", task.task_id, task.success, task.result));
                }
                Ok(None) => return ProcessResult::success(text),
                Err(why) => return ProcessResult::failed(why.to_string()),
            }
        }
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

struct Settings {
    mode: Mode,
    sleep: Duration,
    response_size: usize,
    batches: u64,
    batch_size: u64,
    success_rate: f64,
}

impl Settings {
    fn read(text: Option<&str>) -> Result<Self, String> {
        // Java takes what it cannot read for no parameters.
        let Ok(Some(fields)) = Fields::read(text) else {
            return Self::from(&Fields::default());
        };
        Self::from(&fields)
    }

    fn from(fields: &Fields) -> Result<Self, String> {
        let number = |name: &str, default: i64, most: i64| match fields.int(name)?.unwrap_or(default) {
            number if (0..=most).contains(&number) => Ok(number),
            number => Err(format!("`{name}` is {number}; accepted: 0 to {most}")),
        };
        let sleep = number("sleepMs", 3_600_000, i64::MAX)?;
        let success_rate = match fields.text("subTaskSuccessRate").map(|text| text.trim().parse::<f64>()) {
            None => 0.5,
            Some(Ok(rate)) if (0.0..=1.0).contains(&rate) => rate,
            Some(_) => return Err("`subTaskSuccessRate` is out of range; accepted: 0 to 1".to_owned()),
        };
        Ok(Self {
            mode: Mode::of(&fields.text("mode").unwrap_or_default()),
            sleep: Duration::from_millis(sleep.unsigned_abs()),
            response_size: usize::try_from(number("responseSize", 10, MOST)?).unwrap_or_default(),
            batches: number("batchNum", 10, MOST)?.unsigned_abs(),
            batch_size: number("batchSize", 100, MOST)?.unsigned_abs(),
            success_rate,
        })
    }

    async fn run(&self, ctx: &TaskContext) -> ProcessResult {
        match self.mode {
            Mode::Error => ProcessResult::failed("EXECUTE_FAILED_FOR_TEST"),
            Mode::Exception => ProcessResult::failed("PowerJobException: exception for test"),
            Mode::Timeout => tokio::select! {
                biased;
                reason = ctx.stop.raised() => related::ended(reason, "sleeping"),
                () = tokio::time::sleep(self.sleep) => {
                    ProcessResult::success(format!("AFTER_SLEEP_{}", self.sleep.as_millis()))
                }
            },
            Mode::Retry => {
                let done = ctx.attempt.saturating_sub(1);
                if done < ctx.task_retry_num {
                    ProcessResult::failed(format!("FAILED_UNTIL_LAST_RETRY_{done}"))
                } else {
                    ProcessResult::success("RETRY_SUCCESSFULLY!")
                }
            }
            Mode::Base => ProcessResult::success(format!("EXECUTE_SUCCESSFULLY_{}", letters(self.response_size))),
            Mode::Mr if ctx.task.is_root() => self.map(ctx).await,
            Mode::Mr => {
                let sleep = Duration::from_millis(rand::rng().random_range(0..SUB_TASK_MS));
                tokio::select! {
                    biased;
                    reason = ctx.stop.raised() => return related::ended(reason, "sleeping"),
                    () = tokio::time::sleep(sleep) => {}
                }
                let text = letters(3);
                match rand::rng().random_bool(self.success_rate) {
                    true => ProcessResult::success(text),
                    false => ProcessResult::failed(text),
                }
            }
        }
    }

    /// `batchNum` times `batchSize` sub-tasks; each carries its number.
    async fn map(&self, ctx: &TaskContext) -> ProcessResult {
        for batch in 0..self.batches {
            let first = batch * self.batch_size;
            let bodies = (first..first + self.batch_size).map(|number| number.to_string());
            if let Err(why) = ctx.map(&format!("MAP_TEST_TASK_{batch}"), bodies).await {
                return why.into();
            }
        }
        ProcessResult::success("MAP_SUCCESS")
    }
}

/// So many random letters.
fn letters(count: usize) -> String {
    rand::rng().sample_iter(Alphabetic).take(count).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use powerjob_worker::StopReason;
    use serde_json::Value;

    use super::*;
    use crate::task_rig::Rig;

    fn task(rig: &Rig, params: &str) -> TaskContext {
        let mut ctx = rig.task(1, &Value::Null, &Value::Null);
        (ctx.job_params, ctx.instance_params) = (Some(params.to_owned()), None);
        ctx
    }

    #[tokio::test]
    async fn every_mode_ends_as_it_is_written() {
        let rig = Rig::new();
        for (params, success, begin, length) in [
            ("", true, "EXECUTE_SUCCESSFULLY_", 31),
            ("no json", true, "EXECUTE_SUCCESSFULLY_", 31),
            ("{'mode':'nonsense','responseSize':3}", true, "EXECUTE_SUCCESSFULLY_", 24),
            ("{'mode':'error'}", false, "EXECUTE_FAILED_FOR_TEST", 23),
            ("{'mode':'Exception'}", false, "PowerJobException: exception for test", 37),
            ("{'mode':'TIMEOUT','sleepMs':5}", true, "AFTER_SLEEP_5", 13),
        ] {
            let result = Verification.process(task(&rig, params)).await;
            assert_eq!(result.success, success, "{params}: {result:?}");
            assert!(result.message.starts_with(begin) && result.message.len() == length, "{params}: {result:?}");
        }
        let result = Verification.process(task(&rig, "{'responseSize':-1}")).await;
        assert!(!result.success && result.message.contains("`responseSize` is -1"), "{result:?}");
    }

    #[tokio::test]
    async fn retry_fails_until_the_last_retry() {
        let rig = Rig::new();
        let mut ctx = task(&rig, "{'mode':'RETRY'}");
        ctx.task_retry_num = 2;
        for (attempt, success, text) in [
            (1, false, "FAILED_UNTIL_LAST_RETRY_0"),
            (2, false, "FAILED_UNTIL_LAST_RETRY_1"),
            (3, true, "RETRY_SUCCESSFULLY!"),
        ] {
            ctx.attempt = attempt;
            let result = Verification.process(ctx.clone()).await;
            assert_eq!((result.success, result.message.as_str()), (success, text));
        }
    }

    #[tokio::test]
    async fn a_sleep_ends_when_it_is_stopped_and_is_no_success() {
        let rig = Rig::new();
        let ctx = task(&rig, "{'mode':'TIMEOUT'}");
        ctx.stop.raise(StopReason::TimedOut);
        let result = Verification.process(ctx).await;
        assert!(!result.success && result.message.contains("time limit"), "{result:?}");
    }

    /// Keeps what is mapped.
    #[derive(Default)]
    struct Kept(parking_lot::Mutex<Vec<(String, usize)>>);

    #[async_trait]
    impl powerjob_worker::SubTaskSink for Kept {
        async fn add(&self, name: &str, tasks: Vec<powerjob_worker::SubTask>) -> Result<(), powerjob_worker::MapError> {
            self.0.lock().push((name.to_owned(), tasks.len()));
            Ok(())
        }
    }

    #[tokio::test]
    async fn mr_maps_batches_runs_sub_tasks_and_reduces() {
        let rig = Rig::new();
        let params = "{mode:'MR', batchNum: 3, batchSize: 7, subTaskSuccessRate: 1}";
        let mut root = task(&rig, params);
        let kept = std::sync::Arc::new(Kept::default());
        root.task = powerjob_worker::Task::new("0", "OMS_ROOT_TASK").with_sink(kept.clone());
        assert_eq!(Verification.process(root).await, ProcessResult::success("MAP_SUCCESS"));
        let wanted: Vec<(String, usize)> = (0..3).map(|batch| (format!("MAP_TEST_TASK_{batch}"), 7)).collect();
        assert_eq!(*kept.0.lock(), wanted);
        let mut sub = task(&rig, params);
        sub.task = powerjob_worker::Task::new("0.1", "MAP_TEST_TASK_0");
        let result = Verification.process(sub.clone()).await;
        assert!(result.success && result.message.len() == 3, "{result:?}");
        sub.job_params = Some("{mode:'MR', subTaskSuccessRate: 0}".into());
        assert!(!Verification.process(sub.clone()).await.success);
        sub.job_params = Some("{mode:'MR', subTaskSuccessRate: 2}".into());
        assert!(Verification.process(sub.clone()).await.message.contains("`subTaskSuccessRate`"));
        let results = [("0", true, "MAP_SUCCESS"), ("0.1", false, "abc")].map(|(id, success, text)| {
            powerjob_worker::TaskResult { task_id: id.into(), success, result: text.into() }
        });
        let reduced = Verification.reduce(sub.clone(), TaskResults::of(results.to_vec())).await;
        assert_eq!(reduced.message, "tId:0;tSuc:true;tRes:MAP_SUCCESStId:0.1;tSuc:false;tRes:abc");
        assert_eq!(Verification.pre_process(sub.clone()).await.message, "preProcess successfully!");
        assert_eq!(Verification.post_process(sub, TaskResults::of(vec![])).await.message, "postProcess successfully!");
    }

    #[tokio::test]
    async fn mr_in_a_job_that_cannot_map_is_told_so() {
        let rig = Rig::new();
        let result = Verification.process(task(&rig, "{mode:'MR'}")).await;
        assert!(!result.success && result.message.contains("MAP"), "{result:?}");
    }
}
