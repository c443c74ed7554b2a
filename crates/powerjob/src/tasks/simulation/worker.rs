//! A worker: the loop around its processor trackers, and processors that take their time.

use std::collections::BTreeMap;

use super::world::{Happening, INSTANCE, OWN, World};
use crate::{
    ProcessResult,
    tasks::{
        api::{BROADCAST_TASK, LAST_TASK, MapTask, ROOT_TASK, ReportTask, StartTask, SubTask},
        processor::{Action, Answered, Bug, Event, Machine, Options, Output, Receipt, Write},
        tracker::StartTicket,
    },
};

pub(super) struct Worker {
    pub(super) address: String,
    pub(super) alive: bool,
    pub(super) life: u32,
    pub(super) machine: Machine,
    /// What a kill leaves.
    pub(super) store: BTreeMap<String, Receipt>,
    pub(super) running: BTreeMap<u64, Running>,
    wake: Option<u64>,
    /// Times of the newest report of each task.
    told: BTreeMap<String, (i64, i32)>,
}

/// A processor at work.
pub(super) struct Running {
    pub(super) task: StartTask,
    /// Messages of its `map()` that have not been stored.
    maps: Vec<MapTask>,
    /// Waits for the answer to one.
    asking: bool,
    success: bool,
    told_to_end: bool,
}

impl Worker {
    pub(super) fn new(address: &str, bug: Option<Bug>) -> Self {
        Self {
            address: address.to_owned(),
            alive: true,
            life: 0,
            machine: Machine::new(address, Options { bug, ..Options::default() }),
            store: BTreeMap::new(),
            running: BTreeMap::new(),
            wake: None,
            told: BTreeMap::new(),
        }
    }
}

impl World {
    fn worker(&mut self, address: &str) -> &mut Worker {
        self.workers.get_mut(address).expect("a worker")
    }

    pub(super) fn handle(&mut self, address: &str, event: Event) {
        let now = self.core_now();
        let output = self.worker(address).machine.handle(now, event);
        self.carry_out(address, output);
    }

    pub(super) fn carry_out(&mut self, address: &str, output: Output) {
        for write in output.writes {
            assert_ne!(address, OWN, "the own tracker's tasks are in its table");
            let store = &mut self.worker(address).store;
            match write {
                Write::Put(receipt) => drop(store.insert(receipt.start.task_id.clone(), *receipt)),
                Write::Remove { task_id, .. } => drop(store.remove(&task_id)),
                Write::RemoveAll { .. } => store.clear(),
            }
        }
        for action in output.actions {
            self.act_on(address, action);
        }
        let worker = self.worker(address);
        let (life, wake) = (worker.life, worker.machine.wake_at());
        if let Some(at) = wake
            && worker.wake.is_none_or(|planned| at < planned)
        {
            worker.wake = Some(at);
            self.at(at, Happening::Tick { at: address.to_owned(), life });
        }
    }

    fn act_on(&mut self, address: &str, action: Action) {
        let life = self.workers[address].life;
        match action {
            Action::Run { execution, task, .. } => self.begin(address, execution, (*task).clone()),
            Action::StopRun { execution, .. } => {
                if let Some(running) = self.worker(address).running.get_mut(&execution) {
                    running.told_to_end = true;
                    self.after(0, 400, Happening::Work { at: address.to_owned(), life, execution });
                }
            }
            Action::Report { part, report, .. } => self.send_report(address, part, report),
            Action::Load { report, .. } => {
                if let Some(ms) = self.way(address) {
                    let at = self.now + ms;
                    self.at(at, Happening::Load { from: address.to_owned(), life, report });
                }
            }
            Action::Line { .. } | Action::Stopped(_) | Action::Release(_) => {}
        }
    }

    fn send_report(&mut self, address: &str, part: u64, report: ReportTask) {
        let (id, said) = (report.task_id.clone(), (report.report_time, report.status));
        let before = self.worker(address).told.insert(id.clone(), said).unwrap_or((0, 0));
        assert!(said.0 > before.0 || said == before, "{address} says {said:?} of {id} after {before:?}");
        let (from, life) = (address.to_owned(), self.workers[address].life);
        let (there, answer_lost) = self.question(address);
        let (task_id, report_time) = (report.task_id.clone(), report.report_time);
        if there.is_none() || answer_lost {
            let answered = Answered::Lost("time-out".to_owned());
            let at = self.give_up_at();
            self.at(at, Happening::Answered { to: from.clone(), life, part, task_id, report_time, answered });
        }
        if let Some(ms) = there {
            let at = self.now + ms;
            self.at(at, Happening::Report { from, life, part, report, answer_lost });
        }
    }

    pub(super) fn start_arrives(&mut self, to: &str, task: StartTask, ticket: StartTicket, process: u32) {
        if to == OWN && process != self.process {
            return;
        }
        if !self.workers[to].alive {
            return self.after(1, 20, Happening::NotStarted { ticket, process });
        }
        if to == OWN && !self.workers[OWN].machine.has_room(INSTANCE, OWN) {
            let start = Happening::Start { to: to.to_owned(), task: Box::new(task), ticket, process };
            return self.after(5, 10, start);
        }
        self.handle(to, Event::Start(task));
    }

    fn begin(&mut self, address: &str, execution: u64, task: StartTask) {
        let worker = &self.workers[address];
        let twice = worker.running.values().any(|running| running.task.task_id == task.task_id);
        assert!(!twice, "{address} runs {} twice at once", task.task_id);
        let slots = self.spec.concurrency.max(2);
        assert!(worker.running.len() < slots, "{address} runs more than {slots}");
        let life = worker.life;
        let (maps, success) = self.fate(&task);
        let running = Running { task, maps, asking: false, success, told_to_end: false };
        self.worker(address).running.insert(execution, running);
        let longest = match self.rng.between(0, 100) {
            0..60 => 5,
            60..92 => 2_000,
            _ => 15_000,
        };
        let ms = self.rng.between(0, longest);
        self.worked += ms;
        let at = self.now + ms;
        self.at(at, Happening::Work { at: address.to_owned(), life, execution });
    }

