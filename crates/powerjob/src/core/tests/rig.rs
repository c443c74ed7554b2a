//! A core with a clock that the test moves, and short words for what is sent in and comes out.

use std::collections::BTreeMap;

use super::super::*;
use crate::processor::{ProcessResult, StopReason};

pub(super) const ADDRESS: &str = "10.0.0.5:27777";
/// Epoch ms at which every test begins.
pub(super) const EPOCH: i64 = 1_760_000_000_000;

pub(super) struct Rig {
    pub(super) core: Core,
    pub(super) mono: u64,
    pub(super) wall: i64,
    /// The server's clock minus the wall clock.
    pub(super) server_ahead: i64,
    /// What a store would hold.
    pub(super) store: Store,
    /// Actions since the last `take`.
    pub(super) actions: Vec<Action>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) records: BTreeMap<i64, InstanceRecord>,
    pub(super) closed: Vec<ClosedInstance>,
    pub(super) owner: Option<Owner>,
}

impl Store {
    pub(super) fn write(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put(record) => {
                    self.records.insert(record.dispatch.instance_id, (**record).clone());
                }
                Write::Close(closed) => {
                    self.records.remove(&closed.instance_id);
                    self.closed.push(closed.clone());
                }
                Write::Owner(owner) => self.owner = Some(owner.clone()),
            }
        }
    }

    pub(super) fn recovered(&self) -> Recovered {
        Recovered {
            records: self.records.values().cloned().collect(),
            closed: self.closed.clone(),
            owner: self.owner.clone(),
        }
    }
}

pub(super) fn config(slots: usize, backlog: usize) -> CoreConfig {
    CoreConfig { address: ADDRESS.into(), slots, backlog, heavy: 64, result_limit: 8192, context_limit: 8192 }
}

pub(super) fn owner(transport: &str, born_time: i64) -> Owner {
    Owner { transport: transport.into(), web: "10.0.0.1:7700".into(), born_time: Some(born_time), app_id: 1 }
}

pub(super) fn dispatch(instance_id: i64) -> Dispatch {
    Dispatch {
        job_id: 7,
        instance_id,
        wf_instance_id: None,
        execute_type: "STANDALONE".into(),
        time_expression_type: "API".into(),
        processor_type: "BUILT_IN".into(),
        processor_info: "echo".into(),
        timeout_ms: None,
        task_retry_num: 0,
        job_params: None,
        instance_params: None,
        log_config: None,
    }
}

impl Rig {
    /// A worker that has no server yet.
    pub(super) fn alone(slots: usize, backlog: usize) -> Self {
        Self::with(config(slots, backlog), Store::default())
    }

    pub(super) fn with(config: CoreConfig, store: Store) -> Self {
        let (mono, wall) = (5_000, EPOCH);
        let core = Core::new(config, store.recovered(), Now { mono_ms: mono, wall_ms: wall, server_ms: wall });
        let mut rig = Self { core, mono, wall, server_ahead: 0, store, actions: Vec::new() };
        rig.send(Event::Tick);
        rig
    }

    /// A worker that has found its server, whose first heartbeat was taken.
    pub(super) fn online(slots: usize, backlog: usize) -> Self {
        let mut rig = Self::alone(slots, backlog);
        rig.find();
        rig.take();
        rig
    }

    /// Discovery finds the usual owner, and the heartbeat is taken.
    pub(super) fn find(&mut self) {
        self.send(Event::Discovered(Ok(owner("10.0.0.1:10010", 1))));
        self.send(Event::HeartbeatDone { ok: true });
    }

    /// `kill -9` and a new process after `ms`.
    pub(super) fn restart(&mut self, ms: i64) {
        self.mono = 1_000;
        self.wall += ms;
        self.core = Core::new(self.core.config.clone(), self.store.recovered(), self.now());
        self.actions.clear();
        self.send(Event::Tick);
    }

    pub(super) fn now(&self) -> Now {
        Now { mono_ms: self.mono, wall_ms: self.wall, server_ms: self.wall + self.server_ahead }
    }

    pub(super) fn send(&mut self, event: Event) {
        let output = self.core.handle(self.now(), event);
        self.store.write(&output.writes);
        self.actions.extend(output.actions);
    }

