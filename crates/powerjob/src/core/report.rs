//! What the server hears of an instance: RUNNING, and how it ended.

use super::{
    api::{Action, FinalReport, Now, Stage},
    ask::Ask,
    bugs::bug,
    instance::{ANSWER_LIMIT, Instance, Mono, mono},
    machine::Core,
};

/// The first RUNNING report goes out without the first log line after this time.
const FIRST_LINE_WAIT: Mono = 3_000;
/// A report that reaches the server before it has stored the dispatch is acknowledged and dropped: once more after this.
const EARLY_REPEAT: Mono = 1_000;
/// A final report that was sent this soon after the dispatch may have been dropped in the same way.
const EARLY_FINAL: Mono = 2_000;
/// Between RUNNING reports; the server gives up after 60 s without one.
const RUNNING_EVERY: Mono = 10_000;
/// Between attempts to deliver a final report.
const BACK_OFF: [Mono; 6] = [1_000, 2_000, 4_000, 8_000, 16_000, 30_000];
/// After this time without acceptance a final report is given up.
const GIVE_UP_AFTER: Mono = 24 * 3_600_000;
/// How long a final report waits for a log that is sent again to a new owner.
const LOG_AGAIN_WAIT: Mono = 30_000;

/// Where the RUNNING reports of an instance stand.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningReports {
    /// Not before this time.
    pub(super) next: Mono,
    /// Delivered or under way: 0 = none yet, 1 = the early one, then the rest.
    pub(super) sent: u32,
    in_flight: Option<Mono>,
    /// Failures in a row.
    pub(super) failures: u32,
}

/// Where the final report of an instance stands.
#[derive(Clone, Debug, Default)]
pub(super) struct FinalReports {
    next: Mono,
    in_flight: Option<Mono>,
    /// When the latest sending left.
    sent_at: Mono,
    /// Attempts in a row that were not accepted.
    pub(super) failures: u32,
    /// It was accepted, perhaps before the server had stored the dispatch: one repeat is due.
    confirming: bool,
    /// When the stage was entered.
    pub(super) since: Mono,
    /// A new owner lacks the log: it is to be sent again before the report.
    pub(super) log_again: bool,
    /// The log is being sent again; the report waits no longer than this.
    pub(super) waits_for_log: Option<Mono>,
}

impl Core {
    /// When the next RUNNING report may go, or `None` when something else must happen first.
    pub(super) fn running_report_due(&self, instance: &Instance) -> Option<Mono> {
        if self.server.owner.is_none() || instance.ask != Ask::Settled || !instance.is_live() {
            return None;
        }
        let reports = &instance.running;
        if let Some(since) = reports.in_flight {
            return Some(since + ANSWER_LIMIT);
        }
        // A run that ends at once needs no RUNNING report: its final one follows when the log is drained.
        let ending = matches!(instance.record.stage, Stage::Draining(_));
        let wait_for_line = reports.sent == 0 && (!instance.first_line || ending);
        Some(if wait_for_line { reports.next.max(instance.arrived + FIRST_LINE_WAIT) } else { reports.next })
    }

    pub(super) fn report_running_if_due(&mut self, now: Now, id: i64) {
        let due = self.instances.get(&id).and_then(|i| self.running_report_due(i)).is_some_and(|at| at <= mono(now));
        if !due {
            return;
        }
        self.log_position(id);
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let report_time = instance.next_report_time(now.server_ms);
        let reports = &mut instance.running;
        reports.sent += 1;
        reports.in_flight = Some(mono(now));
        reports.next = mono(now) + if reports.sent == 1 { EARLY_REPEAT } else { RUNNING_EVERY };
        self.out.actions.push(Action::ReportRunning { instance_id: id, report_time });
    }

    pub(super) fn running_report_done(&mut self, now: Now, id: i64, ok: bool) {
        if let Some(instance) = self.instances.get_mut(&id) {
            let reports = &mut instance.running;
            reports.in_flight = None;
            reports.failures = if ok { 0 } else { reports.failures.saturating_add(1) };
            if !ok && reports.sent == 1 {
                reports.sent = 0;
                reports.next = mono(now) + EARLY_REPEAT;
            }
        }
        if ok {
            self.contact(now);
        } else {
            self.suspect(now, &format!("the RUNNING report of instance {id} was not taken"));
        }
    }

    /// The log is complete at the server: fixes the report time and lets the final report out.
    pub(super) fn begin_reporting(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Stage::Draining(outcome) = instance.record.stage.clone() else { return };
        let report_time = instance.next_report_time(now.server_ms);
        instance.record.stage = Stage::Reporting(FinalReport { outcome, report_time });
        instance.dirty &= !bug!(FinalNotStored);
        instance.last = FinalReports { next: mono(now), since: mono(now), ..FinalReports::default() };
    }

    /// The server dispatched a live instance: it has not heard of it for a minute, or the dispatch came twice.
    pub(super) fn dispatched_again(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.dispatched = mono(now);
        instance.running.next = instance.running.next.min(mono(now) + EARLY_REPEAT);
        self.settle(now, id);
    }

