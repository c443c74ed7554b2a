//! Workflows as they are edited: nodes, graph, switch.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::enums::{TIME_TYPE, time_type};
use crate::java;
use crate::model::{Node, Workflow};
use crate::schedule::next_time;
use crate::thrown::Thrown;
use crate::world::World;

impl World {
    /// `/openApi/addWorkflowNode`: job nodes only.
    pub(crate) fn save_nodes(&mut self, requests: &[Value], now: i64) -> Result<Vec<i64>, Thrown> {
        requests.iter().map(|request| self.save_node(request, now)).collect()
    }

    fn save_node(&mut self, request: &Value, now: i64) -> Result<i64, Thrown> {
        let app_id = java::long(request.get("appId")).ok_or_else(|| Thrown::powerjob("appId can't be empty"))?;
        match java::long(request.get("type")) {
            None => return Err(Thrown::powerjob("type can't be empty")),
            Some(1) => {}
            Some(2) => return Err(Thrown::not_served("decision nodes (type 2)")),
            Some(3) => return Err(Thrown::not_served("nested workflows (node type 3)")),
            Some(other) => {
                return Err(Thrown::illegal(format!("unknown WorkflowNodeType of {other}")));
            }
        }
        let name = java::text(request.get("nodeName"));
        let shown = name.clone().unwrap_or_else(|| "null".to_owned());
        let job_id = java::long(request.get("jobId"));
        let job = job_id.and_then(|id| self.jobs.get(&id)).filter(|job| job.status != 99);
        let Some(job) = job else {
            return Err(Thrown::powerjob(format!("Illegal job node,specified job is not exist,node name : {shown}")));
        };
        if job.app_id != app_id {
            return Err(Thrown::powerjob(format!(
                "Illegal job node,specified job is not belong to this app,node name : {shown}"
            )));
        }
        let (job_id, job_name) = (job.id, job.name.clone());
        let known = match java::long(request.get("id")) {
            None => None,
            Some(id) => Some(
                self.nodes.get(&id).cloned().ok_or_else(|| Thrown::illegal(format!("can't find node by id: {id}")))?,
            ),
        };
        let id = known.as_ref().map_or_else(|| self.row_id(), |node| node.id);
        let node = Node {
            id,
            app_id,
            workflow_id: known.as_ref().and_then(|node| node.workflow_id),
            job_id,
            name: name.filter(|name| !name.is_empty()).or(Some(job_name)),
            params: java::text(request.get("nodeParams")),
            enable: request.get("enable").is_none_or(|value| java::boolean(Some(value))),
            skip_when_failed: java::boolean(request.get("skipWhenFailed")),
            extra: java::text(request.get("extra")),
            created: known.as_ref().map_or(now, |node| node.created),
            modified: now,
        };
        self.nodes.insert(id, node);
        Ok(id)
    }

    /// `/openApi/saveWorkflow`: binds the listed nodes and deletes those that the graph no longer lists.
    pub(crate) fn save_workflow(&mut self, request: &Value, now: i64) -> Result<i64, Thrown> {
        let name = java::text(request.get("wfName")).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Thrown::powerjob("workflow name can't be empty"))?;
        let app_id = java::long(request.get("appId")).ok_or_else(|| Thrown::powerjob("appId can't be empty"))?;
        let kind = TIME_TYPE
            .read("timeExpressionType", request.get("timeExpressionType"))?
            .ok_or_else(|| Thrown::powerjob("timeExpressionType can't be empty"))?;
        let time_expression = java::text(request.get("timeExpression"));
        let next_trigger_time = match kind {
            time_type::CRON => {
                let text =
                    time_expression.as_deref().ok_or_else(|| Thrown::null_pointer("Expression must not be null"))?;
                next_time(text, now, &self.config.zone)?
            }
            _ => None,
        };
        let (nodes, edges) = graph(request.get("dag"))?;
        for node in &nodes {
            match self.nodes.get(node) {
                None => {
                    return Err(Thrown::powerjob(format!("can't find node info by id :{node}")));
                }
                Some(known) if known.app_id != app_id => {
                    return Err(Thrown::powerjob("node is not belong to this app"));
                }
                Some(_) => {}
            }
        }
        let known = match java::long(request.get("id")) {
            None => None,
            Some(id) => Some(self.workflow_of(Some(id), Some(app_id))?.clone()),
        };
        let id = known.as_ref().map_or_else(|| self.row_id(), |workflow| workflow.id);
        for node in self.nodes.values_mut() {
            if nodes.contains(&node.id) {
                node.workflow_id = Some(id);
            }
        }
        self.nodes.retain(|node_id, node| node.workflow_id != Some(id) || nodes.contains(node_id));
        let workflow = Workflow {
            id,
            app_id,
            name,
            description: java::text(request.get("wfDescription")),
            time_type: kind,
            time_expression,
            max_instance_num: java::long(request.get("maxWfInstanceNum")).unwrap_or(1),
            status: if request.get("enable").is_none_or(|value| java::boolean(Some(value))) { 1 } else { 2 },
            nodes,
            edges,
            next_trigger_time,
            created: known.map_or(now, |workflow| workflow.created),
            modified: now,
        };
        self.workflows.insert(id, workflow);
        Ok(id)
    }

    pub(crate) fn workflow_of(&self, id: Option<i64>, app_id: Option<i64>) -> Result<&Workflow, Thrown> {
        let shown = id.map_or_else(|| "null".to_owned(), |id| id.to_string());
        let workflow = id
            .and_then(|id| self.workflows.get(&id))
            .filter(|workflow| workflow.status != 99)
            .ok_or_else(|| Thrown::illegal(format!("can't find workflow by id: {shown}")))?;
        if Some(workflow.app_id) == app_id {
            Ok(workflow)
        } else {
            Err(Thrown::powerjob("Permission Denied! can't operate other app's workflow!"))
        }
    }

    pub(crate) fn switch_workflow(
        &mut self,
        id: Option<i64>,
        app_id: Option<i64>,
        to: i32,
        now: i64,
    ) -> Result<(), Thrown> {
        let id = self.workflow_of(id, app_id)?.id;
        if let Some(workflow) = self.workflows.get_mut(&id) {
            workflow.status = to;
            workflow.modified = now;
        }
        Ok(())
    }
}

