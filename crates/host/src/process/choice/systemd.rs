//! Transient units by `systemd-run --scope`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::cgroup::Limits;

/// How `systemd-run` is called. A scope, not a service: its first process is started by the agent and so has the agent's
/// environment, limits and working directory, and only its place is systemd's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Systemd {
    program: PathBuf,
    /// The manager of the user in whose session the agent runs, not the system's.
    user: bool,
}

impl Systemd {
    #[cfg(test)]
    pub(crate) fn of(program: impl Into<PathBuf>, user: bool) -> Self {
        Self { program: program.into(), user }
    }

    /// The manager that this process can ask, going by what is there; an error is what is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let root = nix::unistd::Uid::effective().is_root();
        let user = which_manager(Path::new("/run/systemd/system"), runtime_dir.as_deref(), &own, root)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .map(|dir| dir.join("systemd-run"))
            .find(|file| file.is_file())
            .ok_or("systemd runs, but the program `systemd-run` is not in the agent's PATH")?;
        Ok(Self { program, user })
    }

    /// Asks for a unit as runs do, and waits until it was there.
    pub(crate) fn proven(self, limit: Duration) -> Result<Self, String> {
        let unit = unit_name("testrig-trial");
        let mut command = Command::new(&self.program);
        command.args(self.args(&unit, "testrig: can units be had?", Limits::default())).arg("true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let program = self.program.display();
        let failed = |why: String| format!("systemd runs, but `{program} --scope` {why}");
        let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
        let deadline = Instant::now() + limit;
        loop {
            match child.try_wait().map_err(|error| failed(error.to_string()))? {
                Some(status) if status.success() => return Ok(self),
                Some(status) => {
                    let said = child.wait_with_output().map(|output| output.stderr).unwrap_or_default();
                    return Err(failed(format!("ended with {status}: {}", String::from_utf8_lossy(&said).trim())));
                }
                None if Instant::now() >= deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(failed(format!("was not done within {} s", limit.as_secs())));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn of_user(&self) -> bool {
        self.user
    }

    /// Where the units come from.
    pub(crate) fn words(&self) -> String {
        let manager = if self.user { "the user's systemd" } else { "systemd" };
        format!("{manager} hands out units here (`{}`)", self.program.display())
    }

    /// Everything before the program that the unit starts with.
    pub(crate) fn args(&self, unit: &str, description: &str, limits: Limits) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        if self.user {
            args.push("--user".into());
        }
        // A unit that failed is forgotten like any other one, so that nothing of a run stays.
        for flag in ["--scope", "--quiet", "--collect", "--no-ask-password"] {
            args.push(flag.into());
        }
        args.push(format!("--unit={unit}").into());
        args.push(format!("--description={description}").into());
        let mut property = |name: &str, value: &str| args.extend(["-p".into(), format!("{name}={value}").into()]);
        // What is below belongs to the shim, and the kernel's killing of one process is no reason to kill the others.
        property("Delegate", "yes");
        // The default is a share of the host's pids, which a service with a thread for each request and card can use up.
        property("TasksMax", "infinity");
        // `systemctl stop` of the unit ends all of it, the shim included.
        property("KillMode", "control-group");
        if let Some(bytes) = limits.memory {
            property("MemoryMax", &bytes.to_string());
            property("MemorySwapMax", "0");
        }
        if let Some(cpus) = limits.cpus {
            // Of one CPU, in whole percent.
            property("CPUQuota", &format!("{}%", (cpus * 100.0).ceil()));
        }
        args.push("--".into());
        args
    }
}

/// Whether the user's manager is the one to ask, not the system's; an error is why there is none.
///
/// The user's only where the agent belongs to it: it ends with the user's last session, and its units with it.
fn which_manager(booted: &Path, runtime_dir: Option<&Path>, own: &str, root: bool) -> Result<bool, String> {
    let of_user = own.lines().any(|line| line.contains("/user@") && line.contains(".service"));
    if of_user && runtime_dir.is_some_and(|dir| dir.join("systemd/private").exists()) {
        return Ok(true);
    }
    // sd_booted(3)
    if !booted.is_dir() {
        return Err(format!("it is not running here (there is no {})", booted.display()));
    }
    if root {
        Ok(false)
    } else {
        Err("it runs, but hands out units to root and to services of a user's own manager only".to_owned())
    }
}

/// A name that no unit has had: one that is just going away would still stand in the way of another one of its name.
pub(crate) fn unit_name(base: &str) -> String {
    format!("{base}-{}.scope", uuid::Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "0::/system.slice/testrig.service";
    const USER: &str = "1:name=systemd:/user.slice/user-7.slice/user@7.service/app.slice/testrig.service";
    const SESSION: &str = "0::/user.slice/user-7.slice/session-2.scope";

    #[test]
    fn root_asks_the_systems_manager_and_a_service_of_a_user_the_users_own() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (booted, not_booted) = (dir.path(), dir.path().join("no"));
        assert_eq!(which_manager(booted, None, SYSTEM, true), Ok(false));
        let error = which_manager(&not_booted, None, SYSTEM, true).expect_err("not running");
        assert!(error.contains("not running here"), "{error}");
        // The same name in two places: a session of the user ends, and so would its units.
        let runtime = dir.path().join("run");
        std::fs::create_dir_all(runtime.join("systemd/private")).expect("directory");
        assert_eq!(which_manager(booted, Some(&runtime), USER, false), Ok(true));
        assert_eq!(which_manager(&not_booted, Some(&runtime), USER, true), Ok(true));
        let error = which_manager(booted, Some(&runtime), SESSION, false).expect_err("no manager of its own");
        assert!(error.contains("root"), "{error}");
        assert_eq!(which_manager(booted, Some(&runtime), SESSION, true), Ok(false));
    }

    #[test]
    fn a_unit_is_asked_for_with_everything_that_a_run_needs() {
        let args = |systemd: &Systemd, limits| {
            let args = systemd.args("u.scope", "what", limits);
            args.into_iter().map(|arg| arg.into_string().expect("text")).collect::<Vec<_>>().join(" ")
        };
        let plain = args(&Systemd::of("systemd-run", false), Limits::default());
        assert_eq!(
            plain,
            "--scope --quiet --collect --no-ask-password --unit=u.scope --description=what -p Delegate=yes \
             -p TasksMax=infinity -p KillMode=control-group --"
        );
        let limited = args(&Systemd::of("systemd-run", true), Limits { memory: Some(1 << 30), cpus: Some(1.5) });
        assert!(limited.starts_with("--user --scope "), "{limited}");
        assert!(limited.contains("-p MemoryMax=1073741824 -p MemorySwapMax=0 -p CPUQuota=150% --"), "{limited}");
    }

    #[test]
    fn no_two_units_have_the_same_name() {
        let (one, two) = (unit_name("testrig-1-0"), unit_name("testrig-1-0"));
        assert!(one.starts_with("testrig-1-0-") && one.ends_with(".scope") && one != two, "{one} {two}");
        assert!(unit_name(&"x".repeat(128)).len() < 256, "the longest name of a unit");
    }

    #[test]
    fn a_manager_that_refuses_or_does_not_answer_is_not_chosen_and_its_words_are_kept() {
        // `ls` does not know `--scope` either, and `true` takes everything.
        let error = Systemd::of("/bin/ls", false).proven(Duration::from_secs(60)).expect_err("refused");
        assert!(error.contains("`/bin/ls --scope` ended with exit status: 2") && error.contains("scope'"), "{error}");
        let silent = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bin/silent.sh");
        let error = Systemd::of(silent, false).proven(Duration::from_millis(100)).expect_err("silent");
        assert!(error.contains("was not done within"), "{error}");
        let error = Systemd::of("/no/such/program", false).proven(Duration::from_secs(60)).expect_err("not there");
        assert!(error.contains("cannot be started"), "{error}");
        Systemd::of("/bin/true", false).proven(Duration::from_secs(60)).expect("all is well");
    }
}
