//! The stages `warm-up` and `load`: the built-in load generator on the ready service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use testrig_loadgen::{Arrival, LoadPlan, Phase, Progress, RecordSink, Summary};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        guard::Share,
        interrupt::Cut,
        plan::{Driver, LoadSettings},
        service::Fault,
        state::{FailureRecord, Stage},
    },
    Run, now_ms,
};

/// Progress comes once a second; every so many are told.
const TELL_EVERY: u64 = 5;
/// How long a cancelled load may take to write its records.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// What the load may take beyond its own times.
const MARGIN: Duration = Duration::from_secs(60);
/// How often a host whose limit is used up by other runs is asked again.
const GUARD_PAUSE: Duration = Duration::from_millis(500);
/// How long the end of a service is waited for whose requests all failed.
const END_AFTER_FAILURES: Duration = Duration::from_secs(2);

impl Run {
    /// `again`: the load of an earlier process of the agent was cut; its records leave the file that is aggregated.
    pub(super) async fn load(&mut self, again: bool) -> Result<(), FailureRecord> {
        let first = if self.plan.load.warmup.is_zero() { Stage::Load } else { Stage::WarmUp };
        if again {
            self.record.cuts += 1;
            self.record.metrics = None;
            self.record.load_ended_ms = None;
        }
        self.enter(first).await?;
        if again {
            self.mark_restarted();
            match self.dir.set_records_aside(self.record.cuts) {
                Ok(aside) => self.warn(format!(
                    "the load phase was cut by a restart of the agent and is started again on the loaded service; its records are in `{}`",
                    aside.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
                )),
                Err(error) => return Err(self.failure(first, Cut::Fault(Fault::of(&error))).await),
            }
        }
        if let Some(cut) = self.interrupts.now().await {
            return Err(self.failure(first, cut).await);
        }
        let share = self.share(first).await?;
        if let Some(warning) = share.warning.clone() {
            self.warn(warning);
        }
        let Some(base_url) = self.service.base_url() else {
            return Err(self
                .failure(first, Cut::Fault(Fault::new("the service has no address that the load can be sent to")))
                .await);
        };
        let load = load_plan(self, base_url, share.arrival);
        self.record.load = Some(as_used(&self.plan.load, &load));
        self.record.load_started_ms = Some(now_ms());
        self.save().await?;
        let (outcome, stage) = self.drive(load, first, again).await?;
        drop(share);
        self.record.load_ended_ms = Some(now_ms());
        match outcome {
            Ok((summary, first_error)) => {
                let mut stage = stage;
                if stage == Stage::WarmUp {
                    // So short that nobody was told of the change.
                    self.close_stage("ok");
                    stage = Stage::Load;
                    self.enter(stage).await?;
                }
                self.record.metrics = serde_json::to_value(&summary).ok();
                let cut = match verdict(&summary, first_error) {
                    Ok(()) => self.harm().await,
                    // A service that has died fails all its requests, too, and its end is the truer word.
                    Err(fault) => Some(self.interrupts.soon(END_AFTER_FAILURES).await.unwrap_or(Cut::Fault(fault))),
                };
                match cut {
                    None => {
                        self.close_stage("ok");
                        Ok(())
                    }
                    Some(cut) => Err(self.failure(stage, cut).await),
                }
            }
            Err(cut) => Err(self.failure(stage, cut).await),
        }
    }

    /// This run's part of the host's load, waiting for one where other runs use all of it.
    pub(super) async fn share(&mut self, stage: Stage) -> Result<Share, FailureRecord> {
        let mut said = false;
        loop {
            if let Some(share) = self.shared.host_load.take(&self.plan.load) {
                return Ok(share);
            }
            if !said {
                self.ctx.log.info("waiting: other runs use all of the load that resourceGuard allows on this host");
                said = true;
            }
            let pause = async {
                tokio::time::sleep(GUARD_PAUSE).await;
                Ok(())
            };
            if let Err(cut) = self.interrupts.guard(Duration::MAX, pause).await {
                return Err(self.failure(stage, cut).await);
            }
        }
    }

