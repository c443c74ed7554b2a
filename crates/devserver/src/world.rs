//! All state, and the effects that changing it asks for. Nothing here waits, sends or reads a clock.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::config::DevServerConfig;
use crate::logs::LogStore;
use crate::model::{App, Instance, Job, Node, WfInstance, WorkerRecord, Workflow};
use crate::thrown::Thrown;

/// Text of an address that is none.
pub(crate) const EMPTY_ADDRESS: &str = "N/A";

/// What has to happen outside after the state was changed.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Dispatch an instance now; `as_node` = its first dispatch as a workflow node.
    Dispatch { instance_id: i64, as_node: bool },
    /// Dispatch an instance at its time.
    DispatchAt { instance_id: i64, at: i64 },
    /// Start a workflow instance at its time.
    StartWorkflowAt { wf_instance_id: i64, at: i64 },
    /// Archive an instance's log once its time has come.
    SyncLog { instance_id: i64 },
    /// Tell a worker something; whether it arrives is nobody's business.
    Tell { address: String, path: &'static str, body: Value },
}

/// A dispatch to be sent and then written down.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) address: String,
    pub(crate) body: Value,
}

/// The database and what a server keeps in memory beside it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: DevServerConfig,
    pub(crate) apps: Vec<App>,
    pub(crate) jobs: BTreeMap<i64, Job>,
    pub(crate) instances: HashMap<i64, Instance>,
    pub(crate) nodes: BTreeMap<i64, Node>,
    pub(crate) workflows: BTreeMap<i64, Workflow>,
    pub(crate) wf_instances: HashMap<i64, WfInstance>,
    /// By app, then by address. Lost at a restart.
    pub(crate) workers: BTreeMap<i64, BTreeMap<String, WorkerRecord>>,
    pub(crate) logs: LogStore,
    pub(crate) effects: Vec<Effect>,
    pub(crate) born: i64,
    next_row: i64,
    last_id: i64,
}

impl World {
    pub(crate) fn new(config: DevServerConfig, now: i64) -> Self {
        let apps = config.apps.clone();
        let mut world = Self {
            config,
            apps: Vec::new(),
            jobs: BTreeMap::new(),
            instances: HashMap::new(),
            nodes: BTreeMap::new(),
            workflows: BTreeMap::new(),
            wf_instances: HashMap::new(),
            workers: BTreeMap::new(),
            logs: LogStore::default(),
            effects: Vec::new(),
            born: now,
            next_row: 0,
            last_id: 0,
        };
        for app in apps {
            // The same app given twice is one app.
            let _ = world.save_app(&app.name, &app.password);
        }
        world
    }

    /// A restart of the server process: the database stays, memory and the private log database are gone.
    pub(crate) fn reborn(&mut self, now: i64) {
        self.born = now;
        self.workers.clear();
        self.logs.forget_unarchived();
        self.effects.clear();
        for instance in self.instances.values_mut() {
            instance.in_dispatch = false;
            instance.in_timer = false;
        }
    }

    /// A database row id.
    pub(crate) fn row_id(&mut self) -> i64 {
        self.next_row += 1;
        self.next_row
    }

    /// A snowflake as the real server makes them, above 2^53: ms since 2019-04-20T16:00:00Z, then 22 bits.
    pub(crate) fn snowflake(&mut self, now: i64) -> i64 {
        const EPOCH: i64 = 1_555_776_000_000;
        const SERVER: i64 = 1 << 6;
        self.last_id = ((((now - EPOCH) << 22) | SERVER).max(self.last_id + 1)).max(1);
        self.last_id
    }

    pub(crate) fn save_app(&mut self, name: &str, password: &str) -> Result<i64, Thrown> {
        if name.is_empty() {
            return Err(Thrown::powerjob("appName can't be empty"));
        }
        if name.contains(char::is_whitespace) {
            return Err(Thrown::powerjob("appName can't contains white space!"));
        }
        if self.apps.iter().any(|app| app.name == name) {
            return Err(Thrown(format!(
                "DataIntegrityViolationException: could not execute statement; app_name '{name}' exists already"
            )));
        }
        let id = self.apps.last().map_or(1, |app| app.id + 1);
        self.apps.push(App { id, name: name.to_owned(), password: password.to_owned() });
        Ok(id)
    }

    pub(crate) fn app_by_name(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.name == name)
    }

    /// A job of an app, whatever its switch says.
    pub(crate) fn job_of(&self, job_id: Option<i64>, app_id: Option<i64>) -> Result<&Job, Thrown> {
        let shown = |id: Option<i64>| id.map_or_else(|| "null".to_owned(), |id| id.to_string());
        let job = job_id
            .and_then(|id| self.jobs.get(&id))
            .ok_or_else(|| Thrown::illegal(format!("can't find job by jobId: {}", shown(job_id))))?;
        if Some(job.app_id) == app_id {
            Ok(job)
        } else {
            Err(Thrown::illegal(format!("this job is not belong to the app whose appId is {}", shown(app_id))))
        }
    }
}
