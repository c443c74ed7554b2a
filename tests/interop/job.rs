//! Jobs for chosen workers, and what became of their instances.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::try_join_all;
use libtest_mimic::Failed;
use powerjob_worker::openapi::{InstanceInfo, InstanceStatus, JobSpec};
use serde_json::{Value, json};

use crate::site::Site;
use crate::wait::eventually;
use crate::workers::Kind;

/// Jobs that may begin at once on one server.
pub(crate) const BEGINNING: u32 = 3;
/// Long enough for two rounds of a Java task tracker (13 s each) after a minute in which it believes in a dead worker.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// A job, before it is saved.
#[derive(Clone)]
pub(crate) struct Job {
    processor: &'static str,
    execute: &'static str,
    tracker: &'static str,
    workers: Vec<&'static str>,
    /// Parameters.
    pub(crate) params: Value,
    /// Tasks of one worker at once.
    pub(crate) concurrency: i32,
    /// The task tracker takes no sub-task.
    pub(crate) apart: bool,
    /// How often the server sends it again.
    pub(crate) retries: i32,
    /// How often a task is run again.
    pub(crate) task_retries: i32,
    time: Option<(&'static str, String)>,
    /// Further fields of the job.
    pub(crate) more: Vec<(&'static str, Value)>,
}

/// Our class for a kind of job.
fn processor_of(execute: &str) -> &'static str {
    match execute {
        "BROADCAST" => "jw.Bc",
        "MAP" => "jw.Mp",
        "MAP_REDUCE" => "jw.Mr",
        _ => "jw.Echo",
    }
}

impl Job {
    /// A job of this execute type whose task tracker has the one tag and whose workers have the others.
    pub(crate) fn new(execute: &'static str, tracker: &'static str, workers: &[&'static str]) -> Self {
        let mut workers = workers.to_vec();
        if !workers.contains(&tracker) {
            workers.push(tracker);
        }
        Self {
            processor: processor_of(execute),
            execute,
            tracker,
            workers,
            // A Java task tracker loses results of tasks that end within a millisecond.
            params: json!({"tasks": 20, "sleep": 50}),
            concurrency: 5,
            apart: false,
            retries: 0,
            task_retries: 0,
            time: None,
            more: Vec::new(),
        }
    }

    pub(crate) fn processor(mut self, name: &'static str) -> Self {
        self.processor = name;
        self
    }

    pub(crate) fn params(mut self, params: Value) -> Self {
        self.params = params;
        self
    }

    pub(crate) fn every(mut self, time: &'static str, ms: u32) -> Self {
        self.time = Some((time, ms.to_string()));
        self
    }

    /// Saves it.
    pub(crate) async fn save(&self, site: &Site) -> Result<i64, Failed> {
        let name = format!("{} {} by {}", self.execute, self.processor, self.tracker);
        let mut spec = JobSpec {
            execute_type: self.execute.into(),
            job_params: Some(self.params.to_string()),
            concurrency: Some(self.concurrency),
            instance_retry_num: Some(self.retries),
            task_retry_num: Some(self.task_retries),
            designated_workers: Some(self.workers.join(",")),
            ..JobSpec::api(site.app_id, &name, self.processor)
        };
        if let Some((time, expression)) = &self.time {
            spec.time_expression_type = (*time).to_owned();
            spec.time_expression = Some(expression.clone());
        }
        for (field, value) in &self.more {
            spec = spec.with(field, value.clone());
        }
        let behaviour = if self.apart { 11 } else { 1 };
        let spec = spec
            .with("dispatchStrategy", "SPECIFY")
            .with("dispatchStrategyConfig", format!("tagEquals:{}", self.tracker))
            .with("advancedRuntimeConfig", json!({"taskTrackerBehavior": behaviour}));
        Ok(site.api.save_job(&spec).await?)
    }

    /// Runs all of them at the same time.
    pub(crate) async fn run_all<const N: usize>(jobs: [&Self; N], site: &Arc<Site>) -> Result<[Instance; N], Failed> {
        let _turn = site.beginning.acquire_many(BEGINNING).await?;
        let mut instances = Vec::new();
        for job in jobs {
            instances.push(job.begin(site).await?);
        }
        try_join_all(instances.iter().map(Instance::reached_its_workers)).await?;
        instances.try_into().map_err(|_| Failed::from("one instance a job"))
    }

    async fn begin(&self, site: &Arc<Site>) -> Result<Instance, Failed> {
        let job = self.save(site).await?;
        let id = site.api.run_job(site.app_id, job, None, 0).await?;
        let tasks = (self.execute != "STANDALONE").then_some(self.workers.len());
        Ok(Instance { site: site.clone(), id, tasks })
    }

    /// Saves and runs it. Few jobs begin at once: a Java task tracker takes a worker for dead that has not answered before its first
    /// check after 3 s, and a Java worker whose cores are busy is late.
    pub(crate) async fn run(&self, site: &Arc<Site>) -> Result<Instance, Failed> {
        let _turn = site.beginning.acquire().await?;
        let instance = self.begin(site).await?;
        instance.reached_its_workers().await?;
        Ok(instance)
    }
}

/// One run.
pub(crate) struct Instance {
    pub(crate) site: Arc<Site>,
    pub(crate) id: i64,
    /// Workers of a job with tasks.
    tasks: Option<usize>,
}

impl Instance {
    /// One that the server has started.
    pub(crate) fn found(site: &Arc<Site>, id: i64) -> Self {
        Self { site: site.clone(), id, tasks: None }
    }

