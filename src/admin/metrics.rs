//! `GET /metrics` in the Prometheus text format. All names stand here.

use std::{fmt::Write, sync::Arc, sync::atomic::Ordering};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use powerjob_worker::{WorkerHandle, WorkerStatus};
use serde_json::Value;

use super::AdminState;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn handler(State(state): State<Arc<AdminState>>) -> Response {
    let lanes: Vec<WorkerStatus> = state.workers.iter().map(WorkerHandle::status).collect();
    let mut text = render(&lanes);
    let mut plain = |name: &str, kind: &str, help: &str, value: String| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    plain(
        "testrig_log_subscribers",
        "gauge",
        "Open log WebSockets.",
        state.subscribers.load(Ordering::Relaxed).to_string(),
    );
    plain(
        "testrig_log_lines_streamed_total",
        "counter",
        "Lines sent over log WebSockets.",
        state.lines_sent.load(Ordering::Relaxed).to_string(),
    );
    plain("testrig_uptime_seconds", "gauge", "Age of this process.", state.started.elapsed().as_secs().to_string());
    let _ = writeln!(
        text,
        "# HELP testrig_build_info Version of this agent.\n# TYPE testrig_build_info gauge\ntestrig_build_info{{version=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// The part that comes from the lanes. One block a metric: the format wants all samples of a name together.
fn render(lanes: &[WorkerStatus]) -> String {
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&WorkerStatus) -> Option<f64>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for lane in lanes {
            if let Some(value) = value(lane) {
                let _ = writeln!(text, "{name}{{lane=\"{}\"}} {value}", escape(&lane.lane));
            }
        }
    };
    gauge("testrig_listed", "1 while the server takes this lane's heartbeats.", &|l| {
        Some(f64::from(u8::from(l.listed)))
    });
    gauge("testrig_draining", "1 while this lane takes no new instances on request.", &|l| {
        Some(f64::from(u8::from(l.draining)))
    });
    gauge("testrig_overload", "1 while the last heartbeat carried the overload flag.", &|l| {
        Some(f64::from(u8::from(l.overload)))
    });
    gauge("testrig_slots", "Processors that may run at once.", &|l| Some(l.slots as f64));
    gauge("testrig_running", "Processors that run now.", &|l| Some(l.running as f64));
    gauge("testrig_open_instances", "Instances accepted and not closed yet.", &|l| Some(l.instances.len() as f64));
    gauge("testrig_clock_skew_seconds", "This host's clock minus the server's.", &|l| {
        l.clock_skew_ms.map(|ms| ms as f64 / 1e3)
    });
    counters(&mut text, lanes);
    text
}

/// Every counter of the worker under its own name.
fn counters(text: &mut String, lanes: &[WorkerStatus]) {
    let values: Vec<(String, Value)> =
        lanes.iter().map(|l| (l.lane.clone(), serde_json::to_value(l.counters).unwrap_or_default())).collect();
    let names: Vec<String> =
        values.first().and_then(|(_, v)| v.as_object()).map(|m| m.keys().cloned().collect()).unwrap_or_default();
    for name in names {
        let words = name.replace('_', " ");
        let _ = writeln!(
            text,
            "# HELP testrig_{name}_total Sum of {words} since the start.\n# TYPE testrig_{name}_total counter"
        );
        for (lane, value) in &values {
            let _ = writeln!(text, "testrig_{name}_total{{lane=\"{}\"}} {}", escape(lane), value[&name]);
        }
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
