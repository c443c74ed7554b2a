//! Status reports: no fencing, and much is dropped though acknowledged.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::enums::{INSTANCE_STATUS, status};
use crate::java;
use crate::world::World;

/// A report as far as the server reads it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) instance_id: i64,
    pub(crate) wf_instance_id: Option<i64>,
    pub(crate) appended: BTreeMap<String, Value>,
    pub(crate) status: i32,
    pub(crate) result: Option<String>,
    pub(crate) end_time: Option<i64>,
    pub(crate) report_time: i64,
    pub(crate) source: Option<String>,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Processed.
    Taken,
    /// Dropped, but acknowledged like a processed one.
    Dropped,
}

impl Report {
    /// Reads a report; `None` is answered with 500.
    pub(crate) fn read(body: &Value) -> Option<Self> {
        if !body.is_object() {
            return None;
        }
        let code = java::long(body.get("instanceStatus")).unwrap_or(0);
        if !INSTANCE_STATUS.has(code) {
            return None;
        }
        let appended = match body.get("appendedWfContext") {
            Some(Value::Object(map)) => map.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            Some(Value::Null) | None => BTreeMap::new(),
            Some(_) => return None,
        };
        Some(Self {
            instance_id: java::long(body.get("instanceId"))?,
            wf_instance_id: java::long(body.get("wfInstanceId")),
            appended,
            status: i32::try_from(code).ok()?,
            result: java::text(body.get("result")),
            end_time: java::long(body.get("endTime")),
            report_time: java::long(body.get("reportTime")).unwrap_or(0),
            source: java::text(body.get("sourceAddress")),
        })
    }

    /// Final states are answered with a body, others with none.
    pub(crate) fn wants_answer(&self) -> bool {
        self.status >= status::FAILED
    }
}

impl World {
    /// True while the row has no worker: the caller then waits a moment before [`World::take_report`].
    pub(crate) fn has_no_address(&self, instance_id: i64) -> bool {
        self.instances.get(&instance_id).is_some_and(|instance| instance.address.as_deref().is_none_or(str::is_empty))
    }

    /// Context first, even if the report itself is dropped afterwards.
    pub(crate) fn merge_context_of(&mut self, report: &Report, now: i64) {
        if let Some(wf_instance_id) = report.wf_instance_id.filter(|_| !report.appended.is_empty()) {
            self.merge_context(wf_instance_id, &report.appended, now);
        }
    }

    /// The text for an instance that the server does not know.
    pub(crate) fn unknown_instance(&self, instance_id: i64) -> Option<String> {
        (!self.instances.contains_key(&instance_id)).then(|| {
            format!("UncheckedExecutionException: java.lang.IllegalArgumentException: can't find Instance by instanceId: {instance_id}")
        })
    }

    /// Applies a report. An error is the message of an unsuccessful answer.
    pub(crate) fn take_report(&mut self, report: &Report, now: i64) -> Result<Verdict, String> {
        let Some(instance) = self.instances.get_mut(&report.instance_id) else {
            return Ok(Verdict::Dropped);
        };
        if report.report_time <= instance.last_report {
            return Ok(Verdict::Dropped);
        }
        let Some(source) = report.source.as_ref() else {
            return Err("NullPointerException: Cannot invoke \"String.equals(Object)\" because the return value of \
                        \"tech.powerjob.common.request.TaskTrackerReportInstanceStatusReq.getSourceAddress()\" is null"
                .to_owned());
        };
        if instance.address.as_ref() != Some(source) {
            return Ok(Verdict::Dropped);
        }
        let retries = self.jobs.get(&instance.job_id).map_or(0, |job| job.instance_retry_num);
        instance.last_report = report.report_time;
        instance.modified = now;
        if instance.status == status::WAITING_WORKER_RECEIVE {
            instance.running_times += 1;
        }
        let finished = report.end_time.unwrap_or(now);
        match report.status {
            status::FAILED if instance.running_times <= retries => {
                instance.status = status::WAITING_DISPATCH;
            }
            status::SUCCEED | status::FAILED => {
                self.end_instance(report.instance_id, report.status, report.result.clone(), finished, now);
            }
            other => instance.status = other,
        }
        Ok(Verdict::Taken)
    }
}
