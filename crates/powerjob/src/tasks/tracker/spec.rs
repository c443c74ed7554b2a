//! The instance as its dispatch describes it.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    tasks::api::{InstanceInfo, is_frequent},
    wire::ServerScheduleJobReq,
};

/// The limit that stands for none (5.1).
pub(crate) const NO_TIME_LIMIT: i64 = 2_147_483_647;
/// A FIXED_RATE job may not fire more often (5.5), ms.
const SHORTEST_RATE: u64 = 50;
/// `taskTrackerBehavior`: the tracker's own worker takes no mapped tasks.
const PADDLING: i64 = 11;

/// Numbers of a tracker that its surroundings choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrackerOptions {
    /// Longest appended workflow context as JSON, UTF-16 units.
    pub(crate) context_limit: usize,
    /// A task that was sent and not acknowledged for as long is sent again, ms.
    pub(crate) unanswered_ms: u64,
    /// A worker that was silent for as long is lost, ms.
    pub(crate) lost_ms: u64,
    /// A worker that no request reaches for as long, and that says nothing, is lost, ms.
    pub(crate) unreachable_ms: u64,
    /// The server is asked for new workers as often, ms.
    pub(crate) detect_ms: u64,
    /// Progress is written to the log as often, ms.
    pub(crate) progress_ms: u64,
    /// A frequent job stops firing when no server was reachable for as long, ms: soon afterwards the server starts it elsewhere.
    pub(crate) server_silent_ms: u64,
    /// A mistake that the simulation must find.
    #[cfg(test)]
    pub(crate) bug: Option<super::bugs::Bug>,
}

impl Default for TrackerOptions {
    fn default() -> Self {
        Self {
            context_limit: 8192,
            unanswered_ms: 15_000,
            lost_ms: 60_000,
            unreachable_ms: 30_000,
            detect_ms: 60_000,
            progress_ms: 10_000,
            server_silent_ms: 50_000,
            #[cfg(test)]
            bug: None,
        }
    }
}

/// What becomes of a root task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One task.
    Standalone,
    /// Pre-processing, one task a worker, post-processing.
    Broadcast,
    /// Mapped tasks.
    Map,
    /// Mapped tasks and reduce.
    MapReduce,
}

/// When a frequent job fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firings {
    /// Every so many ms, with at most so many runs at once.
    Rate(u64, Option<usize>),
    /// So many ms after the end of the run before.
    Delay(u64),
}

/// All that a tracker knows of its instance.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// This worker.
    pub(crate) own: String,
    /// Which execution of the instance on this worker it is; rows of an earlier one are not its own.
    pub(crate) attempt: u32,
    /// What goes to every worker.
    pub(crate) info: Arc<InstanceInfo>,
    /// What becomes of a root task.
    pub(crate) kind: Kind,
    /// Set iff frequent.
    pub(crate) firings: Option<Firings>,
    /// Workers of the dispatch, each once.
    pub(crate) workers: Vec<String>,
    /// `None` = no limit.
    pub(crate) max_workers: Option<usize>,
    /// Tasks at once per worker.
    pub(crate) concurrency: usize,
    /// Retries of a task.
    pub(crate) retries: i32,
    /// Mapped tasks go to other workers only.
    pub(crate) paddling: bool,
    /// JSON text.
    pub(crate) alarm: Option<String>,
    /// Numbers.
    pub(crate) options: TrackerOptions,
}

