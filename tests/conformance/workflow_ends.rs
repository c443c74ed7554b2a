//! How workflows end, and how they are taken up again.

use powerjob_worker::openapi::{NodeSpec, WfStatus};
use serde_json::json;

use crate::check::{Outcome, same, same_json};
use crate::context::{Case, Context};
use crate::flow::{SOON, finish, id, node};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_failed_node_ends_the_workflow_unless_it_may_be_skipped", failures),
        Case::new("stopping_a_node_stops_the_workflow", stop_node),
        Case::new("stopping_a_workflow_stops_its_nodes_and_a_retry_runs_them_again", stop_and_retry),
        Case::new("too_many_runs_of_a_workflow_fail", too_many),
        Case::new("a_node_can_be_marked_as_successful_before_a_retry", mark),
    ]
}

async fn failures(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let strict = cx.flow(&[node("A"), node("B")], &[(0, 1)], 0).await?;
    let run = cx.start(&strict, None).await?;
    finish(&worker, &cx.step(&worker, run, 1).await?, 4, "broken", json!({})).await?;
    let info = cx.until_wf(run, WfStatus::Failed).await?;
    same("result", &info.result.as_deref(), &Some("middle job failed"))?;
    let nodes: Vec<_> = info.nodes()?.into_iter().map(|node| (node.status, node.result)).collect();
    same("nodes", &nodes, &vec![(Some(4), Some("broken".to_owned())), (Some(1), None)])?;
    let lenient = cx.flow(&[NodeSpec { skip_when_failed: true, ..node("A") }, node("B")], &[(0, 1)], 0).await?;
    let run = cx.start(&lenient, None).await?;
    finish(&worker, &cx.step(&worker, run, 1).await?, 4, "broken", json!({})).await?;
    finish(&worker, &cx.step(&worker, run, 2).await?, 5, "fine", json!({})).await?;
    let info = cx.until_wf(run, WfStatus::Succeed).await?;
    same("goes on", &info.result.as_deref(), &Some("fine"))
}

async fn stop_node(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let flow = cx.flow(&[node("A"), node("B")], &[(0, 1)], 0).await?;
    let run = cx.start(&flow, None).await?;
    let first = cx.step(&worker, run, 1).await?;
    cx.api.stop_instance(cx.app_id, id(&first)).await?;
    let info = cx.until_wf(run, WfStatus::Stopped).await?;
    same("result", &info.result.as_deref(), &Some("middle job stopped by user"))?;
    let fields = [("instanceId", id(&first).to_string()), ("appId", cx.app_id.to_string())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = cx.form("/openApi/retryInstance", &fields).await?;
    same(
        "a node alone cannot be retried",
        &refused.message()?.as_str(),
        &"PowerJobException: Workflow's instance do not support retry!",
    )
}

async fn stop_and_retry(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let flow = cx.flow(&[node("A"), node("B")], &[(0, 1)], 0).await?;
    let run = cx.start(&flow, None).await?;
    let (run_text, app) = (run.to_string(), cx.app_id.to_string());
    let fields = [("wfInstanceId", run_text.as_str()), ("appId", app.as_str())];
    finish(&worker, &cx.step(&worker, run, 1).await?, 5, "a", json!({})).await?;
    let second = cx.step(&worker, run, 2).await?;
    let refused = cx.form("/openApi/retryWfInstance", &fields).await?;
    same("an open one", &refused.message()?.as_str(), &"PowerJobException: workflow instance is running")?;
    cx.api.stop_wf_instance(cx.app_id, run).await?;
    let info = cx.until_wf(run, WfStatus::Stopped).await?;
    same("row", &(info.result.as_deref(), info.finished_time), &(Some("stopped by user"), None))?;
    let told = worker.nth("/worker/stopInstance", id(&second), 1, SOON).await?;
    same_json("told", &told.body, &json!({"instanceId": id(&second)}))?;
    same("instance", &cx.info(id(&second)).await?.result.as_deref(), &Some("stopped by user"))?;
    let again = cx.form("/openApi/stopWfInstance", &fields).await?;
    same("again", &again.message()?.as_str(), &"PowerJobException: workflow instance already stopped")?;
    cx.api.retry_wf_instance(cx.app_id, run).await?;
    let third = cx.step(&worker, run, 3).await?;
    crate::check::holds("a new instance", id(&third) != id(&second))?;
    finish(&worker, &third, 5, "b", json!({})).await?;
    let info = cx.until_wf(run, WfStatus::Succeed).await?;
    same("result", &info.result.as_deref(), &Some("b"))?;
    let refused = cx.form("/openApi/retryWfInstance", &fields).await?;
    same(
        "a successful one",
        &refused.message()?.as_str(),
        &"PowerJobException: workflow instance is already successful",
    )
}

async fn too_many(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let flow = cx.flow(&[node("A")], &[], 1).await?;
    let first = cx.start(&flow, None).await?;
    cx.step(&worker, first, 1).await?;
    let second = cx.start(&flow, None).await?;
    let info = cx.until_wf(second, WfStatus::Failed).await?;
    same("result", &info.result.as_deref(), &Some("too many instances(2>1)"))
}

async fn mark(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let flow = cx.flow(&[node("A"), node("B")], &[(0, 1)], 0).await?;
    let run = cx.start(&flow, None).await?;
    finish(&worker, &cx.step(&worker, run, 1).await?, 4, "broken", json!({})).await?;
    cx.until_wf(run, WfStatus::Failed).await?;
    let (run_text, app) = (run.to_string(), cx.app_id.to_string());
    let unknown = cx
        .form(
            "/openApi/markWorkflowNodeAsSuccess",
            &[("wfInstanceId", &run_text), ("nodeId", "987654321"), ("appId", &app)],
        )
        .await?;
    same("no such node", &unknown.message()?.as_str(), &"PowerJobException: can't find the node in current DAG!")?;
    cx.api.mark_node_as_success(cx.app_id, run, flow.nodes[0]).await?;
    same("the run is as it was", &cx.wf(run).await?.status(), &Some(WfStatus::Failed))?;
    same("the node is not", &cx.wf(run).await?.nodes()?[0].status, &Some(5))?;
    cx.api.retry_wf_instance(cx.app_id, run).await?;
    finish(&worker, &cx.step(&worker, run, 2).await?, 5, "b", json!({})).await?;
    cx.until_wf(run, WfStatus::Succeed).await.map(drop)
}
