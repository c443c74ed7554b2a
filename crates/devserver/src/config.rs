//! What a stand-in server is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::tz::TimeZone;

/// An app that exists from the start.
#[derive(Clone, Debug)]
pub struct AppSeed {
    /// Name.
    pub name: String,
    /// Password for `/openApi/assert`.
    pub password: String,
}

/// Configuration. [`DevServerConfig::default`] takes free ports on loopback and the real server's clocks.
#[derive(Clone, Debug)]
pub struct DevServerConfig {
    /// Web port: discovery, OpenAPI, console (7700 of a real server). Port 0 = a free one.
    pub web: SocketAddr,
    /// Transport port: heartbeats and reports (10010 of a real server). Port 0 = a free one.
    pub transport: SocketAddr,
    /// Apps that exist from the start.
    pub apps: Vec<AppSeed>,
    /// Clocks.
    pub timers: Timers,
    /// Zone of CRON expressions and formatted times.
    pub zone: TimeZone,
}

impl Default for DevServerConfig {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { web: free, transport: free, apps: Vec::new(), timers: Timers::real(), zone: TimeZone::system() }
    }
}

impl DevServerConfig {
    /// Adds an app.
    #[must_use]
    pub fn app(mut self, name: &str, password: &str) -> Self {
        self.apps.push(AppSeed { name: name.to_owned(), password: password.to_owned() });
        self
    }
}

/// The clocks of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timers {
    /// Between two rounds of status checks.
    pub check_interval: Duration,
    /// A WAITING_DISPATCH instance is dispatched (again) when its expected time is older than this.
    pub dispatch_overdue: Duration,
    /// A WAITING_WORKER_RECEIVE instance without any report goes back to WAITING_DISPATCH after this.
    pub receive_overdue: Duration,
    /// A RUNNING instance without an accepted report is given up after this.
    pub running_overdue: Duration,
    /// Between two rounds of the schedule loop (CRON, frequent jobs); each plans what is due within two rounds.
    pub schedule_interval: Duration,
    /// A worker whose last heartbeat's own time is older than this is dead.
    pub worker_timeout: Duration,
    /// From the end of an instance to the archiving of its log.
    pub log_sync: Duration,
    /// A log page may be this old.
    pub log_cache: Duration,
    /// How long a report waits for the address of an instance that has none yet.
    pub report_wait: Duration,
    /// From the issue of a dispatch to the moment it is written down. A real server needs a few milliseconds.
    pub dispatch_write: Duration,
}

impl Timers {
    /// Those of the real server.
    pub const fn real() -> Self {
        Self {
            check_interval: Duration::from_secs(10),
            dispatch_overdue: Duration::from_secs(30),
            receive_overdue: Duration::from_secs(60),
            running_overdue: Duration::from_secs(60),
            schedule_interval: Duration::from_secs(15),
            worker_timeout: Duration::from_secs(60),
            log_sync: Duration::from_secs(60),
            log_cache: Duration::from_secs(10),
            report_wait: Duration::from_millis(277),
            dispatch_write: Duration::from_millis(4),
        }
    }

    /// The waiting times of the server's own loops multiplied by `factor` (0.1 = ten times faster). What concerns a worker's
    /// pace stays as it is: its timeout, the wait for an early report, the write after a dispatch.
    #[must_use]
    pub fn scaled(factor: f64) -> Self {
        let real = Self::real();
        let scale = |duration: Duration| duration.mul_f64(factor.clamp(0.000_1, 1_000.0)).max(Duration::from_millis(1));
        Self {
            check_interval: scale(real.check_interval),
            dispatch_overdue: scale(real.dispatch_overdue),
            receive_overdue: scale(real.receive_overdue),
            running_overdue: scale(real.running_overdue),
            schedule_interval: scale(real.schedule_interval),
            log_sync: scale(real.log_sync),
            log_cache: scale(real.log_cache),
            ..real
        }
    }
}
