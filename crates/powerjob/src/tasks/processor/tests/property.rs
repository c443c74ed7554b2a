//! Any order of messages, ends, losses, stops and restarts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::rig::{OTHER, OWN, Rig, task};
use crate::{ProcessResult, RestartPolicy, tasks::processor::Event};

#[derive(Clone, Debug)]
enum Step {
    Start { own: bool, n: u8 },
    End { nth: u8, success: bool },
    Answer { nth: u8, accepted: bool },
    Pass(u32),
    Stop,
    ClockBack(u32),
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0..12_u8).prop_map(|(own, n)| Step::Start { own, n }),
        8 => (any::<u8>(), any::<bool>()).prop_map(|(nth, success)| Step::End { nth, success }),
        16 => (any::<u8>(), prop::bool::weighted(0.8)).prop_map(|(nth, accepted)| Step::Answer { nth, accepted }),
        4 => (0..30_000_u32).prop_map(Step::Pass),
        1 => Just(Step::Stop),
        1 => (0..100_000_u32).prop_map(Step::ClockBack),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

/// What is known from outside.
#[derive(Default)]
struct Seen {
    /// Time and status of the newest report of a task.
    times: HashMap<String, (i64, i32)>,
    under_way: BTreeSet<(u64, String)>,
}

impl Seen {
    /// Looks at what is newly under way.
    fn look(&mut self, rig: &Rig, before: usize) -> Result<(), TestCaseError> {
        for sent in &rig.reports[before.min(rig.reports.len())..] {
            let key = (sent.part, sent.report.task_id.clone());
            prop_assert!(self.under_way.insert(key), "two reports of {} at once", sent.report.task_id);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn one_report_of_a_task_at_a_time_no_more_at_work_than_slots_and_silence_after_a_stop(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut rig = Rig::new();
        let mut seen = Seen::default();
        for step in steps {
            let before = rig.reports.len();
            match step {
                Step::Start { own, n } => rig.start(task(if own { OWN } else { OTHER }, 7, &format!("0.{n}"))),
                Step::End { nth, success } => {
                    let all: Vec<u64> = rig.running.keys().copied().collect();
                    if let Some(&execution) = all.get(usize::from(nth) % all.len().max(1)) {
                        rig.running.remove(&execution);
                        let result = ProcessResult { success, message: String::new(), retryable: true };
                        rig.handle(Event::Ended { execution, result, context: BTreeMap::new() });
                    }
                }
                Step::Answer { nth, accepted } => {
                    if !rig.reports.is_empty() {
                        let at = usize::from(nth) % rig.reports.len();
                        let sent = rig.reports.remove(at);
                        rig.reports.insert(0, sent.clone());
                        seen.under_way.remove(&(sent.part, sent.report.task_id.clone()));
                        let before = rig.reports.len() - 1;
                        rig.answer(accepted);
                        seen.look(&rig, before)?;
                        continue;
                    }
                }
                Step::Pass(ms) => rig.pass(u64::from(ms)),
                Step::Stop => {
                    rig.handle(Event::Stop(7));
                    rig.handle(Event::StopForOthers(7));
                    rig.reports.clear();
                    seen = Seen::default();
                    let wake = rig.machine.wake_at();
                    prop_assert!(wake.is_none() && rig.store.is_empty());
                    continue;
                }
                Step::ClockBack(ms) => rig.clock_back(i64::from(ms)),
                Step::Restart(rerun) => {
                    rig.restart(if rerun { RestartPolicy::Rerun } else { RestartPolicy::Fail });
                    seen = Seen::default();
                    seen.look(&rig, 0)?;
                    continue;
                }
            }
            seen.look(&rig, before)?;
            prop_assert!(rig.running.len() <= 4, "two slots for each of two trackers");
        }
        // In the end everything is told, once the tracker answers and the processors end.
        for _ in 0..100 {
            for execution in rig.running.keys().copied().collect::<Vec<_>>() {
                rig.running.remove(&execution);
                let result = ProcessResult::success("");
                rig.handle(Event::Ended { execution, result, context: BTreeMap::new() });
            }
            rig.answer_all();
            rig.pass(1_000);
        }
        prop_assert_eq!(rig.machine.open_tasks(), 0);
        prop_assert!(rig.store.is_empty());
    }

    #[test]
    fn report_times_of_a_task_increase_through_losses_restarts_and_a_clock_that_steps(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut rig = Rig::new();
        let mut seen = Seen::default();
        rig.start(task(OTHER, 7, "0.0"));
        for step in steps {
            match step {
                Step::Answer { accepted, .. } if !rig.reports.is_empty() => {
                    let report = rig.answer(accepted);
                    let last = seen.times.entry(report.task_id.clone()).or_insert((0, 0));
                    // The same again has the same time.
                    let now = (report.report_time, report.status);
                    prop_assert!(now.0 > last.0 || now == *last, "{now:?} after {last:?}");
                    *last = now;
                }
                Step::End { success, .. } => {
                    if let Some(&execution) = rig.running.keys().next() {
                        rig.running.remove(&execution);
                        let result = ProcessResult { success, message: String::new(), retryable: true };
                        rig.handle(Event::Ended { execution, result, context: BTreeMap::new() });
                    }
                }
                Step::Pass(ms) => rig.pass(u64::from(ms)),
                Step::ClockBack(ms) => rig.clock_back(i64::from(ms)),
                Step::Restart(rerun) => rig.restart(if rerun { RestartPolicy::Rerun } else { RestartPolicy::Fail }),
                _ => {}
            }
        }
    }
}
