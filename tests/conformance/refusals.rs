//! Requests that are refused, and in which words.

use serde_json::{Value, json};

use crate::check::{Outcome, holds, same, same_json};
use crate::context::{Case, Context, Raw};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("jobs_that_do_not_exist_or_belong_to_another_app", jobs),
        Case::new("jobs_that_cannot_be_saved", save_job),
        Case::new("enums_are_names_and_a_number_is_a_position", enums),
        Case::new("bodies_of_another_type_or_none_at_all", bodies),
        Case::new("form_fields_may_stand_in_the_query", query),
        Case::new("nodes_and_graphs_that_cannot_be_saved", graphs),
        Case::new("instances_that_do_not_exist", instances),
    ]
}

fn refused(what: &str, answer: &Raw, message: &str) -> Outcome {
    same(what, &(answer.status, answer.content_type.as_deref()), &(200, Some("application/json")))?;
    same_json(what, &answer.json()?, &json!({"success": false, "data": null, "message": message}))
}

async fn jobs(cx: Context) -> Outcome {
    let job = cx.save(cx.job("own")).await?;
    let (job, own, other) = (job.to_string(), cx.app_id.to_string(), (cx.app_id + 1).to_string());
    for path in
        ["/openApi/fetchJob", "/openApi/runJob", "/openApi/disableJob", "/openApi/enableJob", "/openApi/deleteJob"]
    {
        let unknown = cx.form(path, &[("jobId", "99999999"), ("appId", &own)]).await?;
        refused(path, &unknown, "IllegalArgumentException: can't find job by jobId: 99999999")?;
        let foreign = cx.form(path, &[("jobId", &job), ("appId", &other)]).await?;
        refused(
            path,
            &foreign,
            &format!("IllegalArgumentException: this job is not belong to the app whose appId is {other}"),
        )?;
        let missing = cx.form(path, &[("appId", &own)]).await?;
        refused(path, &missing, "IllegalArgumentException: can't find job by jobId: null")?;
    }
    let text = cx.form("/openApi/runJob", &[("jobId", &job), ("appId", "abc")]).await?;
    holds(
        text.message()?,
        text.message()?.starts_with("MethodArgumentTypeMismatchException: Failed to convert value of type"),
    )
}

async fn save_job(cx: Context) -> Outcome {
    let whole = json!({
        "appId": cx.app_id, "jobName": "x", "timeExpressionType": "API", "executeType": "STANDALONE", "processorType": "BUILT_IN",
        "processorInfo": "e",
    });
    let without = |name: &str| {
        let mut body = whole.clone();
        if let Some(map) = body.as_object_mut() {
            map.remove(name);
        }
        body
    };
    let with = |name: &str, value: Value| {
        let mut body = whole.clone();
        body[name] = value;
        body
    };
    for name in ["jobName", "appId", "processorInfo", "executeType", "processorType", "timeExpressionType"] {
        let answer = cx.json("/openApi/saveJob", &without(name)).await?;
        refused(name, &answer, &format!("PowerJobException: {name} can't be empty"))?;
    }
    let unknown = cx.json("/openApi/saveJob", &with("id", json!(99_999_999))).await?;
    refused("unknown id", &unknown, "IllegalArgumentException: can't find job by jobId: 99999999")?;
    let over = cx.json("/openApi/saveJob", &with("lifeCycle", json!({"start": null, "end": 5}))).await?;
    refused("a life that is over", &over, "PowerJobException: lifecycle is out of date!")?;
    let cron = |expression: Value| {
        let mut body = with("timeExpressionType", json!("CRON"));
        body["timeExpression"] = expression;
        body
    };
    let missing = cx.json("/openApi/saveJob", &cron(Value::Null)).await?;
    refused("no expression", &missing, "NullPointerException: Expression must not be null")?;
    let wrong = cx.json("/openApi/saveJob", &cron(json!("nonsense"))).await?;
    let text = "IllegalArgumentException: Cron expression contains 1 parts but we expect one of [6, 7]";
    refused("no such expression", &wrong, text)?;
    let wrong = cx.json("/openApi/saveJob", &cron(json!("0 0 99 * * ?"))).await?;
    holds(wrong.message()?, wrong.message()?.starts_with("IllegalArgumentException: Failed to parse"))
}

async fn enums(cx: Context) -> Outcome {
    let body = |kind: Value| {
        json!({"appId": cx.app_id, "jobName": "x", "timeExpressionType": kind, "executeType": "STANDALONE", "processorType": "BUILT_IN",
            "processorInfo": "e"})
    };
    let first = cx.json("/openApi/saveJob", &body(json!(0))).await?.json()?;
    let job = cx.api.fetch_job(cx.app_id, first["data"].as_i64().unwrap_or_default()).await?;
    same("position 0 is API", &job.time_expression_type, &Some(1))?;
    let second = cx.json("/openApi/saveJob", &body(json!(1))).await?;
    refused("position 1 is CRON", &second, "NullPointerException: Expression must not be null")?;
    let unknown = cx.json("/openApi/saveJob", &body(json!("NOPE"))).await?;
    let text = unknown.message()?;
    holds(&text, text.starts_with("HttpMessageNotReadableException: JSON parse error: Cannot deserialize value of type `tech.powerjob.common.enums.TimeExpressionType`"))
}

