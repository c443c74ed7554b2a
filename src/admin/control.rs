//! What an operator may have the agent do: drain lanes, take jobs again.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use powerjob_worker::{WorkerHandle, WorkerStatus};
use serde_json::json;

use super::{AdminState, problem};

/// Longest wait for the server's answer to the heartbeat that tells it.
const TOLD_WITHIN: Duration = Duration::from_secs(3);

pub(super) async fn drain(State(state): State<Arc<AdminState>>, query: RawQuery, headers: HeaderMap) -> Response {
    change(&state, &query, &headers, true).await
}

pub(super) async fn resume(State(state): State<Arc<AdminState>>, query: RawQuery, headers: HeaderMap) -> Response {
    change(&state, &query, &headers, false).await
}

async fn change(state: &AdminState, RawQuery(query): &RawQuery, headers: &HeaderMap, on: bool) -> Response {
    if let Some(page) = foreign_page(headers) {
        return problem(StatusCode::FORBIDDEN, &format!("a page of {page} may not do this"));
    }
    let wanted = match wanted(query.as_deref().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(text) => return problem(StatusCode::BAD_REQUEST, &text),
    };
    let names: Vec<String> = state.workers.iter().map(|worker| worker.status().lane).collect();
    if let Some(unknown) = wanted.iter().find(|lane| !names.contains(lane)) {
        let text = format!("there is no lane `{unknown}`; this agent has {}", names.join(", "));
        return problem(StatusCode::NOT_FOUND, &text);
    }
    let chosen =
        state.workers.iter().zip(&names).filter(|(_, name)| wanted.is_empty() || wanted.contains(name)).map(|(w, _)| w);
    let lanes = futures_util::future::join_all(chosen.map(|worker| change_lane(worker, on))).await;
    Json(json!({ "lanes": lanes })).into_response()
}

async fn change_lane(worker: &WorkerHandle, on: bool) -> serde_json::Value {
    worker.drain(on).await;
    let mut changes = worker.changes();
    let seen = tokio::time::timeout(TOLD_WITHIN, changes.wait_for(|_| is_told(&worker.status(), on)));
    let told = matches!(seen.await, Ok(Ok(_)));
    let status = worker.status();
    let wish = if on { "drain" } else { "take new instances again" };
    tracing::info!(lane = %status.lane, draining = status.draining, told, "an operator asked to {wish}");
    json!({ "lane": status.lane, "draining": status.draining, "told": told, "open": status.instances.len() + status.open_tasks })
}

/// Whether the server has taken a heartbeat that was made after the change. What the newest one said before does not count: a
/// lane that drains for a moment only would look as if it had never drained. A full lane says overload either way.
fn is_told(status: &WorkerStatus, on: bool) -> bool {
    status.listed && status.draining == on && status.drain_told
}

fn wanted(query: &str) -> Result<Vec<String>, String> {
    let mut lanes = Vec::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "lane" => lanes.push(value.into_owned()),
            "token" => {}
            _ => return Err(format!("unknown parameter `{key}`; known: lane, token")),
        }
    }
    Ok(lanes)
}

/// The web page that a browser sends this for, if it is not one of the agent's own: without a token on loopback any page that
/// the operator looks at could drain the agent.
fn foreign_page(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or("another site");
    let own = text(header::HOST).is_some_and(|host| origin == format!("http://{host}"));
    (!own).then(|| origin.to_owned())
}
