//! Workflows: from node to node, and what they hand on.

use std::time::Duration;

use powerjob_worker::openapi::{NodeSpec, WfInstanceInfo, WfStatus};
use serde_json::{Value, json};

use crate::check::{Outcome, mask_fields, mask_times, same, same_json};
use crate::context::{Case, Context};
use crate::flow::{finish, id, node};
use crate::raw_worker::now;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_chain_hands_its_context_from_node_to_node", chain),
        Case::new("the_start_parameter_becomes_the_context_or_a_part_of_it", start_parameter),
        Case::new("a_node_waits_for_all_its_predecessors", diamond),
        Case::new("disabled_nodes_are_skipped", disabled),
        Case::new("a_workflow_is_shown_as_it_was_saved", shown),
    ]
}

async fn chain(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let flow =
        cx.flow(&[NodeSpec { node_params: Some("of A".to_owned()), ..node("A") }, node("B")], &[(0, 1)], 0).await?;
    let run = cx.start(&flow, Some("{\"k\":\"v\"}")).await?;
    let first = cx.step(&worker, run, 1).await?;
    let expected = |instance: &Value, job_params: &str, context: Value| {
        json!({
            "allWorkerAddress": [worker.address], "maxWorkerCount": 0, "jobId": flow.job, "wfInstanceId": run, "instanceId": instance,
            "executeType": "STANDALONE", "processorType": "BUILT_IN", "processorInfo": "echo", "instanceTimeoutMS": 0,
            "jobParams": job_params, "instanceParams": context, "threadConcurrency": 5, "taskRetryNum": 0,
            "timeExpressionType": "WORKFLOW", "maxInstanceNum": 0,
        })
    };
    same_json("first node", &first.body, &expected(&first.body["instanceId"], "of A", json!("{\"k\":\"v\"}")))?;
    let info = cx.wf(run).await?;
    let node = |index: usize, rest: Value| {
        let mut node = json!({"enable": true, "jobId": flow.job, "nodeId": flow.nodes[index], "nodeType": 1, "skipWhenFailed": false});
        for (key, value) in rest.as_object().into_iter().flatten() {
            node[key] = value.clone();
        }
        node
    };
    let graph = |first: Value, second: Value| json!({"edges": [{"from": flow.nodes[0], "to": flow.nodes[1]}], "nodes": [node(0, first), node(1, second)]});
    let waiting = json!({"nodeName": "B", "nodeParams": "of the job", "status": 1});
    let running = json!({"nodeName": "A", "nodeParams": "of A", "status": 3, "instanceId": first.body["instanceId"]});
    same_graph("graph while the first runs", &info, &graph(running, waiting))?;
    same("running", &info.status(), &Some(WfStatus::Running))?;
    let mut running = worker.report_body(id(&first), 3, now());
    running["appendedWfContext"] = json!({"early": "1", "k": "changed"});
    worker.send_report(&running).await?;
    finish(&worker, &first, 5, "done A", json!({"fromA": "x"})).await?;
    let second = cx.step(&worker, run, 2).await?;
    let context: Value = serde_json::from_str(second.body["instanceParams"].as_str().unwrap_or_default())?;
    same("context of the second", &context, &json!({"k": "changed", "early": "1", "fromA": "x"}))?;
    same("a node without parameters has those of the job", &second.body["jobParams"], &json!("of the job"))?;
    let mut late = worker.report_body(id(&second), 3, 1);
    late["appendedWfContext"] = json!({"late": "yes"});
    worker.send_report(&worker.report_body(id(&second), 3, now())).await?;
    worker.send_report(&late).await?;
    finish(&worker, &second, 5, "done B", json!({})).await?;
    let info = cx.until_wf(run, WfStatus::Succeed).await?;
    same("result is that of the last node", &info.result.as_deref(), &Some("done B"))?;
    let context: Value = serde_json::from_str(info.wf_context.as_deref().unwrap_or_default())?;
    same("even a dropped report's context is merged", &context["late"], &json!("yes"))?;
    same("start parameter", &info.wf_init_params.as_deref(), &Some("{\"k\":\"v\"}"))?;
    let info = cx.info(id(&first)).await?;
    same("the instance knows its run", &info.wf_instance_id, &Some(run))
}

