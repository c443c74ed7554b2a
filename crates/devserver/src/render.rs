//! Rows as OpenAPI and console show them, field by field in the real server's order.

use serde_json::{Value, json};

use crate::java::{decimal, double, iso, shown};
use crate::model::{Instance, Job, Node, WfInstance, WfNode, WorkerRecord, Workflow};
use crate::workers::score;
use crate::world::{EMPTY_ADDRESS, World};

pub(crate) fn job(job: &Job) -> Value {
    json!({
        "id": job.id, "jobName": job.name, "jobDescription": job.description, "appId": job.app_id, "jobParams": job.params,
        "timeExpressionType": job.time_type, "timeExpression": job.time_expression, "executeType": job.execute_type,
        "processorType": job.processor_type, "processorInfo": job.processor_info, "maxInstanceNum": job.max_instance_num,
        "concurrency": job.concurrency, "instanceTimeLimit": job.instance_time_limit, "instanceRetryNum": job.instance_retry_num,
        "taskRetryNum": job.task_retry_num, "status": job.status, "nextTriggerTime": job.next_trigger_time,
        "minCpuCores": job.min_cpu_cores, "minMemorySpace": job.min_memory_space, "minDiskSpace": job.min_disk_space,
        "designatedWorkers": job.designated_workers, "maxWorkerCount": job.max_worker_count,
        "notifyUserIds": job.notify_user_ids, "gmtCreate": iso(job.created), "gmtModified": iso(job.modified),
        "extra": job.extra, "dispatchStrategy": job.dispatch_strategy, "dispatchStrategyConfig": job.dispatch_strategy_config,
        "lifecycle": job.lifecycle,
        "alarmConfig": config(job.alarm_config.as_deref(), &["alertThreshold", "statisticWindowLen", "silenceWindowLen"]),
        "tag": job.tag, "logConfig": config(job.log_config.as_deref(), &["type", "level", "loggerName"]),
        "advancedRuntimeConfig": config(job.advanced_runtime_config.as_deref(), &["taskTrackerBehavior"]),
    })
}

/// An embedded configuration as an object with all its fields.
fn config(text: Option<&str>, fields: &[&str]) -> Value {
    let Some(kept) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Value::Null;
    };
    Value::Object(
        fields.iter().map(|field| ((*field).to_owned(), kept.get(*field).cloned().unwrap_or(Value::Null))).collect(),
    )
}

/// `/openApi/fetchInstanceInfo`.
pub(crate) fn instance(instance: &Instance) -> Value {
    let kind = if instance.wf_instance_id.is_some() { 2 } else { 1 };
    json!({
        "jobId": instance.job_id, "appId": instance.app_id, "instanceId": instance.id, "wfInstanceId": instance.wf_instance_id,
        "jobParams": instance.job_params, "instanceParams": instance.instance_params, "status": instance.status, "type": kind,
        "result": instance.result, "expectedTriggerTime": instance.expected, "actualTriggerTime": instance.actual,
        "finishedTime": instance.finished, "taskTrackerAddress": instance.address, "runningTimes": instance.running_times,
        "gmtCreate": iso(instance.created), "gmtModified": iso(instance.modified),
    })
}

pub(crate) fn node(node: &Node) -> Value {
    json!({
        "id": node.id, "appId": node.app_id, "workflowId": node.workflow_id, "type": 1, "jobId": node.job_id,
        "nodeName": node.name, "nodeParams": node.params, "enable": node.enable, "skipWhenFailed": node.skip_when_failed,
        "extra": node.extra, "gmtCreate": iso(node.created), "gmtModified": iso(node.modified),
    })
}

impl World {
    /// An item of `/instance/list`.
    pub(crate) fn instance_row(&self, instance: &Instance) -> Value {
        let zone = &self.config.zone;
        let wf = instance.wf_instance_id.map_or_else(|| "N/A".to_owned(), |id| id.to_string());
        json!({
            "jobId": instance.job_id.to_string(), "jobName": self.jobs.get(&instance.job_id).map(|job| &job.name),
            "instanceId": instance.id.to_string(), "wfInstanceId": wf, "result": instance.result,
            "taskTrackerAddress": instance.address, "runningTimes": instance.running_times, "status": instance.status,
            "actualTriggerTime": shown(instance.actual, zone), "finishedTime": shown(instance.finished, zone),
        })
    }

