//! Status reports on their way: of one instance one after the other, of different instances side by side.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{driver::Input, heavy::Trackers, shared::Shared};
use crate::{
    client::AskError,
    core::{Event, FinalReport, InstanceRecord, Owner, TaskCounts},
    wire::TaskTrackerReportInstanceStatusReq,
};

/// Reports under way at once. More wait; their instances wait for nothing but them.
const AT_ONCE: usize = 64;
const PATH: &str = "/server/reportInstanceStatus";
const RUNNING: i32 = 3;
const FAILED: i32 = 4;
const SUCCEED: i32 = 5;

/// One report.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    Running { report_time: i64 },
    Final(FinalReport),
}

/// The reports of one instance.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Sending>,
    cancel: CancellationToken,
}

/// A report with what it is sent for.
struct Sending {
    record: Arc<InstanceRecord>,
    report: Report,
    /// The owner that the core had in mind: it has the log that a final report ends.
    owner: Option<Owner>,
}

/// All reports of a worker.
pub(crate) struct Reports {
    lines: HashMap<i64, Line>,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    inbox: mpsc::Sender<Input>,
    tasks: TaskTracker,
}

impl Reports {
    pub(crate) fn new(shared: Arc<Shared>, inbox: mpsc::Sender<Input>, tasks: TaskTracker) -> Self {
        Self { lines: HashMap::new(), places: Arc::new(Semaphore::new(AT_ONCE)), shared, inbox, tasks }
    }

    /// Sends the report when those before it of the same instance are answered.
    pub(crate) fn submit(&mut self, record: Arc<InstanceRecord>, report: Report) {
        let owner = self.shared.owner.borrow().clone();
        let sending = Sending { record, report, owner };
        match self.lines.get_mut(&sending.record.dispatch.instance_id) {
            Some(line) => line.waiting.push_back(sending),
            None => self.start(sending, VecDeque::new()),
        }
    }

    /// A report of the instance was answered: the next one may leave.
    pub(crate) fn answered(&mut self, instance_id: i64) {
        let Some(mut line) = self.lines.remove(&instance_id) else {
            return;
        };
        if let Some(next) = line.waiting.pop_front() {
            self.start(next, line.waiting);
        }
    }

    /// The server stopped the instance: a report that is still under way would bring it back to life there.
    pub(crate) fn stopped(&mut self, instance_id: i64) {
        if let Some(line) = self.lines.get_mut(&instance_id) {
            line.waiting.clear();
            line.cancel.cancel();
        }
    }

    fn start(&mut self, sending: Sending, waiting: VecDeque<Sending>) {
        let instance_id = sending.record.dispatch.instance_id;
        let cancel = CancellationToken::new();
        self.lines.insert(instance_id, Line { waiting, cancel: cancel.clone() });
        let (shared, inbox, places) = (self.shared.clone(), self.inbox.clone(), self.places.clone());
        self.tasks.spawn(async move {
            let sent = async {
                let _place = places.acquire().await;
                send(&shared, &sending).await
            };
            let sent = tokio::select! {
                sent = sent => sent,
                () = cancel.cancelled() => Err(AskError::NotDelivered("the instance was stopped".to_owned())),
            };
            match &sent {
                Ok(()) => shared.counters.reports_sent.one(),
                Err(why) => {
                    shared.counters.reports_failed.one();
                    tracing::debug!(instance_id, %why, "a status report was not taken");
                }
            }
            // A closed channel means that the worker is gone, and the report with it.
            let _ =
                inbox.send(Input::Reported { instance_id, event: answer(instance_id, &sending.report, sent) }).await;
        });
    }
}

fn answer(instance_id: i64, report: &Report, sent: Result<(), AskError>) -> Event {
    match report {
        Report::Running { .. } => Event::RunningReportDone { instance_id, ok: sent.is_ok() },
        Report::Final(report) => Event::FinalReportDone {
            instance_id,
            report_time: report.report_time,
            accepted: sent.is_ok(),
            message: sent.err().map(|why| why.to_string()).unwrap_or_default(),
        },
    }
}