/// The graph with times masked; its text has the fields in alphabetical order.
fn same_graph(what: &str, info: &WfInstanceInfo, expected: &Value) -> Outcome {
    let text = info.dag.as_deref().unwrap_or_default();
    let actual: Value = serde_json::from_str(text)?;
    same("the order of fields", &text, &sorted(&actual).to_string().as_str())?;
    same(what, &mask_fields(&actual, &["finishedTime"]), &mask_fields(expected, &["finishedTime"]))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let fields: std::collections::BTreeMap<&String, Value> =
                map.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(fields.into_iter().map(|(key, value)| (key.clone(), value)).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

async fn start_parameter(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let flow = cx.flow(&[node("A")], &[], 0).await?;
    for (init, expected) in [
        (None, json!({})),
        (Some("plain text"), json!({"initParams": "plain text"})),
        (Some("[1]"), json!({"initParams": "[1]"})),
        (Some("{}"), json!({"initParams": "{}"})),
        (Some("{\"n\":4,\"b\":true}"), json!({"n": 4, "b": true})),
        (Some("{\"o\":{\"x\":1}}"), json!({"o": {"x": 1}})),
    ] {
        let run = cx.start(&flow, init).await?;
        let request = cx.step(&worker, run, 1).await?;
        let context: Value = serde_json::from_str(request.body["instanceParams"].as_str().unwrap_or_default())?;
        same(&format!("start parameter {init:?}"), &context, &expected)?;
    }
    let flow = cx.flow(&[node("A"), node("B")], &[(0, 1)], 0).await?;
    let run = cx.start(&flow, Some("{\"n\":4,\"b\":true,\"o\":{\"x\":1}}")).await?;
    finish(&worker, &cx.step(&worker, run, 1).await?, 5, "a", json!({"x": "y"})).await?;
    let request = cx.step(&worker, run, 2).await?;
    let context: Value = serde_json::from_str(request.body["instanceParams"].as_str().unwrap_or_default())?;
    same("a merge turns every value into a text", &context, &json!({"n": "4", "b": "true", "o": "{\"x\":1}", "x": "y"}))
}

async fn diamond(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let flow = cx.flow(&[node("A"), node("B"), node("C"), node("D")], &[(0, 1), (0, 2), (1, 3), (2, 3)], 0).await?;
    let run = cx.start(&flow, None).await?;
    finish(&worker, &cx.step(&worker, run, 1).await?, 5, "a", json!({"x": "a"})).await?;
    let (b, c) = (cx.step(&worker, run, 2).await?, cx.step(&worker, run, 3).await?);
    finish(&worker, &b, 5, "b", json!({"y": "b"})).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let of_run = worker
        .received("/worker/runJob")
        .into_iter()
        .filter(|request| request.body["wfInstanceId"] == json!(run))
        .count();
    same("D waits for C", &of_run, &3)?;
    finish(&worker, &c, 5, "c", json!({"x": "c"})).await?;
    let d = cx.step(&worker, run, 4).await?;
    let context: Value = serde_json::from_str(d.body["instanceParams"].as_str().unwrap_or_default())?;
    same("context", &context, &json!({"x": "c", "y": "b"}))?;
    finish(&worker, &d, 5, "d", json!({})).await?;
    cx.until_wf(run, WfStatus::Succeed).await.map(drop)
}

async fn disabled(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let off = |name: &str| NodeSpec { enable: false, ..node(name) };
    let flow = cx.flow(&[node("A"), off("B"), node("C")], &[(0, 1), (1, 2)], 0).await?;
    let run = cx.start(&flow, None).await?;
    finish(&worker, &cx.step(&worker, run, 1).await?, 5, "a", json!({})).await?;
    finish(&worker, &cx.step(&worker, run, 2).await?, 5, "c", json!({})).await?;
    let info = cx.until_wf(run, WfStatus::Succeed).await?;
    let nodes: Vec<_> = info.nodes()?.into_iter().map(|node| (node.node_name, node.status, node.result)).collect();
    let text = |text: &str| Some(text.to_owned());
    let expected = vec![
        (text("A"), Some(5), text("a")),
        (text("B"), Some(5), text("disable node")),
        (text("C"), Some(5), text("c")),
    ];
    same("nodes", &nodes, &expected)?;
    let nothing = cx.flow(&[off("A")], &[], 0).await?;
    let run = cx.start(&nothing, None).await?;
    let info = cx.until_wf(run, WfStatus::Succeed).await?;
    same("nothing to do", &info.result.as_deref(), &Some("no enabled nodes"))
}

async fn shown(cx: Context) -> Outcome {
    let flow = cx.flow(&[node("A")], &[], 3).await?;
    let fields = [("workflowId", flow.workflow.to_string()), ("appId", (cx.app_id + 1).to_string())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let foreign = cx.form("/openApi/fetchWorkflow", &fields).await?;
    let text = "PowerJobException: Permission Denied! can't operate other app's workflow!";
    same("another app's", &foreign.message()?.as_str(), &text)?;
    let saved = cx.api.fetch_workflow(cx.app_id, flow.workflow).await?;
    let expected = json!({
        "id": flow.workflow, "wfName": "flow", "wfDescription": "", "appId": cx.app_id, "timeExpressionType": "API",
        "timeExpression": null, "maxWfInstanceNum": 3, "enable": true, "notifyUserIds": null, "lifeCycle": null, "gmtCreate": "*",
        "gmtModified": "*", "peworkflowDAG": {"nodes": [{
            "nodeId": flow.nodes[0], "nodeType": 1, "jobId": flow.job, "nodeName": "A", "instanceId": null, "nodeParams": null,
            "status": null, "result": null, "enable": true, "disableByControlNode": null, "skipWhenFailed": false, "startTime": null,
            "finishedTime": null,
        }], "edges": []},
    });
    same_json("workflow", &mask_fields(&saved, &["gmtCreate", "gmtModified"]), &expected)?;
    let run = cx.start(&flow, None).await?;
    let info = cx.until_wf(run, WfStatus::Failed).await?;
    same("without a worker", &info.result.as_deref(), &Some("middle job failed"))?;
    let page =
        cx.get("/wfInstance/info", &[("appId", &cx.app_id.to_string()), ("wfInstanceId", &run.to_string())]).await?;
    let instance = info.nodes()?[0].instance_id.unwrap_or_default().to_string();
    let expected = json!({"success": true, "data": {
        "wfInstanceId": run.to_string(), "workflowId": flow.workflow.to_string(), "workflowName": "flow", "status": 3,
        "wfInitParams": null, "wfContext": "{}", "result": "middle job failed", "expectedTriggerTime": "0000-00-00 00:00:00",
        "actualTriggerTime": "0000-00-00 00:00:00", "finishedTime": "0000-00-00 00:00:00",
        "peworkflowDAG": {"nodes": [{
            "nodeId": flow.nodes[0], "nodeType": 1, "jobId": flow.job, "nodeName": "A", "instanceId": instance,
            "nodeParams": "of the job", "status": 4, "result": "no worker available", "enable": true, "disableByControlNode": null,
            "skipWhenFailed": false, "startTime": null, "finishedTime": "0000-00-00 00:00:00",
        }], "edges": []},
    }, "message": null});
    same("console", &mask_times(&page.body), &expected.to_string())
}
