//! What a job's code looks like: [`Processor`], what it is given ([`TaskContext`]) and what it gives back
//! ([`ProcessResult`]).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    core::{ContextTooLong, check_context},
    logger::JobLogger,
    results::TaskResults,
    task::Task,
};

/// What the root of a BROADCAST instance ends with where the processor has no [`Processor::pre_process`]; the text is
/// that of the Java worker.
pub const NO_PREPOST_TASK: &str = "NO_PREPOST_TASK";

/// The code behind a job's `processorInfo`.
///
/// [`process`](Self::process) is all that a STANDALONE job needs. The job's execute type decides what is called besides:
///
/// | execute type | on the worker that owns the instance | on every worker |
/// |---|---|---|
/// | STANDALONE | `process` | |
/// | BROADCAST | first `pre_process`, last `post_process` | `process`, once each |
/// | MAP | `process` with the root task, which calls [`TaskContext::map`] | `process` for each sub-task |
/// | MAP_REDUCE | the same, last `reduce` | the same |
///
/// ```
/// use async_trait::async_trait;
/// use powerjob_worker::{ProcessResult, Processor, TaskContext, TaskResults};
///
/// /// Adds up the lengths of the words in the job's parameters, each on any worker of the app.
/// struct Lengths;
///
/// #[async_trait]
/// impl Processor for Lengths {
///     async fn process(&self, ctx: TaskContext) -> ProcessResult {
///         if ctx.task.is_root() {
///             let words = ctx.job_params.clone().unwrap_or_default();
///             return match ctx.map("WORD", words.split_whitespace()).await {
///                 Ok(()) => ProcessResult::success("mapped"),
///                 Err(why) => why.into(),
///             };
///         }
///         match ctx.task.body.as_str() {
///             Some(word) => ProcessResult::success(word.len().to_string()),
///             None => ProcessResult::rejected(format!("a word is needed, got {}", ctx.task.body)),
///         }
///     }
///
///     async fn reduce(&self, _: TaskContext, mut results: TaskResults) -> ProcessResult {
///         let mut total = 0;
///         loop {
///             match results.next().await {
///                 // The root's own result is no number.
///                 Ok(Some(task)) => total += task.result.parse().unwrap_or(0),
///                 Ok(None) => return ProcessResult::success(total.to_string()),
///                 Err(why) => return ProcessResult::failed(why.to_string()),
///             }
///         }
///     }
/// }
/// ```
///
/// A processor returns only when everything it started has ended (its boundary is empty) or was handed over on purpose.
#[async_trait]
pub trait Processor: Send + Sync + 'static {
    /// Runs one task to its end. A panic inside is caught and becomes a failure that names it.
    async fn process(&self, ctx: TaskContext) -> ProcessResult;

    /// BROADCAST: called once, before any worker begins, on the worker that owns the instance. When it fails, no worker
    /// begins, and only [`post_process`](Self::post_process) is called.
    async fn pre_process(&self, ctx: TaskContext) -> ProcessResult {
        drop(ctx);
        ProcessResult::success(NO_PREPOST_TASK)
    }

    /// BROADCAST: called once, after the last worker has ended, on the worker that owns the instance; what it returns is
    /// the outcome of the instance. By itself it succeeds if every task did and counts them, the pre-processing included.
    async fn post_process(&self, ctx: TaskContext, results: TaskResults) -> ProcessResult {
        drop(ctx);
        match results.count().await {
            Ok(count) => {
                let text = format!("succeed:{}, failed:{}", count.succeeded, count.failed);
                if count.failed == 0 { ProcessResult::success(text) } else { ProcessResult::failed(text) }
            }
            Err(why) => ProcessResult::failed(why.to_string()),
        }
    }

    /// MAP_REDUCE: called once, after the last task has ended, on the worker that owns the instance; what it returns is the
    /// outcome of the instance. The results include that of the root task and those of failed tasks.
    async fn reduce(&self, ctx: TaskContext, results: TaskResults) -> ProcessResult {
        drop(results);
        ProcessResult::rejected(format!(
            "processor `{}` does not implement the reduce step of MAP_REDUCE: every task has ended and nothing adds up \
             their results; give the job the execute type MAP, or the processor a `reduce`",
            ctx.processor
        ))
    }

    /// What becomes of a run of this processor that a restart of the worker found in the middle.
    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Fail
    }
}

/// What a restarted worker does with a run that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// The instance ends FAILED with a text that says the worker was restarted.
    Fail,
    /// `process` is called again from the start (the processor is idempotent).
    Rerun,
    /// `process` is called with [`TaskContext::resumed`] set and takes up what it left.
    Resume,
}

/// Why a processor is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The server stopped the instance; nothing will be reported.
    Stopped,
    /// The instance's time limit (`instanceTimeoutMS`) has passed; it will be reported FAILED.
    TimedOut,
    /// The worker's operator ends the worker without waiting ([`Shutdown::Cancel`](crate::Shutdown::Cancel)); the instance
    /// will be reported FAILED, unless the processor succeeds all the same.
    Cancelled,
}

/// Tells a processor that it must end, and why. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StopSignal {
    token: CancellationToken,
    reason: Arc<Mutex<Option<StopReason>>>,
}

impl StopSignal {
    /// A signal that nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the signal; the first reason stays.
    pub fn raise(&self, reason: StopReason) {
        self.reason.lock().get_or_insert(reason);
        self.token.cancel();
    }

    /// The reason, once raised.
    pub fn reason(&self) -> Option<StopReason> {
        *self.reason.lock()
    }

