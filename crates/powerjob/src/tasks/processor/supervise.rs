//! A processor at work: its end comes always, as a result.

use std::{any::Any, time::Duration};

use tokio_util::task::AbortOnDropHandle;

use crate::{ProcessResult, StopSignal, worker::Counters};

/// How often the worker's log says that a processor does not end though it was asked to.
const NAG: Duration = Duration::from_secs(60);

/// Names a task in the worker's log.
pub(super) struct TaskName<'a> {
    pub(super) instance_id: i64,
    pub(super) task: &'a str,
    pub(super) processor: &'a str,
}

/// Waits for the end of a processor, and says every minute if it does not come although it was asked for: its slot stays
/// taken, because whatever the processor started may still be there.
pub(super) async fn supervise<F>(name: &TaskName<'_>, work: F, stop: &StopSignal, counters: &Counters) -> ProcessResult
where
    F: Future<Output = ProcessResult> + Send + 'static,
{
    let TaskName { instance_id, task, processor } = *name;
    let mut work = AbortOnDropHandle::new(tokio::spawn(work));
    let nag = async {
        let reason = stop.raised().await;
        let mut minutes = 0_u32;
        loop {
            tokio::time::sleep(NAG).await;
            minutes += 1;
            tracing::warn!(
                instance_id,
                task,
                processor,
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
            tracing::error!(instance_id, task, processor, panic = text, "the processor panicked");
            ProcessResult::failed(format!(
                "processor `{processor}` panicked: {text}; this is an error in its code, the place is in the worker's own log"
            ))
        }
        Err(_) => {
            ProcessResult::failed(format!("processor `{processor}` was cancelled from within the worker's process"))
        }
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
