//! The worker that owns the instance: the loop around its task tracker.

use super::world::{Happening, INSTANCE, OWN, World};
use crate::tasks::{
    api::{MapTask, PeerError, ReportTask, ReportWorker},
    processor::Answered,
    table::Table,
    tracker::{Action, Answer, Event, Output, Recovery, Tracker},
};

impl World {
    pub(super) fn start_owner(&mut self) {
        let (now, mut out) = (self.core_now(), Output::default());
        let table = Table::new(&self.db, "main", INSTANCE);
        let spec = self.spec.clone();
        let found = match self.process {
            0 => None,
            _ => Tracker::recover(spec.clone(), &table, now, Recovery::Restarted(self.policy), &mut out)
                .expect("a table"),
        };
        let tracker = found.unwrap_or_else(|| Tracker::start(spec, &table, now, &mut out).expect("a table"));
        self.tracker = Some(tracker);
        self.act(out);
        if self.ordered_to_stop {
            return self.tell_tracker(Event::Stop(crate::StopReason::Stopped));
        }
        self.turn(None);
    }

    /// One transaction; the answer of an event, if a tracker is there.
    pub(super) fn turn(&mut self, event: Option<Event>) -> Option<Answer> {
        let now = self.core_now();
        let mut tracker = self.tracker.take()?;
        let table = Table::new(&self.db, "main", INSTANCE);
        let mut out = Output::default();
        let answer = event.map(|event| tracker.handle(&table, now, event, &mut out).expect("a table"));
        tracker.settle(&table, now, 0, &mut out).expect("a table");
        let (end, used) = (tracker.end().cloned(), tracker.used_workers().to_vec());
        let wake = tracker.wake_at();
        self.tracker = Some(tracker);
        self.act(out);
        if let Some(end) = end {
            self.tracker = None;
            self.instance_ended(&end);
            // Repeated until each has taken it, the own one first: that is the host's part.
            for to in std::iter::once(OWN.to_owned()).chain(used.into_iter().filter(|address| address != OWN)) {
                self.after(0, 20, Happening::StopTasks { to });
            }
        } else if let Some(at) = wake
            && self.wake.is_none_or(|planned| at < planned)
        {
            self.wake = Some(at);
            let process = self.process;
            self.at(at, Happening::Wake { process });
        }
        answer.or(Some(Ok(())))
    }

    pub(super) fn tell_tracker(&mut self, event: Event) {
        // Without a tracker nobody listens.
        let _ = self.turn(Some(event));
    }

    fn act(&mut self, out: Output) {
        let process = self.process;
        for action in out.actions {
            match action {
                Action::Start { ticket, task, .. } => {
                    let to = ticket.address.clone();
                    // Lost, or answered in vain: whoever sends it cannot tell, and counts it as delivered.
                    if let Some(ms) = self.way(&to) {
                        let at = self.now + ms;
                        let doubled = to != OWN && self.rng.percent(self.faults.doubled);
                        let start = Happening::Start { to, task, ticket, process };
                        if doubled {
                            self.after(ms, 3_000, start.clone());
                        }
                        self.at(at, start);
                    }
                }
                Action::AskCluster => self.after(1, 30, Happening::Cluster { process }),
                Action::Log(_, text) if self.traced => println!("         log: {text}"),
                Action::Log(..) | Action::Sweep | Action::Finish(_) => {}
            }
        }
    }

    pub(super) fn report_arrives(&mut self, from: String, life: u32, part: u64, report: ReportTask, answer_lost: bool) {
        if from == OWN && self.workers[OWN].life != life {
            return;
        }
        let (task_id, report_time) = (report.task_id.clone(), report.report_time);
        let is_final = report.status > 4;
        let answer = if self.workers[OWN].alive { self.turn(Some(Event::Report(report))) } else { None };
        // A tell is delivered to whoever listens; an ask about an unknown instance is answered with nothing.
        let answered = match answer {
            Some(Ok(())) => Answered::Accepted,
            Some(Err(PeerError::Refused(why) | PeerError::Unreachable(why))) => Answered::Lost(why),
            None if !is_final && self.workers[OWN].alive => Answered::Accepted,
            None => Answered::Lost("no tracker".to_owned()),
        };
        if !answer_lost {
            let at = self.now + self.rng.between(0, if from == OWN { 1 } else { 20 });
            self.at(at, Happening::Answered { to: from, life, part, task_id, report_time, answered });
        }
    }

    pub(super) fn load_arrives(&mut self, from: &str, report: ReportWorker) {
        if !self.workers[OWN].alive {
            return;
        }
        if self.tracker.is_some() {
            self.tell_tracker(Event::Worker(report));
        } else {
            // One that no stop has reached goes on for ever otherwise: that is the host's part.
            self.after(1, 30, Happening::StopTasks { to: from.to_owned() });
        }
    }

    pub(super) fn map_arrives(&mut self, from: String, life: u32, execution: u64, map: MapTask, answer_lost: bool) {
        if from == OWN && self.workers[OWN].life != life || !self.workers[OWN].alive {
            return;
        }
        let ids: Vec<String> = map.sub_tasks.iter().map(|task| task.task_id.clone()).collect();
        let answer = self.turn(Some(Event::Map(map)));
        let Some(answer) = answer else { return };
        let stored = answer.is_ok();
        if stored && self.tracker.is_some() {
            self.mapped.extend(ids);
        }
        if !answer_lost {
            self.after(0, 20, Happening::Mapped { to: from, life, execution, stored });
        }
    }
}
