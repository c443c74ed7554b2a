//! Readers of other programs' bytes that are no message of their own: what `tests/fuzz` and `fuzz/` reach no other way. Not for
//! programs.

use std::str;

use serde_json::Value;

use crate::{
    client,
    openapi::InstanceInfo,
    tasks::{AlarmRule, AlarmState, Query, Spec, TrackerOptions, addresses},
    wire::{LogSettings, ServerScheduleJobReq},
};

/// Answers of a server's web port: assert, acquire, hello with and without its workers.
pub fn web_answer(body: &[u8]) {
    client::read_as_any_answer(body);
}

/// The `data` of an answer of the OpenAPI about an instance.
pub fn instance_info(body: &[u8]) {
    if let Ok(Value::Object(mut answer)) = serde_json::from_slice(body) {
        // What is no instance is refused.
        let _ = serde_json::from_value::<InstanceInfo>(answer.remove("data").unwrap_or_default());
    }
}

/// The payload of the answer to `queryJobCluster`.
pub fn job_cluster(body: &[u8]) {
    // What is no list is refused.
    let _ = addresses(body);
}

/// A dispatch on its way into a task tracker: execute and time type, time expression, workers, limits, `alarmConfig`.
pub fn tracked_dispatch(body: &[u8]) {
    if let Ok(request) = ServerScheduleJobReq::parse(body) {
        // What cannot be tracked is refused with the reason.
        let _ = Spec::new("127.0.0.1:27777", &request, TrackerOptions::default());
    }
}

/// The texts within messages that have a form of their own: `logConfig`, `alarmConfig`, `customQuery`.
pub fn inner_text(body: &[u8]) {
    let Ok(text) = str::from_utf8(body) else { return };
    LogSettings::read(Some(text)).keep();
    let (rule, mut state) = (AlarmRule::new(Some(text), 1_000), AlarmState::default());
    for failure in 0..3 {
        rule.failed(&mut state, text, failure);
    }
    Query::understand(text);
}
