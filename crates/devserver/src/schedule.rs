//! The schedule loop: CRON jobs and workflows, and frequent jobs that have no instance.

use std::str::FromStr;

use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::enums::{status, time_type};
use crate::instances::NewInstance;
use crate::java::millis;
use crate::thrown::Thrown;
use crate::world::{Effect, World};

/// The next time of a Quartz expression after `after` (epoch ms); `None` when there is none.
pub(crate) fn next_time(expression: &str, after: i64, zone: &TimeZone) -> Result<Option<i64>, Thrown> {
    let parts = expression.split_whitespace().count();
    if !(6..=7).contains(&parts) {
        return Err(Thrown::illegal(format!("Cron expression contains {parts} parts but we expect one of [6, 7]")));
    }
    let parser = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Optional)
        .alternative_weekdays(true)
        .sloppy_ranges(true)
        .build();
    let cron = parser
        .parse(expression)
        .map_err(|error| Thrown::illegal(format!("Failed to parse cron expression. {error}: '{expression}'")))?;
    let from = Timestamp::from_millisecond(after).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone.clone());
    Ok(cron.find_next_occurrence(&from, false).ok().map(|next| next.timestamp().as_millisecond()))
}

/// The interval of a FIXED_RATE or FIXED_DELAY job.
pub(crate) fn interval(expression: Option<&str>) -> Result<i64, Thrown> {
    let text = expression.unwrap_or("null");
    let ms = i64::from_str(text).map_err(|_| Thrown(format!("NumberFormatException: For input string: \"{text}\"")))?;
    match ms {
        ..=0 => Err(Thrown::powerjob("the rate must be greater than 0 ms")),
        120_001.. => Err(Thrown::powerjob("the rate must be less than 120000ms")),
        _ => Ok(ms),
    }
}

impl World {
    /// One pass: what is due within two rounds is planned, each job at most once.
    pub(crate) fn schedule(&mut self, now: i64) {
        let horizon = now + 2 * millis(self.config.timers.schedule_interval);
        self.schedule_jobs(now, horizon);
        self.schedule_workflows(now, horizon);
        self.schedule_frequent(now);
    }

    fn schedule_jobs(&mut self, now: i64, horizon: i64) {
        let zone = self.config.zone.clone();
        let due: Vec<i64> = self
            .jobs
            .values()
            .filter(|job| job.status == 1 && job.time_type == time_type::CRON)
            .filter(|job| job.next_trigger_time.is_some_and(|next| next <= horizon))
            .map(|job| job.id)
            .collect();
        for id in due {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            let planned = job.next_trigger_time.unwrap_or(now).max(now);
            let expression = job.time_expression.clone().unwrap_or_default();
            job.next_trigger_time = next_time(&expression, planned, &zone).ok().flatten();
            let new = NewInstance {
                job_id: id,
                app_id: job.app_id,
                wf_instance_id: None,
                job_params: job.params.clone(),
                instance_params: None,
                expected: planned,
            };
            let instance_id = self.create_instance(new, now);
            self.wait_for(instance_id, planned);
        }
    }

    fn schedule_workflows(&mut self, now: i64, horizon: i64) {
        let zone = self.config.zone.clone();
        let due: Vec<i64> = self
            .workflows
            .values()
            .filter(|workflow| workflow.status == 1 && workflow.time_type == time_type::CRON)
            .filter(|workflow| workflow.next_trigger_time.is_some_and(|next| next <= horizon))
            .map(|workflow| workflow.id)
            .collect();
        for id in due {
            let Some(workflow) = self.workflows.get_mut(&id) else {
                continue;
            };
            let planned = workflow.next_trigger_time.unwrap_or(now).max(now);
            let expression = workflow.time_expression.clone().unwrap_or_default();
            workflow.next_trigger_time = next_time(&expression, planned, &zone).ok().flatten();
            let wf_instance_id = self.create_wf_instance(id, None, planned, now);
            self.effects.push(Effect::StartWorkflowAt { wf_instance_id, at: planned });
        }
    }

    fn schedule_frequent(&mut self, now: i64) {
        let idle: Vec<i64> = self
            .jobs
            .values()
            .filter(|job| job.status == 1 && job.is_frequent())
            .filter(|job| {
                !self.instances.values().any(|instance| instance.job_id == job.id && status::is_open(instance.status))
            })
            .map(|job| job.id)
            .collect();
        for id in idle {
            let Some(job) = self.jobs.get(&id) else {
                continue;
            };
            let (app_id, job_params) = (job.app_id, job.params.clone());
            let new = NewInstance {
                job_id: id,
                app_id,
                wf_instance_id: None,
                job_params,
                instance_params: None,
                expected: now,
            };
            let instance_id = self.create_instance(new, now);
            self.effects.push(Effect::Dispatch { instance_id, as_node: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2026-11-21T09:00:00Z, a Saturday
    const FROM: i64 = 1_795_251_600_000;

    #[test]
    fn quartz_expressions_with_seconds_and_question_marks_are_understood() {
        let next = |expression: &str| next_time(expression, FROM, &TimeZone::UTC).expect("valid");
        assert_eq!(next("0/5 * * * * ?"), Some(FROM + 5_000));
        assert_eq!(next("0 0/10 * * * ?"), Some(FROM + 600_000));
        assert_eq!(next("0 0 0 ? * MON"), Some(FROM + (15 + 24) * 3_600_000));
        assert_eq!(next("0 0 0 ? * 2"), next("0 0 0 ? * MON"), "Quartz counts from Sunday = 1");
        assert_eq!(next("0 0 0 1 1 ? 2020"), None);
    }

    #[test]
    fn what_is_no_expression_is_refused_as_the_real_server_does() {
        let refused = next_time("nonsense", FROM, &TimeZone::UTC).expect_err("refused");
        assert_eq!(refused.0, "IllegalArgumentException: Cron expression contains 1 parts but we expect one of [6, 7]");
    }
}
