//! The workflow context on the real server: in and out, its limit, parameters told apart, nested workflows.

use std::collections::HashMap;

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::{InstanceStatus, NodeSpec, WfInstanceInfo, WfStatus, WorkflowSpec};
use serde_json::{Value, json};

use crate::{
    check,
    support::{App, ExampleWorker, Needs, TestResult, eventually, parts::unique, trial},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("context::it_flows_into_a_nested_workflow_and_out_of_it", Needs::Server, nested),
        trial("context::job_parameters_and_instance_parameters_are_told_apart", Needs::Server, apart),
        trial("context::one_that_is_too_long_fails_the_node_with_its_key_and_size", Needs::Server, too_long),
    ]
}

/// Logs what `echo` was given, which it does at DEBUG.
fn debug() -> (&'static str, Value) {
    ("logConfig", json!({ "type": 1, "level": 1 }))
}

/// Saves nodes as a chain.
async fn chain(app: &App, nodes: &[NodeSpec]) -> Result<i64, Failed> {
    let ids = app.api.add_workflow_nodes(nodes).await?;
    Ok(app.api.save_workflow(&WorkflowSpec::chain(app.id, &format!("wf-{}", unique()), &ids)).await?)
}

/// Runs a workflow with a start parameter as it stands.
async fn run(app: &App, workflow: i64, init: Option<&str>) -> Result<WfInstanceInfo, Failed> {
    let run = app.api.run_workflow(app.id, workflow, init, 0).await?;
    eventually("the workflow ends", || async move {
        let info = app.api.fetch_wf_instance_info(app.id, run).await.map_err(|e| e.to_string())?;
        if info.status().is_some_and(WfStatus::is_final) { Ok(info) } else { Err(format!("{info:?}")) }
    })
    .await
}

fn context_of(info: &WfInstanceInfo) -> Result<HashMap<String, String>, Failed> {
    Ok(serde_json::from_str(info.wf_context.as_deref().unwrap_or("{}"))?)
}

async fn nested() -> TestResult {
    let app = App::new("nested").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let echo = |key: &str| json!({ "key": key, "value": format!("of {key}") });
    let mut jobs = Vec::new();
    for key in ["first", "inner", "last"] {
        jobs.push(app.job("echo", &echo(key), &[debug()]).await?);
    }
    let inner = chain(&app, &[NodeSpec::job(app.id, jobs[1], "inner", None)]).await?;
    let outer = chain(
        &app,
        &[
            NodeSpec::job(app.id, jobs[0], "first", None),
            NodeSpec { node_type: 3, ..NodeSpec::job(app.id, inner, "nested", None) },
            NodeSpec::job(app.id, jobs[2], "last", None),
        ],
    )
    .await?;
    let info = run(&app, outer, Some(r#"{"batch":"7"}"#)).await?;
    check!(info.status() == Some(WfStatus::Succeed), "{info:?}");
    let context = context_of(&info)?;
    for (key, value) in [("batch", "7"), ("first", "of first"), ("inner", "of inner"), ("last", "of last")] {
        check!(context.get(key).map(String::as_str) == Some(value), "{key} in {context:?}");
    }
    // The nested workflow saw what was before it, and the node behind it what the nested one left.
    let nodes = info.nodes()?;
    let nested = nodes[1].instance_id.ok_or("the nested workflow has an instance")?;
    let nested = app.api.fetch_wf_instance_info(app.id, nested).await?;
    let seen_inside = nested.nodes()?[0].instance_id.ok_or("its node has an instance")?;
    let seen_behind = nodes[2].instance_id.ok_or("the last node has an instance")?;
    for (instance, keys) in [(seen_inside, ["batch", "first"]), (seen_behind, ["first", "inner"])] {
        let log = app.server_log(instance, 3).await?;
        let given =
            log.iter().find(|line| line.starts_with("job parameters ")).ok_or("the node says what it was given")?;
        let given = given.split_once("instance parameters ").map_or("", |(_, context)| context);
        check!(keys.iter().all(|key| given.contains(&format!("{key}\\\":"))), "{keys:?} in {given}");
    }
    Ok(())
}

async fn apart() -> TestResult {
    let app = App::new("apart").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let job = app.job("echo", &json!("of the job"), &[debug()]).await?;
    let given = async |instance: i64| -> Result<String, Failed> {
        let log = app.server_log(instance, 3).await?;
        Ok(log.into_iter().find(|line| line.starts_with("job parameters ")).unwrap_or_default())
    };
    // A run by hand: its own parameters beside the job's.
    let instance = app.api.run_job(app.id, job, Some("of the run"), 0).await?;
    app.ended(instance).await?;
    let said = given(instance).await?;
    check!(said == r#"job parameters Some("of the job"), instance parameters Some("of the run")"#, "{said}");
    // Nodes: their own parameters in place of the job's, and the context, which a text as start parameter is wrapped into.
    let nodes = [NodeSpec::job(app.id, job, "own", Some("of the node")), NodeSpec::job(app.id, job, "none", None)];
    let workflow = chain(&app, &nodes).await?;
    let info = run(&app, workflow, Some("run 7")).await?;
    check!(info.status() == Some(WfStatus::Succeed), "{info:?}");
    for (node, job_params) in info.nodes()?.iter().zip(["of the node", "of the job"]) {
        let said = given(node.instance_id.ok_or("an instance")?).await?;
        let wanted =
            format!("job parameters Some({job_params:?}), instance parameters Some({:?})", r#"{"initParams":"run 7"}"#);
        check!(said == wanted, "{said}");
    }
    check!(context_of(&info)?.get("initParams").map(String::as_str) == Some("run 7"), "{info:?}");
    Ok(())
}

async fn too_long() -> TestResult {
    let app = App::new("too-long").await?;
    let _worker = ExampleWorker::start(&app).await?;
    let params = json!({ "key": "report", "value": "x".repeat(9_000) });
    let behind = json!({ "key": "never" });
    let workflow = app.chain(&[("echo", params, false), ("echo", behind, false)]).await?;
    let info = run(&app, workflow, Some(r#"{"batch":"7"}"#)).await?;
    check!(info.status() == Some(WfStatus::Failed), "{info:?}");
    let first = app.info(info.nodes()?[0].instance_id.ok_or("an instance")?).await?;
    check!(first.status() == Some(InstanceStatus::Failed), "{first:?}");
    let result = first.result.unwrap_or_default();
    for text in ["key `report` alone takes 9011", "8192 are allowed", "Append less"] {
        check!(result.contains(text), "{text} is missing in {result}");
    }
    let context = context_of(&info)?;
    check!(context.len() == 1 && context["batch"] == "7", "nothing of it was passed on: {context:?}");
    Ok(())
}
