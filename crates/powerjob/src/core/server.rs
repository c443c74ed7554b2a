//! Where the server is, and whether it is there: discovery, heartbeat, owner changes, outages.

use super::{
    api::{Action, Now, Owner, Stage, Write},
    instance::{ANSWER_LIMIT, Instance, Mono, mono},
    machine::Core,
};

/// Between discoveries while there is an owner.
const DISCOVER_EVERY: Mono = 10_000;
/// Between discoveries while there is none, and the least time between two.
const DISCOVER_RETRY: Mono = 1_000;
/// Between heartbeats.
const HEARTBEAT_EVERY: Mono = 10_000;
/// After this time without a server a stop may have been missed.
const OUTAGE: Mono = 30_000;

/// What is known of the server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// The owner in use.
    pub(super) owner: Option<Owner>,
    /// The owner that the open logs went to last.
    logs_at: Option<Owner>,
    logs_at_unwritten: bool,
    discovery_next: Mono,
    discovery_started: Option<Mono>,
    discovery_in_flight: bool,
    heartbeat_next: Mono,
    heartbeat_in_flight: Option<Mono>,
    heartbeat_fails: bool,
    overload_sent: Option<bool>,
    pub(super) last_heartbeat: Option<Mono>,
    /// Something was not taken since the last discovery.
    suspect: bool,
    /// The last exchange with the server, or the last time that its absence was noted.
    last_contact: Mono,
    pub(super) trouble: Option<String>,
}

impl Server {
    pub(super) fn new(logs_at: Option<Owner>, now: Mono) -> Self {
        Self {
            owner: None,
            logs_at,
            logs_at_unwritten: false,
            discovery_next: now,
            discovery_started: None,
            discovery_in_flight: false,
            heartbeat_next: now,
            heartbeat_in_flight: None,
            heartbeat_fails: false,
            overload_sent: None,
            last_heartbeat: None,
            suspect: false,
            last_contact: now,
            trouble: None,
        }
    }

    pub(super) fn heartbeats_fail(&self) -> bool {
        self.heartbeat_fails
    }

    pub(super) fn heartbeat_now(&mut self, now: Mono) {
        self.heartbeat_next = now;
    }

    fn discovery_due(&self) -> Mono {
        if self.discovery_in_flight {
            self.discovery_started.unwrap_or(0) + 2 * ANSWER_LIMIT
        } else {
            self.discovery_next
        }
    }
}

impl Core {
    pub(super) fn server_timers(&self) -> [Option<Mono>; 4] {
        let server = &self.server;
        let heartbeat = server.heartbeat_in_flight.map_or(server.heartbeat_next, |since| since + ANSWER_LIMIT);
        let outage = server.last_contact + OUTAGE;
        [
            Some(server.discovery_due()),
            server.owner.as_ref().map(|_| heartbeat),
            (!self.instances.is_empty()).then_some(outage),
            self.fullness_due(),
        ]
    }

    pub(super) fn look_for_the_server(&mut self, now: Now) {
        let server = &mut self.server;
        if server.discovery_due() > mono(now) {
            return;
        }
        server.discovery_in_flight = true;
        server.discovery_started = Some(mono(now));
        self.out.actions.push(Action::Discover { current: server.owner.as_ref().map(|owner| owner.transport.clone()) });
    }

    pub(super) fn discovered(&mut self, now: Now, result: Result<Owner, String>) {
        let server = &mut self.server;
        server.discovery_in_flight = false;
        server.discovery_next = match result {
            Ok(_) => mono(now) + DISCOVER_EVERY,
            Err(_) => (server.discovery_started.unwrap_or(mono(now)) + DISCOVER_RETRY).max(mono(now)),
        };
        match result {
            Ok(owner) => self.owner_found(now, owner),
            Err(why) => {
                let lost = server.owner.take();
                let first = server.trouble.is_none();
                server.trouble = Some(why.clone());
                server.suspect = false;
                if let Some(owner) = lost {
                    self.warn(format!("lost the server at {}: {why}; looking for one every second", owner.transport));
                } else if first {
                    self.warn(format!("found no server: {why}; looking for one every second"));
                }
            }
        }
    }

