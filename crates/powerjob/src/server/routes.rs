//! The paths of the worker protocol.
//!
//! No content type is asked for (servers 4.3.0 send none), tells are answered 200 with an empty body, and a dispatch is
//! answered when its record is durable.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};

use crate::{
    wire::{
        AskResponse, InstanceDetail, ServerQueryInstanceStatusReq, ServerScheduleJobReq, ServerStopInstanceReq,
        WireError,
    },
    worker::Counters,
};

/// Largest request body. Parameters are text that people wrote; 8 MiB is far above.
const BODY_LIMIT: usize = 8 << 20;
/// Longest wait for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The record of a dispatch could not be made durable.
#[derive(Debug)]
pub(crate) struct StoreProblem(pub(crate) String);

/// Where requests go.
#[async_trait]
pub(crate) trait Inbound: Send + Sync + 'static {
    /// Takes a dispatch; returns when its record is durable.
    async fn run_job(&self, request: ServerScheduleJobReq, raw: Bytes) -> Result<(), StoreProblem>;
    /// Takes a stop.
    async fn stop_instance(&self, instance_id: i64);
    /// What is known of an open instance.
    async fn query(&self, instance_id: i64, custom_query: Option<&str>) -> Option<InstanceDetail>;
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Routes {
    pub(crate) inbound: Arc<dyn Inbound>,
    pub(crate) reading: Reading,
}

impl Routes {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/worker/runJob", post(run_job))
            .route("/taskTracker/runJob", post(run_job))
            .route("/worker/stopInstance", post(stop_instance))
            .route("/taskTracker/stopInstance", post(stop_instance))
            .route("/worker/queryInstanceStatus", post(query_instance_status))
            .route("/taskTracker/queryInstanceStatus", post(query_instance_status))
            .route("/worker/deployContainer", post(deploy_container))
            .route("/worker/destroyContainer", post(destroy_container))
            .with_state(self)
    }
}

/// How every request is read, and what a bad one is answered.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) counters: Arc<Counters>,
}

impl Reading {
    pub(super) async fn body(&self, body: Body) -> Result<Bytes, String> {
        match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_LIMIT)).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(why)) => Err(format!("the body could not be read, or is longer than {BODY_LIMIT} bytes: {why}")),
            Err(_) => Err(format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs())),
        }
    }

    /// 500 is what a Java worker answers; the text is for the person who reads the traffic.
    pub(super) fn bad(&self, why: &str) -> Response {
        self.counters.bad_requests.one();
        tracing::warn!("refused a request: {why}");
        internal(why)
    }
}

fn internal(why: &str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("Internal Server Error: {why}\n")).into_response()
}

async fn run_job(State(routes): State<Routes>, body: Body) -> Response {
    let read = async {
        let raw = routes.reading.body(body).await?;
        let request = named("ServerScheduleJobReq", ServerScheduleJobReq::parse(&raw))?;
        Ok::<_, String>((request, raw))
    };
    let (request, raw) = match read.await {
        Ok(read) => read,
        Err(why) => return routes.reading.bad(&why),
    };
    match routes.inbound.run_job(request, raw).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(StoreProblem(why)) => internal(&why),
    }
}

async fn stop_instance(State(routes): State<Routes>, body: Body) -> Response {
    let read =
        async { named("ServerStopInstanceReq", ServerStopInstanceReq::parse(&routes.reading.body(body).await?)) };
    match read.await {
        Ok(request) => {
            routes.inbound.stop_instance(request.instance_id).await;
            StatusCode::OK.into_response()
        }
        Err(why) => routes.reading.bad(&why),
    }
}

async fn query_instance_status(State(routes): State<Routes>, body: Body) -> Response {
    let read = async {
        named("ServerQueryInstanceStatusReq", ServerQueryInstanceStatusReq::parse(&routes.reading.body(body).await?))
    };
    let request = match read.await {
        Ok(request) => request,
        Err(why) => return routes.reading.bad(&why),
    };
    // The customQuery is SQL for the Java worker's own table: never executed, and a small part of it is understood.
    let detail = routes.inbound.query(request.instance_id, request.custom_query.as_deref()).await;
    match detail.map(|detail| AskResponse::of(&detail)) {
        Some(Ok(answer)) => Json(answer).into_response(),
        Some(Err(why)) => internal(&why.to_string()),
        None => Json(AskResponse::failure("can't find TaskTracker")).into_response(),
    }
}

pub(super) fn named<T>(message: &str, parsed: Result<T, WireError>) -> Result<T, String> {
    parsed.map_err(|why| format!("{message}: {why}"))
}

async fn deploy_container(State(routes): State<Routes>, body: Body) -> Response {
    container(&routes, body, "deploy").await
}

async fn destroy_container(State(routes): State<Routes>, body: Body) -> Response {
    container(&routes, body, "destroy").await
}

/// A container is a Java jar with a Spring context, which nothing here can run. The server expects no answer but 200.
async fn container(routes: &Routes, body: Body, what: &str) -> Response {
    match routes.reading.body(body).await {
        Ok(raw) => {
            let text: String = String::from_utf8_lossy(&raw).chars().take(500).collect();
            tracing::info!(
                request = text,
                "ignored a request to {what} a container: this worker runs no Java containers"
            );
            StatusCode::OK.into_response()
        }
        Err(why) => routes.reading.bad(&why),
    }
}
