//! What a run is watched with: its samples, where they go, and the service process in its container.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use testrig_host::process::Inside;

use super::{
    super::{
        monitor::{Gateway, Monitor},
        state::EndKind,
    },
    Run,
};

/// What a push of the result may take with all its tries.
const PUSH_LIMIT: Duration = Duration::from_secs(20);
/// The same for a run that somebody stopped and waits for.
const STOPPED_LIMIT: Duration = Duration::from_secs(3);

impl Run {
    /// What samples the run; knows the service process in its container from here on.
    pub(super) fn monitor(&mut self, every: Duration) -> Monitor {
        self.inside = self.inside_of_container();
        Monitor {
            service: Arc::clone(&self.service),
            cards: self.leased_cards(),
            every,
            file: self.dir.monitor.clone(),
            dir: self.dir.path.clone(),
            gateway: self.gateway().map(Arc::new),
            inside: self.inside.clone(),
            say: Arc::clone(&self.say),
        }
    }

    /// Where there is one to be tracked.
    pub(super) fn inside_of_container(&self) -> Option<Arc<Mutex<Inside>>> {
        let (_, container) = self.service.container().filter(|_| self.plan.monitor.inside)?;
        let main = self.service.details().pid.and_then(|pid| i32::try_from(pid).ok())?;
        Some(Arc::new(Mutex::new(Inside::new(&container, main, self.plan.service_port))))
    }

    /// The Pushgateway of this run, if it has one.
    fn gateway(&self) -> Option<Gateway> {
        let endpoint = self.plan.monitor.push.as_ref()?;
        let who = &self.plan.who;
        let mut labels: BTreeMap<String, String> = who.tags.clone();
        let own = [
            ("env", Some(who.env.clone())),
            ("model_key", Some(who.model_key.clone())),
            ("model_version", who.model_version.clone()),
            ("scenario", Some(self.plan.load.scenario.clone())),
            ("worker", Some(self.ctx.worker_address.clone())),
        ];
        labels.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let instance = self.ctx.instance_id.to_string();
        let grouping = [("platform_task_id", who.platform_task_id.as_str()), ("instance_id", instance.as_str())];
        Some(Gateway::new(self.shared.env.http.clone(), endpoint, &grouping, &labels))
    }

    /// Sends the figures of the result. A gateway that does not take them is a warning: the result is in its file.
    pub(super) async fn push_result(&mut self) {
        let Some(gateway) = self.gateway() else { return };
        let failure = self.record.failure.as_ref();
        let limit = match failure.map(|failure| failure.kind) {
            Some(EndKind::Stopped) => STOPPED_LIMIT,
            _ => PUSH_LIMIT,
        };
        let push = gateway.push_result(self.record.metrics.as_ref(), failure.is_none());
        let problem = match tokio::time::timeout(limit, push).await {
            Ok(Ok(())) => return self.ctx.log.info("the figures of the run were pushed to metricsPushEndpoint"),
            Ok(Err(why)) => why,
            Err(_) => format!("not done within {} s", limit.as_secs()),
        };
        self.warn(format!("the figures of the run did not reach metricsPushEndpoint: {problem}"));
    }
}
