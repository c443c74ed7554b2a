//! `downstream`: the jobs that a run starts when it ends.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Environment,
    params::{Params, shown_text},
};

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::run_llm_test) struct Downstream {
    /// Id or name.
    pub(in crate::run_llm_test) job: String,
    /// What it gets beside what the run leaves.
    pub(in crate::run_llm_test) params: Map<String, Value>,
    pub(in crate::run_llm_test) when: When,
}

/// After what end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::run_llm_test) enum When {
    Success,
    Failure,
    Always,
}

impl When {
    /// Whether an end with this success is meant.
    pub(in crate::run_llm_test) fn fits(self, success: bool) -> bool {
        match self {
            Self::Success => success,
            Self::Failure => !success,
            Self::Always => true,
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    job: Value,
    params: Option<Value>,
    when: When,
}

pub(super) fn plan(params: &mut Params, env: &Environment) -> Vec<Downstream> {
    let entries: Vec<Entry> = params.parse("downstream").unwrap_or_default();
    if !entries.is_empty() && env.jobs.is_none() {
        let path = params.path("downstream");
        params.warn(format!(
            "{path} is not used: without a PowerJob server there is nothing that could start these jobs"
        ));
        return Vec::new();
    }
    let mut out = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let job = match &entry.job {
            Value::String(name) if !name.trim().is_empty() => Some(name.trim().to_owned()),
            Value::Number(id) if id.is_i64() => Some(id.to_string()),
            other => {
                let text = format!("found {}; accepted: the id or the name of a job", shown_text(&other.to_string()));
                params.refuse(&format!("downstream[{index}].job"), text);
                None
            }
        };
        let more = match entry.params {
            None | Some(Value::Null) => Some(Map::new()),
            Some(Value::Object(more)) => Some(more),
            Some(other) => {
                let text = format!("found {}; accepted: an object", shown_text(&other.to_string()));
                params.refuse(&format!("downstream[{index}].params"), text);
                None
            }
        };
        if let (Some(job), Some(params)) = (job, more) {
            out.push(Downstream { job, params, when: entry.when });
        }
    }
    out
}