impl Spec {
    /// Reads a dispatch.
    ///
    /// # Errors
    /// Says what cannot be executed and why; the instance has then failed.
    pub(crate) fn new(own: &str, request: &ServerScheduleJobReq, options: TrackerOptions) -> Result<Self, String> {
        let kind = match request.execute_type.as_str() {
            "STANDALONE" => Kind::Standalone,
            "BROADCAST" => Kind::Broadcast,
            "MAP" => Kind::Map,
            "MAP_REDUCE" => Kind::MapReduce,
            other => {
                return Err(format!(
                    "execute type `{other}` is not known; STANDALONE, BROADCAST, MAP and MAP_REDUCE are"
                ));
            }
        };
        let firings = is_frequent(&request.time_expression_type).then(|| firings(request)).transpose()?;
        let mut workers = Vec::with_capacity(request.all_worker_address.len());
        for address in &request.all_worker_address {
            if !workers.contains(address) {
                workers.push(address.clone());
            }
        }
        if workers.is_empty() {
            workers.push(own.to_owned());
        }
        let info = InstanceInfo {
            job_id: request.job_id,
            instance_id: request.instance_id,
            wf_instance_id: request.wf_instance_id,
            execute_type: request.execute_type.clone(),
            processor_type: request.processor_type.clone(),
            processor_info: request.processor_info.clone().unwrap_or_default(),
            time_expression_type: number(&request.time_expression_type),
            instance_timeout_ms: match request.instance_timeout_ms {
                limit if limit > 0 => limit,
                _ => NO_TIME_LIMIT,
            },
            job_params: request.job_params.clone(),
            instance_params: request.instance_params.clone(),
            thread_concurrency: request.thread_concurrency.max(1),
            task_retry_num: request.task_retry_num.max(0),
            log_config: request.log_config.clone(),
            advanced_runtime_config: request.advanced_runtime_config.clone(),
        };
        Ok(Self {
            own: own.to_owned(),
            attempt: 1,
            kind,
            firings,
            workers,
            max_workers: request.max_worker_count.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0),
            concurrency: usize::try_from(info.thread_concurrency).unwrap_or(1),
            retries: info.task_retry_num,
            paddling: matches!(kind, Kind::Map | Kind::MapReduce) && behaviour(request) == PADDLING,
            alarm: request.alarm_config.clone(),
            options,
            info: Arc::new(info),
        })
    }

    /// Id of the root task of a run.
    pub(crate) fn root_id(&self, sub: i64) -> String {
        if self.firings.is_some() { sub.to_string() } else { "0".to_owned() }
    }

    /// Id of the last task of a run.
    pub(crate) fn last_id(&self, sub: i64) -> String {
        if self.firings.is_some() { format!("L{sub}") } else { "9999".to_owned() }
    }

    /// Whether workers that join later may take part.
    pub(crate) fn detects(&self) -> bool {
        self.firings.is_some() || matches!(self.kind, Kind::Map | Kind::MapReduce)
    }

    /// Whether the runs end with a last task.
    pub(crate) fn has_last(&self) -> bool {
        matches!(self.kind, Kind::Broadcast | Kind::MapReduce)
    }
}

fn firings(request: &ServerScheduleJobReq) -> Result<Firings, String> {
    let text = request.time_expression.as_deref().unwrap_or_default().trim();
    let kind = &request.time_expression_type;
    let interval = text.parse::<u64>().ok().filter(|ms| (1..=LONGEST_INTERVAL).contains(ms)).ok_or_else(|| {
        format!(
            "the interval of this {kind} job is `{text}`; a number of milliseconds is needed, 1 to {LONGEST_INTERVAL}"
        )
    })?;
    if kind == "FIXED_DELAY" {
        return Ok(Firings::Delay(interval));
    }
    if interval < SHORTEST_RATE {
        return Err(format!(
            "the interval of this FIXED_RATE job is {interval} ms; {SHORTEST_RATE} ms or more are accepted"
        ));
    }
    let limit = request.max_instance_num.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    Ok(Firings::Rate(interval, Some(limit.unwrap_or(MOST_RUNS).min(MOST_RUNS))))
}

/// Longest interval, ms: 34 years. The server's own limit is two minutes unless its operator changed it.
const LONGEST_INTERVAL: u64 = 1 << 40;
/// Runs of a FIXED_RATE job at once that has no limit of its own: one whose runs take longer than its interval would pile
/// them up without end.
const MOST_RUNS: usize = 1_000;

/// The enum's number (4.2).
fn number(time_expression_type: &str) -> i32 {
    match time_expression_type {
        "CRON" => 2,
        "FIXED_RATE" => 3,
        "FIXED_DELAY" => 4,
        "WORKFLOW" => 5,
        "DAILY_TIME_INTERVAL" => 11,
        _ => 1,
    }
}

fn behaviour(request: &ServerScheduleJobReq) -> i64 {
    let config = request.advanced_runtime_config.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    config.and_then(|config| config.get("taskTrackerBehavior")?.as_i64()).unwrap_or(1)
}
