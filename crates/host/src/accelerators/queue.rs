//! First come, first served among the runs that wait for cards: a large request would wait for ever behind small ones that
//! keep coming.

use std::time::Duration;

use tokio::time::Instant;

use super::{card::Observation, ledger::Decision, request::LeaseRequest};

/// Who waits asks again within this time; who does not has given up.
const STALE: Duration = Duration::from_secs(10);

/// The requests that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Vec<(LeaseRequest, Instant)>,
}

impl Queue {
    /// What a request comes to when those in front of it are thought of: a grant of cards that one of them could use is none.
    pub(super) fn in_turn(
        &mut self,
        request: &LeaseRequest,
        seen: &Observation,
        decision: Decision,
        now: Instant,
    ) -> Decision {
        self.waiting.retain(|(_, asked)| now.duration_since(*asked) < STALE);
        let place = self.waiting.iter().position(|(waiting, _)| waiting.holder == request.holder);
        let before = &self.waiting[..place.unwrap_or(self.waiting.len())];
        let decision = match decision {
            Decision::Grant(cards) => {
                let wanted = |other: &LeaseRequest| cards.iter().any(|at| other.could_use(&seen.cards[*at].card));
                let front: Vec<&str> =
                    before.iter().filter(|(other, _)| wanted(other)).map(|(other, _)| other.words.as_str()).collect();
                if front.is_empty() {
                    Decision::Grant(cards)
                } else {
                    Decision::Busy(format!("wanted before by {}", front.join("; ")))
                }
            }
            other => other,
        };
        match (&decision, place) {
            (Decision::Busy(_), Some(at)) if request.waits => self.waiting[at].1 = now,
            (Decision::Busy(_), None) if request.waits => self.waiting.push((request.clone(), now)),
            (_, Some(at)) => drop(self.waiting.remove(at)),
            _ => {}
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BoundaryId,
        accelerators::card::{Accelerator, CardState, Observed, Vendor},
    };

    fn ask(instance: i64, count: u32, kind: Option<&str>, waits: bool) -> LeaseRequest {
        LeaseRequest {
            holder: BoundaryId::new(instance, 1),
            count,
            kind: kind.map(str::to_owned),
            min_memory_bytes: None,
            device_ids: Vec::new(),
            words: format!("instance {instance}"),
            waits,
        }
    }

    fn host() -> Observation {
        let card = |at: u32, kind: &str| Observed {
            card: Accelerator::new(at, format!("C{at}"), Vendor::Other, kind, 1),
            state: CardState::default(),
        };
        Observation { cards: vec![card(0, "a"), card(1, "a"), card(2, "b")], ..Observation::default() }
    }

    #[test]
    fn who_came_later_does_not_take_the_cards_that_somebody_waits_for() {
        let (mut queue, seen, now) = (Queue::default(), host(), Instant::now());
        let busy = || Decision::Busy("in use".into());
        assert_eq!(queue.in_turn(&ask(1, 2, Some("a"), true), &seen, busy(), now), busy());
        let second = queue.in_turn(&ask(2, 1, None, true), &seen, Decision::Grant(vec![0]), now);
        assert_eq!(second, Decision::Busy("wanted before by instance 1".into()));
        let other = queue.in_turn(&ask(3, 1, Some("b"), true), &seen, Decision::Grant(vec![2]), now);
        assert_eq!(other, Decision::Busy("wanted before by instance 2".into()), "the second takes any card");
        assert_eq!(
            queue.in_turn(&ask(1, 2, Some("a"), true), &seen, Decision::Grant(vec![0, 1]), now),
            Decision::Grant(vec![0, 1])
        );
        assert_eq!(
            queue.in_turn(&ask(2, 1, None, true), &seen, Decision::Grant(vec![2]), now),
            Decision::Grant(vec![2])
        );
    }

    #[test]
    fn who_does_not_wait_or_has_given_up_is_not_thought_of() {
        let (mut queue, seen, now) = (Queue::default(), host(), Instant::now());
        queue.in_turn(&ask(1, 2, None, false), &seen, Decision::Busy("in use".into()), now);
        assert_eq!(
            queue.in_turn(&ask(2, 1, None, false), &seen, Decision::Grant(vec![0]), now),
            Decision::Grant(vec![0])
        );
        queue.in_turn(&ask(3, 2, None, true), &seen, Decision::Busy("in use".into()), now);
        let later = now + STALE;
        assert_eq!(
            queue.in_turn(&ask(2, 1, None, false), &seen, Decision::Grant(vec![0]), later),
            Decision::Grant(vec![0])
        );
    }
}
