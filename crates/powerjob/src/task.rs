//! The task that a processor works on: the whole of a STANDALONE instance, or one part of a BROADCAST, MAP or MAP_REDUCE
//! instance. Also how such a part adds more ([`TaskContext::map`]).

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    processor::{ProcessResult, TaskContext},
    tasks::{
        api::{BROADCAST_TASK, LAST_TASK, ROOT_TASK, SubTask},
        kryo,
    },
};

/// Sub-tasks in one message to the task tracker; the Java worker warns of more.
const BATCH: usize = 200;
/// Bodies in one message, bytes; a longer single one goes alone.
const BATCH_BYTES: usize = 1 << 20;

/// One task.
#[derive(Clone)]
pub struct Task {
    /// `0` is the root of a MAP, MAP_REDUCE or BROADCAST instance, `0.3` a sub-task of it, `<jobId>#<instanceId>` the one
    /// task of a STANDALONE instance. A job that fires by itself (FIXED_RATE, FIXED_DELAY) counts its firings instead of `0`.
    pub id: String,
    /// The name that was given to [`TaskContext::map`]; `OMS_ROOT_TASK`, `OMS_BROADCAST_TASK` or `OMS_LAST_TASK` for the
    /// tasks that nobody mapped.
    pub name: String,
    /// The number of the firing for FIXED_RATE and FIXED_DELAY jobs, otherwise the instance's id.
    pub sub_instance_id: i64,
    /// How many executions of this task have failed before (up to `taskRetryNum`).
    pub retry: u32,
    /// What the mapping processor gave this sub-task; [`TaskBody::Null`] for all others.
    pub body: TaskBody,
    mapper: Option<Mapper>,
}

/// Where the sub-tasks of [`TaskContext::map`] go.
#[async_trait]
pub trait SubTaskSink: Send + Sync {
    /// Stores all of these sub-tasks, or none.
    async fn add(&self, task_name: &str, sub_tasks: Vec<SubTask>) -> Result<(), MapError>;
}

#[derive(Clone)]
struct Mapper {
    sink: Arc<dyn SubTaskSink>,
    /// Of the next sub-task; over all calls of one execution.
    next: Arc<AtomicU64>,
}

impl Task {
    /// A task of this id and name, first execution, without a body.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), sub_instance_id: 0, retry: 0, body: TaskBody::Null, mapper: None }
    }

    /// The one task of a STANDALONE instance.
    pub fn single(job_id: i64, instance_id: i64) -> Self {
        Self { sub_instance_id: instance_id, ..Self::new(format!("{job_id}#{instance_id}"), ROOT_TASK) }
    }

    /// The same after so many failed executions.
    #[must_use]
    pub fn with_retry(mut self, retry: u32) -> Self {
        self.retry = retry;
        self
    }

    /// The same with a place for sub-tasks, as tasks of MAP and MAP_REDUCE instances have it.
    #[must_use]
    pub fn with_sink(mut self, sink: Arc<dyn SubTaskSink>) -> Self {
        self.mapper = Some(Mapper { sink, next: Arc::default() });
        self
    }

    /// Whether it is the first task of its instance: the one that maps.
    pub fn is_root(&self) -> bool {
        self.name == ROOT_TASK
    }

    /// Whether it was made by [`TaskContext::map`].
    pub fn is_sub_task(&self) -> bool {
        !matches!(self.name.as_str(), ROOT_TASK | BROADCAST_TASK | LAST_TASK)
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("sub_instance_id", &self.sub_instance_id)
            .field("retry", &self.retry)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// What a sub-task is about: one of the values that Java workers of the same app write and read as well.
///
/// Anything structured goes as JSON text: [`TaskBody::json`] and [`TaskBody::parse`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TaskBody {
    /// Nothing.
    #[default]
    Null,
    /// `Boolean` in Java.
    Bool(bool),
    /// `Integer` in Java.
    Int(i32),
    /// `Long` in Java.
    Long(i64),
    /// `Double` in Java.
    Double(f64),
    /// `String` in Java.
    Text(String),
}

