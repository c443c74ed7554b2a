//! Workers: what heartbeats say and who may be given work.

use serde_json::{Value, json};

use crate::java;
use crate::model::{Job, WorkerRecord};
use crate::world::World;

impl World {
    /// Takes a heartbeat; `None` when it lacks what the real server needs (it answers 500 then).
    pub(crate) fn heartbeat(&mut self, body: &Value) -> Option<()> {
        let address = java::text(body.get("workerAddress"))?;
        let app_id = java::long(body.get("appId"))?;
        let time = java::long(body.get("heartbeatTime")).unwrap_or(0);
        let metrics = body.get("systemMetrics").filter(|metrics| metrics.is_object())?.clone();
        let overloading = java::boolean(body.get("overload"));
        let record = WorkerRecord {
            address: address.clone(),
            last_active: time,
            protocol: java::text(body.get("protocol")),
            client: java::text(body.get("client")),
            tag: java::text(body.get("tag")),
            light: java::long(body.get("lightTaskTrackerNum")).unwrap_or(0),
            heavy: java::long(body.get("heavyTaskTrackerNum")).unwrap_or(0),
            last_overload: 0,
            overloading,
            metrics,
            containers: body.get("containerInfos").filter(|list| list.is_array()).cloned().unwrap_or_else(|| json!([])),
        };
        let workers = self.workers.entry(app_id).or_default();
        match workers.get_mut(&address) {
            Some(known) if time < known.last_active => {}
            Some(known) => {
                let last_overload = if overloading { time } else { known.last_overload };
                *known = WorkerRecord { last_overload, ..record };
            }
            None => {
                let last_overload = if overloading { time } else { 0 };
                workers.insert(address, WorkerRecord { last_overload, ..record });
            }
        }
        Some(())
    }

    /// Workers that pass the filters of a job, overloaded ones included; cut to its maxWorkerCount.
    pub(crate) fn candidates(&self, job: &Job, now: i64) -> Vec<&WorkerRecord> {
        let all = self.workers.get(&job.app_id).into_iter().flat_map(|workers| workers.values());
        let fit = all
            .filter(|worker| self.is_online(worker, now) && is_designated(worker, job) && has_resources(worker, job));
        match usize::try_from(job.max_worker_count) {
            Ok(limit) if limit > 0 => fit.take(limit).collect(),
            _ => fit.collect(),
        }
    }

    pub(crate) fn is_online(&self, worker: &WorkerRecord, now: i64) -> bool {
        now - worker.last_active <= java::millis(self.config.timers.worker_timeout)
    }
}

fn is_designated(worker: &WorkerRecord, job: &Job) -> bool {
    match job.designated_workers.as_deref() {
        None | Some("") => true,
        Some(list) => matches_list(worker, list),
    }
}

/// The comma rule: an entry equals the whole tag or the address.
pub(crate) fn matches_list(worker: &WorkerRecord, list: &str) -> bool {
    list.split(',').any(|entry| entry == worker.address || Some(entry) == worker.tag.as_deref())
}

fn has_resources(worker: &WorkerRecord, job: &Job) -> bool {
    let metric = |name: &str| java::double(worker.metrics.get(name));
    let (load, cores) = (metric("cpuLoad"), metric("cpuProcessors"));
    let cpu = load <= 0.0 || job.min_cpu_cores <= 0.0 || job.min_cpu_cores < cores - load;
    cpu && metric("jvmMaxMemory") - metric("jvmUsedMemory") >= job.min_memory_space
        && metric("diskTotal") - metric("diskUsed") >= job.min_disk_space
}

/// The rank of a worker: its own, else computed.
pub(crate) fn score(metrics: &Value) -> i64 {
    let own = java::long(metrics.get("score")).unwrap_or(0);
    if own > 0 {
        return own;
    }
    let metric = |name: &str| java::double(metrics.get(name));
    let cores = metric("cpuProcessors");
    let cpu = cores - metric("cpuLoad");
    let cpu = if cpu > cores { 1.0 } else { cpu };
    #[expect(clippy::cast_possible_truncation, reason = "the server truncates toward zero too")]
    let score = ((metric("jvmMaxMemory") - metric("jvmUsedMemory")) * 2.0 + cpu) as i64;
    score
}