    pub(crate) async fn info(&self) -> Result<InstanceInfo, String> {
        self.site.api.fetch_instance_info(self.site.app_id, self.id).await.map_err(|error| error.to_string())
    }

    /// What the task tracker says of it.
    pub(crate) async fn detail(&self) -> Result<Value, String> {
        self.site.api.instance_detail(self.site.app_id, self.id).await.map_err(|error| error.to_string())
    }

    /// Waits until there are more tasks than the root, or for as long as that takes a slow machine: no reason to fail.
    async fn reached_its_workers(&self) -> Result<(), Failed> {
        let Some(workers) = self.tasks else { return Ok(()) };
        let many = |detail: &Value| detail["taskDetail"]["totalTaskNum"].as_u64() > u64::try_from(workers).ok();
        let begun = async || {
            let detail = self.detail().await?;
            let ended = detail["status"].as_i64().is_some_and(|status| status > 3);
            if many(&detail) || ended { Ok(()) } else { Err(detail.to_string()) }
        };
        let _ = eventually(Duration::from_secs(10), "tasks have begun", begun).await;
        Ok(())
    }

    /// Waits for a final status, which must be this one, with this result if one is given.
    pub(crate) async fn ends(&self, status: InstanceStatus, result: Option<&str>) -> Result<InstanceInfo, Failed> {
        let info = self.ended().await?;
        let good = info.status() == Some(status) && (result.is_none() || info.result.as_deref() == result);
        if good { Ok(info) } else { Err(format!("{info:?} is not {} {result:?}", status.name()).into()) }
    }

    /// Waits for a final status.
    pub(crate) async fn ended(&self) -> Result<InstanceInfo, Failed> {
        let what = format!("instance {} ends", self.id);
        let ended = eventually(PATIENCE, &what, async || {
            let info = self.info().await?;
            if info.status().is_some_and(InstanceStatus::is_final) { Ok(info) } else { Err(format!("{info:?}")) }
        });
        match ended.await {
            Ok(info) => Ok(info),
            Err(failed) => {
                let detail = self.detail().await;
                Err(format!("{}; detail: {detail:?}", failed.message().unwrap_or_default()).into())
            }
        }
    }

    /// Waits until it has this status.
    pub(crate) async fn reaches(&self, status: InstanceStatus) -> Result<InstanceInfo, Failed> {
        let what = format!("instance {} is {}", self.id, status.name());
        eventually(PATIENCE, &what, async || {
            let info = self.info().await?;
            if info.status() == Some(status) { Ok(info) } else { Err(format!("{info:?}")) }
        })
        .await
    }

