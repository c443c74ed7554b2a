//! Processors and task trackers at work.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    context::{Start, task_context},
    driver::Input,
    registry::Registry,
    shared::Shared,
};
use crate::{
    JobLogger, ProcessResult, Processor, RestartPolicy, StopReason, StopSignal, TaskContext, WorkflowContext,
    core::{Event, InstanceRecord},
    supervise::Supervised,
    tasks::{
        TrackerStart,
        api::{Progress, TrackerEnd},
    },
    wire::ServerScheduleJobReq,
};

/// One processor or task tracker at work.
struct Run {
    attempt: u32,
    stop: StopSignal,
    _task: AbortOnDropHandle<()>,
}

/// A processor or task tracker to start.
pub(crate) struct StartRun {
    pub(crate) record: Arc<InstanceRecord>,
    pub(crate) attempt: u32,
    pub(crate) resumed: bool,
    pub(crate) time_left_ms: Option<u64>,
    /// The dispatch as it came, if the instance consists of tasks.
    pub(crate) request: Option<String>,
    /// The instance's log, or why it cannot be opened.
    pub(crate) log: Result<JobLogger, String>,
    /// Set when a stop is to be raised before the processor sees its context.
    pub(crate) stop_first: Option<StopReason>,
}

/// What is to run.
enum Work {
    Processor(Arc<dyn Processor>, Box<TaskContext>),
    Tracker(Box<TrackerStart>),
    /// It has ended before it began.
    Nothing(ProcessResult),
}

/// All processors and task trackers at work. Dropping it cuts them off without a stop, as a crash would.
pub(crate) struct Runs {
    registry: Registry,
    open: HashMap<i64, Run>,
    inbox: mpsc::Sender<Input>,
    tasks: TaskTracker,
    shared: Arc<Shared>,
}

impl Runs {
    pub(crate) fn new(registry: Registry, inbox: mpsc::Sender<Input>, tasks: TaskTracker, shared: Arc<Shared>) -> Self {
        Self { registry, open: HashMap::new(), inbox, tasks, shared }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Names that are served.
    pub(crate) fn names(&self) -> Vec<String> {
        self.registry.names()
    }

    /// Starts a run. Its end comes to the driver as an event, always.
    pub(crate) fn start(&mut self, start: StartRun) {
        let (instance_id, attempt) = (start.record.dispatch.instance_id, start.attempt);
        let stop = StopSignal::new();
        if let Some(reason) = start.stop_first {
            stop.raise(reason);
        }
        let name = start.record.dispatch.processor_info.clone();
        let id = RunId { instance_id, part: format!("attempt {attempt}"), name, stop: stop.clone() };
        let work = self.work(start, &stop).unwrap_or_else(Work::Nothing);
        let (inbox, shared) = (self.inbox.clone(), self.shared.clone());
        let task = self.tasks.spawn(async move {
            let TrackerEnd { result, appended_context, progress } = run(&id, work, &shared).await;
            let tasks = (progress != Progress::default()).then(|| (&progress).into());
            let ended = Event::ProcessorEnded { instance_id, attempt, result, appended_context, tasks };
            // A closed channel means that the worker is gone; the record says RUNNING and the next start takes it up.
            let _ = inbox.send(Input::Event(ended)).await;
        });
        self.open.insert(instance_id, Run { attempt, stop, _task: AbortOnDropHandle::new(task) });
    }

    fn work(&self, start: StartRun, stop: &StopSignal) -> Result<Work, ProcessResult> {
        let StartRun { record, attempt, resumed, time_left_ms, request, log, stop_first } = start;
        let log = log.map_err(ProcessResult::failed)?;
        if record.dispatch.is_heavy() {
            let text = request.ok_or_else(|| {
                ProcessResult::rejected(
                    "the dispatch of this instance is missing in the state store; start the job again",
                )
            })?;
            let request = ServerScheduleJobReq::parse(text.as_bytes())
                .map_err(|why| ProcessResult::rejected(format!("failed to read the stored dispatch: {why}")))?;
            let request = Arc::new(request);
            let stop = stop.clone();
            return Ok(Work::Tracker(Box::new(TrackerStart { request, attempt, resumed, time_left_ms, log, stop })));
        }
        let processor = self.registry.find(&record.dispatch).map_err(ProcessResult::rejected)?;
        let resumed = restart(resumed, processor.restart_policy(), stop_first.is_some())?;
        let worker_address = self.shared.address.clone();
        let context_limit = self.shared.config.context_limit;
        let start = Start { attempt, resumed, time_left_ms, worker_address, log, stop: stop.clone(), context_limit };
        Ok(Work::Processor(processor, Box::new(task_context(&record, start))))
    }

    /// Asks a run to end.
    pub(crate) fn stop(&self, instance_id: i64, reason: StopReason) {
        if let Some(run) = self.open.get(&instance_id) {
            run.stop.raise(reason);
        }
    }

    /// A run has ended: its slot is free.
    pub(crate) fn ended(&mut self, instance_id: i64, attempt: u32) {
        if self.open.get(&instance_id).is_some_and(|run| run.attempt == attempt) {
            self.open.remove(&instance_id);
        }
    }
}

/// What a restarted worker does with a run that it found in the middle: goes on (`resumed` as the processor shall see it),
/// or ends it.
fn restart(resumed: bool, policy: RestartPolicy, stopping: bool) -> Result<bool, ProcessResult> {
    match policy {
        _ if !resumed => Ok(false),
        RestartPolicy::Resume => Ok(true),
        RestartPolicy::Rerun if !stopping => Ok(false),
        RestartPolicy::Rerun => Err(ProcessResult::rejected("stopped while the worker was restarted")),
        RestartPolicy::Fail => Err(ProcessResult::rejected(
            "the worker was restarted while this run was under way, and its processor cannot take up a run that was cut; \
             start the job again",
        )),
    }
}

/// What names a run in the agent's log, and what asks it to end.
struct RunId {
    instance_id: i64,
    part: String,
    name: String,
    stop: StopSignal,
}

impl RunId {
    fn supervised<'a>(&'a self, what: &'a str, shared: &'a Shared) -> Supervised<'a> {
        let Self { instance_id, part, stop, .. } = self;
        Supervised { instance_id: *instance_id, part, what, stop, counters: &shared.counters }
    }
}

async fn run(id: &RunId, work: Work, shared: &Arc<Shared>) -> TrackerEnd {
    match work {
        Work::Nothing(result) => ended(result, &WorkflowContext::default()),
        Work::Processor(processor, ctx) => {
            let workflow = ctx.workflow.clone();
            let what = format!("processor `{}`", id.name);
            let result = id.supervised(&what, shared).run(async move { processor.process(*ctx).await }).await;
            ended(result.unwrap_or_else(|failed| failed), &workflow)
        }
        Work::Tracker(start) => {
            let trackers = shared.trackers.clone();
            let end = id.supervised("the task tracker", shared).run(async move { trackers.run(*start).await }).await;
            end.unwrap_or_else(|failed| ended(failed, &WorkflowContext::default()))
        }
    }
}

fn ended(result: ProcessResult, workflow: &WorkflowContext) -> TrackerEnd {
    TrackerEnd { result, appended_context: workflow.appended(), progress: Progress::default() }
}
