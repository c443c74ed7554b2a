//! A driver, the network and the machine under the worker: writes before actions, and death between any two of them.

use std::collections::BTreeMap;

use super::{super::rig::owner, Happening, Run, Sent, World, model};
use crate::{
    core::{Action, Core, Event, FinalReport, Stage},
    processor::ProcessResult,
};

impl World {
    /// One event through the core, as a driver does it: writes, then actions, and death between any two of them.
    #[expect(clippy::needless_pass_by_value, reason = "the caller has no use for an event that was handled")]
    pub(super) fn handle(&mut self, event: Event) {
        let now = self.core_now();
        let Some(core) = self.core.as_mut() else { return };
        let output = core.handle(now, event.clone());
        if self.traced && !matches!(event, Event::Tick) {
            println!("{:>8} > {event:?}", self.now);
        }
        let wake = core.wake_at();
        let dies = self.faults.crashes > 0 && self.now < self.faults_end && self.rng.next().is_multiple_of(2_000);
        if dies && self.rng.percent(30) {
            return self.crash();
        }
        self.store.write(&output.writes);
        self.taken_in(&event);
        let reached = if dies { self.rng.between(0, 1 + output.actions.len() as u64) as usize } else { usize::MAX };
        for (step, action) in output.actions.into_iter().enumerate() {
            if step == reached {
                break;
            }
            self.act(action);
        }
        if dies {
            return self.crash();
        }
        if let Some(at) = wake {
            let at = (at + self.process_origin).saturating_sub(1_000).max(self.now);
            self.ticks_now =
                if self.ticks_now.0 == self.now { (self.now, self.ticks_now.1 + 1) } else { (self.now, 0) };
            assert!(self.ticks_now.1 < 10_000, "the core asks to be woken for ever");
            if self.wake.is_none_or(|planned| at < planned || planned < self.now) {
                self.wake = Some(at);
                self.at(at, Happening::Wake(self.process));
            }
        }
    }

    /// Bookkeeping of what the worker now durably knows.
    pub(super) fn taken_in(&mut self, event: &Event) {
        match event {
            Event::StopInstance(id) => {
                self.silenced.insert(*id);
                if let Some(row) = self.server.rows.get_mut(id) {
                    row.stop_taken = Some(self.now);
                }
            }
            Event::RunJob(dispatch) => {
                let id = dispatch.instance_id;
                match self.store.records.get(&id).map(|record| &record.stage) {
                    Some(Stage::Stopping) => {}
                    Some(_) => drop(self.silenced.remove(&id)),
                    None => drop(self.unknowable.insert(id)),
                }
            }
            _ => {}
        }
        // A remembered dispatch that has taken its place.
        let live = |id: &i64| self.store.records.get(id).is_none_or(|record| record.stage == Stage::Stopping);
        self.silenced.retain(live);
    }

    pub(super) fn act(&mut self, action: Action) {
        if self.traced && !matches!(action, Action::LogLine { .. }) {
            println!("{:>8}   {action:?}", self.now);
        }
        match action {
            Action::ReportRunning { instance_id, report_time } => {
                self.check_report(instance_id, report_time, None);
                self.send(action);
            }
            Action::ReportFinal { instance_id, ref report } => {
                self.check_report(instance_id, report.report_time, Some(report));
                self.send(action);
            }
            Action::Discover { .. } | Action::SendHeartbeat { .. } | Action::AskInstanceInfo(_) => self.send(action),
            Action::OpenLog { instance_id, send } => {
                let attempt = self.store.records.get(&instance_id).map(|record| record.attempt);
                let log = self.logs.entry(instance_id).or_default();
                let other = log.drain.is_some_and(|(drained, _)| Some(drained) != attempt);
                assert!(!send || !other, "the log of {instance_id} opens anew while it is being drained");
                log.sends = send;
                log.first_line_told &= !send;
                self.after(1, 400, Happening::LogPoll(self.process, instance_id));
            }
            Action::DrainLog { instance_id, attempt, limit_ms } => {
                let limit = limit_ms.map(|limit| self.now + limit);
                self.logs.entry(instance_id).or_default().drain = Some((attempt, limit));
                self.after(1, 400, Happening::LogPoll(self.process, instance_id));
            }
            Action::StartProcessor { instance_id, attempt, resumed, .. } => self.start(instance_id, attempt, resumed),
            Action::StopProcessor { instance_id, .. } => self.tell_to_end(instance_id),
            Action::CloseLog { instance_id, status } => {
                self.logs.remove(&instance_id);
                if status == "STOPPED" {
                    self.succeeded.remove(&instance_id);
                }
            }
            Action::RewindLog(_) | Action::LogLine { .. } | Action::Warn(_) => {}
        }
    }

