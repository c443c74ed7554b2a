//! Jobs: saved, copied, switched.

use serde_json::{Map, Value};

use crate::enums::{DISPATCH_STRATEGY, EXECUTE_TYPE, PROCESSOR_TYPE, TIME_TYPE, time_type};
use crate::java;
use crate::model::Job;
use crate::schedule::{interval, next_time};
use crate::thrown::Thrown;
use crate::world::World;

impl World {
    /// `/openApi/saveJob`, new or changed.
    pub(crate) fn save_job(&mut self, request: &Value, now: i64) -> Result<i64, Thrown> {
        let text = |name: &str| java::text(request.get(name));
        let required = |name: &str| Thrown::powerjob(format!("{name} can't be empty"));
        let long = |name: &str, default: i64| java::long(request.get(name)).unwrap_or(default);
        let kind = TIME_TYPE.read("timeExpressionType", request.get("timeExpressionType"))?;
        let execute_type = EXECUTE_TYPE.read("executeType", request.get("executeType"))?;
        let processor_type = PROCESSOR_TYPE.read("processorType", request.get("processorType"))?;
        let strategy = DISPATCH_STRATEGY.read("dispatchStrategy", request.get("dispatchStrategy"))?;
        let name = text("jobName").filter(|name| !name.is_empty()).ok_or_else(|| required("jobName"))?;
        let app_id = java::long(request.get("appId")).ok_or_else(|| required("appId"))?;
        let processor_info =
            text("processorInfo").filter(|info| !info.is_empty()).ok_or_else(|| required("processorInfo"))?;
        let execute_type = execute_type.ok_or_else(|| required("executeType"))?;
        let processor_type = processor_type.ok_or_else(|| required("processorType"))?;
        let kind = kind.ok_or_else(|| required("timeExpressionType"))?;
        let known = match java::long(request.get("id")) {
            None => None,
            Some(id) => Some(
                self.jobs.get(&id).cloned().ok_or_else(|| Thrown::illegal(format!("can't find job by jobId: {id}")))?,
            ),
        };
        let time_expression = text("timeExpression");
        refuse_what_is_not_served(kind, execute_type)?;
        let next_trigger_time = match kind {
            time_type::CRON => {
                let text =
                    time_expression.as_deref().ok_or_else(|| Thrown::null_pointer("Expression must not be null"))?;
                next_time(text, now, &self.config.zone)?
            }
            time_type::FIXED_RATE | time_type::FIXED_DELAY => {
                interval(time_expression.as_deref())?;
                None
            }
            _ => None,
        };
        let lifecycle = config_text(request.get("lifeCycle"), &["end", "start"]).unwrap_or_else(|| "{}".to_owned());
        if java::long(request.get("lifeCycle").and_then(|cycle| cycle.get("end"))).is_some_and(|end| end < now) {
            return Err(Thrown::powerjob("lifecycle is out of date!"));
        }
        // These survive being left out of an update; everything else is reset.
        let kept = |name: &str, keys: &[&str], old: fn(&Job) -> Option<String>| {
            config_text(request.get(name), keys).or_else(|| known.as_ref().and_then(old))
        };
        let id = known.as_ref().map_or_else(|| 0, |job| job.id);
        let job = Job {
            id,
            app_id,
            name,
            description: text("jobDescription"),
            params: text("jobParams"),
            time_type: kind,
            time_expression,
            execute_type,
            processor_type,
            processor_info,
            max_instance_num: long("maxInstanceNum", 0),
            concurrency: long("concurrency", 5),
            instance_time_limit: long("instanceTimeLimit", 0),
            instance_retry_num: long("instanceRetryNum", 0),
            task_retry_num: long("taskRetryNum", 0),
            min_cpu_cores: java::double(request.get("minCpuCores")),
            min_memory_space: java::double(request.get("minMemorySpace")),
            min_disk_space: java::double(request.get("minDiskSpace")),
            status: if request.get("enable").is_none_or(|value| java::boolean(Some(value))) { 1 } else { 2 },
            next_trigger_time,
            designated_workers: text("designatedWorkers"),
            max_worker_count: long("maxWorkerCount", 0),
            notify_user_ids: user_ids(request.get("notifyUserIds")).or_else(|| known.as_ref()?.notify_user_ids.clone()),
            extra: text("extra"),
            dispatch_strategy: strategy.unwrap_or(1),
            dispatch_strategy_config: text("dispatchStrategyConfig"),
            lifecycle,
            alarm_config: kept("alarmConfig", &["alertThreshold", "silenceWindowLen", "statisticWindowLen"], |job| {
                job.alarm_config.clone()
            }),
            tag: text("tag"),
            log_config: kept("logConfig", &["level", "loggerName", "type"], |job| job.log_config.clone()),
            advanced_runtime_config: kept("advancedRuntimeConfig", &["taskTrackerBehavior"], |job| {
                job.advanced_runtime_config.clone()
            }),
            created: known.as_ref().map_or(now, |job| job.created),
            modified: now,
        };
        Ok(self.store_job(job))
    }