    /// `/instance/detail` out of the database.
    pub(crate) fn instance_detail(&self, instance: &Instance) -> Value {
        let zone = &self.config.zone;
        json!({
            "expectedTriggerTime": shown(Some(instance.expected), zone), "actualTriggerTime": shown(instance.actual, zone),
            "finishedTime": shown(instance.finished, zone), "status": instance.status, "result": instance.result,
            "taskTrackerAddress": instance.address, "jobParams": instance.job_params, "instanceParams": instance.instance_params,
            "taskDetail": null, "queriedTaskDetailInfoList": [], "subInstanceDetails": null, "runningTimes": instance.running_times,
        })
    }

    /// `/instance/detail` out of a worker's answer; what the worker left out stays empty.
    pub(crate) fn worker_detail(&self, answer: &Value, instance: &Instance) -> Value {
        let zone = &self.config.zone;
        let ms = |name: &str| answer.get(name).and_then(Value::as_i64).filter(|ms| *ms != 0);
        let task = answer.get("taskDetail").filter(|detail| detail.is_object()).map(|detail| {
            let field = |name: &str| detail.get(name).cloned().unwrap_or(Value::Null);
            json!({
                "totalTaskNum": field("totalTaskNum"), "succeedTaskNum": field("succeedTaskNum"),
                "failedTaskNum": field("failedTaskNum"), "waitingDispatchTaskNum": field("waitingDispatchTaskNum"),
                "workerUnreceivedTaskNum": field("workerUnreceivedTaskNum"), "receivedTaskNum": field("receivedTaskNum"),
                "runningTaskNum": field("runningTaskNum"),
            })
        });
        json!({
            "expectedTriggerTime": shown(ms("expectedTriggerTime"), zone), "actualTriggerTime": shown(ms("actualTriggerTime"), zone),
            "finishedTime": shown(ms("finishedTime"), zone), "status": answer.get("status"), "result": answer.get("result"),
            "taskTrackerAddress": answer.get("taskTrackerAddress"), "jobParams": answer.get("jobParams"),
            "instanceParams": instance.instance_params, "taskDetail": task,
            "queriedTaskDetailInfoList": answer.get("queriedTaskDetailInfoList").filter(|list| list.is_array()).cloned().unwrap_or_else(|| json!([])),
            "subInstanceDetails": answer.get("subInstanceDetails"), "runningTimes": instance.running_times,
        })
    }

    /// A row of `/system/listWorker`.
    pub(crate) fn worker_row(&self, worker: &WorkerRecord, now: i64) -> Value {
        let metric = |name: &str| double(worker.metrics.get(name));
        let (load, cores) = (metric("cpuLoad"), metric("cpuProcessors"));
        let share = |usage: &str, used: &str, total: &str| {
            format!("{}%（{} / {} GB）", decimal(metric(usage) * 100.0), decimal(metric(used)), decimal(metric(total)))
        };
        let high = [load > cores * 0.8, metric("jvmMemoryUsage") > 0.8, metric("diskUsage") > 0.8];
        let status = if !self.is_online(worker, now) {
            9999
        } else if worker.overloading {
            3
        } else {
            1 + high.into_iter().filter(|high| *high).count()
        };
        json!({
            "address": worker.address, "cpuLoad": format!("{} / {} cores", decimal(load), decimal(cores)),
            "memoryLoad": share("jvmMemoryUsage", "jvmUsedMemory", "jvmMaxMemory"),
            "diskLoad": share("diskUsage", "diskUsed", "diskTotal"), "protocol": worker.protocol,
            "tag": worker.tag.as_deref().filter(|tag| !tag.is_empty()).unwrap_or("N/A"),
            "lastActiveTime": shown(Some(worker.last_active), &self.config.zone), "lightTaskTrackerNum": worker.light,
            "heavyTaskTrackerNum": worker.heavy, "lastOverloadTime": worker.last_overload, "overloading": worker.overloading,
            "status": status,
        })
    }

    /// All rows of `/system/listWorker`, best score first.
    pub(crate) fn worker_rows(&self, app_id: i64, now: i64) -> Vec<Value> {
        let mut workers: Vec<&WorkerRecord> =
            self.workers.get(&app_id).into_iter().flat_map(|all| all.values()).collect();
        workers.sort_by_key(|worker| std::cmp::Reverse(score(&worker.metrics)));
        workers.into_iter().map(|worker| self.worker_row(worker, now)).collect()
    }

    /// A worker in `/server/hello?debug=true`.
    pub(crate) fn worker_debug(worker: &WorkerRecord) -> Value {
        json!({
            "overloading": worker.overloading, "protocol": worker.protocol, "address": worker.address,
            "containerInfos": worker.containers, "lastActiveTime": worker.last_active, "lastOverloadTime": worker.last_overload,
            "systemMetrics": worker.metrics, "heavyTaskTrackerNum": worker.heavy, "client": worker.client, "tag": worker.tag,
            "lightTaskTrackerNum": worker.light,
        })
    }