    /// What must hold of every report in the moment it leaves.
    pub(super) fn check_report(&mut self, id: i64, time: i64, report: Option<&FinalReport>) {
        let record = self.store.records.get(&id).unwrap_or_else(|| panic!("{id} is reported without a record"));
        assert!(record.last_report_time >= time, "{id} is reported with {time}, which is not durable");
        if let Some(report) = report {
            assert_eq!(record.stage, Stage::Reporting(report.clone()), "{id}: the final report is not durable");
        }
        assert!(!self.silenced.contains(&id), "{id} is reported after a stop");
        let before = self.sent.get(&id);
        let same = before.is_some_and(|(sent, before)| *sent == time && report.is_some() && before.as_ref() == report);
        let greater = before.is_none_or(|(sent, _)| *sent < time);
        assert!(same || greater, "{id} is reported with {time} after {before:?}");
        self.sent.insert(id, (time, report.cloned()));
    }

    pub(super) fn send(&mut self, action: Action) {
        let sent = Sent { at: self.now, by: self.process_origin };
        if self.loses() {
            let report = matches!(action, Action::ReportRunning { .. } | Action::ReportFinal { .. });
            if report && self.rng.percent(40) {
                // So late that nobody waits for its answer any more.
                self.after(1, 30_000, Happening::ToServer(u32::MAX, sent, Box::new(action.clone())));
            }
            return self.fail(action);
        }
        self.after(1, 40, Happening::ToServer(self.process, sent, Box::new(action)));
    }

    /// The request was not answered.
    pub(super) fn fail(&mut self, action: Action) {
        let event = match action {
            Action::ReportRunning { instance_id, .. } => Event::RunningReportDone { instance_id, ok: false },
            Action::ReportFinal { instance_id, report } => Event::FinalReportDone {
                instance_id,
                report_time: report.report_time,
                accepted: false,
                message: "lost".into(),
            },
            Action::Discover { .. } => Event::Discovered(Err("lost".into())),
            Action::SendHeartbeat { .. } => Event::HeartbeatDone { ok: false },
            Action::AskInstanceInfo(instance_id) => Event::InstanceInfo { instance_id, info: Err("lost".into()) },
            _ => return,
        };
        self.after(1, 5_000, Happening::ToCore(self.process, Box::new(event)));
    }

    pub(super) fn arrive_at_server(&mut self, process: u32, sent: Sent, action: Action) {
        if !self.server.up {
            if process == self.process {
                self.fail(action);
            }
            return;
        }
        let sure = self.faults.loss == 0 && !self.faults.outages;
        let event = match &action {
            Action::ReportRunning { instance_id, report_time } => {
                let taken = self.server.report(*instance_id, *report_time, None, (sent, sure), self.now);
                taken.unwrap_or_else(|e| panic!("{e}"));
                Event::RunningReportDone { instance_id: *instance_id, ok: true }
            }
            Action::ReportFinal { instance_id, report } => {
                let (id, report_time) = (*instance_id, report.report_time);
                let taken = self.server.report(id, report_time, Some(report), (sent, sure), self.now);
                taken.unwrap_or_else(|e| panic!("{e}"));
                Event::FinalReportDone { instance_id: id, report_time, accepted: true, message: String::new() }
            }
            Action::SendHeartbeat { overload, .. } => {
                self.server.heartbeat = Some((self.now, *overload));
                Event::HeartbeatDone { ok: true }
            }
            Action::Discover { .. } => {
                let transport = format!("10.0.0.{}:10010", 1 + self.server.failovers);
                Event::Discovered(Ok(owner(&transport, self.server.born)))
            }
            Action::AskInstanceInfo(id) => Event::InstanceInfo { instance_id: *id, info: Ok(self.server.info(*id)) },
            _ => return,
        };
        if process != self.process {
            return;
        }
        if self.loses() {
            // Taken, but the answer is lost; now and then the request comes once more.
            if self.rng.percent(30) {
                self.after(1, 3_000, Happening::ToServer(u32::MAX, sent, Box::new(action.clone())));
            }
            return self.fail(action);
        }
        self.after(1, 40, Happening::ToCore(process, Box::new(event)));
    }

