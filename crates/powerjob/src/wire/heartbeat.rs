//! What a worker tells of itself every ten seconds.

use serde::Serialize;

use super::object::{Object, WireError, message};

/// `POST /server/workerHeartbeat`, fields in the order of the Java worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerHeartbeat {
    /// Reported address `ip:port`, the worker's identity.
    pub worker_address: String,
    /// App name.
    pub app_name: String,
    /// App id; without it the server fails.
    pub app_id: i64,
    /// The worker's clock, epoch ms.
    pub heartbeat_time: i64,
    /// Deployed Java containers: none here, always an empty list.
    pub container_infos: [(); 0],
    /// Worker version.
    pub version: String,
    /// Exactly `HTTP`.
    pub protocol: String,
    /// Tag for targeting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Client name.
    pub client: String,
    /// Instances that are open now.
    pub light_task_tracker_num: i32,
    /// Distributed and frequent ones.
    pub heavy_task_tracker_num: i32,
    /// Host figures; without them the server fails.
    pub system_metrics: SystemMetrics,
    /// Excludes the worker from dispatch. (The Java field is `isOverload`, the JSON property is not.)
    pub overload: bool,
}

message!(WorkerHeartbeat);

impl WorkerHeartbeat {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        let metrics = o
            .opt_object("systemMetrics")?
            .ok_or_else(|| WireError("field `systemMetrics` is missing; an object is needed".to_owned()))?;
        Ok(Self {
            worker_address: o.required_str("workerAddress")?,
            app_name: o.str("appName")?,
            app_id: o.required_i64("appId")?,
            heartbeat_time: o.i64("heartbeatTime")?,
            container_infos: [],
            version: o.str("version")?,
            protocol: o.str("protocol")?,
            tag: o.opt_str("tag")?,
            client: o.str("client")?,
            light_task_tracker_num: o.i32("lightTaskTrackerNum")?,
            heavy_task_tracker_num: o.i32("heavyTaskTrackerNum")?,
            system_metrics: SystemMetrics::read(&metrics)?,
            overload: o.bool("overload")?,
        })
    }
}

/// Host figures. Memory and disk in GiB; for a native worker `jvm*Memory` is the host's memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemMetrics {
    /// Processors.
    pub cpu_processors: i32,
    /// Load average of one minute; negative when unknown.
    pub cpu_load: f64,
    /// Memory in use.
    pub jvm_used_memory: f64,
    /// Memory that may be used.
    pub jvm_max_memory: f64,
    /// Used by max.
    pub jvm_memory_usage: f64,
    /// Disk in use, all file systems together.
    pub disk_used: f64,
    /// Disk in total.
    pub disk_total: f64,
    /// Used by total.
    pub disk_usage: f64,
    /// For a collector of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<String>,
    /// Rank for HEALTH_FIRST; not positive = the server computes it.
    pub score: i32,
}

message!(SystemMetrics);

impl SystemMetrics {
    pub(crate) fn read(o: &Object) -> Result<Self, WireError> {
        Ok(Self {
            cpu_processors: o.i32("cpuProcessors")?,
            cpu_load: o.f64("cpuLoad")?,
            jvm_used_memory: o.f64("jvmUsedMemory")?,
            jvm_max_memory: o.f64("jvmMaxMemory")?,
            jvm_memory_usage: o.f64("jvmMemoryUsage")?,
            disk_used: o.f64("diskUsed")?,
            disk_total: o.f64("diskTotal")?,
            disk_usage: o.f64("diskUsage")?,
            extra: o.opt_str("extra")?,
            score: o.i32("score")?,
        })
    }

    /// Figures from bytes, rounded to four decimals, with the score that the Java worker would give them (3.1).
    pub fn from_bytes(
        cpus: i32,
        load: f64,
        memory_used: u64,
        memory_max: u64,
        disk_used: u64,
        disk_total: u64,
    ) -> Self {
        let (used, max) = (gib(memory_used), gib(memory_max));
        let mut metrics = Self {
            cpu_processors: cpus,
            cpu_load: round4(load),
            jvm_used_memory: used,
            jvm_max_memory: max,
            jvm_memory_usage: ratio(memory_used, memory_max),
            disk_used: gib(disk_used),
            disk_total: gib(disk_total),
            disk_usage: ratio(disk_used, disk_total),
            extra: None,
            score: 0,
        };
        metrics.score = metrics.computed_score();
        metrics
    }

