//! The stage `lease`: the run's cards, at once or after a wait.

use std::{sync::Arc, time::Duration};

use testrig_host::accelerators::{Lease, LeaseError, LeaseRequest};
use tokio::time::Instant;

use super::{
    super::{
        ending::Ending,
        monitor::LeasedCards,
        service::{Cards, Fault},
        state::{FailureRecord, Stage},
    },
    Run,
};

/// What the looking and writing down may take beside the wait.
const LEASE_LIMIT: Duration = Duration::from_secs(120);
/// How often who waits asks again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Run {
    pub(super) async fn lease(&mut self) -> Result<(), FailureRecord> {
        let plan = self.plan.accelerators.clone();
        let Some(holder) = self.record.service.boundary.clone() else { return Ok(()) };
        let mut request = LeaseRequest {
            holder,
            count: plan.count,
            kind: plan.kind,
            min_memory_bytes: plan.min_memory,
            device_ids: plan.device_ids,
            words: format!("instance {}, task {}", self.ctx.instance_id, self.plan.who.platform_task_id),
            waits: true,
        };
        let accelerators = Arc::clone(&self.shared.env.accelerators);
        let say = Arc::clone(&self.say);
        let body = async move {
            let (begin, mut said) = (Instant::now(), String::new());
            loop {
                // Whose time is over after this try does not stand in the way of others.
                request.waits = begin.elapsed() + ASK_AGAIN <= plan.queue;
                match accelerators.lease(&request).await {
                    Ok(lease) => return Ok::<Lease, Fault>(lease),
                    Err(LeaseError::Busy { asked, busy }) if request.waits => {
                        if said != busy {
                            say(format!(
                                "waiting for {asked}, {} s at most: busy are {busy}",
                                plan.queue.saturating_sub(begin.elapsed()).as_secs()
                            ));
                            said = busy;
                        }
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    Err(error @ LeaseError::Impossible { .. }) => return Err(Fault::lasting(error.to_string())),
                    Err(error @ LeaseError::Busy { .. }) if !plan.queue.is_zero() => {
                        return Err(Fault::new(format!(
                            "{error}; waited {} s (resources.queueTimeoutSeconds)",
                            begin.elapsed().as_secs()
                        )));
                    }
                    Err(error @ LeaseError::Busy { .. }) => return Err(Fault::of(&error)),
                    // Nobody refused: the driver or the book could not be asked.
                    Err(error) => {
                        let fault = Fault::of(&error);
                        let ending = fault.ending.unwrap_or(Ending::NotStarted);
                        return Err(fault.ends(ending));
                    }
                }
            }
        };
        let lease = self.stage(Stage::Lease, LEASE_LIMIT + plan.queue, body).await?;
        if !lease.devices.is_empty() {
            self.ctx.log.info(format!("accelerators of this run: {}", lease.in_words()));
        }
        self.record.accelerators =
            lease.devices.iter().filter_map(|device| serde_json::to_value(device).ok()).collect();
        self.tell_cards();
        Ok(())
    }

    /// Whether this host has cards that somebody gives away: only then is anything said of cards.
    fn has_cards(&self) -> bool {
        self.shared.env.accelerators.provider() != "none"
    }

    /// Says to the service which cards it has.
    pub(super) fn tell_cards(&self) {
        if self.has_cards() {
            self.service.use_cards(self.cards());
        }
    }

    /// What scripts on the host have in their environment.
    pub(super) fn card_env(&self) -> Vec<(String, String)> {
        if self.has_cards() { self.cards().process_env() } else { Vec::new() }
    }

    /// The run's cards for the samples, if it has any.
    pub(super) fn leased_cards(&self) -> Option<LeasedCards> {
        let holder = self.record.service.boundary.clone()?;
        let accelerators = Arc::clone(&self.shared.env.accelerators);
        (!self.record.accelerators.is_empty()).then_some(LeasedCards { accelerators, holder })
    }

    fn cards(&self) -> Cards {
        let cards = self.record.accelerators.iter().filter_map(|card| serde_json::from_value(card.clone()).ok());
        Cards(cards.collect())
    }
}
