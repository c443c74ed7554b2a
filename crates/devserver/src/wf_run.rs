//! Runs of workflows: start, move from node to node, context, stop, retry.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::enums::{status, wf_status};
use crate::instances::NewInstance;
use crate::model::{WfInstance, WfNode};
use crate::thrown::Thrown;
use crate::world::{Effect, World};

impl World {
    /// `/openApi/runWorkflow`.
    pub(crate) fn run_workflow(
        &mut self,
        app_id: Option<i64>,
        workflow_id: Option<i64>,
        init: Option<String>,
        delay: i64,
        now: i64,
    ) -> Result<i64, Thrown> {
        let id = self.workflow_of(workflow_id, app_id)?.id;
        let at = now + delay.max(0);
        let wf_instance_id = self.create_wf_instance(id, init, at, now);
        if delay > 0 {
            self.effects.push(Effect::StartWorkflowAt { wf_instance_id, at });
        } else {
            self.start_workflow(wf_instance_id, now);
        }
        Ok(wf_instance_id)
    }

    /// A row in WAITING; failed at once when a job of its graph is gone.
    pub(crate) fn create_wf_instance(
        &mut self,
        workflow_id: i64,
        init: Option<String>,
        expected: i64,
        now: i64,
    ) -> i64 {
        let id = self.snowflake(now);
        let row = self.row_id();
        let Some(workflow) = self.workflows.get(&workflow_id).cloned() else {
            return id;
        };
        let nodes: Vec<WfNode> = workflow.nodes.iter().filter_map(|node| self.fresh_node(*node)).collect();
        let complete = nodes.iter().all(|node| self.jobs.get(&node.job_id).is_some_and(|job| job.status != 99));
        let (context, context_text) = first_context(init.as_deref());
        let mut run = WfInstance {
            row,
            id,
            workflow_id,
            app_id: workflow.app_id,
            status: wf_status::WAITING,
            init_params: init,
            context,
            context_text: Some(context_text),
            nodes,
            edges: workflow.edges,
            result: None,
            expected,
            // The real server writes the moment of creation, even for a run that is to start later.
            actual: Some(now),
            finished: None,
            created: now,
            modified: now,
        };
        if !complete {
            run.status = wf_status::FAILED;
            run.result = Some("can't find some job".to_owned());
            run.finished = Some(now);
        }
        self.wf_instances.insert(id, run);
        id
    }

    /// Starts a waiting run: its limit, then the nodes without predecessors.
    pub(crate) fn start_workflow(&mut self, id: i64, now: i64) {
        let Some(run) = self.wf_instances.get(&id) else {
            return;
        };
        if run.status != wf_status::WAITING {
            return;
        }
        let limit = self.workflows.get(&run.workflow_id).map_or(1, |workflow| workflow.max_instance_num);
        let open = |run: &&WfInstance| matches!(run.status, wf_status::WAITING | wf_status::RUNNING);
        let at_once =
            self.wf_instances.values().filter(open).filter(|other| other.workflow_id == run.workflow_id).count();
        if limit > 0 && i64::try_from(at_once).is_ok_and(|at_once| at_once > limit) {
            self.end_workflow(id, wf_status::FAILED, Some(format!("too many instances({at_once}>{limit})")), now);
            return;
        }
        if let Some(run) = self.wf_instances.get_mut(&id) {
            run.status = wf_status::RUNNING;
            run.modified = now;
        }
        self.advance(id, None, now);
    }

    /// An instance of a node has ended.
    pub(crate) fn move_workflow(
        &mut self,
        wf_instance_id: i64,
        instance_id: i64,
        to: i32,
        result: Option<String>,
        now: i64,
    ) {
        let Some(run) = self.wf_instances.get_mut(&wf_instance_id) else {
            return;
        };
        let open = matches!(run.status, wf_status::WAITING | wf_status::RUNNING);
        if to == status::STOPPED && !open {
            return;
        }
        let mut skippable = false;
        if let Some(node) = run.nodes.iter_mut().find(|node| node.instance_id == Some(instance_id)) {
            node.status = to;
            node.result.clone_from(&result);
            node.finished = Some(now);
            skippable = node.skip_when_failed;
        }
        run.modified = now;
        if !open {
            return;
        }
        match to {
            status::FAILED if !skippable => {
                self.end_workflow(wf_instance_id, wf_status::FAILED, Some("middle job failed".to_owned()), now);
            }
            status::STOPPED => {
                self.end_workflow(
                    wf_instance_id,
                    wf_status::STOPPED,
                    Some("middle job stopped by user".to_owned()),
                    now,
                );
            }
            _ => self.advance(wf_instance_id, result, now),
        }
    }

