//! The command line: one binary, one noun or verb a subcommand.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use crate::config::Sources;

/// Worker agent for GPU and Ascend test hosts: runs LLM service tests that a PowerJob server sends.
#[derive(Debug, Parser)]
#[command(name = "testrig", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent: take job instances from a PowerJob server until told to stop.
    Agent(AgentArgs),
    /// Run one processor, or several in a row, here and now without a server.
    Run(RunArgs),
    /// Check, show or describe the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the log of an instance that ran (or runs) on this host.
    Logs(LogsArgs),
    /// Show the accelerators of this host: who has them, and why one is not free.
    Accelerators(AcceleratorsArgs),
    /// Show what a running agent is doing, and whether its servers list it.
    Status(StatusArgs),
    /// Take no new instances until `resume`; what is open goes on to its end.
    Drain(DrainArgs),
    /// Take new instances again.
    Resume(ResumeArgs),
    /// Send load to an OpenAI-compatible service and measure it.
    Load(Box<testrig_loadgen::cli::LoadArgs>),
    /// A stand-in OpenAI-compatible service with set latencies and injected faults.
    LlmStub(testrig_loadgen::cli::StubArgs),
    /// A stand-in PowerJob server, in memory, for trying things out.
    DevServer(DevServerArgs),
    /// All of it on this machine, nothing needed: server, agent, service, four jobs as a workflow.
    Demo(DemoArgs),
}

/// What every command that reads the configuration takes.
#[derive(Debug, Default, Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file [default: /etc/testrig/config.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of store, journals and default result database
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Address of log WebSocket, health, metrics and control
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<String>,
    /// Any configuration key, as TOML: --set lane.0.slots=4 (may be repeated)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
}

impl ConfigArgs {
    /// These arguments as sources of the configuration.
    pub(crate) fn sources(&self) -> Sources {
        let mut flags = Vec::new();
        if let Some(dir) = &self.state_dir {
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            flags.push(("state.dir".into(), Value::String(dir.display().to_string()), "--state-dir".into()));
        }
        if let Some(admin) = &self.admin {
            flags.push(("admin.listen".into(), Value::String(admin.clone()), "--admin".into()));
        }
        Sources { file: self.config.clone(), flags, sets: self.sets.clone() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// App name, as registered in the PowerJob console
    #[arg(short = 'a', long = "app", value_name = "APP")]
    app: Option<String>,
    /// Server web addresses, comma-separated: 10.0.0.1:7700,10.0.0.2:7700
    #[arg(short = 's', long = "server", value_name = "SERVER,..", value_delimiter = ',')]
    server: Vec<String>,
    /// Port of the job protocol [default: 27777]
    #[arg(short = 'p', long = "port", value_name = "PORT")]
    port: Option<u16>,
    /// Tag that jobs can be targeted at
    #[arg(short = 't', long = "tag", value_name = "TAG")]
    tag: Option<String>,
    /// Longest result text [default: 8096]
    #[arg(short = 'l', long = "length", value_name = "CHARS")]
    length: Option<usize>,
    /// Transport of the Java agent's command line; only HTTP is spoken
    #[arg(short = 'o', long = "protocol", value_name = "PROTOCOL", hide_short_help = true)]
    protocol: Option<String>,
    /// Persistence of the Java agent's command line; this agent always keeps its state on disk
    #[arg(short = 'e', long = "persistence", value_name = "DISK|MEMORY", hide_short_help = true)]
    persistence: Option<String>,
    #[command(flatten)]
    common: ConfigArgs,
}

impl AgentArgs {
    /// The sources of the configuration, or why the flags make no sense.
    pub(crate) fn sources(&self) -> Result<Sources, String> {
        if let Some(protocol) = self.protocol.as_deref().filter(|p| !p.eq_ignore_ascii_case("HTTP")) {
            return Err(format!(
                "-o {protocol}: only HTTP is spoken. AKKA is Java serialisation over TCP that no other language reads; a 4.3+ \
                 server speaks HTTP beside it (`oms.transporter.active.protocols` must contain HTTP). Give -o HTTP or leave it out"
            ));
        }
        if let Some(p) =
            self.persistence.as_deref().filter(|p| !p.eq_ignore_ascii_case("DISK") && !p.eq_ignore_ascii_case("MEMORY"))
        {
            return Err(format!("-e {p}: accepted are DISK and MEMORY (both keep the state on disk here)"));
        }
        let mut sources = self.common.sources();
        let flags = &mut sources.flags;
        let mut add = |key: &str, value: Value, flag: &str| flags.push((key.into(), value, flag.into()));
        if let Some(app) = &self.app {
            add("powerjob.app", Value::String(app.clone()), "-a");
        }
        if !self.server.is_empty() {
            add("powerjob.servers", self.server.clone().into(), "-s");
        }
        if let Some(length) = self.length {
            add("powerjob.result_limit", length.into(), "-l");
        }
        if let Some(port) = self.port {
            add("lane.0.listen", Value::String(format!("0.0.0.0:{port}")), "-p");
        }
        if let Some(tag) = &self.tag {
            add("lane.0.tag", Value::String(tag.clone()), "-t");
        }
        Ok(sources)
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// {"processor","jobParams","instanceParams"} or {"nodes":[{"processor","jobParams"}..],"initParams"}; `-` = standard input
    pub(crate) file: PathBuf,
    /// Show what would be done, where every parameter comes from and what is wrong; start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: as one JSON object
    #[arg(long, requires = "dry_run")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) common: ConfigArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read everything an agent would read and report every mistake.
    Check(AgentArgs),
    /// Print the configuration as it is after file, environment and flags.
    Dump(ConfigArgs),
    /// Print the JSON Schema of the configuration, or of a processor's parameters.
    Schema {
        /// RunLLMTest, CollectLogs, AggregateMetrics or NotifyResult
        processor: Option<String>,
    },
}

/// How to reach a running agent.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// Address of the agent's admin port [default: from the configuration]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<String>,
    /// File with the admin token [default: from the configuration]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Configuration file [default: /etc/testrig/config.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Instance id
    pub(crate) instance: i64,
    /// Go on with new lines until the instance has ended
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// First line to print, counted from 0
    #[arg(long, default_value_t = 0)]
    pub(crate) index: u64,
    /// Print JSON records instead of text
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AcceleratorsArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) common: ConfigArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// Only this lane (may be repeated) [default: all]
    #[arg(long = "lane", value_name = "NAME")]
    pub(crate) lanes: Vec<String>,
    /// Return only when nothing is open any more
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Only this lane (may be repeated) [default: all]
    #[arg(long = "lane", value_name = "NAME")]
    pub(crate) lanes: Vec<String>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DevServerArgs {
    /// Web address: console API, OpenAPI, discovery
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7700")]
    pub(crate) listen: std::net::SocketAddr,
    /// Transport address: heartbeats, reports
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10010")]
    pub(crate) transport: std::net::SocketAddr,
    /// Apps that exist from the start (may be repeated)
    #[arg(long = "app", value_name = "APP", default_values_t = ["testrig-demo".to_owned()])]
    pub(crate) apps: Vec<String>,
    /// Their password, for OpenAPI clients
    #[arg(long, value_name = "PASSWORD", default_value = "testrig")]
    pub(crate) app_password: String,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Print one JSON object on standard output, everything else on standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave server and agent running afterwards, until Ctrl-C
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where logs, archive and database go [default: a new directory below ~/.local/state/testrig/demo]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Language of the notification
    #[arg(long, value_enum, default_value_t = Language::En)]
    pub(crate) lang: Language,
    /// Seconds of load
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) run_seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// English
    En,
    /// 中文
    Zh,
}
