//! The transport port, as Vert.x serves it: POST only, 200 with an empty body or JSON, 500 for whatever cannot be read.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::java;
use crate::logs::LogLine;
use crate::report::Report;
use crate::server::Server;

pub(crate) fn router(server: Server) -> Router {
    let faults = server.faults.clone();
    Router::new()
        .route("/server/workerHeartbeat", post(heartbeat))
        .route("/server/reportInstanceStatus", post(report))
        .route("/server/reportLog", post(log))
        .route("/server/queryJobCluster", post(cluster))
        .route("/server/queryContainer", post(container))
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .with_state(server)
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(faults, crate::faults::middleware))
}

async fn heartbeat(State(server): State<Server>, body: Bytes) -> Response {
    let Some(beat) = object(&body) else {
        return broken();
    };
    match server.change(|world, _| world.heartbeat(&beat)) {
        Some(()) => empty(),
        None => broken(),
    }
}

async fn report(State(server): State<Server>, body: Bytes) -> Response {
    let Some(report) = object(&body).as_ref().and_then(Report::read) else {
        return broken();
    };
    let (unknown, early, wait) = server.change(|world, now| {
        world.merge_context_of(&report, now);
        (
            world.unknown_instance(report.instance_id),
            world.has_no_address(report.instance_id),
            world.config.timers.report_wait,
        )
    });
    if let Some(message) = unknown {
        return answer(&json!({"success": false, "message": message}));
    }
    if early {
        tokio::time::sleep(wait).await;
    }
    match server.change(|world, now| world.take_report(&report, now)) {
        Err(message) => answer(&json!({"success": false, "message": message})),
        Ok(verdict) => {
            tracing::debug!(instance = report.instance_id, status = report.status, ?verdict, "status report");
            if report.wants_answer() { answer(&json!({"success": true})) } else { empty() }
        }
    }
}

async fn log(State(server): State<Server>, body: Bytes) -> Response {
    let Some(batch) = object(&body) else {
        return broken();
    };
    let Some(contents) = batch.get("instanceLogContents").and_then(Value::as_array) else {
        return broken();
    };
    let address = java::text(batch.get("workerAddress")).unwrap_or_else(|| "null".to_owned());
    server.change(|world, _| {
        for content in contents {
            let Some(instance_id) = java::long(content.get("instanceId")) else {
                continue;
            };
            let line = LogLine {
                time: java::long(content.get("logTime")).unwrap_or(0),
                level: java::long(content.get("logLevel")).unwrap_or(0),
                address: address.clone(),
                text: java::text(content.get("logContent")).unwrap_or_else(|| "null".to_owned()),
            };
            world.logs.submit(instance_id, line);
        }
    });
    empty()
}

async fn cluster(State(server): State<Server>, body: Bytes) -> Response {
    let Some(request) = object(&body) else {
        return broken();
    };
    let (app_id, job_id) = (java::long(request.get("appId")), java::long(request.get("jobId")));
    server.change(|world, now| match job_id.and_then(|id| world.jobs.get(&id)) {
        None => {
            let shown = job_id.map_or_else(|| "null".to_owned(), |id| id.to_string());
            answer(&json!({"success": false, "message": format!("can't find jobInfo by jobId: {shown}")}))
        }
        Some(job) if Some(job.app_id) != app_id => answer(&json!({"success": false, "message": "Permission Denied!"})),
        Some(job) => {
            let addresses: Vec<&str> =
                world.candidates(job, now).into_iter().map(|worker| worker.address.as_str()).collect();
            answer(&json!({"success": true, "data": URL_SAFE_NO_PAD.encode(json!(addresses).to_string())}))
        }
    })
}

async fn container(body: Bytes) -> Response {
    let Some(request) = object(&body) else {
        return broken();
    };
    let id = java::long(request.get("containerId")).map_or_else(|| "null".to_owned(), |id| id.to_string());
    answer(&json!({"success": false, "message": format!("can't find container by id: {id}")}))
}

async fn not_found() -> Response {
    let page = "<html><body><h1>Resource not found</h1></body></html>";
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")], Body::empty()).into_response()
}

fn object(body: &Bytes) -> Option<Value> {
    serde_json::from_slice::<Value>(body).ok().filter(Value::is_object)
}

fn empty() -> Response {
    Response::new(Body::empty())
}

fn broken() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, Body::from("Internal Server Error")).into_response()
}

fn answer(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
