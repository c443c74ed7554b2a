//! The driver of the tracker: one transaction, then the actions, and death between any two steps.

use super::{
    super::super::{Action, Event, Output, Recovery, Tracker},
    Asker, EPOCH, FAULT_TIME, Happening, INSTANCE, OWN, Worker, World,
};
use crate::{
    core::Now,
    tasks::{api::StartTask, table::Table},
};

impl World {
    pub(super) fn core_now(&self) -> Now {
        let wall_ms = EPOCH + i64::try_from(self.now).expect("small");
        // Every process has a monotonic clock of its own.
        Now { mono_ms: self.now + 1_000 * u64::from(self.process), wall_ms, server_ms: wall_ms }
    }

    /// Events through the tracker, as the host does it.
    pub(super) fn handle(&mut self, batch: Vec<(Event, Option<Asker>)>) {
        let now = self.core_now();
        let Some(mut tracker) = self.tracker.take() else {
            // Nobody listens: the sender sees that.
            for (_, asker) in batch {
                if let Some(asker) = asker {
                    self.send(&asker.worker.clone(), Happening::Answer(asker, false));
                }
            }
            return;
        };
        let (mut out, mut answers) = (Output::default(), Vec::new());
        let table = Table::new(&self.db, "main", INSTANCE);
        self.db.execute_batch("SAVEPOINT batch").expect("begun");
        for (event, asker) in batch {
            let answer = tracker.handle(&table, now, event.clone(), &mut out).expect("the table");
            answers.push((event, asker, answer));
        }
        tracker.settle(&table, now, 0, &mut out).expect("the table");
        let faulty = self.now < FAULT_TIME && self.faults.transactions > 0;
        let accident = faulty && self.rng.next().is_multiple_of(self.faults.transactions);
        if accident && self.rng.percent(50) {
            // The transaction is lost: with the process, or alone.
            self.db.execute_batch("ROLLBACK TO batch; RELEASE batch").expect("undone");
            if self.rng.percent(50) {
                return self.crash();
            }
            return self.reload();
        }
        self.db.execute_batch("RELEASE batch").expect("committed");
        self.check_counts(&tracker);
        for (event, asker, answer) in answers {
            self.check_answer(&event, &answer);
            if let Some(asker) = asker {
                self.send(&asker.worker.clone(), Happening::Answer(asker, answer.is_ok()));
            }
        }
        let reached = if accident { self.rng.between(0, 1 + out.actions.len() as u64) } else { u64::MAX };
        self.wake_by(&tracker);
        self.tracker = Some(tracker);
        for (step, action) in (0_u64..).zip(out.actions) {
            if step == reached {
                break;
            }
            self.act(action);
        }
        if accident && !self.done {
            self.crash();
        }
    }

    fn wake_by(&mut self, tracker: &Tracker) {
        let Some(at) = tracker.wake_at() else { return };
        let at = at.saturating_sub(1_000 * u64::from(self.process)).max(self.now + 1);
        if self.wake.is_none_or(|planned| at < planned) {
            self.wake = Some(at);
            self.at(at, Happening::Wake(self.process));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { ticket, task, results } => {
                self.check_start(&task);
                *self.starts.entry(task.task_id.clone()).or_default() += 1;
                let (address, process) = (ticket.address.clone(), self.process);
                self.given.insert(address.clone());
                self.send(&address.clone(), Happening::Start(address, task, Some(ticket), process, results));
            }
            Action::AskCluster => self.after(1, 200, Happening::Cluster(self.process)),
            Action::Log(_, text) => {
                if self.traced {
                    println!("{:>8}     {text}", self.now);
                }
            }
            Action::Sweep => {}
            Action::Finish(end) => self.finished(&end),
        }
    }

    /// This process dies, and with it its own worker.
    pub(super) fn crash(&mut self) {
        if self.now >= FAULT_TIME || self.done {
            if self.tracker.is_none() && !self.done {
                self.restart();
            }
            return;
        }
        if self.traced {
            println!("{:>8} ===== killed", self.now);
        }
        self.tracker = None;
        self.wake = None;
        self.process += 1;
        self.own_has_no_receipts();
        self.kill(OWN);
        self.after(100, 30_000, Happening::Restart);
    }

    /// A worker's process dies; what it had stored stays.
    pub(super) fn kill(&mut self, address: &str) {
        let worker = self.workers.get_mut(address).expect("a worker");
        let (life, clock) = (worker.life + 1, worker.clock + 1_000_000);
        let (ours, receipts) = (worker.ours, std::mem::take(&mut worker.receipts));
        *worker = Worker { life, clock, ours, receipts, ..Worker::default() };
    }

    /// The next process takes the instance up.
    pub(super) fn restart(&mut self) {
        if self.tracker.is_some() || self.done {
            return;
        }
        if !std::mem::replace(&mut self.workers.get_mut(OWN).expect("the own worker").alive, true) {
            self.begin_machine(OWN);
        }
        let recovery = Recovery::Restarted(self.policy);
        self.enter(recovery);
    }

    /// A transaction failed: the same process reads the table again.
    fn reload(&mut self) {
        self.enter(Recovery::Rolledback);
    }

    fn enter(&mut self, recovery: Recovery) {
        let (now, mut out) = (self.core_now(), Output::default());
        let table = Table::new(&self.db, "main", INSTANCE);
        let taken = Tracker::recover(self.spec.clone(), &table, now, recovery, &mut out).expect("the table");
        let mut tracker = match taken {
            Some(tracker) => tracker,
            None => Tracker::start(self.spec.clone(), &table, now, &mut out).expect("the table"),
        };
        if let Some(end) = tracker.end().cloned() {
            return self.finished(&end);
        }
        if recovery != Recovery::Rolledback {
            assert!(tracker.at(OWN, |_| true).is_empty(), "tasks are at work in a process that is gone");
        }
        if self.stopped && tracker.handle(&table, now, Event::Stop(crate::StopReason::Stopped), &mut out).is_ok() {
            return self.done = true;
        }
        tracker.settle(&table, now, 0, &mut out).expect("the table");
        self.wake_by(&tracker);
        self.tracker = Some(Box::new(tracker));
        for action in out.actions {
            self.act(action);
        }
    }

    /// A start reaches its worker, or does not.
    pub(super) fn start_arrives(
        &mut self,
        address: &str,
        task: StartTask,
        ticket: Option<super::StartTicket>,
        process: u32,
        results: Option<(i64, String)>,
    ) {
        if address == OWN && process != self.process {
            return;
        }
        if !self.workers[address].alive {
            if let Some(ticket) = ticket {
                let error = crate::tasks::api::PeerError::Unreachable("refused".to_owned());
                self.after(1, 20, Happening::ToTracker(process, Event::StartFailed { ticket, error }, None));
            }
            return;
        }
        if let Some((run, root)) = results {
            self.check_results(&task, run, &root);
        }
        self.accept(address, task);
    }
}
