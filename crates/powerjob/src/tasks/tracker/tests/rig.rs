//! A tracker with a clock that the test moves, and short words for what is said to it and what it does.

use rusqlite::Connection;

use super::super::{Action, Answer, End, Event, Output, Recovery, Spec, StartTicket, Tracker, TrackerOptions};
use crate::{
    RestartPolicy,
    core::Now,
    processor::StopReason,
    tasks::{
        api::{MapTask, PeerError, ReportTask, ReportWorker, StartTask, SubTask, TaskResult},
        table::{Table, results, test_connection},
    },
    wire::ServerScheduleJobReq,
};

pub(super) const OWN: &str = "10.0.0.1:27777";
pub(super) const B: &str = "10.0.0.2:27777";
pub(super) const C: &str = "10.0.0.3:27777";
pub(super) const ID: i64 = 7;
const EPOCH: i64 = 1_760_000_000_000;

pub(super) struct Rig {
    db: Connection,
    pub(super) spec: Spec,
    pub(super) tracker: Tracker,
    pub(super) mono: u64,
    pub(super) server_silent: u64,
    /// A clock for reports that never repeats.
    pub(super) time: i64,
    actions: Vec<Action>,
    pub(super) log: String,
}

/// A dispatch with three workers and whatever else the test needs.
pub(super) fn dispatch(kind: &str, time: &str, more: &str) -> ServerScheduleJobReq {
    let text = format!(
        r#"{{"jobId":1,"instanceId":{ID},"executeType":"{kind}","timeExpressionType":"{time}","processorType":"BUILT_IN",
            "processorInfo":"p","allWorkerAddress":["{OWN}","{B}","{C}"],"threadConcurrency":2{more}}}"#
    );
    ServerScheduleJobReq::parse(text.as_bytes()).expect("a dispatch")
}

impl Rig {
    pub(super) fn new(kind: &str, time: &str, more: &str) -> Self {
        let spec = Spec::new(OWN, &dispatch(kind, time, more), TrackerOptions::default()).expect("executable");
        let (db, mut out) = (test_connection(), Output::default());
        let now = Now { mono_ms: 0, wall_ms: EPOCH, server_ms: EPOCH };
        let tracker =
            Tracker::start(spec.clone(), &Table::new(&db, "main", ID), now, &mut out).expect("the table in memory");
        let mut rig =
            Self { db, spec, tracker, mono: 0, server_silent: 0, time: 1, actions: Vec::new(), log: String::new() };
        rig.took(out);
        rig.turn(Vec::new());
        rig
    }

    fn now(&self) -> Now {
        let wall_ms = EPOCH + i64::try_from(self.mono).expect("small");
        Now { mono_ms: self.mono, wall_ms, server_ms: wall_ms }
    }

    fn took(&mut self, out: Output) {
        for action in out.actions {
            match action {
                Action::Log(_, text) => self.log.push_str(&(text + "\n")),
                other => self.actions.push(other),
            }
        }
    }

    fn turn(&mut self, events: Vec<Event>) -> Vec<Answer> {
        let (now, mut out) = (self.now(), Output::default());
        let table = Table::new(&self.db, "main", ID);
        let answers = events
            .into_iter()
            .map(|event| self.tracker.handle(&table, now, event, &mut out).expect("the table in memory"))
            .collect();
        self.tracker.settle(&table, now, self.server_silent, &mut out).expect("the table in memory");
        self.took(out);
        answers
    }

    pub(super) fn say(&mut self, event: Event) -> Answer {
        self.turn(vec![event]).remove(0)
    }