async fn send(shared: &Shared, sending: &Sending) -> Result<(), AskError> {
    let Sending { record, report, owner: wanted } = sending;
    let owner = shared.owner.borrow().clone();
    let Some(owner) = owner else {
        return Err(AskError::NotDelivered("no server is known now".to_owned()));
    };
    if matches!(report, Report::Final(_)) && wanted.as_ref() != Some(&owner) {
        return Err(AskError::NotDelivered("the app's server changed, and the new one gets the log first".to_owned()));
    }
    let mut message = message(owner.app_id, &shared.address, record, report);
    // What people compare with the server's own times; report times are the server's already.
    let correction = shared.clock.correction_ms();
    message.start_time -= correction;
    message.end_time = message.end_time.map(|time| time - correction);
    match report {
        Report::Running { .. } => {
            if record.dispatch.is_heavy() {
                count(&mut message, shared.counts(record).unwrap_or_default());
            }
            if !record.dispatch.is_frequent() {
                return shared.transport.tell(&owner.transport, PATH, &message).await;
            }
            let alarm = Alarm::take(shared.trackers.as_ref(), record.dispatch.instance_id);
            message.need_alert = alarm.text.is_some();
            message.alert_content.clone_from(&alarm.text);
            let told = shared.transport.tell(&owner.transport, PATH, &message).await;
            if told.is_ok() {
                shared.silence.report(record.dispatch.instance_id, Instant::now());
                alarm.told();
            }
            told
        }
        Report::Final(_) => shared.transport.ask(&owner.transport, PATH, &message).await.map(drop),
    }
}

/// An alarm on its way. Given back when its report was not taken, or was cut off.
struct Alarm<'a> {
    trackers: &'a dyn Trackers,
    instance_id: i64,
    text: Option<String>,
}

impl<'a> Alarm<'a> {
    fn take(trackers: &'a dyn Trackers, instance_id: i64) -> Self {
        Self { trackers, instance_id, text: trackers.take_alert(instance_id) }
    }

    fn told(mut self) {
        self.text = None;
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(text) = self.text.take() {
            self.trackers.give_back_alert(self.instance_id, text);
        }
    }
}

fn count(message: &mut TaskTrackerReportInstanceStatusReq, counts: TaskCounts) {
    message.total_task_num = counts.total;
    message.succeed_task_num = counts.succeeded;
    message.failed_task_num = counts.failed;
}

fn message(app_id: i64, address: &str, record: &InstanceRecord, report: &Report) -> TaskTrackerReportInstanceStatusReq {
    let dispatch = &record.dispatch;
    let mut message = TaskTrackerReportInstanceStatusReq {
        app_id,
        job_id: dispatch.job_id,
        instance_id: dispatch.instance_id,
        wf_instance_id: dispatch.wf_instance_id.filter(|_| !dispatch.is_frequent()),
        instance_status: RUNNING,
        total_task_num: 1,
        start_time: record.received_at,
        source_address: address.to_owned(),
        ..Default::default()
    };
    match report {
        Report::Running { report_time } => message.report_time = *report_time,
        Report::Final(FinalReport { outcome, report_time }) => {
            message.report_time = *report_time;
            message.instance_status = if outcome.success { SUCCEED } else { FAILED };
            message.succeed_task_num = i64::from(outcome.success);
            message.failed_task_num = i64::from(!outcome.success);
            message.result = Some(outcome.result.clone());
            message.end_time = Some(outcome.end_time).filter(|_| !dispatch.is_frequent());
            if dispatch.is_heavy() {
                count(&mut message, outcome.tasks.unwrap_or_default());
            }
            let context = &outcome.appended_context;
            message.appended_wf_context =
                (dispatch.wf_instance_id.is_some() && !context.is_empty()).then(|| context.clone());
        }
    }
    message
}
