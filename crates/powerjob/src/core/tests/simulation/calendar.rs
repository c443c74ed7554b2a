//! The world around the worker: what happens when, and what must hold in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::rig::{EPOCH, Store, config, dispatch},
    Faults, Happening, Rng, Server, World, model,
};
use crate::core::{Core, CoreConfig, Dispatch, Event, Now, Recovered};

const FAULT_TIME: u64 = 240_000;

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let faults = match seed % 4 {
            // Only the worker dies, and is back soon: the server must not notice.
            0 => Faults { loss: 0, outages: false, clock_steps: false, crashes: 6, dead: 8_000, stops: false },
            1 => Faults { loss: 0, outages: false, clock_steps: true, crashes: 4, dead: 90_000, stops: true },
            2 => Faults { loss: 10, outages: true, clock_steps: false, crashes: 0, dead: 1, stops: true },
            _ => Faults { loss: 8, outages: true, clock_steps: true, crashes: 5, dead: 120_000, stops: true },
        };
        let slots = usize::try_from(rng.between(1, 4)).expect("small");
        let backlog = if rng.percent(20) { 1 } else { 50 };
        let heavy = if rng.percent(20) { 1 } else { 64 };
        let mut world = Self {
            rng,
            faults,
            now: 0,
            calendar: BTreeMap::new(),
            entries: 0,
            wall_offset: 0,
            server: Server { up: true, born: 1, ..Server::default() },
            config: CoreConfig { heavy, ..config(slots, backlog) },
            core: None,
            process: 0,
            process_origin: 0,
            wake: None,
            ticks_now: (0, 0),
            store: Store::default(),
            runs: BTreeMap::new(),
            logs: BTreeMap::new(),
            jobs: BTreeMap::new(),
            sent: BTreeMap::new(),
            silenced: BTreeSet::new(),
            succeeded: BTreeSet::new(),
            unknowable: BTreeSet::new(),
            faults_end: FAULT_TIME,
            ignored_dispatches: backlog == 1 || heavy == 1,
            traced: std::env::var_os("TESTRIG_SIM_SEED").is_some(),
        };
        world.plan();
        let now = world.core_now();
        world.core = Some(Core::new(world.config.clone(), Recovered::default(), now));
        world.handle(Event::Tick);
        world
    }

    /// Writes everything that comes from outside into the calendar.
    pub(super) fn plan(&mut self) {
        self.at(10_000, Happening::ServerLoops);
        for id in 1..=self.rng.between(3, 10) {
            let id = i64::try_from(id).expect("small");
            let job = Dispatch {
                task_retry_num: u32::try_from(self.rng.between(0, 3)).expect("small"),
                timeout_ms: self.rng.percent(20).then(|| self.rng.between(1_000, 60_000)),
                ..self.kind(dispatch(id))
            };
            self.jobs.insert(id, job);
            let at = self.rng.between(1_000, 120_000);
            self.at(at, Happening::Create(id));
            if self.faults.stops && self.rng.percent(40) {
                let latest = if self.rng.percent(30) { 100 } else { 60_000 };
                let pressed = at + self.rng.between(0, latest);
                let server_dies = self.faults.outages && self.rng.percent(20);
                self.at(pressed, Happening::StopPressed(id, server_dies));
                if self.rng.percent(40) {
                    let again = pressed + self.rng.between(50, 40_000);
                    self.at(again, Happening::RetryPressed(id));
                }
            }
        }
        for _ in 0..self.faults.crashes {
            let at = self.rng.between(0, FAULT_TIME);
            self.at(at, Happening::Crash);
        }
        for _ in 0..if self.faults.outages { 3 } else { 0 } {
            let (at, length) = (self.rng.between(0, FAULT_TIME), self.rng.between(500, 100_000));
            self.at(at, Happening::ServerDown(length));
        }
        for _ in 0..if self.faults.clock_steps { 3 } else { 0 } {
            let at = self.rng.between(0, FAULT_TIME);
            let step = i64::try_from(self.rng.between(0, 7_200_000)).expect("small") - 3_600_000;
            self.at(at, Happening::ClockStep(step));
        }
    }

    /// One run, an instance with tasks, a frequent one, or one that this worker cannot serve.
    fn kind(&mut self, dispatch: Dispatch) -> Dispatch {
        match self.rng.between(0, 20) {
            0..5 => Dispatch { execute_type: "MAP_REDUCE".into(), ..dispatch },
            5 | 6 => Dispatch { time_expression_type: "FIXED_RATE".into(), ..dispatch },
            7 => Dispatch { processor_type: "EXTERNAL".into(), ..dispatch },
            _ => dispatch,
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

    pub(super) fn loses(&mut self) -> bool {
        self.now < self.faults_end && self.rng.percent(self.faults.loss)
    }

    pub(super) fn core_now(&self) -> Now {
        let wall_ms = EPOCH + i64::try_from(self.now).expect("small") + self.wall_offset;
        Now { mono_ms: 1_000 + self.now - self.process_origin, wall_ms, server_ms: wall_ms }
    }

    pub(super) fn dispatch_due(&mut self) {
        for id in self.server.due(self.now) {
            let (arrives, stored) = (self.rng.between(1, 50), self.rng.between(1, 300));
            if !self.loses() {
                self.at(self.now + arrives, Happening::RunJobArrives(id));
                if self.loses() {
                    self.at(self.now + arrives + 20, Happening::RunJobArrives(id));
                }
            }
            self.at(self.now + stored, Happening::DispatchStored(id));
        }
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        if self.traced
            && !matches!(
                happening,
                Happening::ToCore(..) | Happening::Wake(_) | Happening::LogPoll(..) | Happening::ToServer(..)
            )
        {
            println!("{:>8} * {happening:?}", self.now);
        }
        match happening {
            Happening::ToCore(process, event) if process == self.process => self.handle(*event),
            Happening::Wake(process) if process == self.process => {
                self.wake = None;
                self.handle(Event::Tick);
            }
            Happening::LogPoll(process, id) if process == self.process => self.poll_log(id),
            Happening::ToCore(..) | Happening::Wake(_) | Happening::LogPoll(..) => {}
            Happening::ToServer(process, sent, action) => self.arrive_at_server(process, sent, *action),
            Happening::RunEnds(id, attempt) => self.run_ends(id, attempt),
            Happening::Create(id) => {
                let retries = u32::try_from(self.rng.between(0, 3)).expect("small");
                self.server.create(id, retries, self.now);
                self.dispatch_due();
            }
            Happening::RunJobArrives(id) => {
                let job = self.jobs[&id].clone();
                self.handle(Event::RunJob(job));
            }
            Happening::DispatchStored(id) => self.server.store_dispatch(id, self.now),
            Happening::StopPressed(id, server_dies) => {
                if !self.server.stop(id, self.now) {
                    return;
                }
                self.succeeded.remove(&id);
                if server_dies {
                    self.happen(Happening::ServerDown(40_000));
                } else {
                    self.after(1, 200, Happening::StopArrives(id));
                    if self.faults.loss > 0 && self.rng.percent(10) {
                        self.after(1, 30, Happening::StopArrives(id));
                    }
                }
            }
            Happening::StopArrives(id) => {
                if self.core.is_none() && !self.store.records.contains_key(&id) {
                    self.unknowable.insert(id);
                }
                self.handle(Event::StopInstance(id));
            }
            Happening::RetryPressed(id) => {
                if self.server.retry(id, self.now) {
                    self.succeeded.remove(&id);
                    self.dispatch_due();
                }
            }
            Happening::ServerLoops => {
                self.server.check(self.now);
                self.check_logs();
                self.dispatch_due();
                self.at(self.now + 10_000, Happening::ServerLoops);
            }
            Happening::ServerDown(length) => {
                if std::mem::replace(&mut self.server.up, false) {
                    self.at(self.now + length, Happening::ServerUp);
                }
            }
            Happening::ServerUp => {
                self.server.up = true;
                self.server.born += 1;
                self.server.heartbeat = None;
                self.server.failovers ^= u8::from(self.rng.percent(30));
            }
            Happening::ClockStep(step) => self.wall_offset += step,
            Happening::Crash => self.crash(),
            Happening::Restart => self.restart(),
        }
    }

    pub(super) fn settled(&self) -> bool {
        let rows = self.server.rows.values();
        self.server.rows.len() == self.jobs.len()
            && self.store.records.is_empty()
            && rows.into_iter().all(|row| matches!(row.status, model::FAILED | model::SUCCEED | model::STOPPED))
    }

    pub(super) fn run(mut self) {
        while let Some(((at, _), happening)) = self.calendar.pop_first() {
            self.now = at;
            self.happen(happening);
            if at > self.faults_end + 200_000 && self.settled() {
                return self.check_end();
            }
            assert!(at < 4 * 3_600_000, "not settled: {:?}\n{:?}", self.server.rows, self.store.records);
        }
    }

    pub(super) fn check_end(&self) {
        for (id, row) in &self.server.rows {
            if row.overtaken || self.unknowable.contains(id) {
                continue;
            }
            assert!(
                !row.judged_silent || self.ignored_dispatches || self.jobs[id].is_heavy(),
                "{id} was given up by the server though its worker had an outcome: {row:?}"
            );
            if row.status == model::SUCCEED {
                let result = row.result.as_deref().unwrap_or_default();
                let real =
                    self.runs.iter().any(|((run, _), r)| run == id && r.result.success && r.result.message == result);
                assert!(real, "{id} SUCCEED with {result:?}, which no run said");
            }
        }
        let calm = self.faults.loss == 0 && !self.faults.outages && self.faults.dead <= 8_000;
        assert!(!calm || self.server.judged == 0, "the server noticed that its worker was dead for less than 8 s");
    }
}