    /// Merges what a report appended, last writer wins.
    pub(crate) fn merge_context(&mut self, wf_instance_id: i64, appended: &BTreeMap<String, Value>, now: i64) {
        if let Some(run) = self.wf_instances.get_mut(&wf_instance_id) {
            run.context.extend(appended.iter().map(|(key, value)| (key.clone(), value.clone())));
            run.context_text = None;
            run.modified = now;
        }
    }

    pub(crate) fn stop_workflow(&mut self, app_id: Option<i64>, id: Option<i64>, now: i64) -> Result<(), Thrown> {
        let run = self.wf_instance_of(app_id, id)?;
        if !matches!(run.status, wf_status::WAITING | wf_status::RUNNING) {
            return Err(Thrown::powerjob("workflow instance already stopped"));
        }
        let app_id = run.app_id;
        let mut instances = Vec::new();
        for node in &mut run.nodes {
            if let Some(instance_id) = node.instance_id.filter(|_| status::is_open(node.status)) {
                node.status = status::STOPPED;
                node.result = Some("stopped by user".to_owned());
                instances.push(instance_id);
            }
        }
        // Unlike every other end, this one leaves no finish time.
        run.status = wf_status::STOPPED;
        run.result = Some("stopped by user".to_owned());
        run.modified = now;
        for instance_id in instances {
            // One that has ended in this very moment needs no stop.
            let _ = self.stop_instance(Some(app_id), Some(instance_id), now);
        }
        Ok(())
    }

    pub(crate) fn retry_workflow(&mut self, app_id: Option<i64>, id: Option<i64>, now: i64) -> Result<(), Thrown> {
        let run = self.wf_instance_of(app_id, id)?;
        match run.status {
            wf_status::WAITING | wf_status::RUNNING => {
                return Err(Thrown::powerjob("workflow instance is running"));
            }
            wf_status::SUCCEED => {
                return Err(Thrown::powerjob("workflow instance is already successful"));
            }
            _ => {}
        }
        for node in &mut run.nodes {
            let again = match node.status {
                status::FAILED => !node.skip_when_failed,
                status::STOPPED => true,
                _ => false,
            };
            if again {
                node.status = status::WAITING_DISPATCH;
                (node.instance_id, node.result, node.finished) = (None, None, None);
            }
        }
        run.status = wf_status::WAITING;
        run.expected = now;
        run.finished = None;
        run.result = None;
        run.modified = now;
        let id = run.id;
        self.start_workflow(id, now);
        Ok(())
    }

    pub(crate) fn mark_node(
        &mut self,
        app_id: Option<i64>,
        id: Option<i64>,
        node_id: Option<i64>,
        now: i64,
    ) -> Result<(), Thrown> {
        let run = self.wf_instance_of(app_id, id)?;
        if matches!(run.status, wf_status::WAITING | wf_status::RUNNING) {
            return Err(Thrown::powerjob("you can't mark the node in a running workflow!"));
        }
        let node = run
            .nodes
            .iter_mut()
            .find(|node| Some(node.node_id) == node_id)
            .ok_or_else(|| Thrown::powerjob("can't find the node in current DAG!"))?;
        if node.status != status::FAILED || node.skip_when_failed {
            return Err(Thrown::powerjob("you can only mark the node which is failed and not allow to skip!"));
        }
        node.status = status::SUCCEED;
        node.result = Some("mark success".to_owned());
        run.modified = now;
        Ok(())
    }

    pub(crate) fn wf_instance_of(&mut self, app_id: Option<i64>, id: Option<i64>) -> Result<&mut WfInstance, Thrown> {
        let shown = id.map_or_else(|| "null".to_owned(), |id| id.to_string());
        let run = id
            .and_then(|id| self.wf_instances.get_mut(&id))
            .ok_or_else(|| Thrown::illegal(format!("can't find workflow instance by wfInstanceId: {shown}")))?;
        if Some(run.app_id) == app_id { Ok(run) } else { Err(Thrown::powerjob("Permission Denied!")) }
    }

