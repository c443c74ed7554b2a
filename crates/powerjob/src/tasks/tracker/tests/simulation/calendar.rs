//! What happens when, and the network.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::{
    super::super::{Event, Spec, TrackerOptions, bugs::Bug},
    Asker, Duty, FAULT_TIME, Faults, Happening, INSTANCE, LIMIT, OWN, Rng, Worker, World,
};
use crate::{RestartPolicy, wire::ServerScheduleJobReq};

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>, db: Connection) -> Self {
        let mut rng = Rng::salted(seed, 0x5851_F42D_4C95_7F2D);
        let quiet = Faults { loss: 0, doubled: 0, late: 0, kills: 0, crashes: 0, transactions: 0 };
        let faults = match seed % 5 {
            0 => quiet,
            1 => Faults { loss: 8, doubled: 5, late: 3, ..quiet },
            2 => Faults { kills: 3, ..quiet },
            3 => Faults { crashes: 4, transactions: 40, ..quiet },
            _ => Faults { loss: 5, doubled: 5, late: 3, kills: 2, crashes: 2, transactions: 60 },
        };
        let others = rng.between(0, 3);
        let mut addresses = vec![OWN.to_owned()];
        addresses.extend((0..others).map(|i| format!("10.0.0.{}:27777", i + 2)));
        let kind = ["MAP_REDUCE", "MAP_REDUCE", "MAP", "BROADCAST"][rng.between(0, 4) as usize];
        let (time, more) = match rng.between(0, 8) {
            0 => ("FIXED_RATE", format!(r#","timeExpression":"{}","maxInstanceNum":2"#, rng.between(2_000, 9_000))),
            1 => ("FIXED_DELAY", format!(r#","timeExpression":"{}""#, rng.between(500, 9_000))),
            _ => ("API", String::new()),
        };
        let kind = if time != "API" && rng.percent(40) { "STANDALONE" } else { kind };
        let paddling = if others > 0 && rng.percent(15) { 11 } else { 1 };
        let text = format!(
            r#"{{"jobId":1,"instanceId":{INSTANCE},"executeType":"{kind}","timeExpressionType":"{time}","instanceTimeoutMS":0,
                "allWorkerAddress":{addresses:?},"threadConcurrency":{},"taskRetryNum":{},
                "advancedRuntimeConfig":"{{\"taskTrackerBehavior\":{paddling}}}"{more}}}"#,
            rng.between(1, 6),
            rng.between(0, 3),
        );
        let request = ServerScheduleJobReq::parse(text.as_bytes()).expect("a dispatch");
        let spec =
            Spec::new(OWN, &request, TrackerOptions { bug, ..TrackerOptions::default() }).expect("it can be executed");
        let policy = if rng.percent(50) { RestartPolicy::Fail } else { RestartPolicy::Rerun };
        let workers = addresses
            .iter()
            .map(|address| {
                let clock = i64::try_from(rng.between(0, 10_000_000)).expect("small");
                (address.clone(), Worker { alive: true, ours: rng.percent(50), clock, ..Worker::default() })
            })
            .collect();
        let mut world = Self {
            rng,
            faults,
            db,
            now: 0,
            calendar: BTreeMap::new(),
            entries: 0,
            spec,
            policy,
            tracker: None,
            process: 0,
            wake: None,
            workers,
            executions: 0,
            questions: 0,
            mapped: BTreeSet::new(),
            starts: BTreeMap::new(),
            given: BTreeSet::new(),
            stopped: false,
            traced: std::env::var_os("TESTRIG_SIM_SEED").is_some(),
            done: false,
        };
        if world.traced {
            println!("{text} {policy:?} {faults:?}");
        }
        world.plan(&addresses);
        for address in &addresses {
            world.begin_machine(address);
        }
        world
    }

    fn plan(&mut self, addresses: &[String]) {
        self.at(0, Happening::Restart);
        for _ in 0..self.faults.crashes {
            let at = self.rng.between(1, FAULT_TIME);
            self.at(at, Happening::Crash);
        }
        for address in addresses.iter().skip(1) {
            for _ in 0..self.faults.kills {
                let (at, dead) = (self.rng.between(1, FAULT_TIME), self.rng.between(500, 150_000));
                self.at(at, Happening::Kill(address.clone()));
                self.at(at + dead, Happening::Revive(address.clone()));
            }
        }
        if self.spec.firings.is_some() || self.rng.percent(5) {
            let at = self.rng.between(1, 2 * FAULT_TIME);
            self.at(at, Happening::Stop);
        }
    }

    pub(super) fn at(&mut self, at: u64, happening: Happening) {
        self.entries += 1;
        self.calendar.insert((at.max(self.now), self.entries), happening);
    }

    pub(super) fn after(&mut self, low: u64, high: u64, happening: Happening) {
        let at = self.now + self.rng.between(low, high);
        self.at(at, happening);
    }

    /// A message between two workers; within this process nothing is lost, but order is not promised.
    pub(super) fn send(&mut self, worker: &str, happening: Happening) {
        if worker == OWN {
            return self.after(0, 3, happening);
        }
        let faulty = self.now < FAULT_TIME;
        if faulty && self.rng.percent(self.faults.doubled) {
            self.after(1, 3_000, happening.clone());
        }
        if faulty && self.rng.percent(self.faults.loss) {
            return;
        }
        let longest = if faulty && self.rng.percent(self.faults.late) { 40_000 } else { 80 };
        self.after(1, longest, happening);
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        if self.traced && !matches!(happening, Happening::Wake(_) | Happening::Tick(..)) {
            println!("{:>8} {happening:?}", self.now);
        }
        match happening {
            Happening::ToTracker(process, event, asker) => {
                // A message finds whichever process listens at the address; its own worker's messages die with it.
                let own = matches!(event, Event::StartFailed { .. }) || asker.as_ref().is_some_and(|a| a.worker == OWN);
                if !own || process == self.process {
                    self.handle(vec![(event, asker)]);
                }
            }
            Happening::Start(address, task, ticket, process, results) => {
                self.start_arrives(&address, *task, ticket, process, results);
            }
            Happening::Execution(address, life, id) => self.go_on(&address, life, id),
            Happening::Answer(asker, ok) => self.answered(&asker, ok),
            Happening::Tick(address, life) => self.tick(&address, life),
            Happening::Wake(process) if process == self.process => {
                self.wake = None;
                self.handle(Vec::new());
            }
            Happening::Wake(_) => {}
            Happening::Cluster(process) => {
                if process == self.process && !(self.now < FAULT_TIME && self.rng.percent(self.faults.loss)) {
                    let alive = self.workers.iter().filter(|(_, worker)| worker.alive);
                    let answer = Ok(alive.map(|(address, _)| address.clone()).collect());
                    self.handle(vec![(Event::Cluster(answer), None)]);
                }
            }
            Happening::Kill(address) => {
                self.kill(&address);
            }
            Happening::Revive(address) => {
                if !std::mem::replace(&mut self.workers.get_mut(&address).expect("a worker").alive, true) {
                    self.begin_machine(&address);
                }
            }
            Happening::Crash => self.crash(),
            Happening::Restart => self.restart(),
            Happening::Stop => {
                self.stopped = true;
                if self.tracker.is_some() {
                    self.handle(vec![(Event::Stop(crate::StopReason::Stopped), None)]);
                }
            }
        }
    }

    /// True if the history was worth something: the instance had more than a root.
    pub(super) fn run(mut self) -> bool {
        while let Some(((at, _), happening)) = self.calendar.pop_first() {
            self.now = at;
            self.happen(happening);
            if self.done {
                return self.mapped.len() > 1;
            }
            assert!(at < LIMIT, "it has not ended: {}", self.open_tasks());
        }
        panic!("nothing will happen any more and it has not ended: {}", self.open_tasks());
    }

    pub(super) fn asker(&self, worker: &str, execution: u64) -> Asker {
        Asker { worker: worker.to_owned(), life: self.workers[worker].life, execution, duty: Duty::Final }
    }
}
