//! The registry of the tests, and images of one's own in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parking_lot::Mutex;
use testrig_host::docker::{PullSettings, RegistryAuth};

use crate::rig::{Rig, skipped};

/// A registry that wants a login, and who may.
pub(crate) struct Hub {
    pub(crate) address: String,
    pub(crate) user: String,
    pub(crate) password: String,
    /// Of the engine that images are made on.
    engine: String,
    base: String,
    dir: tempfile::TempDir,
    /// To be removed from the engine.
    names: Mutex<Vec<String>>,
}

/// Key of the login in messages.
pub(crate) const KEY: &str = "lab";

/// The registry, or a line that says why there is none.
pub(crate) fn hub(name: &str, rig: &Rig) -> Option<Hub> {
    let var = |name: &str| std::env::var(name).ok();
    let found = (|| Some((var("REGISTRY_ADDRESS")?, var("REGISTRY_USER")?, var("REGISTRY_PASSWORD")?)))();
    let Some((address, user, password)) = found else {
        skipped(name, "REGISTRY_ADDRESS, REGISTRY_USER and REGISTRY_PASSWORD are not set");
        return None;
    };
    Some(Hub::at(address, user, password, rig))
}

impl Hub {
    pub(crate) fn at(address: String, user: String, password: String, rig: &Rig) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (engine, base) = (rig.docker.endpoint().to_owned(), rig.image.clone());
        let hub = Self { address, user, password, engine, base, dir, names: Mutex::default() };
        hub.docker(&["login", "-u", &hub.user, "-p", &hub.password, &hub.address]);
        hub
    }

    /// A name in the registry that nobody else has.
    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}/rig-{}/{what}:1", self.address, std::process::id())
    }

    /// The same image under the name that leads over another address.
    pub(crate) fn over(&self, address: impl std::fmt::Display, name: &str) -> String {
        name.replacen(&self.address, &address.to_string(), 1)
    }

    /// Makes an image of so many bytes that no other image has.
    pub(crate) fn make(&self, name: &str, bytes: usize) {
        let context = self.dir.path().join("context");
        std::fs::create_dir_all(&context).expect("writable");
        std::fs::write(context.join("payload"), random(bytes)).expect("writable");
        let recipe = format!("FROM {}\nCOPY payload /payload\n", self.base);
        std::fs::write(context.join("Dockerfile"), recipe).expect("writable");
        self.docker(&["build", "-q", "-t", name, &context.display().to_string()]);
        self.will_go(name);
    }

    /// Makes such an image, puts it into the registry and takes it from the engine.
    pub(crate) fn put(&self, name: &str, bytes: usize) {
        self.make(name, bytes);
        self.docker(&["push", "-q", name]);
        self.docker(&["rmi", "-f", name]);
    }

    /// It is to be removed from the engine in the end.
    pub(crate) fn will_go(&self, name: &str) {
        self.names.lock().push(name.to_owned());
    }

    /// Settings with the login, for the registry or a line to it.
    pub(crate) fn settings(&self, address: impl std::fmt::Display) -> PullSettings {
        let login = RegistryAuth::new(KEY, address.to_string(), &self.user, &self.password);
        PullSettings { logins: vec![login], http: Some(client()), ..PullSettings::default() }
    }

    fn docker(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().expect("the client of the engine is there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {}: {said}", arguments.first().unwrap_or(&""));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", self.dir.path().join("client")).env("DOCKER_BUILDKIT", "0");
        command.args(["-H", &self.engine]).args(arguments).stdin(Stdio::null());
        command
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for name in std::mem::take(&mut *self.names.lock()) {
            // One that is gone is none.
            let _ = self.command(&["rmi", "-f", &name]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("client")
}

fn random(bytes: usize) -> Vec<u8> {
    use std::io::Read;
    let mut random = vec![0; bytes];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).expect("readable");
    random
}

/// A registry of a test's own, which may go away.
pub(crate) struct OwnRegistry {
    dir: tempfile::TempDir,
    pub(crate) address: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl OwnRegistry {
    pub(crate) fn start(name: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("env");
        let started = script("start", dir.path(), &[], Some(&file));
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        // The script quotes for a shell, so a shell reads it.
        let value = |name: &str| {
            let read = format!("source '{}'; printf %s \"${name}\"", file.display());
            let output = Command::new("bash").args(["-c", &read]).output().expect("bash");
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        if !started || text.is_empty() {
            skipped(name, "no registry of our own can be started here");
            return None;
        }
        let (address, user, password) = (value("REGISTRY_ADDRESS"), value("REGISTRY_USER"), value("REGISTRY_PASSWORD"));
        Some(Self { dir, address, user, password })
    }

    pub(crate) fn ctl(&self, what: &str) {
        assert!(script("ctl", self.dir.path(), &[what], None), "{what}");
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        script("stop", self.dir.path(), &[], None);
    }
}

fn script(what: &str, dir: &Path, more: &[&str], output: Option<&PathBuf>) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/parts/registry.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg(what).arg(dir).args(more).stdin(Stdio::null()).stderr(Stdio::null());
    match output {
        // A file and no pipe, which the server would hold open.
        Some(file) => command.stdout(std::fs::File::create(file).expect("writable")),
        None => command.stdout(Stdio::null()),
    };
    command.status().is_ok_and(|status| status.success())
}