    /// `/openApi/fetchWorkflow`.
    pub(crate) fn workflow(&self, workflow: &Workflow) -> Value {
        let nodes: Vec<Value> = workflow
            .nodes
            .iter()
            .filter_map(|id| self.nodes.get(id))
            .map(|node| {
                json!({
                    "nodeId": node.id, "nodeType": 1, "jobId": node.job_id, "nodeName": node.name, "instanceId": null,
                    "nodeParams": node.params, "status": null, "result": null, "enable": node.enable, "disableByControlNode": null,
                    "skipWhenFailed": node.skip_when_failed, "startTime": null, "finishedTime": null,
                })
            })
            .collect();
        json!({
            "id": workflow.id, "wfName": workflow.name, "wfDescription": workflow.description, "appId": workflow.app_id,
            "timeExpressionType": crate::enums::TIME_TYPE.name(workflow.time_type), "timeExpression": workflow.time_expression,
            "maxWfInstanceNum": workflow.max_instance_num, "enable": workflow.status == 1, "notifyUserIds": null,
            "lifeCycle": null, "gmtCreate": iso(workflow.created), "gmtModified": iso(workflow.modified),
            "peworkflowDAG": {"nodes": nodes, "edges": edges_plain(&workflow.edges)},
        })
    }

    /// `/openApi/fetchWfInstanceInfo`: the graph is a text of JSON, keys in alphabetical order, nulls left out.
    pub(crate) fn wf_instance(&self, run: &WfInstance) -> Value {
        let nodes: Vec<Value> = run.nodes.iter().map(|node| self.dag_node(node)).collect();
        let edges: Vec<Value> = run.edges.iter().map(|(from, to)| json!({"from": from, "to": to})).collect();
        json!({
            "id": run.row, "appId": run.app_id, "wfInstanceId": run.id, "workflowId": run.workflow_id, "status": run.status,
            "wfInitParams": run.init_params, "wfContext": run.context_json(),
            "dag": json!({"edges": edges, "nodes": nodes}).to_string(), "result": run.result, "expectedTriggerTime": run.expected,
            "actualTriggerTime": run.actual, "finishedTime": run.finished, "gmtCreate": iso(run.created),
            "gmtModified": iso(run.modified),
        })
    }

    /// `/wfInstance/info`: ids as texts, times formatted.
    pub(crate) fn wf_instance_page(&self, run: &WfInstance) -> Value {
        let zone = &self.config.zone;
        let nodes: Vec<Value> = run
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "nodeId": node.node_id, "nodeType": 1, "jobId": node.job_id, "nodeName": node.name,
                    "instanceId": node.instance_id.map(|id| id.to_string()), "nodeParams": node.params, "status": node.status,
                    "result": node.result, "enable": node.enable, "disableByControlNode": null,
                    "skipWhenFailed": node.skip_when_failed, "startTime": null,
                    "finishedTime": node.finished.map(|ms| shown(Some(ms), zone)),
                })
            })
            .collect();
        json!({
            "wfInstanceId": run.id.to_string(), "workflowId": run.workflow_id.to_string(),
            "workflowName": self.workflows.get(&run.workflow_id).map(|workflow| &workflow.name), "status": run.status,
            "wfInitParams": run.init_params, "wfContext": run.context_json(), "result": run.result,
            "expectedTriggerTime": shown(Some(run.expected), zone), "actualTriggerTime": shown(run.actual, zone),
            "finishedTime": shown(run.finished, zone), "peworkflowDAG": {"nodes": nodes, "edges": edges_plain(&run.edges)},
        })
    }

    fn dag_node(&self, node: &WfNode) -> Value {
        let zone = &self.config.zone;
        let all = json!({
            "enable": node.enable, "finishedTime": node.finished.map(|ms| shown(Some(ms), zone)), "instanceId": node.instance_id,
            "jobId": node.job_id, "nodeId": node.node_id, "nodeName": node.name, "nodeParams": node.params, "nodeType": 1,
            "result": node.result, "skipWhenFailed": node.skip_when_failed, "status": node.status,
        });
        match all {
            Value::Object(map) => Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).collect()),
            other => other,
        }
    }
}

fn edges_plain(edges: &[(i64, i64)]) -> Vec<Value> {
    edges.iter().map(|(from, to)| json!({"from": from, "to": to, "property": null, "enable": null})).collect()
}

/// The address that a row shows, `N/A` never dispatched.
pub(crate) fn address(instance: &Instance) -> &str {
    instance.address.as_deref().unwrap_or(EMPTY_ADDRESS)
}