/// Node ids and edges.
type Graph = (Vec<i64>, Vec<(i64, i64)>);

/// Node ids and edges of a request; a graph must have nodes, unique ids and no circle.
fn graph(dag: Option<&Value>) -> Result<Graph, Thrown> {
    let illegal = || Thrown::powerjob("illegal DAG");
    let list = |name: &str| dag.and_then(|dag| dag.get(name)).and_then(Value::as_array).ok_or_else(illegal);
    let nodes: Vec<i64> =
        list("nodes")?.iter().map(|node| java::long(node.get("nodeId"))).collect::<Option<_>>().ok_or_else(illegal)?;
    let edges: Vec<(i64, i64)> = list("edges")?
        .iter()
        .map(|edge| Some((java::long(edge.get("from"))?, java::long(edge.get("to"))?)))
        .collect::<Option<_>>()
        .ok_or_else(illegal)?;
    let unique: BTreeSet<i64> = nodes.iter().copied().collect();
    let known = |id: &i64| unique.contains(id);
    if nodes.is_empty() || unique.len() != nodes.len() || !edges.iter().all(|(from, to)| known(from) && known(to)) {
        return Err(illegal());
    }
    if has_circle(&nodes, &edges) { Err(illegal()) } else { Ok((nodes, edges)) }
}

fn has_circle(nodes: &[i64], edges: &[(i64, i64)]) -> bool {
    let mut waiting: BTreeMap<i64, usize> = nodes.iter().map(|node| (*node, 0)).collect();
    for (_, to) in edges {
        *waiting.entry(*to).or_default() += 1;
    }
    while let Some(free) = waiting.iter().find(|(_, count)| **count == 0).map(|(node, _)| *node) {
        waiting.remove(&free);
        for (_, to) in edges.iter().filter(|(from, _)| *from == free) {
            if let Some(count) = waiting.get_mut(to) {
                *count -= 1;
            }
        }
    }
    !waiting.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_graph_needs_nodes_unique_ids_known_ends_and_no_circle() {
        let check = |dag: Value| graph(Some(&dag)).is_ok();
        assert!(check(json!({"nodes": [{"nodeId": 1}, {"nodeId": 2}], "edges": [{"from": 1, "to": 2}]})));
        assert!(!check(json!({"nodes": [], "edges": []})));
        assert!(!check(json!({"nodes": [{"nodeId": 1}]})));
        assert!(!check(json!({"nodes": [{"nodeId": 1}, {"nodeId": 1}], "edges": []})));
        assert!(!check(json!({"nodes": [{"nodeId": 1}], "edges": [{"from": 1, "to": 2}]})));
        assert!(!check(
            json!({"nodes": [{"nodeId": 1}, {"nodeId": 2}], "edges": [{"from": 1, "to": 2}, {"from": 2, "to": 1}]})
        ));
    }
}