impl TaskBody {
    /// A value as JSON text.
    ///
    /// # Errors
    /// When the value has no JSON form.
    pub fn json<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_string(value).map(Self::Text)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is a whole one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(i64::from(*number)),
            Self::Long(number) => Some(*number),
            _ => None,
        }
    }

    /// Reads JSON text; numbers, booleans and nothing are read as their JSON forms.
    ///
    /// # Errors
    /// When the text is not JSON, or not of this type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match self {
            Self::Null => serde_json::from_value(serde_json::Value::Null),
            Self::Bool(flag) => serde_json::from_value((*flag).into()),
            Self::Int(number) => serde_json::from_value((*number).into()),
            Self::Long(number) => serde_json::from_value((*number).into()),
            Self::Double(number) => serde_json::from_value((*number).into()),
            Self::Text(text) => serde_json::from_str(text),
        }
    }
}

impl std::fmt::Display for TaskBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Long(number) => write!(f, "{number}"),
            Self::Double(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<String> for TaskBody {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for TaskBody {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i32> for TaskBody {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<i64> for TaskBody {
    fn from(number: i64) -> Self {
        Self::Long(number)
    }
}

impl From<f64> for TaskBody {
    fn from(number: f64) -> Self {
        Self::Double(number)
    }
}

impl From<bool> for TaskBody {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

/// Why sub-tasks could not be added. Those of the call that were added before stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The instance has no sub-tasks.
    #[error(
        "this task cannot map: sub-tasks exist in jobs of the execute types MAP and MAP_REDUCE only; change the job's \
         execute type"
    )]
    NotMappable,
    /// The task is told to end.
    #[error("this task cannot map any more: it was told to end")]
    Stopped,
    /// The task tracker did not store them, or its answer was lost.
    #[error("failed to add sub-tasks: {0}")]
    NotStored(String),
}

impl From<MapError> for ProcessResult {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NotMappable => Self::rejected(error.to_string()),
            MapError::Stopped | MapError::NotStored(_) => Self::failed(error.to_string()),
        }
    }
}