    /// The messages of a task's `map()`, and whether it succeeds.
    fn fate(&mut self, task: &StartTask) -> (Vec<MapTask>, bool) {
        let depth = task.task_id.split('.').count();
        let count = match task.task_name.as_str() {
            LAST_TASK | BROADCAST_TASK => 0,
            _ if !matches!(task.instance.execute_type.as_str(), "MAP" | "MAP_REDUCE") => 0,
            ROOT_TASK => self.rng.between(0, 40),
            _ if depth == 2 && self.rng.percent(6) => self.rng.between(0, 5),
            _ => 0,
        };
        let batch = usize::try_from(self.rng.between(1, 15)).expect("small");
        let sub = |n| SubTask { task_id: format!("{}.{n}", task.task_id), content: vec![0] };
        let all: Vec<SubTask> = (0..count).map(sub).collect();
        let mut maps: Vec<MapTask> = all
            .chunks(batch)
            .map(|chunk| MapTask {
                instance_id: INSTANCE,
                sub_instance_id: task.sub_instance_id,
                task_name: "SHARD".to_owned(),
                sub_tasks: chunk.to_vec(),
            })
            .collect();
        maps.reverse();
        (maps, !self.rng.percent(10))
    }

    /// A processor maps its next batch, or ends.
    pub(super) fn work(&mut self, at: &str, life: u32, execution: u64) {
        if self.workers[at].life != life {
            return;
        }
        let Some(running) = self.worker(at).running.get_mut(&execution) else { return };
        if running.told_to_end {
            return self.end(at, execution, false);
        }
        if running.asking {
            return;
        }
        let Some(map) = running.maps.last().cloned() else {
            let success = running.success;
            return self.end(at, execution, success);
        };
        running.asking = true;
        let (there, answer_lost) = self.question(at);
        if let Some(ms) = there {
            let (from, when) = (at.to_owned(), self.now + ms);
            self.at(when, Happening::Map { from, life, execution, map, answer_lost });
        }
        // Without an answer the call fails; the answer, if it comes, comes earlier.
        let when = self.give_up_at();
        self.at(when, Happening::Mapped { to: at.to_owned(), life, execution, stored: false });
    }

    pub(super) fn mapped_answer(&mut self, to: &str, life: u32, execution: u64, stored: bool) {
        if self.workers[to].life != life {
            return;
        }
        let Some(running) = self.worker(to).running.get_mut(&execution) else { return };
        if !std::mem::take(&mut running.asking) {
            return;
        }
        if stored {
            running.maps.pop();
            self.after(0, 3, Happening::Work { at: to.to_owned(), life, execution });
        } else {
            self.end(to, execution, false);
        }
    }

    fn end(&mut self, at: &str, execution: u64, success: bool) {
        let Some(running) = self.worker(at).running.remove(&execution) else { return };
        if success {
            *self.ended.entry(running.task.task_id.clone()).or_default() += 1;
        }
        let result = if success { ProcessResult::success("done") } else { ProcessResult::failed("broken") };
        self.handle(at, Event::Ended { execution, result, context: BTreeMap::new() });
    }

    pub(super) fn answer_arrives(
        &mut self,
        to: &str,
        life: u32,
        part: u64,
        task_id: String,
        report_time: i64,
        answered: Answered,
    ) {
        if self.workers[to].life == life {
            self.handle(to, Event::Reported { part, task_id, report_time, answered });
        }
    }

    pub(super) fn tick(&mut self, at: &str, life: u32) {
        if self.workers[at].life == life {
            self.worker(at).wake = None;
            self.handle(at, Event::Tick);
        }
    }

    pub(super) fn stop_arrives(&mut self, to: &str) {
        if !self.workers[to].alive {
            return self.after(900, 1_100, Happening::StopTasks { to: to.to_owned() });
        }
        if self.tracker.is_some() {
            return;
        }
        self.handle(to, if to == OWN { Event::Stop(INSTANCE) } else { Event::StopForOthers(INSTANCE) });
        for running in self.workers[to].running.values() {
            assert!(running.told_to_end, "a stop reaches every processor");
        }
        self.worker(to).told.clear();
        assert!(self.workers[to].store.is_empty(), "nothing of a stopped instance stays");
    }

    pub(super) fn kill(&mut self, address: &str) {
        let bug = self.bug;
        let worker = self.worker(address);
        if !worker.alive {
            return;
        }
        let (life, store) = (worker.life + 1, std::mem::take(&mut worker.store));
        let told = std::mem::take(&mut worker.told);
        *worker = Worker { life, store, told, alive: false, ..Worker::new(address, bug) };
        if address == OWN {
            // Its tracker takes its own tasks up, with times that need not follow those of before.
            self.worker(OWN).told.clear();
            self.tracker = None;
            self.process += 1;
            self.wake = None;
        }
    }

    pub(super) fn revive(&mut self, address: &str) {
        if self.workers[address].alive {
            return;
        }
        let (now, policy) = (self.core_now(), self.policy);
        let worker = self.worker(address);
        worker.alive = true;
        worker.life += 1;
        let receipts: Vec<Receipt> = worker.store.values().cloned().collect();
        let output = worker.machine.recover(now, receipts, &|_| policy);
        self.carry_out(address, output);
        if address == OWN && self.ended_at.is_none() {
            self.start_owner();
        }
    }
}
