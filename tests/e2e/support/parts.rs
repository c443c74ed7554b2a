//! The real servers, as the test script started them and told their addresses.

use std::{io::Write, path::PathBuf, process::Command, sync::OnceLock};

use super::Needs;

/// Addresses of everything that was started.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The agent's binary.
    pub(crate) testrig: PathBuf,
    /// Scratch directory of this run.
    pub(crate) work: PathBuf,
    /// Web address of the PowerJob server, `host:port`.
    pub(crate) powerjob: Option<String>,
    /// Command that kills and starts that server.
    pub(crate) powerjob_ctl: Option<String>,
    /// Endpoint, access key, secret key.
    pub s3: Option<(String, String, String)>,
    /// `mysql://..` of a MariaDB server.
    pub(crate) mysql: Option<String>,
    /// `postgres://..` of a PostgreSQL server.
    pub(crate) postgres: Option<String>,
    /// `unix://..` of the tests' own engine.
    pub(crate) docker: Option<String>,
    /// Image with llama.cpp's server and a tiny model.
    pub(crate) image_llama: Option<String>,
    /// Image with busybox.
    pub(crate) image_busybox: Option<String>,
    /// Image with the agent's binary.
    pub(crate) image_stub: Option<String>,
}

impl Parts {
    /// Read once from the environment.
    pub(crate) fn get() -> &'static Parts {
        static PARTS: OnceLock<Parts> = OnceLock::new();
        PARTS.get_or_init(Self::read)
    }

    fn read() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            testrig: var("TESTRIG_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_testrig")), PathBuf::from),
            work: var("TESTRIG_E2E_WORK").map_or_else(
                || std::env::temp_dir().join(format!("testrig-e2e-{}", std::process::id())),
                PathBuf::from,
            ),
            powerjob: var("POWERJOB_URL").map(|u| u.trim_start_matches("http://").trim_end_matches('/').to_owned()),
            powerjob_ctl: var("POWERJOB_CTL"),
            s3: (|| Some((var("S3_ENDPOINT")?, var("S3_ACCESS_KEY")?, var("S3_SECRET_KEY")?)))(),
            mysql: var("MYSQL_URL"),
            postgres: var("POSTGRES_URL"),
            docker: var("DOCKER_HOST"),
            image_llama: var("TEST_IMAGE_LLAMA"),
            image_busybox: var("TEST_IMAGE_BUSYBOX"),
            image_stub: var("TEST_IMAGE_STUB"),
        }
    }

    /// Why a test with these needs cannot run.
    pub(crate) fn missing(&self, needs: Needs) -> Option<String> {
        let server = self.powerjob.is_none().then_some("no PowerJob server (POWERJOB_URL)");
        let docker = (self.docker.is_none() || self.image_busybox.is_none())
            .then_some("no Docker engine (DOCKER_HOST, TEST_IMAGE_BUSYBOX)");
        let s3 = self.s3.is_none().then_some("no S3 server (S3_ENDPOINT)");
        let all: Vec<&str> = match needs {
            Needs::Nothing => vec![],
            Needs::Server => vec![server],
            Needs::Docker => vec![server, docker],
            Needs::S3 => vec![server, s3],
            Needs::Sql => vec![
                server,
                self.mysql.is_none().then_some("no MariaDB server (MYSQL_URL)"),
                self.postgres.is_none().then_some("no PostgreSQL server (POSTGRES_URL)"),
            ],
            Needs::All => vec![server, docker, s3],
        }
        .into_iter()
        .flatten()
        .collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// The server's address in a test that needs it.
    pub(crate) fn server(&self) -> &str {
        self.powerjob.as_deref().expect("tests that need a server are skipped without one")
    }

    /// A new directory of its own for a test.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.work.join(format!("{name}-{}", unique()));
        std::fs::create_dir_all(&dir).expect("scratch directory can be made");
        dir
    }
}

/// A number that no other call in this run gave.
pub(crate) fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u64::from(std::process::id()) * 10_000 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs a control command of a part, e.g. `kill`, and waits for it.
pub(crate) fn control(command: &str, verb: &str) {
    let status = Command::new("sh").arg("-c").arg(format!("{command} {verb}")).status();
    assert!(status.is_ok_and(|s| s.success()), "`{command} {verb}` failed");
}

/// Tells the test script of a skipped test.
pub(crate) fn record_skip(name: &str, reason: &str) {
    let Ok(file) = std::env::var("TESTRIG_SKIPS_FILE") else { return };
    let line = serde_json::json!({ "name": name, "reason": reason });
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(file) {
        let _ = writeln!(file, "{line}");
    }
}
