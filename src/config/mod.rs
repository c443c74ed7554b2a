//! The agent's configuration: parsed once, every mistake in one report.

mod check;
pub(crate) mod commands;
mod layers;
mod model;
mod verify;

use std::path::{Path, PathBuf};

pub(crate) use check::nearest;
pub(crate) use layers::Origin;
pub(crate) use model::{
    AcceleratorCard, AcceleratorProvider, AcceleratorVendor, Accelerators, Config, Lane, OnSigterm,
};

use layers::Layers;

/// Everything that can say something about the configuration.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// `--config FILE`; without it `/etc/testrig/config.toml` if it is there.
    pub(crate) file: Option<PathBuf>,
    /// Flags with a key of their own: key, TOML value, the flag as written.
    pub(crate) flags: Vec<(String, serde_json::Value, String)>,
    /// `--set key=value`.
    pub(crate) sets: Vec<String>,
}

/// The file that is read when none is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/testrig/config.toml";

/// All mistakes of a configuration, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{} in the configuration:\n  {}", count(.0.len()), .0.join("\n  "))]
pub(crate) struct ConfigErrors(pub(crate) Vec<String>);

fn count(n: usize) -> String {
    if n == 1 { "1 mistake".into() } else { format!("{n} mistakes") }
}

/// The schema that the configuration is checked against.
pub(crate) fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

/// Reads and checks everything; `env` is the process environment (an argument for tests).
pub(crate) fn load(
    sources: &Sources,
    env: impl Iterator<Item = (String, String)>,
    purpose: Purpose,
) -> Result<Config, ConfigErrors> {
    let mut layers = Layers::default();
    let mut mistakes = Vec::new();
    if let Some(file) = chosen_file(sources) {
        match std::fs::read_to_string(&file) {
            Ok(text) => mistakes.extend(layers.add_file(&file, &text).err()),
            Err(e) => mistakes.push(format!("{}: cannot be read: {e}", file.display())),
        }
    }
    if !mistakes.is_empty() {
        return Err(ConfigErrors(mistakes));
    }
    mistakes.extend(layers.add_env(env));
    for (key, value, flag) in &sources.flags {
        mistakes.extend(layers.set(key, value.clone(), Origin::Flag(flag.clone())).err());
    }
    for set in &sources.sets {
        mistakes.extend(layers.add_set(set).err());
    }
    mistakes.extend(check::check(&layers, &schema()));
    if !mistakes.is_empty() {
        return Err(ConfigErrors(mistakes));
    }
    let mut config: Config = serde_json::from_value(serde_json::Value::Object(layers.values.clone()))
        .map_err(|e| ConfigErrors(vec![format!("configuration: {e}")]))?;
    mistakes.extend(verify::verify(&mut config, &layers, purpose));
    if mistakes.is_empty() { Ok(config) } else { Err(ConfigErrors(mistakes)) }
}

/// Class names of the official processors that this configuration lets in.
pub(crate) fn official_names(config: &Config) -> Vec<&'static str> {
    use testrig_processors::official::{ALWAYS, Switch};
    let enabled = Switch::ALL.into_iter().filter(|switch| config.official.enable.contains(switch)).map(Switch::class);
    ALWAYS.into_iter().chain(enabled).collect()
}

/// What the configuration is for: an agent needs a server and an app, a run without a server does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `testrig agent`, `testrig config check`.
    Agent,
    /// `testrig run`, and whatever only looks.
    Local,
}

fn chosen_file(sources: &Sources) -> Option<PathBuf> {
    sources.file.clone().or_else(|| Path::new(DEFAULT_FILE).exists().then(|| PathBuf::from(DEFAULT_FILE)))
}

#[cfg(test)]
mod tests;
