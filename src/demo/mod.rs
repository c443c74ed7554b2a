//! `testrig demo`: server, agent and service on this machine, the four jobs as a workflow, nothing needed.

mod chain;
mod jobs;
mod progress;
mod receiver;
mod report;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use powerjob_worker::{Shutdown, openapi::OpenApi};
use testrig_devserver::{DevServer, DevServerConfig};

use crate::{
    agent::{Agent, signals},
    cli::DemoArgs,
    config::{Config, Lane},
};
use receiver::Receiver;
use report::Report;

const APP: &str = "testrig-demo";
const PASSWORD: &str = "demo";

/// Runs the demo; 0 only if all four nodes succeeded.
pub(crate) async fn command(args: DemoArgs) -> ExitCode {
    match run(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(crate::FAILED),
        Err(e) => crate::fail(&format!("the demo could not run: {e:#}")),
    }
}

async fn run(args: &DemoArgs) -> anyhow::Result<bool> {
    let dir = directory(args)?;
    let server = DevServer::start(DevServerConfig::default().app(APP, PASSWORD))
        .await
        .context("the stand-in server did not start")?;
    let agent = Agent::start(config(&dir, &server.web().to_string())).await.context("the agent did not start")?;
    let receiver = Receiver::start().await.context("the webhook did not start")?;
    eprintln!("stand-in PowerJob server  http://{}", server.web());
    eprintln!("agent                     {} (admin port {})", agent.workers()[0].address(), agent.admin_address());
    eprintln!("everything goes to        {}", dir.display());

    let outcome = tokio::select! {
        outcome = workflow(args, &dir, &server, &agent, &receiver) => outcome,
        () = signals::stop_requested() => Err(anyhow::anyhow!("interrupted")),
    };
    let succeeded = match &outcome {
        Ok(report) => {
            report.print(args.json);
            report.succeeded()
        }
        Err(_) => false,
    };
    if args.keep && outcome.is_ok() {
        let id = outcome.as_ref().ok().and_then(Report::first_instance).unwrap_or_default();
        eprintln!("\nleft running; log WebSocket: ws://{}/ws/log?instanceId={id}&index=0", agent.admin_address());
        eprintln!("console page: http://{}/   Ctrl-C ends it", server.web());
        signals::stop_requested().await;
    }
    agent.shutdown(if outcome.is_ok() { Shutdown::Detach } else { Shutdown::Drain }).await;
    server.stop().await;
    outcome.map(|_| succeeded)
}

/// An agent that is told everything: no file, no environment.
fn config(dir: &Path, server: &str) -> Config {
    let mut config = Config::default();
    config.powerjob.app = APP.into();
    config.powerjob.servers = vec![server.to_owned()];
    config.lane = vec![Lane { listen: "127.0.0.1:0".into(), ..Lane::default() }];
    config.state.dir = dir.join("state");
    config.admin.listen = "127.0.0.1:0".into();
    config.paths.allowed_roots = Some(vec![dir.display().to_string()]);
    config
}

fn directory(args: &DemoArgs) -> anyhow::Result<PathBuf> {
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => {
            let base = std::env::var_os("XDG_STATE_HOME")
                .map(PathBuf::from)
                .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state")))
                .unwrap_or_else(std::env::temp_dir);
            let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S");
            base.join("testrig/demo").join(format!("{now}-{}", std::process::id()))
        }
    };
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("failed to create {}; another place is given with --dir", dir.display()))?;
    dir.canonicalize().with_context(|| format!("failed to resolve {}", dir.display()))
}

async fn workflow(
    args: &DemoArgs,
    dir: &Path,
    server: &DevServer,
    agent: &Agent,
    receiver: &Receiver,
) -> anyhow::Result<Report> {
    let api = OpenApi::new(&[server.web().to_string()])?;
    let app_id = api.ensure_app(APP, PASSWORD).await?;
    wait_until_listed(&api, app_id, agent).await?;
    let surroundings = jobs::Surroundings {
        dir,
        program: &std::env::current_exe()?,
        webhook: receiver.url(),
        language: args.lang,
        run_seconds: args.run_seconds.max(1),
    };
    let jobs = jobs::jobs(&surroundings);
    let task = format!("DEMO-{}", jiff::Zoned::now().strftime("%Y%m%d-%H%M%S"));
    let init = jobs::init_params(&task, free_port()?);
    let run = chain::start(&api, app_id, &jobs, &init).await?;
    let info = progress::follow(&api, app_id, &run, &jobs, agent).await?;
    Report::collect(dir, &jobs, &info, receiver)
}

async fn wait_until_listed(api: &OpenApi, app_id: i64, agent: &Agent) -> anyhow::Result<()> {
    for _ in 0..300 {
        if !api.list_workers(app_id).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let why = agent.workers()[0].status().discovery_error.unwrap_or_else(|| "no reason is known".into());
    bail!("the server did not list the agent within 15 s: {why}")
}

/// A port that is free now.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