    pub(super) fn start(&mut self, id: i64, attempt: u32, resumed: bool) {
        let open = self.runs.iter().find(|((other, number), run)| *other == id && *number != attempt && !run.ended);
        assert!(open.is_none(), "{id}#{attempt} starts while another boundary is open");
        let known = self.runs.contains_key(&(id, attempt));
        let retried = self.store.records.get(&id).is_some_and(|record| record.retries_used > 0);
        assert!(!retried || !self.jobs[&id].is_heavy(), "{id}#{attempt} is a tracker and runs as a task retry");
        if !resumed {
            assert!(!known, "{id}#{attempt} starts twice");
            assert!(!self.succeeded.contains(&id), "{id} has succeeded and runs again");
        }
        let process = self.process;
        let run = self.runs.entry((id, attempt)).or_insert_with(|| {
            let result = match self.rng.between(0, 10) {
                0..6 => ProcessResult::success(format!("{id}#{attempt} did it")),
                6..9 => ProcessResult::failed(format!("{id}#{attempt} failed")),
                _ => ProcessResult::rejected(format!("{id}#{attempt} cannot")),
            };
            Run { result, ended: false, told_to_end: false, watched_by: None }
        });
        run.watched_by = Some(process);
        if run.ended {
            self.after(1, 50, Happening::RunEnds(id, attempt));
        } else if !known {
            let long = self.rng.percent(30);
            let took = if self.rng.percent(40) {
                self.rng.between(1, 50)
            } else {
                self.rng.between(50, if long { 90_000 } else { 8_000 })
            };
            self.at(self.now + took, Happening::RunEnds(id, attempt));
        }
    }

    pub(super) fn tell_to_end(&mut self, id: i64) {
        let Some((key, run)) = self.runs.iter_mut().find(|((other, _), run)| *other == id && !run.ended) else {
            return;
        };
        run.told_to_end = true;
        let ends = Happening::RunEnds(key.0, key.1);
        let slow = self.rng.percent(20);
        self.after(1, if slow { 60_000 } else { 500 }, ends);
    }

    pub(super) fn run_ends(&mut self, id: i64, attempt: u32) {
        let Some(run) = self.runs.get_mut(&(id, attempt)) else { return };
        if !run.ended {
            run.ended = true;
            if run.told_to_end && self.rng.percent(70) {
                run.result = ProcessResult::failed("told to end");
            }
        }
        let (result, process) = (run.result.clone(), run.watched_by);
        if process != Some(self.process) || self.core.is_none() {
            return;
        }
        let event =
            Event::ProcessorEnded { instance_id: id, attempt, result, appended_context: BTreeMap::new(), tasks: None };
        self.handle(event);
        let stage = self.store.records.get(&id).filter(|record| record.attempt == attempt).map(|record| &record.stage);
        if matches!(stage, Some(Stage::Draining(outcome)) if outcome.success) {
            self.succeeded.insert(id);
        }
    }

    pub(super) fn poll_log(&mut self, id: i64) {
        let up = self.server.up;
        let Some(log) = self.logs.get_mut(&id) else { return };
        let flows = up && log.sends;
        let mut events = Vec::new();
        if flows && !log.first_line_told {
            log.first_line_told = true;
            events.push(Event::FirstLineSent(id));
        }
        if let Some((attempt, limit)) = log.drain
            && (flows || limit.is_some_and(|at| at <= self.now))
        {
            log.drain = None;
            log.sends = false;
            events.push(Event::LogDrained { instance_id: id, attempt });
        }
        if log.drain.is_some() || (log.sends && !log.first_line_told) {
            self.after(100, 500, Happening::LogPoll(self.process, id));
        }
        for event in events {
            self.after(0, 2, Happening::ToCore(self.process, Box::new(event)));
        }
    }

    /// The server archives a log 60 s after the end; lines that come later hide it.
    pub(super) fn check_logs(&self) {
        for (id, _) in self.logs.iter().filter(|(_, log)| self.server.up && log.sends) {
            let row = &self.server.rows[id];
            let late = row.status == model::STOPPED && self.now > row.finished + 60_000;
            assert!(
                !late || row.overtaken || self.unknowable.contains(id),
                "the log of {id} is sent after it was archived"
            );
        }
    }

    pub(super) fn crash(&mut self) {
        if self.core.take().is_none() {
            return;
        }
        self.process += 1;
        self.wake = None;
        self.logs.clear();
        self.after(1, self.faults.dead.max(2), Happening::Restart);
    }

    pub(super) fn restart(&mut self) {
        self.process_origin = self.now;
        let core = Core::new(self.config.clone(), self.store.recovered(), self.core_now());
        self.core = Some(core);
        self.handle(Event::Tick);
    }
}