impl TaskContext {
    /// Adds sub-tasks of this name with these bodies, any number of them; they are sent in batches of at most 200 while
    /// the bodies are taken from the iterator, so that a million of them need no memory. Each runs as a call of
    /// [`process`](crate::Processor::process) with its body in [`Task::body`], on any worker of the app, when the
    /// tracker has stored it; also before this task ends.
    ///
    /// # Errors
    /// [`MapError`]; it turns into a [`ProcessResult`]. The task should fail then: what is missing is never added by itself.
    pub async fn map<I>(&self, name: &str, bodies: I) -> Result<(), MapError>
    where
        I: IntoIterator<Item: Into<TaskBody>, IntoIter: Send> + Send,
    {
        let mapper = self.task.mapper.as_ref().ok_or(MapError::NotMappable)?;
        // Names of the tracker's own tasks: the same prefix as in the Java worker.
        let name = if matches!(name, ROOT_TASK | LAST_TASK) { format!("X-{name}") } else { name.to_owned() };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for body in bodies {
            let content = kryo::write(&body.into());
            if batch.len() == BATCH || (bytes + content.len() > BATCH_BYTES && !batch.is_empty()) {
                self.add(mapper, &name, std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += content.len();
            let n = mapper.next.fetch_add(1, Ordering::Relaxed);
            batch.push(SubTask { task_id: format!("{}.{n}", self.task.id), content });
        }
        if batch.is_empty() { Ok(()) } else { self.add(mapper, &name, batch).await }
    }

    async fn add(&self, mapper: &Mapper, name: &str, batch: Vec<SubTask>) -> Result<(), MapError> {
        tokio::select! {
            biased;
            _ = self.stop.raised() => Err(MapError::Stopped),
            added = mapper.sink.add(name, batch) => added,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use parking_lot::Mutex;
    use testrig_joblog::{Journals, Limits};
    use testrig_store::Store;

    use super::*;
    use crate::{JobLogger, StopReason, StopSignal, WorkflowContext};

    #[derive(Default)]
    struct Tracker {
        batches: Mutex<Vec<(String, Vec<SubTask>)>>,
    }

    #[async_trait]
    impl SubTaskSink for Tracker {
        async fn add(&self, task_name: &str, sub_tasks: Vec<SubTask>) -> Result<(), MapError> {
            self.batches.lock().push((task_name.to_owned(), sub_tasks));
            Ok(())
        }
    }

    fn context(task: Task) -> (TaskContext, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open_in_memory(testrig_joblog::MIGRATIONS).expect("a store");
        let journals = Journals::open(dir.path(), Limits::default(), store).expect("journals");
        let ctx = TaskContext {
            job_id: 1,
            instance_id: 2,
            wf_instance_id: None,
            processor: "p".into(),
            job_params: None,
            instance_params: None,
            task,
            attempt: 1,
            task_retry_num: 0,
            time_limit: None,
            resumed: false,
            worker_address: "127.0.0.1:1".into(),
            log: JobLogger::new(journals.journal(2).expect("a journal")),
            stop: StopSignal::new(),
            workflow: WorkflowContext::new(HashMap::new()),
        };
        (ctx, dir)
    }

    #[tokio::test]
    async fn sub_tasks_are_counted_through_all_calls_and_go_in_batches_of_200() {
        let tracker = Arc::new(Tracker::default());
        let (ctx, _dir) = context(Task::new("0", ROOT_TASK).with_sink(tracker.clone()));
        ctx.map("SHARD", (0..450).map(|n| format!("shard-{n}"))).await.expect("stored");
        ctx.map("SHARD", [7_i64]).await.expect("stored");
        ctx.map("NONE", Vec::<String>::new()).await.expect("nothing to store");
        let batches = tracker.batches.lock();
        assert_eq!(batches.iter().map(|(_, tasks)| tasks.len()).collect::<Vec<_>>(), [200, 200, 50, 1]);
        let all: Vec<&SubTask> = batches.iter().flat_map(|(_, tasks)| tasks).collect();
        assert!(all.iter().enumerate().all(|(n, task)| task.task_id == format!("0.{n}")));
        assert_eq!(kryo::read(&all[449].content), Ok(TaskBody::from("shard-449")));
        assert_eq!(kryo::read(&all[450].content), Ok(TaskBody::Long(7)));
    }

    #[tokio::test]
    async fn long_bodies_make_smaller_batches_and_one_alone_goes_whatever_its_length() {
        let tracker = Arc::new(Tracker::default());
        let (ctx, _dir) = context(Task::new("0.1", "LEVEL").with_sink(tracker.clone()));
        let bodies = [BATCH_BYTES / 2, BATCH_BYTES / 3, BATCH_BYTES / 3, 2 * BATCH_BYTES, 1];
        ctx.map("LONG", bodies.map(|length| "x".repeat(length))).await.expect("stored");
        let batches = tracker.batches.lock();
        assert_eq!(batches.iter().map(|(_, tasks)| tasks.len()).collect::<Vec<_>>(), [2, 1, 1, 1]);
        assert_eq!(batches[0].1[1].task_id, "0.1.1");
    }

    #[tokio::test]
    async fn names_of_the_trackers_own_tasks_are_not_given_to_sub_tasks() {
        let tracker = Arc::new(Tracker::default());
        let (ctx, _dir) = context(Task::new("0", ROOT_TASK).with_sink(tracker.clone()));
        for name in [ROOT_TASK, LAST_TASK, "A"] {
            ctx.map(name, ["a"]).await.expect("stored");
        }
        let names: Vec<String> = tracker.batches.lock().iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, ["X-OMS_ROOT_TASK", "X-OMS_LAST_TASK", "A"]);
    }

    #[tokio::test]
    async fn a_task_that_cannot_map_or_was_told_to_end_says_so() {
        let (ctx, _dir) = context(Task::single(1, 2));
        let why = ctx.map("A", ["a"]).await.expect_err("standalone");
        assert_eq!(why, MapError::NotMappable);
        assert!(!ProcessResult::from(why).retryable);
        let (ctx, _dir) = context(Task::new("0", ROOT_TASK).with_sink(Arc::new(Tracker::default())));
        ctx.stop.raise(StopReason::Stopped);
        assert_eq!(ctx.map("A", ["a"]).await, Err(MapError::Stopped));
    }

    #[test]
    fn structured_values_go_as_json_text() {
        let body = TaskBody::json(&(1, "a")).expect("JSON");
        assert_eq!(body, TaskBody::from(r#"[1,"a"]"#));
        assert_eq!(body.parse::<(i32, String)>().expect("JSON"), (1, "a".to_owned()));
        assert_eq!(TaskBody::Int(7).parse::<u8>().expect("a number"), 7);
        assert!(TaskBody::from("x").parse::<u8>().is_err());
        assert_eq!(TaskBody::Null.parse::<Option<u8>>().expect("nothing"), None);
    }
}
