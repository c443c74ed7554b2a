//! One task from its processor's name to its outcome.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::InstanceLogs;
use crate::{
    MapError, ProcessResult, Processor, RestartPolicy, StopSignal, SubTaskSink, Task, TaskBody, TaskContext,
    TaskResults, WorkflowContext,
    supervise::Supervised,
    tasks::{
        api::{LAST_TASK, MapTask, PeerError, ROOT_TASK, ResultSource, StartTask, SubTask, TrackerPeer},
        kryo,
    },
    worker::{Counters, Registry, workflow_values},
};

/// What executions share.
pub(super) struct Executor {
    pub(super) address: String,
    pub(super) registry: Registry,
    pub(super) logs: Arc<dyn InstanceLogs>,
    pub(super) trackers: Arc<dyn TrackerPeer>,
    pub(super) counters: Arc<Counters>,
}

/// One execution.
pub(super) struct Execution {
    pub(super) task: Arc<StartTask>,
    pub(super) resumed: bool,
    pub(super) time_left_ms: Option<u64>,
    pub(super) results: Option<Arc<dyn ResultSource>>,
    pub(super) stop: StopSignal,
}

/// Which function of the processor a task is for.
enum Step {
    Process,
    PreProcess,
    PostProcess(TaskResults),
    Reduce(TaskResults),
}

impl Executor {
    /// Runs a task to its end.
    pub(super) async fn run(&self, execution: Execution) -> (ProcessResult, BTreeMap<String, String>) {
        match self.prepare(&execution).await {
            Err(why) => (why, BTreeMap::new()),
            Ok((processor, step, ctx)) => {
                let workflow = ctx.workflow.clone();
                let info = &execution.task.instance;
                let what = format!("processor `{}`", info.processor_info);
                let supervised = Supervised {
                    instance_id: info.instance_id,
                    part: &execution.task.task_id,
                    what: &what,
                    stop: &execution.stop,
                    counters: &self.counters,
                };
                let work = async move {
                    match step {
                        Step::Process => processor.process(ctx).await,
                        Step::PreProcess => processor.pre_process(ctx).await,
                        Step::PostProcess(results) => processor.post_process(ctx, results).await,
                        Step::Reduce(results) => processor.reduce(ctx, results).await,
                    }
                };
                let result = supervised.run(work).await.unwrap_or_else(|failed| failed);
                (result, workflow.appended())
            }
        }
    }

    /// What a restarted worker does with a task of this processor that was cut.
    pub(super) fn restart_policy(&self, task: &StartTask) -> RestartPolicy {
        self.processor(task).map_or(RestartPolicy::Fail, |processor| processor.restart_policy())
    }

    fn processor(&self, task: &StartTask) -> Result<Arc<dyn Processor>, String> {
        let info = &task.instance;
        match info.processor_type.as_str() {
            "" | "BUILT_IN" => self.registry.find_named(&info.processor_info),
            other => Err(format!(
                "worker {} runs no task of processor type `{other}` (`{}`), only BUILT_IN: set the job's processor type to \
                 BUILT_IN and its processor info to the name of a processor of this worker, or keep the job to Java workers \
                 (a tag in its designated workers)",
                self.address, info.processor_info
            )),
        }
    }

    async fn prepare(&self, execution: &Execution) -> Result<(Arc<dyn Processor>, Step, TaskContext), ProcessResult> {
        let task = &execution.task;
        let info = &task.instance;
        let processor = self.processor(task).map_err(ProcessResult::rejected)?;
        let step = step(task, execution.results.clone())?;
        let body = match task.task_content.as_deref() {
            None | Some([]) => TaskBody::Null,
            Some(content) => kryo::read(content).map_err(|why| ProcessResult::rejected(why.to_string()))?,
        };
        let log_config = task.log_config.as_deref().or(info.log_config.as_deref());
        let foreign = task.task_tracker_address != self.address;
        let log = self.logs.logger(info.instance_id, log_config, foreign).await.map_err(ProcessResult::failed)?;
        let retry = u32::try_from(task.task_current_retry_nums).unwrap_or(0);
        let mut of = Task::new(&task.task_id, &task.task_name).with_retry(retry);
        of.sub_instance_id = task.sub_instance_id;
        of.body = body;
        if matches!(info.execute_type.as_str(), "MAP" | "MAP_REDUCE") {
            of = of.with_sink(Arc::new(TrackerSink {
                trackers: self.trackers.clone(),
                tracker: task.task_tracker_address.clone(),
                instance_id: info.instance_id,
                sub_instance_id: task.sub_instance_id,
            }));
        }
        let ctx = TaskContext {
            job_id: info.job_id,
            instance_id: info.instance_id,
            wf_instance_id: info.wf_instance_id,
            processor: info.processor_info.clone(),
            job_params: info.job_params.clone(),
            instance_params: info.instance_params.clone(),
            task: of,
            attempt: retry + 1,
            task_retry_num: u32::try_from(info.task_retry_num).unwrap_or(0),
            time_limit: execution.time_left_ms.map(Duration::from_millis),
            resumed: execution.resumed,
            worker_address: self.address.clone(),
            log,
            stop: execution.stop.clone(),
            workflow: WorkflowContext::new(workflow_values(info.wf_instance_id, info.instance_params.as_deref())),
        };
        Ok((processor, step, ctx))
    }
}

fn step(task: &StartTask, results: Option<Arc<dyn ResultSource>>) -> Result<Step, ProcessResult> {
    let broadcast = task.instance.execute_type == "BROADCAST";
    match task.task_name.as_str() {
        ROOT_TASK if broadcast => Ok(Step::PreProcess),
        LAST_TASK => {
            let results = results.map(TaskResults::new).ok_or_else(|| {
                ProcessResult::rejected(
                    "the last step of an instance needs the results of its tasks, which only the worker that owns it has; \
                     this is another worker",
                )
            })?;
            Ok(if broadcast { Step::PostProcess(results) } else { Step::Reduce(results) })
        }
        _ => Ok(Step::Process),
    }
}

/// The tracker of a task.
struct TrackerSink {
    trackers: Arc<dyn TrackerPeer>,
    tracker: String,
    instance_id: i64,
    sub_instance_id: i64,
}

#[async_trait]
impl SubTaskSink for TrackerSink {
    async fn add(&self, task_name: &str, sub_tasks: Vec<SubTask>) -> Result<(), MapError> {
        let count = sub_tasks.len();
        let map = MapTask {
            instance_id: self.instance_id,
            sub_instance_id: self.sub_instance_id,
            task_name: task_name.to_owned(),
            sub_tasks,
        };
        let tracker = &self.tracker;
        self.trackers.map_task(tracker, map).await.map_err(|why| {
            MapError::NotStored(match why {
                PeerError::Refused(why) => format!("the task tracker {tracker} refused {count} of them: {why}"),
                PeerError::Unreachable(why) => format!(
                    "the task tracker {tracker} did not answer ({why}); whether it has these {count} is not known"
                ),
            })
        })
    }
}