    /// Runs the load generator; the stage that it ended in comes with the result.
    async fn drive(
        &mut self,
        load: LoadPlan,
        first: Stage,
        again: bool,
    ) -> Result<(Result<(Summary, Option<String>), Cut>, Stage), FailureRecord> {
        let limit = load.warmup + load.run + load.drain + MARGIN;
        let (phase, mut phase_seen) = watch::channel(Phase::Warmup);
        let first_error = Arc::new(Mutex::new(None::<String>));
        let first_token = Arc::new(AtomicU64::new(u64::MAX));
        let out = sink(self, Arc::clone(&first_error), Arc::clone(&first_token));
        let began = Instant::now();
        let cancel = CancellationToken::new();
        let progress = teller(Arc::clone(&self.say), phase);
        let run = testrig_loadgen::run(load, out, progress, cancel.clone());
        tokio::pin!(run);
        let over = tokio::time::sleep_until(Instant::now() + limit);
        tokio::pin!(over);
        // In both ways out: from the start of the service to the first token of the load.
        let before = self.service_started.map(|started| began - started);
        let first_token = move || {
            let us = first_token.load(Relaxed);
            before.filter(|_| us < u64::MAX).map(|before| before + Duration::from_micros(us))
        };
        let mut stage = first;
        let mut interrupts = self.interrupts.clone();
        let cut = loop {
            tokio::select! {
                // A load that is done is done, whatever happens at the same moment.
                biased;
                done = &mut run => {
                    let result = match done {
                        Ok(summary) => Ok((summary, first_error.lock().take())),
                        Err(error) => Err(Cut::Fault(Fault::of(&error))),
                    };
                    self.note_first_token(first_token());
                    return Ok((result, stage));
                }
                cut = interrupts.next() => break cut,
                () = &mut over => break Cut::Limit(limit),
                () = measured(&mut phase_seen), if stage == Stage::WarmUp => {
                    self.close_stage("ok");
                    stage = Stage::Load;
                    self.enter(stage).await?;
                    if again {
                        self.mark_restarted();
                    }
                }
            }
        };
        // Requests in flight are recorded as cancelled, so that the files say what there was.
        cancel.cancel();
        if let Ok(Ok(summary)) = tokio::time::timeout(CANCEL_LIMIT, &mut run).await {
            self.record.metrics = serde_json::to_value(&summary).ok();
        }
        self.note_first_token(first_token());
        Ok((Err(cut), stage))
    }

    fn mark_restarted(&mut self) {
        if let Some(stage) = self.record.stages.last_mut() {
            stage.restarted = true;
        }
    }
}

/// Waits until the warm-up is over.
async fn measured(phase: &mut watch::Receiver<Phase>) {
    // An error means that nobody tells any more: the load has ended, which is seen elsewhere.
    let over = phase.wait_for(|phase| *phase != Phase::Warmup).await.is_ok();
    if !over {
        std::future::pending::<()>().await;
    }
}

/// The records go to the run's files; the first failure is kept for the result text.
fn sink(run: &Run, first_error: Arc<Mutex<Option<String>>>, first_token: Arc<AtomicU64>) -> RecordSink {
    RecordSink::none().records(run.dir.metrics.clone()).readable(run.dir.requests.clone()).observe(move |record| {
        first_token.fetch_min(record.first_token_us.unwrap_or(u64::MAX), Relaxed);
        if let Some(error) = record.error.as_ref().filter(|_| !record.ok) {
            first_error.lock().get_or_insert_with(|| error.clone());
        }
    })
}

/// Tells every fifth progress in the log, and each change of phase at once.
fn teller(say: super::super::service::Say, phase: watch::Sender<Phase>) -> impl Fn(Progress) + Send + Sync {
    let count = AtomicU64::new(0);
    move |progress: Progress| {
        phase.send_if_modified(|known| std::mem::replace(known, progress.phase) != progress.phase);
        if count.fetch_add(1, Relaxed) % TELL_EVERY == TELL_EVERY - 1 {
            say(progress_line(&progress));
        }
    }
}

