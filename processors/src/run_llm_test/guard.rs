//! `resourceGuard`: how much load this host sends over all runs at once.

use std::sync::Arc;

use parking_lot::Mutex;
use testrig_loadgen::Arrival;

use super::plan::LoadSettings;

/// What all runs of this host send together.
#[derive(Debug, Default)]
pub(super) struct HostLoad {
    used: Mutex<Used>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Used {
    qps: f64,
    slots: usize,
}

/// A run's part of the host's load; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    host: Arc<HostLoad>,
    part: Used,
    /// The arrival as it may be.
    pub(super) arrival: Arrival,
    /// What was cut, in words.
    pub(super) warning: Option<String>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut used = self.host.used.lock();
        used.qps -= self.part.qps;
        used.slots -= self.part.slots;
    }
}

impl HostLoad {
    /// As much of what a run asks for as its limits leave now; `None` when other runs use all of it.
    pub(super) fn take(self: &Arc<Self>, settings: &LoadSettings) -> Option<Share> {
        let mut used = self.used.lock();
        let mut arrival = settings.arrival;
        let mut cut = Vec::new();
        if let Some(max) = settings.host_max_qps
            && let Arrival::Constant { qps, .. } | Arrival::Poisson { qps, .. } = &mut arrival
        {
            let left = max - used.qps;
            if left <= 1e-9 {
                return None;
            }
            if *qps > left {
                cut.push(format!("qps {qps} to {left} (resourceGuard.maxQps {max}, other runs use {})", used.qps));
                *qps = left;
            }
        }
        if let Some(max) = settings.host_max_concurrency {
            let left = max.saturating_sub(used.slots);
            if left == 0 {
                return None;
            }
            let asked = arrival.slots();
            if asked > left {
                cut.push(format!(
                    "concurrency {asked} to {left} (resourceGuard.maxConcurrency {max}, other runs use {})",
                    used.slots
                ));
                match &mut arrival {
                    Arrival::Closed { concurrency } => *concurrency = left,
                    Arrival::Constant { concurrency, .. } | Arrival::Poisson { concurrency, .. } => {
                        *concurrency = Some(left);
                    }
                }
            }
        }
        let qps = match arrival {
            Arrival::Closed { .. } => 0.0,
            Arrival::Constant { qps, .. } | Arrival::Poisson { qps, .. } => qps,
        };
        let part = Used { qps, slots: arrival.slots() };
        used.qps += part.qps;
        used.slots += part.slots;
        let warning = (!cut.is_empty()).then(|| format!("the load was capped: {}", cut.join(", ")));
        Some(Share { host: Arc::clone(self), part, arrival, warning })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testrig_loadgen::{Dataset, Scenario, Scorer, Slo};

    use super::{super::plan::Driver, *};

    fn settings(arrival: Arrival, qps: Option<f64>, concurrency: Option<usize>) -> LoadSettings {
        LoadSettings {
            driver: Driver::Builtin { scenario: Scenario::ChatCompletion, dataset: Dataset::builtin() },
            scenario: "chat_completion".into(),
            arrival,
            warmup: Duration::ZERO,
            run: Duration::from_secs(1),
            model: "m".into(),
            api_key: None,
            max_tokens: None,
            temperature: None,
            dataset_path: None,
            dataset_id: "builtin".into(),
            scorer: Scorer::None,
            slo: Slo::default(),
            host_max_qps: qps,
            host_max_concurrency: concurrency,
        }
    }

    #[test]
    fn a_run_gets_what_others_leave_and_gives_it_back_at_its_end() {
        let host = Arc::new(HostLoad::default());
        let ask = settings(Arrival::Closed { concurrency: 6 }, None, Some(8));
        let first = host.take(&ask).expect("free");
        assert_eq!((first.arrival, first.warning.as_deref()), (Arrival::Closed { concurrency: 6 }, None));
        let second = host.take(&ask).expect("some left");
        assert_eq!(second.arrival, Arrival::Closed { concurrency: 2 });
        assert!(second.warning.as_deref().is_some_and(|text| text.contains("concurrency 6 to 2")), "{second:?}");
        assert!(host.take(&ask).is_none(), "nothing is left");
        drop(first);
        assert_eq!(host.take(&ask).expect("free again").arrival, Arrival::Closed { concurrency: 6 });
    }

    #[test]
    fn a_rate_above_the_limit_is_capped_with_a_warning() {
        let host = Arc::new(HostLoad::default());
        let ask = settings(Arrival::Constant { qps: 50.0, concurrency: Some(4) }, Some(20.0), None);
        let share = host.take(&ask).expect("free");
        assert_eq!(share.arrival, Arrival::Constant { qps: 20.0, concurrency: Some(4) });
        assert!(share.warning.as_deref().is_some_and(|text| text.contains("qps 50 to 20")));
        assert!(host.take(&ask).is_none());
    }
}
