//! Work of other people's code: its end comes always, as a value or as a result that says what happened.

use std::{any::Any, time::Duration};

use tokio_util::task::AbortOnDropHandle;

use crate::{ProcessResult, StopSignal, worker::Counters};

/// How often the agent's log says that something does not end though it was asked to.
const NAG: Duration = Duration::from_secs(60);

/// What is waited for.
pub(crate) struct Supervised<'a> {
    /// The instance that it works for.
    pub(crate) instance_id: i64,
    /// Which attempt or task of it, for the log.
    pub(crate) part: &'a str,
    /// What it is, e.g. ``processor `echo` ``; result texts begin with it.
    pub(crate) what: &'a str,
    /// What asks it to end.
    pub(crate) stop: &'a StopSignal,
    /// Counts panics.
    pub(crate) counters: &'a Counters,
}

impl Supervised<'_> {
    /// Waits for the end, and says every minute if it does not come although it was asked for: the place stays taken, because
    /// whatever was started may still be there. A panic is an end as well.
    ///
    /// # Errors
    /// The failure to be told for a panic, or for work that was cancelled from within this process.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, ProcessResult> {
        let Self { instance_id, part, what, stop, counters } = *self;
        let mut work = AbortOnDropHandle::new(tokio::spawn(work));
        let nag = async {
            let reason = stop.raised().await;
            let mut minutes = 0_u32;
            loop {
                tokio::time::sleep(NAG).await;
                minutes += 1;
                tracing::warn!(
                    instance_id,
                    part,
                    ?reason,
                    minutes,
                    "{what} was asked to end and has not; its place stays taken until it does"
                );
            }
        };
        let ended = tokio::select! {
            ended = &mut work => ended,
            () = nag => unreachable!("the loop has no end"),
        };
        match ended {
            Ok(value) => Ok(value),
            Err(error) if error.is_panic() => {
                counters.panics.one();
                let text = panic_text(error.into_panic().as_ref());
                tracing::error!(instance_id, part, panic = text, "{what} panicked");
                Err(ProcessResult::failed(format!(
                    "{what} panicked: {text}; this is an error in its code, the place is in the worker's own log"
                )))
            }
            Err(_) => Err(ProcessResult::failed(format!("{what} was cancelled from within the worker's process"))),
        }
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
