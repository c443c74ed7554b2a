//! [`Core`]: takes events, keeps the instances, gives out what is to be done.

use std::mem;

use super::{
    admission::Fullness,
    api::{Action, ClosedInstance, CoreConfig, Event, Now, Output, Recovered, Stage, Write},
    instance::{Instance, Mono, mono},
    memory::{Closed, EarlyStops},
    open::Open,
    server::Server,
};

/// The worker's protocol core. See the [module](super) for its promises.
#[derive(Clone, Debug)]
pub struct Core {
    pub(super) config: CoreConfig,
    pub(super) instances: Open,
    pub(super) closed: Closed,
    pub(super) early_stops: EarlyStops,
    pub(super) server: Server,
    pub(super) draining: bool,
    pub(super) fullness: Fullness,
    /// What the host itself says beside the slots.
    pub(super) host_full: bool,
    pub(super) next_seq: u64,
    pub(super) out: Output,
    /// What the timers of all instances were indexed for: whether there is an owner, and whether heartbeats fail.
    indexed_for: (bool, bool),
    before: Option<Box<Before>>,
}

/// What [`Core::undo`] puts back besides the instances. Early stops and closed instances stay as they are: more of them
/// than there were is harmless.
#[derive(Clone, Debug)]
struct Before {
    server: Server,
    draining: bool,
    next_seq: u64,
}

impl Core {
    /// A core that takes up what a store holds. Its first work comes out of the first [`Core::handle`]: send
    /// [`Event::Tick`] at once.
    pub fn new(config: CoreConfig, recovered: Recovered, now: Now) -> Self {
        let mut core = Self {
            config,
            instances: Open::default(),
            closed: Closed::default(),
            early_stops: EarlyStops::default(),
            server: Server::new(recovered.owner, mono(now)),
            draining: false,
            fullness: Fullness::default(),
            host_full: false,
            next_seq: 0,
            out: Output::default(),
            indexed_for: (false, false),
            before: None,
        };
        for closed in recovered.closed {
            core.closed.insert(closed);
        }
        core.recover(recovered.records, now);
        core.index();
        core
    }