    /// Time passes; the core is woken when it asks for it, and a server that is there takes every heartbeat and answers
    /// every discovery.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.mono + ms;
        let answered = self.core.owner().is_some();
        while let Some(at) = self.core.wake_at().filter(|at| *at <= end) {
            assert!(at >= self.mono || at == 0, "asks to be woken in the past: {at} at {}", self.mono);
            self.go_to(at.max(self.mono));
            let from = self.actions.len();
            self.send(Event::Tick);
            if answered {
                self.answer_server(from);
            }
        }
        self.go_to(end);
    }

    /// Time passes and nobody answers anything.
    pub(super) fn pass_unanswered(&mut self, ms: u64) {
        let end = self.mono + ms;
        while let Some(at) = self.core.wake_at().filter(|at| *at <= end) {
            self.go_to(at.max(self.mono));
            self.send(Event::Tick);
        }
        self.go_to(end);
    }

    fn go_to(&mut self, mono: u64) {
        self.wall += i64::try_from(mono - self.mono).expect("small");
        self.mono = mono;
    }

    fn answer_server(&mut self, mut from: usize) {
        while let Some(action) = self.actions.get(from).cloned() {
            from += 1;
            match action {
                Action::SendHeartbeat { .. } => self.send(Event::HeartbeatDone { ok: true }),
                Action::Discover { .. } => {
                    let owner = self.core.owner().cloned();
                    self.send(Event::Discovered(owner.ok_or_else(|| "gone".to_owned())));
                }
                Action::ReportRunning { instance_id, .. } => {
                    self.send(Event::RunningReportDone { instance_id, ok: true });
                }
                _ => {}
            }
        }
    }

    /// The actions since the last call.
    pub(super) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(super) fn run(&mut self, dispatch: Dispatch) {
        self.send(Event::RunJob(dispatch));
    }

    pub(super) fn first_line(&mut self, id: i64) {
        self.send(Event::FirstLineSent(id));
    }

    pub(super) fn running_taken(&mut self, instance_id: i64) {
        self.send(Event::RunningReportDone { instance_id, ok: true });
    }

    pub(super) fn end(&mut self, instance_id: i64, result: ProcessResult) {
        self.end_with(instance_id, result, &[]);
    }

    pub(super) fn end_with(&mut self, instance_id: i64, result: ProcessResult, context: &[(&str, &str)]) {
        let attempt = self.core.instance(self.now(), instance_id).expect("an open instance").attempt;
        let appended_context = context.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.send(Event::ProcessorEnded { instance_id, attempt, result, appended_context, tasks: None });
    }

    pub(super) fn drained(&mut self, instance_id: i64) {
        let attempt = self.core.instance(self.now(), instance_id).expect("an open instance").attempt;
        self.send(Event::LogDrained { instance_id, attempt });
    }

    /// Answers the final report that is under way.
    pub(super) fn answer_final(&mut self, instance_id: i64, accepted: bool) {
        let report_time = self.pending(instance_id).report_time;
        self.send(Event::FinalReportDone { instance_id, report_time, accepted, message: "no".into() });
    }

    /// The stored final report.
    pub(super) fn pending(&self, instance_id: i64) -> FinalReport {
        match &self.store.records[&instance_id].stage {
            Stage::Reporting(report) => report.clone(),
            other => panic!("no final report is pending, the stage is {other:?}"),
        }
    }

    pub(super) fn info(&mut self, instance_id: i64, status: i32, address: &str) {
        let info = InstanceInfo { status, task_tracker_address: Some(address.into()), finished_at: None };
        self.send(Event::InstanceInfo { instance_id, info: Ok(Some(info)) });
    }

    /// `runJob`, first line, RUNNING taken twice, 20 s later: an instance in the middle of its run.
    pub(super) fn well_under_way(&mut self, id: i64) {
        self.run(dispatch(id));
        self.first_line(id);
        self.running_taken(id);
        self.pass(20_000);
        self.take();
    }

    pub(super) fn stage(&self, id: i64) -> &'static str {
        self.core.instance(self.now(), id).map_or("closed", |view| view.stage)
    }
}

/// Short forms of actions, for comparing.
pub(super) fn words(actions: &[Action]) -> Vec<String> {
    actions.iter().filter_map(word).collect()
}

fn word(action: &Action) -> Option<String> {
    Some(match action {
        Action::Discover { .. } => "discover".into(),
        Action::SendHeartbeat { overload, .. } => format!("heartbeat {overload}"),
        Action::ReportRunning { instance_id, .. } => format!("running {instance_id}"),
        Action::ReportFinal { instance_id, report } => {
            format!("final {instance_id} {}", if report.outcome.success { "SUCCEED" } else { "FAILED" })
        }
        Action::AskInstanceInfo(id) => format!("ask {id}"),
        Action::OpenLog { instance_id, send } => format!("log {instance_id} {}", if *send { "open" } else { "held" }),
        Action::LogLine { .. } => return None,
        Action::StartProcessor { instance_id, attempt, resumed, .. } => {
            format!("{} {instance_id}#{attempt}", if *resumed { "resume" } else { "start" })
        }
        Action::StopProcessor { instance_id, reason: StopReason::Stopped } => format!("stop {instance_id}"),
        Action::StopProcessor { instance_id, reason: StopReason::TimedOut } => format!("time out {instance_id}"),
        Action::StopProcessor { instance_id, reason: StopReason::Cancelled } => format!("cancel {instance_id}"),
        Action::DrainLog { instance_id, limit_ms: None, .. } => format!("drain {instance_id}"),
        Action::DrainLog { instance_id, limit_ms: Some(limit), .. } => format!("drain {instance_id} for {limit}"),
        Action::RewindLog(id) => format!("rewind {id}"),
        Action::CloseLog { instance_id, status } => format!("close {instance_id} {status}"),
        Action::Warn(_) => "warn".into(),
    })
}

/// The log lines among the actions.
pub(super) fn lines(actions: &[Action]) -> Vec<(u8, String)> {
    let line = |action: &Action| match action {
        Action::LogLine { level, text, .. } => Some((*level, text.clone())),
        _ => None,
    };
    actions.iter().filter_map(line).collect()
}

/// The report times of one instance among the actions.
pub(super) fn report_times(actions: &[Action], id: i64) -> Vec<i64> {
    let time = |action: &Action| match action {
        Action::ReportRunning { instance_id, report_time } if *instance_id == id => Some(*report_time),
        Action::ReportFinal { instance_id, report } if *instance_id == id => Some(report.report_time),
        _ => None,
    };
    actions.iter().filter_map(time).collect()
}

/// Whether anything about the instance's status went to the server.
pub(super) fn reports(actions: &[Action]) -> usize {
    actions.iter().filter(|a| matches!(a, Action::ReportRunning { .. } | Action::ReportFinal { .. })).count()
}
