//! `testrig config check | dump | schema`.

use std::process::ExitCode;

use super::{Purpose, Sources, load, nearest, schema, verify::KNOWN_PROCESSORS};
use crate::cli::ConfigCommand;

/// Runs one of the three.
pub(crate) fn command(command: &ConfigCommand) -> ExitCode {
    match command {
        ConfigCommand::Check(args) => match args.sources() {
            Ok(sources) => check(&sources),
            Err(e) => crate::usage(&e),
        },
        ConfigCommand::Dump(args) => dump(&args.sources()),
        ConfigCommand::Schema { processor: None } => print(&schema()),
        ConfigCommand::Schema { processor: Some(name) } => match testrig_processors::schema(name) {
            Some(schema) => print(&schema),
            None => {
                let hint =
                    nearest(name, &KNOWN_PROCESSORS).map(|n| format!(" did you mean `{n}`?")).unwrap_or_default();
                crate::usage(&format!("unknown processor `{name}`;{hint} known: {}", KNOWN_PROCESSORS.join(", ")))
            }
        },
    }
}

fn check(sources: &Sources) -> ExitCode {
    match load(sources, std::env::vars(), Purpose::Agent) {
        Ok(config) => {
            let lanes: Vec<String> = config.lane.iter().map(|l| format!("{} on {}", l.name, l.listen)).collect();
            println!(
                "the configuration is good: app {}, servers {}, lanes: {}",
                config.powerjob.app,
                config.powerjob.servers.join(", "),
                lanes.join(", ")
            );
            ExitCode::SUCCESS
        }
        Err(e) => crate::usage(&e.to_string()),
    }
}

fn dump(sources: &Sources) -> ExitCode {
    match load(sources, std::env::vars(), Purpose::Local) {
        Ok(config) => match toml::to_string_pretty(&config) {
            Ok(text) => {
                print!("{text}");
                ExitCode::SUCCESS
            }
            Err(e) => crate::fail(&format!("the configuration cannot be written as TOML: {e}")),
        },
        Err(e) => crate::usage(&e.to_string()),
    }
}

fn print(value: &serde_json::Value) -> ExitCode {
    println!("{value:#}");
    ExitCode::SUCCESS
}
