//! The load of a run.

use std::{path::PathBuf, time::Duration};

use testrig_loadgen::{Arrival, Dataset, DatasetError, Scorer, Slo};

use super::{TrackMode, driver, driver::Driver};
use crate::{Access, Environment, params::Params};

/// How the service is loaded.
#[derive(Debug)]
pub(in crate::run_llm_test) struct LoadSettings {
    /// What tests the service.
    pub(in crate::run_llm_test) driver: Driver,
    /// `scenario` as it was given; empty where a test script needs none.
    pub(in crate::run_llm_test) scenario: String,
    pub(in crate::run_llm_test) arrival: Arrival,
    pub(in crate::run_llm_test) warmup: Duration,
    pub(in crate::run_llm_test) run: Duration,
    pub(in crate::run_llm_test) model: String,
    pub(in crate::run_llm_test) api_key: Option<String>,
    pub(in crate::run_llm_test) max_tokens: Option<u32>,
    pub(in crate::run_llm_test) temperature: Option<f64>,
    /// The file that scripts are told; the built-in load generator has read it already.
    pub(in crate::run_llm_test) dataset_path: Option<PathBuf>,
    /// `datasetId` as downstream jobs know it.
    pub(in crate::run_llm_test) dataset_id: String,
    pub(in crate::run_llm_test) scorer: Scorer,
    pub(in crate::run_llm_test) slo: Slo,
    /// `resourceGuard.maxQps`.
    pub(in crate::run_llm_test) host_max_qps: Option<f64>,
    /// `resourceGuard.maxConcurrency`.
    pub(in crate::run_llm_test) host_max_concurrency: Option<usize>,
}

pub(super) fn settings(params: &mut Params, env: &Environment, mode: TrackMode, seed: u64) -> Option<LoadSettings> {
    let kind = driver::Kind::of(params);
    let (dataset_path, dataset_id) = find_dataset(params, env, kind)?;
    let dataset = match &dataset_path {
        // Scripts read what they like; only the load generator's datasets have a form.
        _ if kind != driver::Kind::Builtin => None,
        Found::Builtin => Some(Dataset::builtin()),
        Found::File { name, path } => load(params, name, path),
        Found::Nothing => None,
    };
    let dataset_path = match dataset_path {
        Found::File { path, .. } => Some(path),
        Found::Builtin | Found::Nothing => None,
    };
    let driver = driver::plan(params, env, mode, kind, dataset);
    let api_key = match params.str("test.apiKeyRef").map(str::to_owned) {
        None => None,
        Some(key) => {
            let secret = env.secrets.get(&key).cloned();
            if secret.is_none() {
                let known: Vec<_> = env.secrets.keys().cloned().collect();
                let known = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
                params.refuse(
                    "test.apiKeyRef",
                    format!("names `{key}`, which is not in [secrets] of the agent's configuration; accepted: {known}"),
                );
            }
            secret
        }
    };
    let pick = |params: &Params, own: &str, base: &str| params.first(&[own, base]).and_then(|name| params.num(name));
    let seconds = |value: Option<f64>| value.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or_default();
    let run = seconds(pick(params, "runSeconds", "defaultLoad.runSeconds"));
    if run.is_zero() {
        let name = params.first(&["runSeconds", "defaultLoad.runSeconds"]).unwrap_or("runSeconds");
        params.refuse(name, "is 0; accepted: more than 0 seconds");
    }
    let arrival = arrival(params, seed);
    Some(LoadSettings {
        driver: driver?,
        scenario: params.string("scenario"),
        arrival: arrival?,
        warmup: seconds(pick(params, "warmupSeconds", "defaultLoad.warmupSeconds")),
        run,
        model: params.str("test.model").map_or_else(|| params.string("modelKey"), str::to_owned),
        api_key,
        max_tokens: params.u64("test.maxTokens").and_then(|n| u32::try_from(n).ok()),
        temperature: params.num("test.temperature"),
        dataset_path,
        dataset_id,
        scorer: params.str("test.scorer").and_then(|name| name.parse().ok()).unwrap_or_default(),
        slo: Slo {
            ttft_ms: params.num("test.sloTtftMs"),
            tpot_ms: params.num("test.sloTpotMs"),
            e2el_ms: params.num("test.sloE2elMs"),
        },
        host_max_qps: params.num("resourceGuard.maxQps"),
        host_max_concurrency: params.u64("resourceGuard.maxConcurrency").and_then(|n| usize::try_from(n).ok()),
    })
}