    fn owner_found(&mut self, now: Now, owner: Owner) {
        let server = &mut self.server;
        let lacks_logs = server.logs_at.as_ref().is_some_and(|before| is_another(before, &owner));
        let is_new = lacks_logs || server.owner.as_ref().is_none_or(|before| is_another(before, &owner));
        let suspect = std::mem::take(&mut server.suspect);
        server.logs_at_unwritten |= server.logs_at.as_ref() != Some(&owner);
        // A born time that is not known now may be known again later and then tell of a change.
        let born_time =
            owner.born_time.or(server.logs_at.as_ref().filter(|_| !lacks_logs).and_then(|before| before.born_time));
        server.logs_at = Some(Owner { born_time, ..owner.clone() });
        server.owner = Some(owner);
        if is_new {
            server.trouble = None;
            server.heartbeat_fails = false;
            server.heartbeat_in_flight = None;
        }
        if is_new || suspect {
            server.heartbeat_next = mono(now);
        }
        if lacks_logs {
            self.send_logs_again();
        }
        if is_new {
            self.report_all_now(now);
        }
    }

    fn send_logs_again(&mut self) {
        for instance in self.instances.values_mut() {
            if instance.stop.as_ref().is_some_and(|stop| !stop.sends_log()) {
                continue;
            }
            instance.last.log_again = matches!(instance.record.stage, Stage::Reporting(_));
            self.out.actions.push(Action::RewindLog(instance.record.dispatch.instance_id));
        }
    }

    pub(super) fn heartbeat_if_due(&mut self, now: Now) {
        let overload = self.overload();
        let server = &mut self.server;
        if server.owner.is_none() || server.heartbeat_in_flight.is_some_and(|since| mono(now) < since + ANSWER_LIMIT) {
            return;
        }
        if server.heartbeat_next > mono(now) && server.overload_sent == Some(overload) {
            return;
        }
        server.heartbeat_in_flight = Some(mono(now));
        server.heartbeat_next = mono(now) + HEARTBEAT_EVERY;
        server.overload_sent = Some(overload);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let heavy_task_trackers = count(self.instances.heavy());
        let light_task_trackers = count(self.instances.len() - self.instances.heavy());
        self.out.actions.push(Action::SendHeartbeat { overload, light_task_trackers, heavy_task_trackers });
    }

    pub(super) fn heartbeat_done(&mut self, now: Now, ok: bool) {
        self.server.heartbeat_in_flight = None;
        if !ok {
            self.server.heartbeat_fails = self.server.owner.is_some();
            return self.suspect(now, "a heartbeat was not taken");
        }
        self.server.last_heartbeat = Some(mono(now));
        self.contact(now);
        if std::mem::take(&mut self.server.heartbeat_fails) {
            self.report_all_now(now);
        }
        let failed_once = |instance: &&Instance| instance.running.failures == 1;
        for id in self.instances.values().filter(failed_once).map(Instance::id).collect::<Vec<_>>() {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.running.next = instance.running.next.min(mono(now));
            }
        }
        if let Some(owner) = self.server.logs_at.as_ref().filter(|_| self.server.logs_at_unwritten) {
            self.out.writes.push(Write::Owner(owner.clone()));
            self.server.logs_at_unwritten = false;
        }
    }

    /// The server took something.
    pub(super) fn contact(&mut self, now: Now) {
        self.server.last_contact = mono(now);
        self.server.trouble = None;
    }

    /// The server did not take something: look for it at once.
    pub(super) fn suspect(&mut self, now: Now, what: &str) {
        let server = &mut self.server;
        let Some(owner) = &server.owner else { return };
        let text = format!("{what} by the server at {}", owner.transport);
        let first = server.trouble.is_none();
        server.trouble = Some(text.clone());
        server.suspect = true;
        let soonest = server.discovery_started.map_or(mono(now), |started| started + DISCOVER_RETRY).max(mono(now));
        server.discovery_next = server.discovery_next.min(soonest);
        if first {
            self.warn(format!("{text}; looking for the app's server"));
        }
    }

    /// After 30 s without a server a stop may have been missed: every open instance is asked for before it is reported.
    pub(super) fn notice_an_outage(&mut self, now: Now) {
        if mono(now) - self.server.last_contact >= OUTAGE {
            self.server.last_contact = mono(now);
            self.ask_for_all(now);
        }
    }
}

/// Whether another server process is meant, whose online log is empty.
pub(crate) fn is_another(before: &Owner, after: &Owner) -> bool {
    let born_again = before.born_time.zip(after.born_time).is_some_and(|(before, after)| before != after);
    before.transport != after.transport || born_again
}
