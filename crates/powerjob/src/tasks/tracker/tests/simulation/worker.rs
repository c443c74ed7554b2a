//! Workers: a queue, a few threads, reports that overtake each other, repeats until accepted.

use super::{super::super::Event, Asker, Duty, Execution, Happening, INSTANCE, OWN, ReportTask, ReportWorker, World};
use crate::tasks::{
    api::{BROADCAST_TASK, LAST_TASK, MapTask, ROOT_TASK, StartTask, SubTask},
    processor::{Event as WorkerEvent, Machine},
};

/// As the Java worker's queue.
const QUEUE: usize = 128;
const IDLE_AFTER: u64 = 120_000;

impl World {
    fn stamp(&mut self, address: &str) -> i64 {
        let now = i64::try_from(self.now).expect("small");
        let worker = self.workers.get_mut(address).expect("a worker");
        worker.clock = (worker.clock + 1).max(now);
        worker.clock
    }

    /// A task arrives at a living worker.
    pub(super) fn accept(&mut self, address: &str, task: StartTask) {
        let worker = self.workers.get_mut(address).expect("a worker");
        if worker.ours {
            return self.happens_at(address, WorkerEvent::Start(task));
        }
        worker.idle_since = self.now;
        if worker.executions.len() >= QUEUE {
            return;
        }
        let life = worker.life;
        if !std::mem::replace(&mut worker.open, true) {
            self.load(address, 2);
            self.after(10_000, 10_001, Happening::Tick(address.to_owned(), life));
        }
        self.executions += 1;
        let id = self.executions;
        // The order in which these are stamped is not that in which they arrive, nor that of the final report.
        let received = self.stamp(address);
        self.tell(address, &task, 3, received);
        let (maps, success) = self.fate(&task);
        let execution = Execution { task, begun: false, maps, question: None, success };
        self.workers.get_mut(address).expect("a worker").executions.insert(id, execution);
        self.begin(address);
    }

    /// Starts what a free thread can take.
    fn begin(&mut self, address: &str) {
        let threads = self.spec.concurrency;
        let worker = self.workers.get_mut(address).expect("a worker");
        let life = worker.life;
        let busy = worker.executions.values().filter(|execution| execution.begun).count();
        let ready: Vec<u64> = worker
            .executions
            .iter()
            .filter(|(_, execution)| !execution.begun)
            .map(|(&id, _)| id)
            .take(threads.saturating_sub(busy))
            .collect();
        for id in ready {
            let execution = self.workers.get_mut(address).and_then(|worker| worker.executions.get_mut(&id));
            let Some(execution) = execution else { continue };
            execution.begun = true;
            let task = execution.task.clone();
            let time = self.stamp(address);
            self.tell(address, &task, 4, time);
            let longest = self.duration();
            self.after(0, longest, Happening::Execution(address.to_owned(), life, id));
        }
    }

    /// How long an execution takes at the most, ms.
    pub(super) fn duration(&mut self) -> u64 {
        [3, 50, 5_000, 25_000][self.rng.between(0, 4) as usize]
    }

    /// What the task will do: the messages of its `map()`, and whether it succeeds.
    pub(super) fn fate(&mut self, task: &StartTask) -> (Vec<MapTask>, bool) {
        let depth = task.task_id.split('.').count();
        let maps = match task.task_name.as_str() {
            LAST_TASK | BROADCAST_TASK => 0,
            _ if !matches!(task.instance.execute_type.as_str(), "MAP" | "MAP_REDUCE") => 0,
            ROOT_TASK => self.rng.between(0, 25),
            _ if depth <= 2 && self.rng.percent(8) => self.rng.between(0, 4),
            _ => 0,
        };
        let batch = self.rng.between(1, 10);
        let mut messages = Vec::new();
        let mut first = 0;
        while first < maps {
            let ids = (first..maps.min(first + batch)).map(|i| format!("{}.{i}", task.task_id));
            let sub_tasks = ids.map(|id| SubTask { content: id.clone().into_bytes(), task_id: id }).collect();
            messages.push(MapTask {
                instance_id: INSTANCE,
                sub_instance_id: task.sub_instance_id,
                task_name: "SHARD".to_owned(),
                sub_tasks,
            });
            first += batch;
        }
        messages.reverse();
        (messages, !self.rng.percent(15))
    }

    /// An execution maps its next batch, or ends.
    pub(super) fn go_on(&mut self, address: &str, life: u32, id: u64) {
        let worker = self.workers.get_mut(address).expect("a worker");
        if worker.life != life {
            return;
        }
        let Some(execution) = worker.executions.get_mut(&id) else { return };
        worker.idle_since = self.now;
        if let Some(map) = execution.maps.pop() {
            self.questions += 1;
            execution.question = Some(self.questions);
            let asker = Asker { duty: Duty::Map(self.questions), ..self.asker(address, id) };
            // Without an answer the call fails, and with it the execution.
            self.after(5_000, 5_001, Happening::Answer(asker.clone(), false));
            let process = self.process;
            return self.send(address, Happening::ToTracker(process, Event::Map(map), Some(asker)));
        }
        self.end_execution(address, id, None);
    }

