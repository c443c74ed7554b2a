//! Tasks whose outcome was accepted, for as long as the same try of them may still be on its way a second time.
//!
//! A tracker that misses an acknowledgement sends a task again. The first one may have been done, reported and forgotten before
//! the second one arrives, which must not be taken for new work. A tracker that wants the task again counts the try up.

use std::collections::HashMap;

/// Longer than a request can be under way: its sender gives it up after seconds.
const REMEMBERED_MS: u64 = 30_000;
/// At most so many; of a part that does more in this time the oldest half is forgotten.
const MOST: usize = 50_000;

/// The newest accepted outcomes of a part.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Try and moment (monotonic ms) by task.
    tasks: HashMap<String, (i32, u64)>,
    /// From so many on the old ones are looked for.
    sweep_from: usize,
}

impl Done {
    /// The outcome of this try was accepted.
    pub(super) fn insert(&mut self, task_id: &str, retry: i32, now_ms: u64) {
        if self.tasks.len() >= self.sweep_from.max(1_000) {
            let mut age = REMEMBERED_MS;
            while age > 0 {
                self.tasks.retain(|_, (_, at)| now_ms.saturating_sub(*at) < age);
                if self.tasks.len() < MOST {
                    break;
                }
                age /= 2;
            }
            self.sweep_from = (2 * self.tasks.len()).min(MOST);
        }
        self.tasks.insert(task_id.to_owned(), (retry, now_ms));
    }

    /// Whether this try, or a later one, was done a moment ago.
    pub(super) fn contains(&self, task_id: &str, retry: i32, now_ms: u64) -> bool {
        self.tasks.get(task_id).is_some_and(|(done, at)| retry <= *done && now_ms.saturating_sub(*at) < REMEMBERED_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_is_known_for_a_while_and_the_next_one_is_new_at_once() {
        let mut done = Done::default();
        done.insert("0.1", 1, 100);
        assert!(done.contains("0.1", 0, 200) && done.contains("0.1", 1, 30_099));
        assert!(!done.contains("0.1", 2, 200) && !done.contains("0.1", 1, 30_100) && !done.contains("0.2", 1, 200));
    }

    #[test]
    fn however_many_are_done_a_bounded_number_is_known_and_the_newest_are() {
        let mut done = Done::default();
        for n in 0..500_000_u64 {
            done.insert(&n.to_string(), 0, n / 50);
            assert!(done.tasks.len() <= MOST);
        }
        assert!((490_000..500_000_u64).all(|n| done.contains(&n.to_string(), 0, 10_000)));
        let mut slow = Done::default();
        for n in 0..10_000_u64 {
            slow.insert(&n.to_string(), 0, n * 1_000);
        }
        assert!(slow.tasks.len() <= 1_000, "{}", slow.tasks.len());
    }
}