    /// Waits until so many of its tasks have succeeded and so many are at work; fails at once if it has ended.
    pub(crate) async fn in_the_middle(&self, succeeded: i64, running: i64) -> Result<(), Failed> {
        let what = format!("instance {} has {succeeded} tasks behind it and {running} at work", self.id);
        let ended = eventually(PATIENCE, &what, async || {
            let detail = self.detail().await?;
            let count = |name: &str| detail["taskDetail"][name].as_i64();
            let behind = count("succeedTaskNum").unwrap_or(-1);
            // 4.3.9 does not ask for it, and a worker of ours then does not tell it.
            let at_work = count("runningTaskNum").or_else(|| Some(count("totalTaskNum")? - behind));
            let ended = detail["status"].as_i64().is_some_and(|status| status > 3);
            let there = behind >= succeeded && at_work >= Some(running);
            if there || ended { Ok((!there).then(|| detail.to_string())) } else { Err(detail.to_string()) }
        });
        match ended.await? {
            None => Ok(()),
            Some(detail) => Err(format!("it ended before this was seen: {what}; {detail}").into()),
        }
    }

    /// The kind of worker that was its task tracker.
    pub(crate) fn tracker(&self, info: &InstanceInfo) -> Result<&'static str, Failed> {
        let address = info.task_tracker_address.as_deref().unwrap_or_default();
        Ok(self.site.at(address)?.tag)
    }

    /// Its log, when `enough` is content with it. Only for instances that have written a line long ago: a server that is asked
    /// before throws the log away. Java workers send their lines every 5 s, servers show them every 10 s.
    pub(crate) async fn log(&self, enough: impl Fn(&Log) -> bool) -> Result<Log, Failed> {
        tokio::time::sleep(Duration::from_secs(8)).await;
        eventually(Duration::from_secs(60), &format!("the log of instance {} is complete", self.id), async || {
            let text = self.site.api.whole_log(self.site.app_id, self.id).await.map_err(|error| error.to_string())?;
            let log = Log::read(&self.site, &text).map_err(|f| f.message().unwrap_or_default().to_owned())?;
            if enough(&log) { Ok(log) } else { Err(text) }
        })
        .await
    }
}

/// What the lines of a log tell.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Lines.
    pub(crate) texts: Vec<String>,
    /// By task id the tags of the workers that have begun it; root and last step are none.
    pub(crate) tasks: BTreeMap<String, Vec<&'static str>>,
    /// All of it, for messages.
    whole: String,
}

impl Log {
    /// A line is `2026-01-01 00:00:00.000 [ADDRESS] INFO TEXT`, a task says `task ID NAME of LANGUAGE`.
    fn read(site: &Site, text: &str) -> Result<Self, Failed> {
        let mut log = Self { whole: text.to_owned(), ..Self::default() };
        // Lines are sent again when the answer of a busy server is late.
        let mut known = BTreeSet::new();
        for line in text.lines().filter(|line| known.insert(*line)) {
            let Some((head, said)) = line.split_once("] ") else { continue };
            let said = said.split_once(' ').map_or(said, |(_, said)| said);
            log.texts.push(said.to_owned());
            let words: Vec<&str> = said.split(' ').collect();
            if let ["task", id, name, ..] = words[..]
                && !["OMS_ROOT_TASK", "OMS_LAST_TASK"].contains(&name)
            {
                let address = head.rsplit_once('[').map_or(head, |(_, address)| address);
                log.tasks.entry(id.to_owned()).or_default().push(site.at(address)?.tag);
            }
        }
        Ok(log)
    }

    /// Fails if a task has begun twice.
    pub(crate) fn once(&self) -> Result<(), Failed> {
        match self.tasks.iter().find(|(_, workers)| workers.len() != 1) {
            Some(task) => Err(format!("began more than once: {task:?}\n{}", self.whole).into()),
            None => Ok(()),
        }
    }

    /// Tags of the workers that have begun tasks.
    pub(crate) fn workers(&self) -> BTreeSet<&'static str> {
        self.tasks.values().flatten().copied().collect()
    }
}

/// `ours`, `Java` or `both`.
pub(crate) fn kinds(site: &Site, tags: &BTreeSet<&'static str>) -> Result<&'static str, Failed> {
    let kinds =
        tags.iter().map(|tag| site.worker(tag).map(|worker| worker.kind)).collect::<Result<BTreeSet<_>, _>>()?;
    match (kinds.contains(&Kind::Ours), kinds.contains(&Kind::Java)) {
        (true, true) => Ok("both"),
        (true, false) => Ok(Kind::Ours.name()),
        (false, true) => Ok(Kind::Java.name()),
        (false, false) => Err("no worker has begun a task".into()),
    }
}
