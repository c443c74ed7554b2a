//! Workers of our own kind: the real machine of the processor tracker.

use super::{Asker, Duty, EPOCH, Event, Execution, Happening, OWN, World};
use crate::{
    ProcessResult,
    core::Now,
    tasks::{
        api::StartTask,
        processor::{Action, Answered, Event as WorkerEvent, Machine, Options, Output, Write},
    },
};

impl World {
    fn now_at(&self, address: &str) -> Now {
        let wall_ms = EPOCH + i64::try_from(self.now).expect("small") + self.workers[address].clock;
        Now { mono_ms: self.now, wall_ms, server_ms: wall_ms }
    }

    /// Something happens to the machine of a worker; what follows is made durable, then done.
    pub(super) fn happens_at(&mut self, address: &str, event: WorkerEvent) {
        let now = self.now_at(address);
        let Some(machine) = self.workers.get_mut(address).and_then(|worker| worker.machine.as_mut()) else { return };
        let output = machine.handle(now, event);
        self.follow(address, output);
    }

    /// A worker begins: with what it had stored, if it was killed.
    pub(super) fn begin_machine(&mut self, address: &str) {
        let now = self.now_at(address);
        let policy = self.policy;
        let worker = self.workers.get_mut(address).expect("a worker");
        if !worker.ours {
            return;
        }
        let mut machine = Machine::new(address, Options::default());
        let receipts = worker.receipts.values().cloned().collect();
        let output = machine.recover(now, receipts, &move |_: &StartTask| policy);
        worker.machine = Some(machine);
        self.follow(address, output);
    }

    fn follow(&mut self, address: &str, output: Output) {
        let worker = self.workers.get_mut(address).expect("a worker");
        for write in output.writes {
            match write {
                Write::Put(receipt) => drop(worker.receipts.insert(receipt.start.task_id.clone(), *receipt)),
                Write::Remove { task_id, .. } => drop(worker.receipts.remove(&task_id)),
                Write::RemoveAll { .. } => worker.receipts.clear(),
            }
        }
        let process = self.process;
        for action in output.actions {
            match action {
                Action::Run { execution, task, .. } => self.run_at(address, execution, &task),
                Action::StopRun { execution, .. } => {
                    let life = self.workers[address].life;
                    self.after(0, 5, Happening::Execution(address.to_owned(), life, execution));
                }
                Action::Report { part, report, .. } => {
                    let duty = Duty::Report(part, report.task_id.clone(), report.report_time);
                    let asker = Asker { duty, ..self.asker(address, 0) };
                    self.workers.get_mut(address).expect("a worker").waits.insert(asker.duty.clone());
                    self.after(5_000, 5_001, Happening::Answer(asker.clone(), false));
                    self.send(address, Happening::ToTracker(process, Event::Report(report), Some(asker)));
                }
                Action::Load { report, .. } => {
                    self.send(address, Happening::ToTracker(process, Event::Worker(report), None));
                }
                Action::Line { .. } | Action::Stopped(_) | Action::Release(_) => {}
            }
        }
        let worker = &self.workers[address];
        if let Some(at) = worker.machine.as_ref().and_then(Machine::wake_at) {
            let life = worker.life;
            self.at(at.max(self.now + 1), Happening::Tick(address.to_owned(), life));
        }
    }

    fn run_at(&mut self, address: &str, execution: u64, task: &StartTask) {
        let (maps, success) = self.fate(task);
        let life = self.workers[address].life;
        let run = Execution { task: task.clone(), begun: true, maps, question: None, success };
        self.workers.get_mut(address).expect("a worker").executions.insert(execution, run);
        let longest = self.duration();
        self.after(0, longest, Happening::Execution(address.to_owned(), life, execution));
    }

    /// A processor has ended.
    pub(super) fn ended_at(&mut self, address: &str, execution: u64, success: bool, text: String) {
        let result = if success { ProcessResult::success(text) } else { ProcessResult::failed(text) };
        self.happens_at(address, WorkerEvent::Ended { execution, result, context: Default::default() });
    }

    /// A report was answered, or nobody answered in time; the first of the two counts.
    pub(super) fn reported_at(&mut self, asker: &Asker, ok: bool) {
        let Duty::Report(part, task_id, report_time) = asker.duty.clone() else { return };
        if !self.workers.get_mut(&asker.worker).expect("a worker").waits.remove(&asker.duty) {
            return;
        }
        let answered = if ok { Answered::Accepted } else { Answered::Lost("no answer".to_owned()) };
        self.happens_at(&asker.worker, WorkerEvent::Reported { part, task_id, report_time, answered });
    }

    /// What this process's own worker stores is of other trackers, of which there are none here.
    pub(super) fn own_has_no_receipts(&self) {
        assert!(self.workers[OWN].receipts.is_empty(), "the own worker's tasks are in the tracker's table");
    }
}