    /// `trunc((max - used) * 2 + processors - load)`; an unknown load counts as one free processor.
    #[expect(clippy::cast_possible_truncation, reason = "truncation towards zero is the formula")]
    fn computed_score(&self) -> i32 {
        let processors = f64::from(self.cpu_processors);
        let mut cpu = processors - self.cpu_load;
        if cpu > processors {
            cpu = 1.0;
        }
        ((self.jvm_max_memory - self.jvm_used_memory) * 2.0 + cpu) as i32
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people, four decimals of GiB")]
fn gib(bytes: u64) -> f64 {
    round4(bytes as f64 / f64::from(1 << 30))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of four decimals")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { round4(part as f64 / whole as f64) }
}

fn round4(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> WorkerHeartbeat {
        WorkerHeartbeat {
            worker_address: "10.0.0.5:27777".to_owned(),
            app_name: "demo".to_owned(),
            app_id: 1,
            heartbeat_time: 1_732_158_000_123,
            container_infos: [],
            version: "5.1.1".to_owned(),
            protocol: "HTTP".to_owned(),
            tag: Some("gpu".to_owned()),
            client: "KingPenguin".to_owned(),
            light_task_tracker_num: 2,
            heavy_task_tracker_num: 0,
            system_metrics: SystemMetrics {
                cpu_processors: 8,
                cpu_load: 1.25,
                jvm_used_memory: 0.1294,
                jvm_max_memory: 3.556,
                jvm_memory_usage: 0.0364,
                disk_used: 108.5645,
                disk_total: 875.0,
                disk_usage: 0.1241,
                extra: None,
                score: 13,
            },
            overload: false,
        }
    }

    #[test]
    fn trap_18_a_heartbeat_has_exactly_the_documented_fields() {
        let documented: serde_json::Value = serde_json::from_str(
            r#"{"workerAddress":"10.0.0.5:27777","appName":"demo","appId":1,"heartbeatTime":1732158000123,
             "containerInfos":[],"version":"5.1.1","protocol":"HTTP","tag":"gpu","client":"KingPenguin",
             "overload":false,"lightTaskTrackerNum":2,"heavyTaskTrackerNum":0,
             "systemMetrics":{"cpuProcessors":8,"cpuLoad":1.25,"jvmUsedMemory":0.1294,"jvmMaxMemory":3.556,
              "jvmMemoryUsage":0.0364,"diskUsed":108.5645,"diskTotal":875.0,"diskUsage":0.1241,"score":13}}"#,
        )
        .expect("the example of a real message");
        assert_eq!(serde_json::to_value(heartbeat()).expect("JSON"), documented);
        assert_eq!(WorkerHeartbeat::parse(documented.to_string().as_bytes()).expect("read"), heartbeat());
    }

    #[test]
    fn trap_01_the_flag_is_named_overload_and_always_there() {
        let mut beat = heartbeat();
        beat.overload = true;
        let text = serde_json::to_string(&beat).expect("JSON");
        assert!(text.contains("\"overload\":true") && !text.contains("isOverload"), "{text}");
    }

    #[test]
    fn without_a_tag_the_field_is_left_out() {
        let mut beat = heartbeat();
        beat.tag = None;
        let text = serde_json::to_string(&beat).expect("JSON");
        assert!(!text.contains("tag\"") && !text.contains("null"), "{text}");
    }

    #[test]
    fn the_score_is_the_one_of_the_java_worker() {
        const GIB: u64 = 1 << 30;
        let m = SystemMetrics::from_bytes(8, 1.25, GIB, 4 * GIB, 100 * GIB, 400 * GIB);
        assert_eq!((m.score, m.disk_usage, m.jvm_memory_usage), (12, 0.25, 0.25));
        let unknown_load = SystemMetrics::from_bytes(8, -1.0, GIB, 4 * GIB, 0, 0);
        assert_eq!((unknown_load.score, unknown_load.disk_usage), (7, 0.0));
        assert_eq!(SystemMetrics::from_bytes(1, 0.0, 1, 123_456_789, 0, 0).jvm_max_memory, 0.115);
    }
}
