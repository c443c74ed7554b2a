//! Instances: created, ended, stopped, cancelled, run again.

use serde_json::json;

use crate::enums::{status, time_type};
use crate::model::Instance;
use crate::thrown::Thrown;
use crate::world::{EMPTY_ADDRESS, Effect, World};

/// Where a new instance comes from.
pub(crate) struct NewInstance {
    pub(crate) job_id: i64,
    pub(crate) app_id: i64,
    pub(crate) wf_instance_id: Option<i64>,
    pub(crate) job_params: Option<String>,
    pub(crate) instance_params: Option<String>,
    pub(crate) expected: i64,
}

impl World {
    pub(crate) fn create_instance(&mut self, new: NewInstance, now: i64) -> i64 {
        let id = self.snowflake(now);
        let instance = Instance {
            id,
            job_id: new.job_id,
            app_id: new.app_id,
            wf_instance_id: new.wf_instance_id,
            job_params: new.job_params,
            instance_params: new.instance_params,
            status: status::WAITING_DISPATCH,
            result: None,
            expected: new.expected,
            actual: None,
            finished: None,
            last_report: -1,
            address: None,
            running_times: 0,
            created: now,
            modified: now,
            in_dispatch: false,
            in_timer: false,
        };
        self.instances.insert(id, instance);
        id
    }

    /// `/openApi/runJob`: the job's switch does not matter.
    pub(crate) fn run_job(
        &mut self,
        app_id: Option<i64>,
        job_id: Option<i64>,
        params: Option<String>,
        delay: i64,
        now: i64,
    ) -> Result<i64, Thrown> {
        let job = self.job_of(job_id, app_id)?;
        let (job_id, app_id, job_params) = (job.id, job.app_id, job.params.clone());
        let expected = now + delay.max(0);
        let new = NewInstance { job_id, app_id, wf_instance_id: None, job_params, instance_params: params, expected };
        let instance_id = self.create_instance(new, now);
        if delay > 0 {
            self.wait_for(instance_id, expected);
        } else {
            self.effects.push(Effect::Dispatch { instance_id, as_node: false });
        }
        Ok(instance_id)
    }

    /// Keeps an instance in memory until its time.
    pub(crate) fn wait_for(&mut self, instance_id: i64, at: i64) {
        if let Some(instance) = self.instances.get_mut(&instance_id) {
            instance.in_timer = true;
            self.effects.push(Effect::DispatchAt { instance_id, at });
        }
    }

    pub(crate) fn stop_instance(
        &mut self,
        app_id: Option<i64>,
        instance_id: Option<i64>,
        now: i64,
    ) -> Result<(), Thrown> {
        let instance = self.instance_of(app_id, instance_id)?;
        if !status::is_open(instance.status) {
            return Err(Thrown::illegal("can't stop finished instance!"));
        }
        let (id, app_id, address) = (instance.id, instance.app_id, instance.address.clone());
        self.end_instance(id, status::STOPPED, Some("stopped by user".to_owned()), now, now);
        let worker =
            address.filter(|address| self.workers.get(&app_id).is_some_and(|workers| workers.contains_key(address)));
        if let Some(address) = worker {
            self.effects.push(Effect::Tell { address, path: "/worker/stopInstance", body: json!({"instanceId": id}) });
        }
        Ok(())
    }

    pub(crate) fn cancel_instance(
        &mut self,
        app_id: Option<i64>,
        instance_id: Option<i64>,
        now: i64,
    ) -> Result<(), Thrown> {
        let instance = self.instance_of(app_id, instance_id)?;
        if instance.status != status::WAITING_DISPATCH {
            return Err(Thrown::powerjob("instance already up and running"));
        }
        instance.status = status::CANCELED;
        instance.result = Some("canceled by user".to_owned());
        instance.in_timer = false;
        instance.modified = now;
        Ok(())
    }

    pub(crate) fn retry_instance(
        &mut self,
        app_id: Option<i64>,
        instance_id: Option<i64>,
        now: i64,
    ) -> Result<(), Thrown> {
        let instance = self.instance_of(app_id, instance_id)?;
        if status::is_open(instance.status) {
            return Err(Thrown::powerjob("Only stopped instance can be retry!"));
        }
        if instance.wf_instance_id.is_some() {
            return Err(Thrown::powerjob("Workflow's instance do not support retry!"));
        }
        instance.status = status::WAITING_DISPATCH;
        instance.expected = now;
        instance.finished = None;
        instance.actual = None;
        instance.address = None;
        instance.result = None;
        instance.modified = now;
        let instance_id = instance.id;
        self.effects.push(Effect::Dispatch { instance_id, as_node: false });
        Ok(())
    }

    /// Writes a final state and what follows from it: the workflow moves on, the log is archived later.
    pub(crate) fn end_instance(&mut self, id: i64, to: i32, result: Option<String>, finished: i64, now: i64) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return;
        };
        instance.status = to;
        instance.result.clone_from(&result);
        instance.finished = Some(finished);
        instance.modified = now;
        let wf_instance_id = instance.wf_instance_id;
        self.effects.push(Effect::SyncLog { instance_id: id });
        if let Some(wf_instance_id) = wf_instance_id {
            self.move_workflow(wf_instance_id, id, to, result, now);
        }
    }

    /// An end that the dispatcher decides: no worker ever saw the instance.
    pub(crate) fn fail_dispatch(&mut self, id: i64, result: String, now: i64) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.actual = Some(now);
            instance.address = Some(EMPTY_ADDRESS.to_owned());
        }
        self.end_instance(id, status::FAILED, Some(result), now, now);
    }

    /// The time type that a dispatch names: that of the job, but WORKFLOW for a node's first one.
    pub(crate) fn dispatched_time_type(job_type: i32, as_node: bool) -> i32 {
        if as_node { time_type::WORKFLOW } else { job_type }
    }

    fn instance_of(&mut self, app_id: Option<i64>, instance_id: Option<i64>) -> Result<&mut Instance, Thrown> {
        let shown = |id: Option<i64>| id.map_or_else(|| "null".to_owned(), |id| id.to_string());
        let instance = instance_id
            .and_then(|id| self.instances.get_mut(&id))
            .ok_or_else(|| Thrown::illegal(format!("can't find instance by instanceId: {}", shown(instance_id))))?;
        if Some(instance.app_id) == app_id {
            Ok(instance)
        } else {
            Err(Thrown::illegal(format!("instance is not belong to the app whose appId is {}", shown(app_id))))
        }
    }
}
