//! One workflow over both: what one worker appends, the other reads.

use std::{sync::Arc, time::Duration};

use powerjob_worker::openapi::{NodeSpec, WfStatus, WorkflowSpec};
use serde_json::{Value, json};

use crate::job::{Job, PATIENCE};
use crate::site::{Site, tags};
use crate::table::{Cell, Seen};
use crate::wait::{eventually, same};
use crate::workers::Kind;
use crate::{Case, Rows};

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("a_workflow_hands_its_context_from_ours_to_java_and_back", context)]
}

async fn context(site: Arc<Site>) -> Rows {
    let ([ours, _], [java, _]) = (tags(Kind::Ours), tags(Kind::Java));
    let mut nodes = Vec::new();
    for (name, tag) in [("a", ours), ("b", java), ("c", ours), ("d", java)] {
        let job = Job::new("STANDALONE", tag, &[]).params(json!({"key": name, "value": tag})).save(&site).await?;
        nodes.push(NodeSpec::job(site.app_id, job, name, None));
    }
    // The context is laid over a node's own parameters: the last node reads what a node of the other language wrote.
    let reader = Job::new("STANDALONE", ours, &[]).params(json!({})).save(&site).await?;
    nodes.push(NodeSpec::job(site.app_id, reader, "e", None));
    let ids = site.api.add_workflow_nodes(&nodes).await?;
    let flow = site.api.save_workflow(&WorkflowSpec::chain(site.app_id, "by turns", &ids)).await?;
    let run = site.api.run_workflow(site.app_id, flow, Some(r#"{"lines":"3"}"#), 0).await?;
    let info = eventually(PATIENCE.min(Duration::from_secs(120)), "the workflow ends", async || {
        let info = site.api.fetch_wf_instance_info(site.app_id, run).await.map_err(|error| error.to_string())?;
        if info.status().is_some_and(WfStatus::is_final) { Ok(info) } else { Err(format!("{info:?}")) }
    })
    .await?;
    same("status", &info.status(), &Some(WfStatus::Succeed))?;
    let context: Value = serde_json::from_str(info.wf_context.as_deref().unwrap_or_default())?;
    same("context", &context, &json!({"lines": "3", "a": ours, "b": java, "c": ours, "d": java}))?;
    // Every node took `lines` from the context.
    let results: Vec<Option<String>> = info.nodes()?.into_iter().map(|node| node.result).collect();
    same("results", &results, &vec![Some("3 lines".to_owned()); 5])?;
    let seen = Seen::text("SUCCEED; the context of each reaches the others");
    Ok(vec![(Cell::new("workflow of STANDALONE nodes by turns", "both", "–"), seen)])
}
