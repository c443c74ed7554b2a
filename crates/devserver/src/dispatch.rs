//! Who gets an instance, and what it is told. The row is written only
//! after the request was issued, as on the real server; the worker's answer plays no part.

use serde_json::{Map, Value, json};

use crate::enums::{EXECUTE_TYPE, PROCESSOR_TYPE, TIME_TYPE, status};
use crate::model::{Instance, Job, WorkerRecord};
use crate::thrown::Thrown;
use crate::workers::{matches_list, score};
use crate::world::{Sending, World};

const SPECIFY: i32 = 11;
const RANDOM: i32 = 2;

impl World {
    /// Decides a dispatch. `None`: nothing is to be sent now (already dispatched, cancelled, failed, all overloaded).
    pub(crate) fn prepare_dispatch(
        &mut self,
        instance_id: i64,
        as_node: bool,
        now: i64,
    ) -> Result<Option<Sending>, Thrown> {
        let Some(instance) = self.instances.get_mut(&instance_id) else {
            return Ok(None);
        };
        if instance.status != status::WAITING_DISPATCH || instance.in_dispatch {
            return Ok(None);
        }
        instance.in_timer = false;
        let (instance, Some(job)) = (instance.clone(), self.jobs.get(&instance.job_id).cloned()) else {
            let job_id = instance.job_id;
            self.fail_dispatch(instance_id, format!("can't find job by id {job_id}"), now);
            return Ok(None);
        };
        let limit = if job.is_frequent() { 1 } else { job.max_instance_num };
        let running = self.running_instances(job.id);
        if limit > 0 && running >= limit {
            self.fail_dispatch(instance_id, format!("too many instances({running}>{limit})"), now);
            return Ok(None);
        }
        let candidates = self.candidates(&job, now);
        if candidates.is_empty() {
            self.fail_dispatch(instance_id, "no worker available".to_owned(), now);
            return Ok(None);
        }
        let free: Vec<&WorkerRecord> = candidates.into_iter().filter(|worker| !worker.overloading).collect();
        let Some(master) = choose(&job, &free, instance_id) else {
            return Ok(None);
        };
        let protocol = master.protocol.as_deref().unwrap_or("AKKA");
        if protocol != "HTTP" {
            return Err(Thrown::illegal(format!("can't find Transporter by protocol :{protocol}")));
        }
        let addresses: Vec<&str> = free.iter().map(|worker| worker.address.as_str()).collect();
        let sending = Sending { address: master.address.clone(), body: request(&job, &instance, &addresses, as_node) };
        if let Some(instance) = self.instances.get_mut(&instance_id) {
            instance.in_dispatch = true;
        }
        Ok(Some(sending))
    }

    /// Writes down a dispatch that was issued at `at`, unless the row has changed meanwhile.
    pub(crate) fn dispatch_written(&mut self, instance_id: i64, address: &str, at: i64) {
        let Some(instance) = self.instances.get_mut(&instance_id) else {
            return;
        };
        if std::mem::take(&mut instance.in_dispatch) && instance.status == status::WAITING_DISPATCH {
            instance.status = status::WAITING_WORKER_RECEIVE;
            instance.actual = Some(at);
            instance.address = Some(address.to_owned());
            instance.modified = at;
        }
    }

    fn running_instances(&self, job_id: i64) -> i64 {
        let running = self.instances.values().filter(|instance| instance.job_id == job_id).filter(|instance| {
            matches!(instance.status, status::WAITING_WORKER_RECEIVE | status::RUNNING) || instance.in_dispatch
        });
        i64::try_from(running.count()).unwrap_or(i64::MAX)
    }
}

/// HEALTH_FIRST takes the best score, RANDOM any, SPECIFY one of the matches or, without one, any.
fn choose<'a>(job: &Job, free: &[&'a WorkerRecord], instance_id: i64) -> Option<&'a WorkerRecord> {
    let any = |workers: &[&'a WorkerRecord]| {
        let count = u64::try_from(workers.len()).unwrap_or(1).max(1);
        // Instance ids are as good as dice here.
        let at = (instance_id.unsigned_abs() >> 7).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) % count;
        workers.get(usize::try_from(at).unwrap_or(0)).copied()
    };
    match job.dispatch_strategy {
        RANDOM => any(free),
        SPECIFY => {
            let config = job.dispatch_strategy_config.as_deref().unwrap_or("");
            let specified: Vec<&WorkerRecord> =
                free.iter().copied().filter(|worker| is_specified(worker, config)).collect();
            any(&specified).or_else(|| any(free))
        }
        _ => free.iter().copied().max_by_key(|worker| score(&worker.metrics)),
    }
}

fn is_specified(worker: &WorkerRecord, config: &str) -> bool {
    let tag = worker.tag.as_deref().unwrap_or("");
    if let Some(part) = config.strip_prefix("tagIn:") {
        tag.contains(part)
    } else if let Some(whole) = config.strip_prefix("tagEquals:") {
        tag == whole
    } else {
        !config.is_empty() && matches_list(worker, config)
    }
}

/// `ServerScheduleJobReq`, in the order of the real server's fields; what has no value is absent.
fn request(job: &Job, instance: &Instance, addresses: &[&str], as_node: bool) -> Value {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            body.insert(name.to_owned(), value);
        }
    };
    let job_params = instance.job_params.clone().filter(|params| !params.is_empty()).or_else(|| job.params.clone());
    set("allWorkerAddress", json!(addresses));
    set("maxWorkerCount", json!(job.max_worker_count));
    set("jobId", json!(job.id));
    set("wfInstanceId", json!(instance.wf_instance_id));
    set("instanceId", json!(instance.id));
    set("executeType", json!(EXECUTE_TYPE.name(job.execute_type)));
    set("processorType", json!(PROCESSOR_TYPE.name(job.processor_type)));
    set("processorInfo", json!(job.processor_info));
    set("instanceTimeoutMS", json!(job.instance_time_limit));
    set("jobParams", json!(job_params));
    set("instanceParams", json!(instance.instance_params.as_ref().filter(|params| !params.is_empty())));
    set("threadConcurrency", json!(job.concurrency));
    set("taskRetryNum", json!(job.task_retry_num));
    set("timeExpressionType", json!(TIME_TYPE.name(World::dispatched_time_type(job.time_type, as_node))));
    set("timeExpression", json!(job.time_expression));
    set("maxInstanceNum", json!(job.max_instance_num));
    set("alarmConfig", json!(job.alarm_config));
    set("logConfig", json!(job.log_config));
    set("advancedRuntimeConfig", json!(job.advanced_runtime_config));
    Value::Object(body)
}