    /// Waits until the signal is raised.
    pub async fn raised(&self) -> StopReason {
        self.token.cancelled().await;
        self.reason().unwrap_or(StopReason::Stopped)
    }

    /// The token behind the signal, for APIs that take one.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

/// Longest appended context as JSON in UTF-16 units, unless the worker's configuration says otherwise.
pub(crate) const CONTEXT_LIMIT: usize = 8192;

/// The context of the workflow that a task belongs to: what is there, and what this task appends.
///
/// Outside of a workflow it is empty and appended entries are dropped, as in the Java worker. All that a run appends may have
/// [`WorkerConfig::context_limit`](crate::WorkerConfig::context_limit) characters as JSON; a run that appends more ends FAILED
/// with a text that names key and size, and nothing of it is passed on.
#[derive(Clone, Debug)]
pub struct WorkflowContext {
    values: Arc<HashMap<String, String>>,
    appended: Arc<Mutex<BTreeMap<String, String>>>,
    limit: usize,
}

impl Default for WorkflowContext {
    fn default() -> Self {
        Self::new(HashMap::new())
    }
}

impl WorkflowContext {
    /// A context with these values.
    pub fn new(values: HashMap<String, String>) -> Self {
        Self { values: Arc::new(values), appended: Arc::default(), limit: CONTEXT_LIMIT }
    }

    /// The same with another limit of what may be appended.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The values that upstream nodes (or the start parameter) left.
    pub fn values(&self) -> &HashMap<String, String> {
        &self.values
    }

    /// The workflow's start parameter, where it was a text and no JSON object: an object becomes the context itself.
    pub fn init_params(&self) -> Option<&str> {
        self.values.get("initParams").map(String::as_str)
    }

    /// Appends an entry; the same key again replaces it.
    pub fn append(&self, key: impl Into<String>, value: impl Into<String>) {
        self.appended.lock().insert(key.into(), value.into());
    }

    /// Appends an entry unless that makes the whole too long; then everything stays as it was.
    ///
    /// # Errors
    /// How long it would be, what is allowed, and which key takes most of it.
    pub fn try_append(&self, key: impl Into<String>, value: impl Into<String>) -> Result<(), ContextTooLong> {
        let mut appended = self.appended.lock();
        let mut with = appended.clone();
        with.insert(key.into(), value.into());
        check_context(&with, self.limit)?;
        *appended = with;
        Ok(())
    }

    /// Everything appended so far.
    pub fn appended(&self) -> BTreeMap<String, String> {
        self.appended.lock().clone()
    }
}

/// All that a processor is given for one task.
#[derive(Clone)]
pub struct TaskContext {
    /// The job (template).
    pub job_id: i64,
    /// The instance (one execution of the job).
    pub instance_id: i64,
    /// Set when the instance is a node of a workflow.
    pub wf_instance_id: Option<i64>,
    /// The job's `processorInfo`.
    pub processor: String,
    /// The job's or the node's parameters.
    pub job_params: Option<String>,
    /// The parameters of this run; in a workflow the text of the workflow context.
    pub instance_params: Option<String>,
    /// The task of the instance; the whole instance where it is STANDALONE.
    pub task: Task,
    /// 1 for the first execution of this instance (or of this task of it) on this worker, one more for each retry.
    pub attempt: u32,
    /// How many retries of the task the job allows (`taskRetryNum`).
    pub task_retry_num: u32,
    /// Time left to the whole run when `process` was called; `None` = no limit.
    pub time_limit: Option<Duration>,
    /// True when a restarted worker takes up a run that was cut ([`RestartPolicy::Resume`]).
    pub resumed: bool,
    /// This worker's address as the server knows it.
    pub worker_address: String,
    /// The instance's log.
    pub log: JobLogger,
    /// Raised when the task must end.
    pub stop: StopSignal,
    /// The workflow's context.
    pub workflow: WorkflowContext,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessResult {
    /// SUCCEED or FAILED.
    pub success: bool,
    /// The result text that people read in the console.
    pub message: String,
    /// False when trying again cannot help (bad parameters): `taskRetryNum` is not used up on it. Of a task that another worker has
    /// given, that worker does not hear this, because the protocol has no word for it.
    pub retryable: bool,
}

impl ProcessResult {
    /// The task succeeded.
    pub fn success(message: impl Into<String>) -> Self {
        Self { success: true, message: message.into(), retryable: false }
    }

    /// The task failed; another try may help.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { success: false, message: message.into(), retryable: true }
    }

    /// The task failed and would fail again the same way.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self { success: false, message: message.into(), retryable: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_too_long_is_refused_with_its_key_and_size_and_changes_nothing() {
        let context = WorkflowContext::new(HashMap::new()).with_limit(40);
        context.try_append("rows", "42").expect("short");
        let refused = context.try_append("report", "x".repeat(40)).expect_err("too long");
        assert_eq!((refused.length, refused.limit, refused.largest.as_str()), (65, 40, "report"));
        assert!(refused.to_string().contains("key `report` alone takes 51"), "{refused}");
        assert_eq!(context.appended(), BTreeMap::from([("rows".to_owned(), "42".to_owned())]));
        context.try_append("rows", "4").expect("it replaces the longer one");
    }

    #[test]
    fn a_start_parameter_that_is_no_object_is_told_apart_from_the_values() {
        let context = WorkflowContext::new(HashMap::from([("initParams".to_owned(), "run 7".to_owned())]));
        assert_eq!(context.init_params(), Some("run 7"));
        assert_eq!(WorkflowContext::default().init_params(), None);
    }
}