    /// Skips disabled nodes, starts what is ready, and ends the run when nothing is left; `last` = result of the node that
    /// ended last.
    fn advance(&mut self, id: i64, last: Option<String>, now: i64) {
        let Some(run) = self.wf_instances.get_mut(&id) else {
            return;
        };
        let mut skipped = false;
        while let Some(node) = run.ready().into_iter().find(|index| !run.nodes[*index].enable) {
            run.nodes[node].status = status::SUCCEED;
            run.nodes[node].result = Some("disable node".to_owned());
            run.nodes[node].finished = Some(now);
            skipped = true;
        }
        if run.nodes.iter().all(|node| !status::is_open(node.status)) {
            let none_ran = skipped && run.nodes.iter().all(|node| !node.enable);
            let result = if none_ran { Some("no enabled nodes".to_owned()) } else { last };
            self.end_workflow(id, wf_status::SUCCEED, result, now);
            return;
        }
        let (context, app_id) = (run.context_json(), run.app_id);
        for index in run.ready() {
            self.start_node(id, index, app_id, &context, now);
        }
    }

    fn start_node(&mut self, id: i64, index: usize, app_id: i64, context: &str, now: i64) {
        let Some(node) = self.wf_instances.get(&id).and_then(|run| run.nodes.get(index)).cloned() else {
            return;
        };
        let own = node.params.filter(|params| !params.trim().is_empty());
        let job_params = own.or_else(|| self.jobs.get(&node.job_id).and_then(|job| job.params.clone()));
        let new = NewInstance {
            job_id: node.job_id,
            app_id,
            wf_instance_id: Some(id),
            job_params,
            instance_params: Some(context.to_owned()),
            expected: now,
        };
        let instance_id = self.create_instance(new, now);
        if let Some(node) = self.wf_instances.get_mut(&id).and_then(|run| run.nodes.get_mut(index)) {
            node.instance_id = Some(instance_id);
            node.status = status::RUNNING;
        }
        self.effects.push(Effect::Dispatch { instance_id, as_node: true });
    }

    fn end_workflow(&mut self, id: i64, to: i32, result: Option<String>, now: i64) {
        if let Some(run) = self.wf_instances.get_mut(&id) {
            run.status = to;
            run.result = result;
            run.finished = Some(now);
            run.modified = now;
        }
    }

    fn fresh_node(&self, node_id: i64) -> Option<WfNode> {
        let node = self.nodes.get(&node_id)?;
        let job_params = self.jobs.get(&node.job_id).and_then(|job| job.params.clone());
        Some(WfNode {
            node_id,
            job_id: node.job_id,
            name: node.name.clone(),
            params: node.params.clone().filter(|params| !params.trim().is_empty()).or(job_params),
            enable: node.enable,
            skip_when_failed: node.skip_when_failed,
            instance_id: None,
            status: status::WAITING_DISPATCH,
            result: None,
            finished: None,
        })
    }
}

impl WfInstance {
    /// Nodes that are not started and whose predecessors are all over.
    fn ready(&self) -> Vec<usize> {
        let over = |id: i64| self.nodes.iter().any(|node| node.node_id == id && !status::is_open(node.status));
        let ready = |node: &WfNode| {
            node.status == status::WAITING_DISPATCH
                && self.edges.iter().filter(|(_, to)| *to == node.node_id).all(|(from, _)| over(*from))
        };
        self.nodes.iter().enumerate().filter(|(_, node)| ready(node)).map(|(index, _)| index).collect()
    }

    /// The context as JSON text.
    pub(crate) fn context_json(&self) -> String {
        self.context_text.clone().unwrap_or_else(|| {
            serde_json::to_string(&self.context).expect("a map of JSON values is written without fail")
        })
    }
}

/// The context a run starts with: its start parameter if that is a non-empty JSON object, else `initParams`.
fn first_context(init: Option<&str>) -> (BTreeMap<String, Value>, String) {
    let Some(text) = init else {
        return (BTreeMap::new(), "{}".to_owned());
    };
    if let Ok(Value::Object(map)) = serde_json::from_str::<Value>(text)
        && !map.is_empty()
    {
        // Read as a map of texts; only a merge writes it anew.
        let texts = map.into_iter().map(|(key, value)| (key, as_text(value)));
        return (texts.collect(), text.to_owned());
    }
    let context = BTreeMap::from([("initParams".to_owned(), Value::from(text))]);
    let json = serde_json::to_string(&context).expect("a map of texts is written without fail");
    (context, json)
}

fn as_text(value: Value) -> Value {
    match value {
        Value::Null | Value::String(_) => value,
        other => Value::from(other.to_string()),
    }
}
