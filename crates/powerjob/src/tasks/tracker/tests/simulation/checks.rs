//! What must hold, at every step and in the end.

use std::collections::BTreeSet;

use super::{
    super::super::{Answer, End, Event, Tracker, machine::REPAIR_MS, spec::Kind},
    INSTANCE, World,
};
use crate::{
    RestartPolicy,
    tasks::{
        api::{LAST_TASK, StartTask, TaskStatus},
        table::{Table, results},
    },
};

impl World {
    /// What the tracker counts is what the table has, and nothing waits for an answer for ever.
    pub(super) fn check_counts(&mut self, tracker: &Tracker) {
        if tracker.state.end.is_some() || !self.rng.percent(30) {
            return;
        }
        let (now, limit) = (self.core_now().mono_ms, self.spec.options.unanswered_ms + 3 * REPAIR_MS);
        for flight in tracker.runs.values().flat_map(|run| run.flights.values()) {
            assert!(flight.received || now < flight.since + limit, "nobody acknowledges {flight:?}");
        }
        let table = Table::new(&self.db, "main", INSTANCE);
        for (sub, run) in &tracker.runs {
            let mut found = [0; 5];
            for (status, fixed, count) in table.counts(run.key).expect("the table") {
                found[4] += count;
                match status {
                    TaskStatus::WaitingDispatch if fixed => {}
                    TaskStatus::WaitingDispatch => found[0] += count,
                    TaskStatus::Failed => found[2] += count,
                    TaskStatus::Succeeded => found[3] += count,
                    _ => found[1] += count,
                }
            }
            let flights = i64::try_from(run.flights.len()).expect("small");
            let counted = [run.free, flights, run.failed, run.succeeded, run.total];
            assert_eq!(counted, found, "waiting, at workers, failed, succeeded, all of run {sub}");
            assert!(
                run.flights.values().all(|flight| flight.failed <= self.spec.retries),
                "more failures than allowed"
            );
        }
        for (address, worker) in &tracker.workers {
            let flights = tracker.runs.values().flat_map(|run| run.flights.values());
            let there = flights.filter(|flight| flight.address == *address).count();
            assert_eq!(worker.in_flight, there, "tasks at {address}");
            assert!(there <= 2 * self.spec.concurrency + 100 + tracker.runs.len() * 3, "{address} is flooded");
        }
        if self.spec.firings.is_some() {
            let running = i64::try_from(tracker.runs.len()).expect("small");
            let state = &tracker.state;
            assert_eq!(state.firings, state.succeeded + state.failed + running, "firings");
        }
    }

    /// What was accepted is there.
    pub(super) fn check_answer(&mut self, event: &Event, answer: &Answer) {
        let (Event::Map(map), Ok(())) = (event, answer) else { return };
        let table = Table::new(&self.db, "main", INSTANCE);
        for (key, sub, _) in table.runs().expect("the table") {
            if sub == map.sub_instance_id {
                assert!(
                    table.has_all(key, &map.sub_tasks).expect("the table"),
                    "an accepted task is not there: {map:?}"
                );
                self.mapped.extend(map.sub_tasks.iter().map(|task| task.task_id.clone()));
            }
        }
    }

    /// A task is sent as it was mapped, not more often than it may fail, and the last one last.
    pub(super) fn check_start(&self, task: &StartTask) {
        assert!(task.task_current_retry_nums <= self.spec.retries, "{} is over its retries", task.task_id);
        if task.task_name == "SHARD" {
            assert_eq!(task.task_content.as_deref(), Some(task.task_id.as_bytes()), "its body");
        }
        let calm = self.faults.loss + self.faults.kills == 0;
        let uncut = self.faults.crashes + self.faults.transactions == 0;
        // What a restart cut counts as a failure where the processor cannot take it up.
        let quiet = calm && (uncut || self.policy == RestartPolicy::Fail && self.workers.len() == 1);
        let starts = self.starts.get(&task.task_id).copied().unwrap_or(0);
        assert!(
            !quiet || starts <= i64::from(self.spec.retries),
            "{} was sent {starts} times before and may not be again",
            task.task_id
        );
        assert!(starts < 200, "{} is sent for ever", task.task_id);
        if task.task_name == LAST_TASK {
            let table = Table::new(&self.db, "main", INSTANCE);
            for (key, sub, _) in table.runs().expect("the table") {
                if sub == task.sub_instance_id {
                    let counts = table.counts(key).expect("the table");
                    let open: i64 = counts.iter().filter(|(status, ..)| !status.is_final()).map(|(.., n)| n).sum();
                    assert_eq!(open, 1, "the last task begins while others are open: {counts:?}");
                }
            }
        }
    }

    /// The last task sees every other one once.
    pub(super) fn check_results(&self, task: &StartTask, run: i64, root: &str) {
        let (mut seen, mut after) = (BTreeSet::new(), None::<String>);
        loop {
            let Ok(page) = results(&self.db, run, root, after.as_deref(), 7) else { return };
            let Some(last) = page.last() else { break };
            after = Some(last.task_id.clone());
            for result in page {
                assert!(seen.insert(result.task_id.clone()), "{} has two results", result.task_id);
            }
        }
        if self.spec.firings.is_none() && !seen.is_empty() {
            let missing: Vec<&String> = self.mapped.iter().filter(|id| !seen.contains(*id)).collect();
            assert!(missing.is_empty(), "no results of {missing:?}");
            assert!(seen.contains(root), "no result of the root");
            if self.spec.kind == Kind::MapReduce {
                assert_eq!(seen.len(), self.mapped.len() + 1 + usize::from(seen.contains(&task.task_id)));
            }
        }
    }

    /// The instance has ended, once and rightly.
    pub(super) fn finished(&mut self, end: &End) {
        self.done = true;
        if self.traced {
            println!("{:>8} ended: {end:?}", self.now);
        }
        assert_eq!(end.stopped, self.stopped, "{end:?}");
        if end.stopped {
            return;
        }
        let (total, succeeded, failed) = end.counts;
        assert_eq!(total, succeeded + failed, "{end:?}");
        let mapped = i64::try_from(self.mapped.len()).expect("small");
        match self.spec.kind {
            Kind::Map => {
                assert_eq!(end.result, format!("total:{total},succeed:{succeeded},failed:{failed}"));
                assert_eq!((total, end.success), (mapped + 1, failed == 0));
            }
            Kind::MapReduce => assert_eq!(total, mapped + 2),
            Kind::Broadcast => assert!(total >= 2, "{end:?}"),
            Kind::Standalone => panic!("such a job does not end by itself"),
        }
        if end.success && self.spec.has_last() {
            assert!(end.result.starts_with("9999 on"), "{end:?}");
        }
    }

    /// For the message of a history that does not end.
    pub(super) fn open_tasks(&self) -> String {
        let mut query = self
            .db
            .prepare("SELECT id, status, address, failed, unanswered FROM task WHERE status < 5 LIMIT 20")
            .expect("a statement");
        let rows = query.query_map([], |row| {
            Ok(format!(
                "{} status {} at {:?}, failed {}, unanswered {}",
                row.get::<_, String>(0)?,
                row.get::<_, i32>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, i32>(3)?,
                row.get::<_, i32>(4)?
            ))
        });
        let open: Vec<String> = rows.expect("rows").collect::<Result<_, _>>().expect("rows");
        format!("{:?} of {:?}: {open:#?}", self.spec.kind, self.faults)
    }
}
