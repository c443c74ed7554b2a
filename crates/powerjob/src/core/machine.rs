//! [`Core`]: takes events, keeps the instances, gives out what is to be done.

use super::{
    api::{CoreConfig, Event, Now, Output, Owner, Recovered},
    view::{InstanceView, WorkerView},
};

/// The worker's protocol core. See the [module](super) for its promises.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
}

impl Core {
    /// A core that takes up what a store holds. Its first work comes out of the first [`Core::handle`]: send
    /// [`Event::Tick`] at once.
    pub fn new(config: CoreConfig, recovered: Recovered, now: Now) -> Self {
        let _ = (recovered, now);
        Self { config }
    }

    /// Handles one event. The writes of the output must be durable before its actions are carried out, in order.
    pub fn handle(&mut self, now: Now, event: Event) -> Output {
        let _ = (now, event);
        Output::default()
    }

    /// When the next [`Event::Tick`] is due, on the monotonic clock; `None` = not before another event.
    pub fn wake_at(&self) -> Option<u64> {
        None
    }

    /// The open instances in order of arrival.
    pub fn instances(&self, now: Now) -> Vec<InstanceView> {
        let _ = now;
        Vec::new()
    }

    /// One open instance.
    pub fn instance(&self, now: Now, instance_id: i64) -> Option<InstanceView> {
        self.instances(now).into_iter().find(|i| i.instance_id == instance_id)
    }

    /// The worker as a whole.
    pub fn worker(&self) -> WorkerView {
        WorkerView { slots_used: 0, slots: self.config.slots, queued: 0, backlog: self.config.backlog, overload: false, draining: false, open: 0, last_heartbeat_ms: None, trouble: None }
    }

    /// The app's server, when known.
    pub fn owner(&self) -> Option<&Owner> {
        None
    }
}