async fn bodies(cx: Context) -> Outcome {
    let text = cx.text("/openApi/saveJob", "no json").await?;
    holds(text.message()?, text.message()?.starts_with("HttpMessageNotReadableException: JSON parse error: "))?;
    let form = cx.form("/openApi/saveJob", &[("a", "b")]).await?;
    let message = "HttpMediaTypeNotSupportedException: Content type 'application/x-www-form-urlencoded;charset=UTF-8' not supported";
    refused("a form", &form, message)?;
    let answer = cx.form("/openApi/nope", &[("a", "b")]).await?;
    same("unknown path", &answer.status, &404)
}

async fn query(cx: Context) -> Outcome {
    let job = cx.save(cx.job("query")).await?;
    let answer = cx.form(&format!("/openApi/fetchJob?jobId={job}&appId={}", cx.app_id), &[]).await?;
    same("found", &answer.json()?["data"]["id"], &json!(job))
}

async fn graphs(cx: Context) -> Outcome {
    let job = cx.save(cx.job("node")).await?;
    let node = |change: Value| {
        let mut node = json!({"appId": cx.app_id, "type": 1, "jobId": job, "nodeName": "A", "enable": true, "skipWhenFailed": false});
        for (key, value) in change.as_object().into_iter().flatten() {
            node[key] = value.clone();
        }
        json!([node])
    };
    let none = cx.json("/openApi/addWorkflowNode", &json!([])).await?;
    same_json("no nodes", &none.json()?, &json!({"success": true, "data": [], "message": null}))?;
    let gone = cx.json("/openApi/addWorkflowNode", &node(json!({"jobId": 99_999_999}))).await?;
    refused("no such job", &gone, "PowerJobException: Illegal job node,specified job is not exist,node name : A")?;
    let untyped = cx.json("/openApi/addWorkflowNode", &node(json!({"type": null}))).await?;
    refused("no type", &untyped, "PowerJobException: type can't be empty")?;
    let saved = cx.json("/openApi/addWorkflowNode", &node(json!({}))).await?.json()?;
    let id = saved["data"][0]["id"].clone();
    let expected = json!({
        "id": "*", "appId": cx.app_id, "workflowId": null, "type": 1, "jobId": job, "nodeName": "A", "nodeParams": null, "enable": true,
        "skipWhenFailed": false, "extra": null, "gmtCreate": "*", "gmtModified": "*",
    });
    same_json(
        "a saved node",
        &crate::check::mask_fields(&saved["data"][0], &["id", "gmtCreate", "gmtModified"]),
        &expected,
    )?;
    let workflow = |dag: Value| json!({"appId": cx.app_id, "wfName": "w", "timeExpressionType": "API", "enable": true, "dag": dag});
    for (what, dag) in [
        ("no graph", Value::Null),
        ("no nodes", json!({"nodes": [], "edges": []})),
        ("a node with itself", json!({"nodes": [{"nodeId": id}], "edges": [{"from": id, "to": id}]})),
        ("twice the same", json!({"nodes": [{"nodeId": id}, {"nodeId": id}], "edges": []})),
    ] {
        refused(what, &cx.json("/openApi/saveWorkflow", &workflow(dag)).await?, "PowerJobException: illegal DAG")?;
    }
    let dag = json!({"nodes": [{"nodeId": 99_999_999}], "edges": []});
    let unknown = cx.json("/openApi/saveWorkflow", &workflow(dag)).await?;
    refused("an unknown node", &unknown, "PowerJobException: can't find node info by id :99999999")
}

async fn instances(cx: Context) -> Outcome {
    let own = cx.app_id.to_string();
    for path in ["/openApi/fetchInstanceStatus", "/openApi/fetchInstanceInfo"] {
        let unknown = cx.form(path, &[("instanceId", "5"), ("appId", &own)]).await?;
        refused(path, &unknown, "IllegalArgumentException: invalid instanceId: 5")?;
    }
    for path in ["/openApi/fetchWfInstanceInfo", "/openApi/stopWfInstance", "/openApi/retryWfInstance"] {
        let unknown = cx.form(path, &[("wfInstanceId", "9"), ("appId", &own)]).await?;
        refused(path, &unknown, "IllegalArgumentException: can't find workflow instance by wfInstanceId: 9")?;
    }
    for path in ["/openApi/runWorkflow", "/openApi/fetchWorkflow", "/openApi/disableWorkflow"] {
        let unknown = cx.form(path, &[("workflowId", "99999999"), ("appId", &own)]).await?;
        refused(path, &unknown, "IllegalArgumentException: can't find workflow by id: 99999999")?;
    }
    Ok(())
}