fn arrival(params: &mut Params, seed: u64) -> Option<Arrival> {
    let own_arrival = params.str("test.arrival").map(str::to_owned);
    // A run that wants a closed loop does not want the template's rate.
    let qps = if own_arrival.as_deref() == Some("closed") && !params.given("qps") {
        None
    } else {
        params.first(&["qps", "defaultLoad.qps"]).and_then(|name| params.num(name))
    };
    let concurrency = params
        .first(&["concurrency", "defaultLoad.concurrency"])
        .and_then(|name| params.u64(name))
        .and_then(|n| usize::try_from(n).ok());
    match Arrival::choose(own_arrival.as_deref(), qps, concurrency, seed) {
        Ok(arrival) => Some(arrival),
        Err(error) => {
            params.refuse("test.arrival", error.problem);
            None
        }
    }
}

/// What the dataset parameters come to.
enum Found {
    /// The built-in prompts.
    Builtin,
    /// This file, as this parameter says.
    File { name: &'static str, path: PathBuf },
    /// None; the problem is noted.
    Nothing,
}

/// The dataset and its id; `None` only where nothing can be said yet.
fn find_dataset(params: &mut Params, env: &Environment, kind: driver::Kind) -> Option<(Found, String)> {
    // `builtin` is what an upstream run without a dataset calls it.
    let id = params.str("datasetId").filter(|id| *id != "builtin").map(str::to_owned);
    if let Some(path) = params.str("datasetPath").map(PathBuf::from) {
        let file = super::allowed(params, env, "datasetPath", &path, Access::Read);
        let stem = path.file_stem().map_or_else(|| "dataset".into(), |stem| stem.to_string_lossy().into_owned());
        let file = file.filter(|file| {
            let there = kind == driver::Kind::Builtin || file.exists();
            if !there {
                params.refuse("datasetPath", format!("`{}` does not exist on this host", path.display()));
            }
            there
        });
        let found = file.map_or(Found::Nothing, |path| Found::File { name: "datasetPath", path });
        return Some((found, id.unwrap_or(stem)));
    }
    let Some(id) = id else {
        return Some((Found::Builtin, "builtin".into()));
    };
    let Some(dir) = &env.datasets else {
        params.refuse("datasetId", format!("`{id}` cannot be looked up: the agent's configuration has no `[paths] datasets`; give datasetPath, or configure the directory"));
        return Some((Found::Nothing, id));
    };
    let candidates = [dir.join(&id), dir.join(format!("{id}.jsonl")), dir.join(format!("{id}.json"))];
    let fits = |file: &&PathBuf| if kind == driver::Kind::Builtin { file.is_file() } else { file.exists() };
    match candidates.iter().find(fits) {
        Some(file) if !is_below(file, dir) && env.allow_path(file, Access::Read).is_err() => {
            params.refuse(
                "datasetId",
                format!(
                    "`{id}` is a link that leads outside of the dataset directory {} and of the allowed roots",
                    dir.display()
                ),
            );
            Some((Found::Nothing, id))
        }
        Some(file) => Some((Found::File { name: "datasetId", path: file.clone() }, id)),
        None => {
            let there = names_in(dir);
            params.refuse(
                "datasetId",
                format!("`{id}` is not in {} (neither `{id}` nor `{id}.jsonl`); there is: {there}", dir.display()),
            );
            Some((Found::Nothing, id))
        }
    }
}

fn load(params: &mut Params, name: &str, file: &std::path::Path) -> Option<Dataset> {
    // A pipe or a device would be waited for, or never end.
    if file.exists() && !file.is_file() {
        params.refuse(name, format!("`{}` is no file; accepted: a file of JSON lines", file.display()));
        return None;
    }
    match Dataset::load(file) {
        Ok(dataset) => Some(dataset),
        Err(DatasetError::Read { path, source }) => {
            params.refuse(name, format!("failed to read dataset `{}`: {source}", path.display()));
            None
        }
        Err(error) => {
            params.refuse(name, error.to_string());
            None
        }
    }
}

fn is_below(file: &std::path::Path, dir: &std::path::Path) -> bool {
    matches!((file.canonicalize(), dir.canonicalize()), (Ok(file), Ok(dir)) if file.starts_with(&dir))
}

fn names_in(dir: &std::path::Path) -> String {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .map(|entries| {
            entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    let more = names.len().saturating_sub(10);
    names.truncate(10);
    match (names.is_empty(), more) {
        (true, _) => "nothing".into(),
        (_, 0) => names.join(", "),
        (_, more) => format!("{} and {more} more", names.join(", ")),
    }
}