    /// The server dispatched an instance that has succeeded: it did not get, or took too early, the report.
    pub(super) fn report_again(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.dispatched = mono(now);
        instance.last.next = mono(now);
        instance.last.confirming = false;
        self.settle(now, id);
    }

    /// When the final report may go, or `None` when something else must happen first.
    pub(super) fn final_report_due(&self, instance: &Instance) -> Option<Mono> {
        let Stage::Reporting(_) = instance.record.stage else { return None };
        if self.server.owner.is_none() || instance.ask != Ask::Settled {
            return None;
        }
        let reports = &instance.last;
        let unanswered = reports.in_flight.max(instance.running.in_flight).map(|since| since + ANSWER_LIMIT);
        Some(unanswered.or(reports.waits_for_log).unwrap_or(reports.next))
    }

    pub(super) fn report_final_if_due(&mut self, now: Now, id: i64) {
        if self.instances.get(&id).and_then(|i| self.final_report_given_up_at(i)).is_some_and(|at| at <= mono(now)) {
            return self.give_up(id);
        }
        let due = self.instances.get(&id).and_then(|i| self.final_report_due(i)).is_some_and(|at| at <= mono(now));
        let Some(instance) = self.instances.get_mut(&id).filter(|_| due) else { return };
        let Stage::Reporting(report) = &instance.record.stage else { return };
        if instance.last.log_again {
            instance.last.log_again = false;
            instance.last.waits_for_log = Some(mono(now) + LOG_AGAIN_WAIT);
            instance.held = false;
            let attempt = instance.record.attempt;
            self.out.actions.push(Action::OpenLog { instance_id: id, send: true });
            let limit_ms = Some(LOG_AGAIN_WAIT.unsigned_abs());
            self.out.actions.push(Action::DrainLog { instance_id: id, attempt, limit_ms });
            return;
        }
        let mut report = report.clone();
        if bug!(FinalTimeAnew) {
            report.report_time = instance.next_report_time(now.wall_ms);
            instance.record.stage = Stage::Reporting(report.clone());
        }
        instance.running.in_flight = None;
        instance.last.waits_for_log = None;
        instance.last.in_flight = Some(mono(now));
        instance.last.sent_at = mono(now);
        self.out.actions.push(Action::ReportFinal { instance_id: id, report });
    }

    /// A new owner has the log again: the final report need not wait any longer.
    pub(super) fn log_is_whole_again(&mut self, now: Now, id: i64) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.last.waits_for_log.take().is_some() {
            instance.last.next = instance.last.next.min(mono(now));
        }
    }

    pub(super) fn final_report_done(&mut self, now: Now, id: i64, report_time: i64, accepted: bool, message: &str) {
        if accepted {
            self.contact(now);
        } else {
            self.suspect(now, &format!("the final report of instance {id} was not accepted: {message}"));
        }
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Stage::Reporting(report) = &instance.record.stage else { return };
        if report.report_time != report_time {
            return;
        }
        let status = if report.outcome.success { "SUCCEED" } else { "FAILED" };
        let early = instance.last.sent_at - instance.dispatched < EARLY_FINAL && !bug!(EarlyFinalTrusted);
        let reports = &mut instance.last;
        reports.in_flight = None;
        if !accepted {
            let step = usize::try_from(reports.failures).unwrap_or(usize::MAX).min(BACK_OFF.len() - 1);
            reports.next = mono(now) + if bug!(FinalSentOnce) { GIVE_UP_AFTER } else { BACK_OFF[step] };
            reports.failures = reports.failures.saturating_add(1);
        } else if early && !reports.confirming {
            reports.confirming = true;
            reports.failures = 0;
            reports.next = (reports.sent_at + EARLY_REPEAT).max(mono(now));
        } else {
            self.close(id, status);
        }
    }

    /// When a final report that the server does not accept is given up.
    pub(super) fn final_report_given_up_at(&self, instance: &Instance) -> Option<Mono> {
        let reporting = matches!(instance.record.stage, Stage::Reporting(_));
        (reporting && instance.last.failures > 0).then_some(instance.last.since + GIVE_UP_AFTER)
    }

    fn give_up(&mut self, id: i64) {
        let Some(Stage::Reporting(report)) = self.instances.get(&id).map(|i| &i.record.stage) else { return };
        let status = if report.outcome.success { "SUCCEED" } else { "FAILED" };
        self.warn(format!(
            "gave up the final report of instance {id} ({status}): no server accepted it within 24 h; the server will show it as failed \
             or run it again, its result is in this worker's journal"
        ));
        self.close(id, status);
    }

    /// A server is there (again): everything that can be told of an instance is told now.
    pub(super) fn report_all_now(&mut self, now: Now) {
        for instance in self.instances.values_mut() {
            instance.running.next = instance.running.next.min(mono(now));
            if !instance.last.confirming {
                instance.last.next = instance.last.next.min(mono(now));
            }
            instance.ask.retry_now(mono(now));
        }
    }
}