    fn end_execution(&mut self, address: &str, id: u64, failed: Option<&str>) {
        let worker = self.workers.get_mut(address).expect("a worker");
        let Some(execution) = worker.executions.remove(&id) else { return };
        let success = execution.success && failed.is_none();
        let text = failed.map_or_else(|| format!("{} on {address}", execution.task.task_id), str::to_owned);
        if worker.ours {
            return self.ended_at(address, id, success, text);
        }
        let report = report(&execution.task, if success { 6 } else { 5 }, Some(text));
        self.workers.get_mut(address).expect("a worker").unsent.insert(id, report);
        self.ask(address, id);
        self.begin(address);
    }

    /// Sends a final report, each time with a new time.
    fn ask(&mut self, address: &str, id: u64) {
        let time = self.stamp(address);
        // A Java worker stamps "received" in another thread: it may carry a later time than the end.
        let early = if self.rng.percent(10) { 5 } else { 0 };
        let Some(report) = self.workers.get_mut(address).and_then(|worker| worker.unsent.get_mut(&id)) else { return };
        report.report_time = time - early;
        let report = report.clone();
        let (asker, process) = (self.asker(address, id), self.process);
        self.send(address, Happening::ToTracker(process, Event::Report(report), Some(asker)));
    }

    pub(super) fn answered(&mut self, asker: &Asker, ok: bool) {
        let worker = self.workers.get_mut(&asker.worker).expect("a worker");
        if worker.life != asker.life {
            return;
        }
        let (life, id) = (asker.life, asker.execution);
        let question = match asker.duty {
            Duty::Report(..) => return self.reported_at(asker, ok),
            Duty::Map(question) => question,
            Duty::Final => {
                if ok {
                    worker.unsent.remove(&id);
                }
                return;
            }
        };
        let Some(execution) = worker.executions.get_mut(&id).filter(|e| e.question == Some(question)) else { return };
        execution.question = None;
        if ok {
            self.after(0, 5, Happening::Execution(asker.worker.clone(), life, id));
        } else {
            self.end_execution(&asker.worker, id, Some("map failed"));
        }
    }

    fn tell(&mut self, address: &str, task: &StartTask, status: i32, time: i64) {
        let told = ReportTask { report_time: time, ..report(task, status, None) };
        let process = self.process;
        if address == OWN {
            return self.after(0, 3, Happening::ToTracker(process, Event::Report(told), Some(self.asker(address, 0))));
        }
        self.send(address, Happening::ToTracker(process, Event::Report(told), None));
    }

    fn load(&mut self, address: &str, kind: i32) {
        let time = self.stamp(address);
        let waiting = self.workers[address].executions.values().filter(|execution| !execution.begun).count();
        let remain_task_num = i64::try_from(waiting).expect("small");
        let report = ReportWorker { kind, instance_id: INSTANCE, time, remain_task_num, address: address.to_owned() };
        let process = self.process;
        self.send(address, Happening::ToTracker(process, Event::Worker(report), None));
    }

    /// Every 10 s: repeats, then the load; or idle.
    pub(super) fn tick(&mut self, address: &str, life: u32) {
        let worker = self.workers.get_mut(address).expect("a worker");
        if worker.life == life && worker.ours {
            if worker.machine.as_ref().and_then(Machine::wake_at).is_some_and(|at| at <= self.now) {
                self.happens_at(address, WorkerEvent::Tick);
            }
            return;
        }
        if worker.life != life || !worker.open {
            return;
        }
        let idle = worker.executions.is_empty() && worker.unsent.is_empty();
        if idle && self.now > worker.idle_since + IDLE_AFTER && address != OWN {
            worker.open = false;
            return self.load(address, 1);
        }
        let unsent: Vec<u64> = worker.unsent.keys().copied().collect();
        for id in unsent {
            self.ask(address, id);
        }
        self.load(address, 2);
        self.after(10_000, 10_001, Happening::Tick(address.to_owned(), life));
    }
}

fn report(task: &StartTask, status: i32, result: Option<String>) -> ReportTask {
    let cmd = (task.task_name == ROOT_TASK && task.instance.execute_type == "BROADCAST" && status > 4).then_some(1);
    ReportTask {
        instance_id: INSTANCE,
        sub_instance_id: task.sub_instance_id,
        task_id: task.task_id.clone(),
        status,
        result,
        report_time: 0,
        cmd,
        appended_wf_context: None,
        rejected: false,
    }
}
