//! Time, the network, and what befalls both.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::worker::Worker;
use crate::{
    RestartPolicy,
    chance::Rng,
    core::Now,
    tasks::{
        api::{MapTask, ReportTask, ReportWorker, StartTask},
        processor::{Answered, Bug},
        table::test_connection,
        tracker::{Event, Spec, StartTicket, Tracker, TrackerOptions},
    },
    wire::ServerScheduleJobReq,
};

pub(super) const OWN: &str = "10.0.0.1:27777";
pub(super) const INSTANCE: i64 = 7;
/// Nothing is lost or killed afterwards.
const FAULT_TIME: u64 = 120_000;
/// An instance that has not ended by then hangs.
const LIMIT: u64 = 3_600_000;
/// How long whoever asks waits for the answer.
const ASK: u64 = 5_000;
const EPOCH: i64 = 1_760_000_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// Percent of messages, or of answers.
    pub(super) loss: u64,
    pub(super) late: u64,
    /// Percent of tasks that arrive twice.
    pub(super) doubled: u64,
    /// Number of kills of each worker but the owner, and of the owner.
    pub(super) kills: u64,
    pub(super) crashes: u64,
    /// Whoever is killed comes back within 5 s.
    pub(super) brief: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A task arrives at a worker. The ticket belongs to this process of the owner.
    Start {
        to: String,
        task: Box<StartTask>,
        ticket: StartTicket,
        process: u32,
    },
    /// A task could not be handed over.
    NotStarted {
        ticket: StartTicket,
        process: u32,
    },
    /// A report arrives at the owner; whether the answer arrives is known already.
    Report {
        from: String,
        life: u32,
        part: u64,
        report: ReportTask,
        answer_lost: bool,
    },
    /// What the reporting worker makes of the answer.
    Answered {
        to: String,
        life: u32,
        part: u64,
        task_id: String,
        report_time: i64,
        answered: Answered,
    },
    Load {
        from: String,
        life: u32,
        report: ReportWorker,
    },
    /// Sub-tasks arrive at the owner.
    Map {
        from: String,
        life: u32,
        execution: u64,
        map: MapTask,
        answer_lost: bool,
    },
    /// The answer to them.
    Mapped {
        to: String,
        life: u32,
        execution: u64,
        stored: bool,
    },
    /// A processor goes on, or has ended.
    Work {
        at: String,
        life: u32,
        execution: u64,
    },
    Tick {
        at: String,
        life: u32,
    },
    Wake {
        process: u32,
    },
    Cluster {
        process: u32,
    },
    Kill(String),
    Revive(String),
    StopOrdered,
    /// The stop that follows the end of an instance.
    StopTasks {
        to: String,
    },
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) faults: Faults,
    pub(super) now: u64,
    calendar: BTreeMap<(u64, u64), Happening>,
    entries: u64,
    pub(super) db: Connection,
    pub(super) spec: Spec,
    pub(super) policy: RestartPolicy,
    pub(super) tracker: Option<Tracker>,
    pub(super) process: u32,
    pub(super) wake: Option<u64>,
    pub(super) workers: BTreeMap<String, Worker>,
    /// Sub-tasks that the tracker said it has.
    pub(super) mapped: BTreeSet<String>,
    /// Executions of each task that ended by themselves.
    pub(super) ended: BTreeMap<String, u32>,
    pub(super) ordered_to_stop: bool,
    pub(super) ended_at: Option<u64>,
    /// All processors together, ms.
    pub(super) worked: u64,
    pub(super) bug: Option<Bug>,
    pub(super) traced: bool,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng::salted(seed, 0x5EED);
        let brief = rng.percent(60);
        let none = Faults { loss: 0, late: 0, doubled: 0, kills: 0, crashes: 0, brief };
        let faults = match seed % 5 {
            0 => none,
            1 => Faults { loss: 8, late: 3, doubled: 5, ..none },
            2 => Faults { kills: 4, ..none },
            3 => Faults { crashes: 3, ..none },
            _ => Faults { loss: 5, late: 3, doubled: 5, kills: 1, crashes: 1, brief },
        };
        let mut addresses = vec![OWN.to_owned()];
        addresses.extend((0..rng.between(0, 3)).map(|i| format!("10.0.0.{}:27777", i + 2)));
        let kind = ["MAP_REDUCE", "MAP_REDUCE", "MAP", "BROADCAST"][usize::try_from(rng.between(0, 4)).expect("small")];
        let text = format!(
            r#"{{"jobId":1,"instanceId":{INSTANCE},"executeType":"{kind}","timeExpressionType":"API","instanceTimeoutMS":0,
                "processorType":"BUILT_IN","processorInfo":"p","allWorkerAddress":{addresses:?},"threadConcurrency":{},
                "taskRetryNum":{}}}"#,
            rng.between(1, 6),
            rng.between(0, 3),
        );
        let request = ServerScheduleJobReq::parse(text.as_bytes()).expect("a dispatch");
        let spec = Spec::new(OWN, &request, TrackerOptions::default()).expect("it can be executed");
        let policy = [RestartPolicy::Fail, RestartPolicy::Rerun, RestartPolicy::Resume]
            [usize::try_from(rng.between(0, 3)).expect("small")];
        let workers = addresses.iter().map(|address| (address.clone(), Worker::new(address, bug))).collect();
        let mut world = Self {
            rng,
            faults,
            now: 0,
            calendar: BTreeMap::new(),
            entries: 0,
            db: test_connection(),
            spec,
            policy,
            tracker: None,
            process: 0,
            wake: None,
            workers,
            mapped: BTreeSet::new(),
            ended: BTreeMap::new(),
            ordered_to_stop: false,
            ended_at: None,
            worked: 0,
            bug,
            traced: std::env::var_os("TESTRIG_SIM_SEED").is_some(),
        };
        if world.traced {
            println!("{text} {policy:?} {faults:?}");
        }
        world.plan(&addresses);
        world
    }

    fn plan(&mut self, addresses: &[String]) {
        for (i, address) in addresses.iter().enumerate() {
            for _ in 0..if i == 0 { self.faults.crashes } else { self.faults.kills } {
                // Most instances have ended after some seconds.
                let soon = self.rng.percent(75);
                let at = self.rng.between(1, if soon { 4_000 } else { FAULT_TIME });
                let brief = self.faults.brief || self.rng.percent(50);
                let dead = if brief { self.rng.between(100, 5_000) } else { self.rng.between(5_000, 150_000) };
                self.at(at, Happening::Kill(address.clone()));
                self.at(at + dead, Happening::Revive(address.clone()));
            }
        }
        if self.rng.percent(8) {
            let at = self.rng.between(1, 30_000);
            self.at(at, Happening::StopOrdered);
        }
    }

    pub(super) fn core_now(&self) -> Now {
        let wall_ms = EPOCH + i64::try_from(self.now).expect("small");
        Now { mono_ms: self.now, wall_ms, server_ms: wall_ms }
    }

    pub(super) fn at(&mut self, at: u64, happening: Happening) {
        self.entries += 1;
        self.calendar.insert((at.max(self.now), self.entries), happening);
    }

    pub(super) fn after(&mut self, low: u64, high: u64, happening: Happening) {
        let at = self.now + self.rng.between(low, high);
        self.at(at, happening);
    }

    /// How long a message is under way; `None` = it is lost. Within the owner's process nothing is lost.
    pub(super) fn way(&mut self, between: &str) -> Option<u64> {
        if between == OWN {
            return Some(self.rng.between(0, 2));
        }
        let faulty = self.now < FAULT_TIME;
        if faulty && self.rng.percent(self.faults.loss) {
            return None;
        }
        let late = faulty && self.rng.percent(self.faults.late);
        Some(self.rng.between(1, if late { 4_900 } else { 20 }))
    }

    /// A question and its answer: when it arrives (if it does), and whether the answer gets lost.
    pub(super) fn question(&mut self, with: &str) -> (Option<u64>, bool) {
        let there = self.way(with);
        let back = self.way(with);
        (there, back.is_none())
    }

    pub(super) fn give_up_at(&self) -> u64 {
        self.now + ASK
    }

    pub(super) fn run(mut self) {
        self.start_owner();
        while let Some(((at, _), happening)) = self.calendar.pop_first() {
            self.now = at;
            if self.traced && !matches!(happening, Happening::Wake { .. } | Happening::Tick { .. }) {
                println!("{at:>8} {happening:?}");
            }
            assert!(at < LIMIT, "it has not ended: {:?}", self.open());
            self.happen(happening);
            if self.ended_at.is_some() && self.is_empty() {
                return self.check_end();
            }
        }
        panic!("nothing will happen any more and it has not ended: {:?}", self.open());
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start { to, task, ticket, process } => self.start_arrives(&to, *task, ticket, process),
            Happening::NotStarted { ticket, process } if process == self.process => {
                let error = crate::tasks::api::PeerError::Unreachable("not there".to_owned());
                self.tell_tracker(Event::StartFailed { ticket, error });
            }
            Happening::NotStarted { .. } => {}
            Happening::Report { from, life, part, report, answer_lost } => {
                self.report_arrives(from, life, part, report, answer_lost);
            }
            Happening::Answered { to, life, part, task_id, report_time, answered } => {
                self.answer_arrives(&to, life, part, task_id, report_time, answered);
            }
            Happening::Load { from, life, report } => {
                if from != OWN || self.workers[OWN].life == life {
                    self.load_arrives(&from, report);
                }
            }
            Happening::Map { from, life, execution, map, answer_lost } => {
                self.map_arrives(from, life, execution, map, answer_lost);
            }
            Happening::Mapped { to, life, execution, stored } => self.mapped_answer(&to, life, execution, stored),
            Happening::Work { at, life, execution } => self.work(&at, life, execution),
            Happening::Tick { at, life } => self.tick(&at, life),
            Happening::Wake { process } if process == self.process => {
                self.wake = None;
                self.turn(None);
            }
            Happening::Wake { .. } => {}
            Happening::Cluster { process } if process == self.process => {
                let alive = self.workers.iter().filter(|(_, worker)| worker.alive);
                let answer = Ok(alive.map(|(address, _)| address.clone()).collect());
                self.tell_tracker(Event::Cluster(answer));
            }
            Happening::Cluster { .. } => {}
            Happening::Kill(address) => self.kill(&address),
            Happening::Revive(address) => self.revive(&address),
            Happening::StopOrdered => {
                if self.ended_at.is_none() {
                    self.ordered_to_stop = true;
                    self.tell_tracker(Event::Stop(crate::StopReason::Stopped));
                }
            }
            Happening::StopTasks { to } => self.stop_arrives(&to),
        }
    }
}
