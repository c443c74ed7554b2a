//! `testrig accelerators`, and the accelerators of an agent from its configuration.

mod build;
mod table;

use std::process::ExitCode;

pub(crate) use build::build;

use crate::{
    cli::AcceleratorsArgs,
    config::{Purpose, load},
};

/// Prints the cards of this host.
pub(crate) async fn command(args: &AcceleratorsArgs) -> ExitCode {
    let config = match load(&args.common.sources(), std::env::vars(), Purpose::Local) {
        Ok(config) => config,
        Err(e) => return crate::usage(&e.to_string()),
    };
    let accelerators = match build(&config) {
        Ok(accelerators) => accelerators,
        Err(e) => return crate::fail(&format!("{e:#}")),
    };
    let view = match accelerators.view().await {
        Ok(view) => view,
        Err(e) => return crate::fail(&e.to_string()),
    };
    if args.json {
        match serde_json::to_string_pretty(&view) {
            Ok(text) => println!("{text}"),
            Err(e) => return crate::fail(&format!("the cards cannot be written as JSON: {e}")),
        }
    } else {
        print!("{}", table::table(&view, jiff::Timestamp::now().as_millisecond()));
    }
    ExitCode::SUCCESS
}
