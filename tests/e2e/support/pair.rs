//! Two real servers on one database, as a test of its own starts them: they are killed in it.

use std::{path::PathBuf, process::Command};

use libtest_mimic::Failed;

use super::{Parts, parts::control};

/// Two servers of one cluster; dropped = stopped.
pub(crate) struct Pair {
    work: PathBuf,
    /// Web addresses.
    pub(crate) web: [String; 2],
    ctl: [String; 2],
}

impl Pair {
    /// Starts database and servers, one after the other because both alter the tables at their start.
    pub(crate) fn start(name: &str) -> Result<Self, Failed> {
        let work = Parts::get().dir(name);
        let mut pair = Self { work: work.clone(), web: Default::default(), ctl: Default::default() };
        let database = value(&part("h2", &["start", &work.display().to_string()])?, "H2_URL")?;
        for (n, ip) in ["127.0.0.1", "127.0.0.2"].into_iter().enumerate() {
            let dir = work.join(format!("server{n}"));
            std::fs::create_dir_all(&dir)?;
            let printed = part("powerjob", &["start", &dir.display().to_string(), ip, &database])?;
            pair.web[n] = value(&printed, "POWERJOB_ADDRESS")?;
            pair.ctl[n] = value(&printed, "POWERJOB_CTL")?;
        }
        Ok(pair)
    }

    /// SIGKILL to one of them.
    pub(crate) fn kill(&self, n: usize) {
        control(&self.ctl[n], "kill");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for n in 0..2 {
            let dir = self.work.join(format!("server{n}"));
            let _ = part("powerjob", &["stop", &dir.display().to_string()]);
        }
        let _ = part("h2", &["stop", &self.work.display().to_string()]);
    }
}

/// Runs a script of `scripts/parts`; what it printed.
fn part(name: &str, arguments: &[&str]) -> Result<String, Failed> {
    let script = format!("{}/scripts/parts/{name}.sh", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("bash").arg(&script).args(arguments).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}.sh {} failed: {said}", arguments.join(" ")).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The value of a variable in what a script printed (`export NAME='value'`).
fn value(printed: &str, name: &str) -> Result<String, Failed> {
    let line = printed.lines().find_map(|line| line.trim_start_matches("export ").strip_prefix(&format!("{name}=")));
    let value = line.ok_or_else(|| format!("no {name} in {printed}"))?;
    let plain = Command::new("bash").args(["-c", &format!("printf %s {value}")]).output()?;
    Ok(String::from_utf8_lossy(&plain.stdout).into_owned())
}