    /// `/openApi/copyJob`: the same under another name.
    pub(crate) fn copy_job(&mut self, job_id: Option<i64>, now: i64) -> Result<i64, Thrown> {
        let shown = job_id.map_or_else(|| "null".to_owned(), |id| id.to_string());
        let job = job_id.and_then(|id| self.jobs.get(&id)).cloned();
        let mut job = job.ok_or_else(|| Thrown::illegal(format!("can't find job by jobId: {shown}")))?;
        job.id = 0;
        job.name.push_str("_COPY");
        (job.created, job.modified) = (now, now);
        Ok(self.store_job(job))
    }

    /// Enable (1), disable (2), delete softly (99).
    pub(crate) fn switch_job(
        &mut self,
        job_id: Option<i64>,
        app_id: Option<i64>,
        to: i32,
        now: i64,
    ) -> Result<(), Thrown> {
        let id = self.job_of(job_id, app_id)?.id;
        let zone = self.config.zone.clone();
        let Some(job) = self.jobs.get_mut(&id) else {
            return Ok(());
        };
        job.status = to;
        job.modified = now;
        if to == 1 && job.time_type == time_type::CRON {
            job.next_trigger_time = next_time(job.time_expression.as_deref().unwrap_or_default(), now, &zone)?;
        }
        let stop_all = to != 1 && job.is_frequent();
        if stop_all {
            let app_id = job.app_id;
            let running: Vec<i64> = self
                .instances
                .values()
                .filter(|instance| instance.job_id == id && crate::enums::status::is_open(instance.status))
                .map(|instance| instance.id)
                .collect();
            for instance_id in running {
                self.stop_instance(Some(app_id), Some(instance_id), now)?;
            }
        }
        Ok(())
    }

    fn store_job(&mut self, mut job: Job) -> i64 {
        if job.id == 0 {
            job.id = self.jobs.keys().next_back().map_or(1, |last| last + 1);
        }
        let id = job.id;
        self.jobs.insert(id, job);
        id
    }
}

/// Frequent and distributed jobs are dispatched like any other, but what their trackers report is not understood here.
fn refuse_what_is_not_served(kind: i32, execute_type: i32) -> Result<(), Thrown> {
    if kind == time_type::DAILY_TIME_INTERVAL {
        return Err(Thrown::not_served("jobs of time type DAILY_TIME_INTERVAL"));
    }
    if matches!(kind, time_type::FIXED_RATE | time_type::FIXED_DELAY) {
        return Err(Thrown::not_served("jobs of time type FIXED_RATE and FIXED_DELAY (their reports)"));
    }
    if execute_type == 1 {
        Ok(())
    } else {
        Err(Thrown::not_served("jobs of another execute type than STANDALONE (their reports)"))
    }
}

/// An embedded configuration as the database keeps it: JSON text, keys in alphabetical order, nulls left out.
fn config_text(value: Option<&Value>, keys: &[&str]) -> Option<String> {
    let object = value?.as_object()?;
    let mut kept = Map::new();
    for key in keys {
        if let Some(value) = object.get(*key).filter(|value| !value.is_null()) {
            kept.insert((*key).to_owned(), value.clone());
        }
    }
    Some(Value::Object(kept).to_string())
}

fn user_ids(value: Option<&Value>) -> Option<String> {
    let ids: Vec<String> = value?.as_array()?.iter().filter_map(|id| java::text(Some(id))).collect();
    (!ids.is_empty()).then(|| ids.join(","))
}