    /// Handles one event. The writes of the output must be durable before its actions are carried out, in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Output {
        // Before the event: what it brings in has not missed anything.
        self.notice_an_outage(now);
        match event {
            Event::Tick => {}
            Event::RunJob(dispatch) => self.run_job(now, dispatch),
            Event::StopInstance(id) => self.stop_told(now, id),
            Event::Discovered(result) => self.discovered(now, result),
            Event::HeartbeatDone { ok } => self.heartbeat_done(now, ok),
            Event::RunningReportDone { instance_id, ok } => self.running_report_done(now, instance_id, ok),
            Event::FinalReportDone { instance_id, report_time, accepted, message } => {
                self.final_report_done(now, instance_id, report_time, accepted, &message);
            }
            Event::InstanceInfo { instance_id, info } => self.instance_info(now, instance_id, info),
            Event::FirstLineSent(id) => self.first_line_sent(id),
            Event::LogDrained { instance_id, attempt } => self.log_drained(now, instance_id, attempt),
            Event::ProcessorEnded { instance_id, attempt, result, appended_context, tasks } => {
                self.processor_ended(now, instance_id, attempt, &result, appended_context, tasks);
            }
            Event::Drain(draining) => {
                self.draining = draining;
                self.server.heartbeat_now(mono(now));
            }
            Event::Cancel => self.cancel(now),
            // A flag that changes makes a heartbeat due.
            Event::HostFull(full) => self.host_full = full,
        }
        self.do_what_is_due(now);
        self.write_what_changed(now);
        mem::take(&mut self.out)
    }

    /// Everything that events do from here on can be undone, until [`Core::keep`]: for a driver that cannot make their
    /// writes durable and has carried out nothing of their outputs.
    pub fn begin(&mut self) {
        self.instances.begin();
        let Self { server, draining, next_seq, .. } = self;
        self.before = Some(Box::new(Before { server: server.clone(), draining: *draining, next_seq: *next_seq }));
    }

    /// What happened since [`Core::begin`] stays.
    pub fn keep(&mut self) {
        self.instances.keep();
        self.before = None;
    }

    /// Nothing has happened since [`Core::begin`].
    pub fn undo(&mut self) {
        self.instances.undo();
        if let Some(before) = self.before.take() {
            let Before { server, draining, next_seq } = *before;
            (self.server, self.draining, self.next_seq) = (server, draining, next_seq);
        }
        self.index();
    }

    /// Whether the instance is open.
    pub fn has(&self, instance_id: i64) -> bool {
        self.instances.contains_key(&instance_id)
    }

    /// Brings the index of the instances up to date.
    fn index(&mut self) {
        let server = (self.server.owner.is_some(), self.server.heartbeats_fail());
        if mem::replace(&mut self.indexed_for, server) != server {
            self.instances.touch_all();
        }
        for id in self.instances.take_touched() {
            let timers = self.instances.get(&id).map(|instance| self.instance_timers(instance));
            self.instances.index(id, timers.into_iter().flatten().flatten().min());
        }
    }

    /// When the next [`Event::Tick`] is due, on the monotonic clock; `None` = not before another event.
    pub fn wake_at(&self) -> Option<u64> {
        if !self.out.actions.is_empty() || !self.out.writes.is_empty() {
            return Some(0);
        }
        let next = self.server_timers().into_iter().chain([self.instances.next_timer()]).flatten().min()?;
        Some(u64::try_from(next).unwrap_or(0))
    }

    /// Everything that waits for time to pass, for one instance.
    fn instance_timers(&self, instance: &Instance) -> [Option<Mono>; 7] {
        [
            self.limit_due(instance),
            self.ask_due(instance),
            self.running_report_due(instance),
            self.final_report_due(instance),
            self.final_report_given_up_at(instance),
            self.stopping_due(instance),
            instance.not_before,
        ]
    }

    /// Carries out every timer that is due. The heartbeat comes first: a changed overload flag should be seen early.
    fn do_what_is_due(&mut self, now: Now) {
        self.look_for_the_server(now);
        self.index();
        for id in self.instances.due(mono(now)) {
            self.enforce_limit(now, id);
            self.empty_stopped(now, id);
            self.ask_if_due(now, id);
            self.report_final_if_due(now, id);
            self.report_running_if_due(now, id);
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.not_before = instance.not_before.filter(|at| *at > mono(now));
            }
        }
        self.fill_slots(now);
        self.note_fullness(now);
        self.heartbeat_if_due(now);
    }

    /// Turns changed instances into writes. A write of an id that was closed in the same step comes after its closing.
    fn write_what_changed(&mut self, now: Now) {
        self.index();
        for id in self.instances.take_changed() {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            instance.dirty = false;
            instance.record.written_at = now.wall_ms;
            if let Some(started) = instance.started.filter(|_| instance.record.boundary_open) {
                instance.record.run_ms = u64::try_from(mono(now) - started).unwrap_or(0);
            }
            self.out.writes.push(Write::Put(Box::new(instance.record.clone())));
        }
        self.index();
    }

    /// Forgets an open instance; its id may come back.
    pub(super) fn close(&mut self, instance_id: i64, status: &'static str) {
        let Some(instance) = self.instances.remove(&instance_id) else { return };
        let closed = ClosedInstance {
            instance_id,
            last_report_time: instance.record.last_report_time,
            attempt: instance.record.attempt,
            status: status.to_owned(),
        };
        self.closed.insert(closed.clone());
        self.out.writes.push(Write::Close(closed));
        self.out.actions.push(Action::CloseLog { instance_id, status });
    }

    /// Writes a line into an instance's log.
    pub(super) fn log(&mut self, instance_id: i64, level: u8, text: String) {
        self.out.actions.push(Action::LogLine { instance_id, level, text });
    }

    /// Tells an operator.
    pub(super) fn warn(&mut self, text: String) {
        self.out.actions.push(Action::Warn(text));
    }

    fn first_line_sent(&mut self, instance_id: i64) {
        if let Some(instance) = self.instances.get_mut(&instance_id) {
            instance.first_line = true;
        }
    }

    fn log_drained(&mut self, now: Now, instance_id: i64, attempt: u32) {
        let Some(instance) = self.instances.get(&instance_id) else { return };
        if instance.record.attempt != attempt {
            return;
        }
        match instance.record.stage {
            Stage::Draining(_) => self.begin_reporting(now, instance_id),
            Stage::Reporting(_) => self.log_is_whole_again(now, instance_id),
            Stage::Stopping => self.stopped_log_sent(now, instance_id),
            Stage::Queued | Stage::Running => {}
        }
    }
}