fn progress_line(progress: &Progress) -> String {
    let phase = if progress.draining { "draining" } else { progress.phase.as_str() };
    let ttft = progress.ttft_ms.map(|ms| format!(", TTFT {ms:.0} ms")).unwrap_or_default();
    let rate = progress.target_qps.map(|qps| format!(" of {qps}")).unwrap_or_default();
    format!(
        "{phase} {:.0}/{:.0} s: {} done, {} failed, {} in flight, {:.2}{rate} qps, {:.0} tokens/s{ttft}",
        progress.elapsed.as_secs_f64(),
        progress.planned.as_secs_f64(),
        progress.done,
        progress.failed,
        progress.in_flight,
        progress.qps,
        progress.token_rate,
    )
}

fn load_plan(run: &Run, base_url: String, arrival: Arrival) -> LoadPlan {
    let settings = &run.plan.load;
    let mut load = LoadPlan::new(base_url, &settings.model);
    load.api_key = settings.api_key.clone();
    if let Driver::Builtin { scenario, dataset } = &settings.driver {
        load.scenario = *scenario;
        load.dataset = dataset.clone();
    }
    load.arrival = arrival;
    load.warmup = settings.warmup;
    load.run = settings.run;
    load.max_tokens = settings.max_tokens;
    load.temperature = settings.temperature;
    load.scorer = settings.scorer;
    load.slo = settings.slo;
    load.tags = tags(run);
    load.id_prefix = format!("{}-{}-", run.ctx.instance_id, run.record.cuts);
    load
}

/// Labels of every record, which AggregateMetrics can filter by.
pub(super) fn tags(run: &Run) -> Map<String, Value> {
    let who = &run.plan.who;
    let mut tags: Map<String, Value> = who.tags.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    tags.insert("platformTaskId".into(), json!(who.platform_task_id));
    tags.insert("env".into(), json!(who.env));
    tags.insert("modelKey".into(), json!(who.model_key));
    let optional =
        [("modelVersion", &who.model_version), ("testPlanId", &who.test_plan_id), ("traceId", &who.trace_id)];
    for (name, value) in optional {
        if let Some(value) = value {
            tags.insert(name.into(), json!(value));
        }
    }
    tags
}

/// The parameters of the load as they were used, for result.json.
fn as_used(settings: &LoadSettings, load: &LoadPlan) -> Value {
    let (qps, concurrency) = match load.arrival {
        Arrival::Closed { concurrency } => (None, Some(concurrency)),
        Arrival::Constant { qps, concurrency } | Arrival::Poisson { qps, concurrency, .. } => (Some(qps), concurrency),
    };
    json!({
        "driver": "builtin",
        "scenario": load.scenario.as_str(),
        "model": load.model,
        "arrival": load.arrival.name(),
        "qps": qps,
        "concurrency": concurrency,
        "warmupSeconds": load.warmup.as_secs_f64(),
        "runSeconds": load.run.as_secs_f64(),
        "datasetId": settings.dataset_id,
        "datasetItems": load.dataset.len(),
        "maxTokens": load.max_tokens,
        "temperature": load.temperature,
        "streaming": load.streaming && load.scenario.generates(),
    })
}

/// A load in which nothing succeeded is no success. Some failures are: the error rate says how many.
fn verdict(summary: &Summary, first_error: Option<String>) -> Result<(), Fault> {
    if summary.requests == 0 {
        return Err(Fault::new(format!("no measured request was sent ({} were due and not sent)", summary.not_sent)));
    }
    if summary.succeeded == 0 {
        let classes: Vec<String> = summary.failures.iter().map(|(class, count)| format!("{class} {count}")).collect();
        let example = first_error.map(|error| format!("; the first one: {error}")).unwrap_or_default();
        return Err(Fault::new(format!(
            "all {} requests failed (error rate 100%; {}){example}",
            summary.requests,
            classes.join(", ")
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_in_which_nothing_succeeded_is_a_failure_that_says_why() {
        let mut summary = Summary { requests: 3, failed: 3, ..Summary::default() };
        summary.failures.insert("http_5xx", 3);
        let fault = verdict(&summary, Some("HTTP 503".into())).expect_err("nothing succeeded");
        assert_eq!(fault.text, "all 3 requests failed (error rate 100%; http_5xx 3); the first one: HTTP 503");
        assert!(verdict(&Summary::default(), None).expect_err("nothing ran").text.contains("no measured request"));
        let some = Summary { requests: 3, failed: 2, succeeded: 1, ..Summary::default() };
        assert_eq!(verdict(&some, None), Ok(()));
    }
}