    /// Time passes, second by second.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.mono + ms;
        while self.mono < end {
            self.mono = end.min(self.mono + 500);
            self.turn(Vec::new());
        }
    }

    /// The process is killed and started again.
    pub(super) fn restart(&mut self, policy: RestartPolicy) {
        self.enter(Recovery::Restarted(policy));
    }

    pub(super) fn enter(&mut self, recovery: Recovery) {
        let (now, mut out) = (self.now(), Output::default());
        let table = Table::new(&self.db, "main", ID);
        let found = Tracker::recover(self.spec.clone(), &table, now, recovery, &mut out).expect("the table in memory");
        self.tracker = found.expect("the instance is there");
        self.took(out);
        self.turn(Vec::new());
    }

    /// What was sent since the last call.
    pub(super) fn sent(&mut self) -> Vec<(String, StartTask, StartTicket)> {
        let (starts, others) =
            std::mem::take(&mut self.actions).into_iter().partition(|a| matches!(a, Action::Start { .. }));
        self.actions = others;
        let starts: Vec<Action> = starts;
        starts
            .into_iter()
            .filter_map(|action| match action {
                Action::Start { ticket, task, .. } => Some((ticket.address.clone(), *task, ticket)),
                _ => None,
            })
            .collect()
    }

    /// Addresses and ids of what was sent since the last call, in order of the ids.
    pub(super) fn ids(&mut self) -> Vec<(String, String)> {
        let mut ids: Vec<_> = self.sent().into_iter().map(|(address, task, _)| (task.task_id, address)).collect();
        ids.sort();
        ids
    }

    pub(super) fn asked_for_workers(&mut self) -> bool {
        let before = self.actions.len();
        self.actions.retain(|action| *action != Action::AskCluster);
        self.actions.len() < before
    }

    pub(super) fn end(&self) -> Option<End> {
        self.actions.iter().find_map(|action| match action {
            Action::Finish(end) => Some(end.clone()),
            _ => None,
        })
    }

    pub(super) fn report(&mut self, id: &str, status: i32, text: &str) -> Answer {
        self.time += 10;
        let time = self.time;
        self.report_at(id, status, text, time)
    }

    pub(super) fn report_at(&mut self, id: &str, status: i32, text: &str, time: i64) -> Answer {
        let sub = match (self.spec.firings.is_some(), id.trim_start_matches('L').split('.').next()) {
            (true, Some(root)) => root.parse().expect("the number of a firing"),
            _ => ID,
        };
        self.say(Event::Report(ReportTask {
            instance_id: ID,
            sub_instance_id: sub,
            task_id: id.to_owned(),
            status,
            result: (status > 4).then(|| text.to_owned()),
            report_time: time,
            cmd: None,
            appended_wf_context: None,
            rejected: false,
        }))
    }

    pub(super) fn ok(&mut self, id: &str) {
        assert_eq!(self.report(id, 6, &format!("{id} is done")), Ok(()));
    }

    pub(super) fn fails(&mut self, id: &str) {
        assert_eq!(self.report(id, 5, "broken"), Ok(()));
    }

    /// The same with a body for each.
    pub(super) fn map_bodies(&mut self, tasks: &[(&str, &[u8])]) -> Answer {
        let sub_tasks =
            tasks.iter().map(|(id, body)| SubTask { task_id: (*id).into(), content: body.to_vec() }).collect();
        self.say(Event::Map(MapTask { instance_id: ID, sub_instance_id: ID, task_name: "SHARD".into(), sub_tasks }))
    }

    /// The tracker that a retry of the instance on this worker finds.
    pub(super) fn known_to_attempt(&self, attempt: u32) -> bool {
        let spec = Spec { attempt, ..self.spec.clone() };
        let table = Table::new(&self.db, "main", ID);
        let found = Tracker::recover(spec, &table, self.now(), Recovery::Rolledback, &mut Output::default());
        found.expect("the table in memory").is_some()
    }

    pub(super) fn map(&mut self, ids: &[&str]) -> Answer {
        let sub_tasks =
            ids.iter().map(|id| SubTask { task_id: (*id).to_owned(), content: id.as_bytes().to_vec() }).collect();
        self.say(Event::Map(MapTask { instance_id: ID, sub_instance_id: ID, task_name: "SHARD".to_owned(), sub_tasks }))
    }

    /// The worker says how much waits at it (kind 2), or that it is idle (kind 1).
    pub(super) fn load(&mut self, address: &str, kind: i32, remain_task_num: i64) {
        self.time += 10;
        let report =
            ReportWorker { kind, instance_id: ID, time: self.time, remain_task_num, address: address.to_owned() };
        assert_eq!(self.say(Event::Worker(report)), Ok(()));
    }

    pub(super) fn refused(&mut self, ticket: StartTicket) {
        let error = PeerError::Unreachable("connection refused".to_owned());
        assert_eq!(self.say(Event::StartFailed { ticket, error }), Ok(()));
    }

    pub(super) fn cluster(&mut self, addresses: &[&str]) {
        let answer = Ok(addresses.iter().map(|address| (*address).to_owned()).collect());
        assert_eq!(self.say(Event::Cluster(answer)), Ok(()));
    }

    pub(super) fn stop(&mut self, reason: StopReason) {
        assert_eq!(self.say(Event::Stop(reason)), Ok(()));
    }

    /// Results of the only run.
    pub(super) fn results(&self) -> Vec<TaskResult> {
        let run = Table::new(&self.db, "main", ID).runs().expect("the table in memory")[0].0;
        results(&self.db, run, "0", None, 1_000).expect("the table in memory")
    }

    /// Whether the table knows the instance.
    pub(super) fn is_stored(&self) -> bool {
        Table::new(&self.db, "main", ID).tracker().expect("the table in memory").is_some()
    }

    pub(super) fn numbers(&self) -> (i64, i64, i64) {
        let progress = self.tracker.progress();
        (progress.total, progress.succeeded, progress.failed)
    }
}

/// Pairs of id and address.
pub(super) fn at(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(id, address)| ((*id).to_owned(), (*address).to_owned())).collect()
}
