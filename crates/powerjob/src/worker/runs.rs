//! Processors at work.

use std::{any::Any, collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    Counters,
    context::{Start, task_context},
    driver::Input,
    registry::Registry,
};
use crate::{
    JobLogger, ProcessResult, Processor, RestartPolicy, StopReason, StopSignal, WorkflowContext,
    core::{Event, InstanceRecord},
};

/// How often the agent's log says that a processor does not end though it was asked to.
const NAG: Duration = Duration::from_secs(60);

/// One processor at work.
struct Run {
    attempt: u32,
    stop: StopSignal,
    _task: AbortOnDropHandle<()>,
}

/// A processor to start.
pub(crate) struct StartRun {
    pub(crate) record: Arc<InstanceRecord>,
    pub(crate) attempt: u32,
    pub(crate) resumed: bool,
    pub(crate) time_left_ms: Option<u64>,
    pub(crate) worker_address: String,
    /// The instance's log, or why it cannot be opened.
    pub(crate) log: Result<JobLogger, String>,
    /// Set when a stop is to be raised before the processor sees its context.
    pub(crate) stop_first: Option<StopReason>,
}

/// All processors at work. Dropping it cuts them off without a stop, as a crash would.
pub(crate) struct Runs {
    registry: Registry,
    open: HashMap<i64, Run>,
    inbox: mpsc::Sender<Input>,
    tasks: TaskTracker,
    counters: Arc<Counters>,
}

impl Runs {
    pub(crate) fn new(
        registry: Registry,
        inbox: mpsc::Sender<Input>,
        tasks: TaskTracker,
        counters: Arc<Counters>,
    ) -> Self {
        Self { registry, open: HashMap::new(), inbox, tasks, counters }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Names that are served.
    pub(crate) fn names(&self) -> Vec<String> {
        self.registry.names()
    }

    /// Starts a processor. Its end comes to the driver as an event, always.
    pub(crate) fn start(&mut self, start: StartRun) {
        let StartRun { record, attempt, resumed, time_left_ms, worker_address, log, stop_first } = start;
        let instance_id = record.dispatch.instance_id;
        let stop = StopSignal::new();
        if let Some(reason) = stop_first {
            stop.raise(reason);
        }
        let prepared = log.map_err(ProcessResult::failed).and_then(|log| {
            let processor = self.registry.find(&record.dispatch).map_err(ProcessResult::rejected)?;
            let resumed = restart(resumed, processor.restart_policy(), stop_first.is_some())?;
            let start = Start { attempt, resumed, time_left_ms, worker_address, log, stop: stop.clone() };
            Ok((processor, task_context(&record, start)))
        });
        let (inbox, counters, name) =
            (self.inbox.clone(), self.counters.clone(), record.dispatch.processor_info.clone());
        let signal = stop.clone();
        let task = self.tasks.spawn(async move {
            let (result, workflow) = match prepared {
                Ok((processor, ctx)) => {
                    let workflow = ctx.workflow.clone();
                    let id = RunId { instance_id, attempt, name };
                    (supervise(&id, processor, ctx, &signal, &counters).await, workflow)
                }
                Err(result) => (result, WorkflowContext::default()),
            };
            let appended_context = workflow.appended();
            // A closed channel means that the worker is gone; the record says RUNNING and the next start takes it up.
            let _ = inbox
                .send(Input::Event(Event::ProcessorEnded { instance_id, attempt, result, appended_context }))
                .await;
        });
        self.open.insert(instance_id, Run { attempt, stop, _task: AbortOnDropHandle::new(task) });
    }

    /// Asks a processor to end.
    pub(crate) fn stop(&self, instance_id: i64, reason: StopReason) {
        if let Some(run) = self.open.get(&instance_id) {
            run.stop.raise(reason);
        }
    }

    /// A processor has ended: its slot is free.
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

/// What names a run in the agent's log.
struct RunId {
    instance_id: i64,
    attempt: u32,
    name: String,
}

/// Waits for the end of a processor, and says every minute if it does not come although it was asked for: the slot stays
/// taken, because whatever the processor started may still be there.
async fn supervise(
    id: &RunId,
    processor: Arc<dyn Processor>,
    ctx: crate::TaskContext,
    stop: &StopSignal,
    counters: &Counters,
) -> ProcessResult {
    let RunId { instance_id, attempt, name } = id;
    let mut work = AbortOnDropHandle::new(tokio::spawn(async move { processor.process(ctx).await }));
    let nag = async {
        let reason = stop.raised().await;
        let mut minutes = 0_u32;
        loop {
            tokio::time::sleep(NAG).await;
            minutes += 1;
            tracing::warn!(
                instance_id,
                attempt,
                processor = name,
                ?reason,
                minutes,
                "the processor was asked to end and has not; its slot stays taken until it does"
            );
        }
    };
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = nag => unreachable!("the loop has no end"),
    };
    match ended {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            counters.panics.one();
            let text = panic_text(error.into_panic().as_ref());
            tracing::error!(instance_id, attempt, processor = name, panic = text, "the processor panicked");
            ProcessResult::failed(format!("processor `{name}` panicked: {text}; this is an error in its code"))
        }
        Err(_) => ProcessResult::failed(format!("processor `{name}` was cancelled from within the worker's process")),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
