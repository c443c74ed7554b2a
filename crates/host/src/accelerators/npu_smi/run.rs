//! Calling the tool, with an end to its patience.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Where drivers put it.
const PLACES: [&str; 3] =
    ["/usr/local/sbin/npu-smi", "/usr/local/bin/npu-smi", "/usr/local/Ascend/driver/tools/npu-smi"];
/// More than any table is.
const LONGEST: u64 = 1 << 20;

/// npu-smi on this host.
pub(super) struct Tool {
    program: Option<PathBuf>,
    limit: Duration,
}

impl Tool {
    pub(super) fn new(program: Option<PathBuf>, limit: Duration) -> Self {
        Self { program: program.or_else(find), limit }
    }

    pub(super) fn is_there(&self) -> bool {
        self.program.as_deref().is_some_and(Path::is_file)
    }

    /// What it prints. Its exit code says little: errors come with zero and tables with others.
    pub(super) fn call(&self, args: &[&str]) -> Result<String, String> {
        let Some(program) = &self.program else {
            return Err(format!("npu-smi is neither in PATH nor at {}", PLACES.join(", ")));
        };
        let words = format!("{} {}", program.display(), args.join(" "));
        let mut child = Command::new(program)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("failed to start `{words}`: {error}"))?;
        let out = child.stdout.take().expect("it was asked for");
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            // A cut table is found by its reader.
            let _ = out.take(LONGEST).read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let deadline = Instant::now() + self.limit;
        loop {
            match child.try_wait() {
                Ok(Some(_)) => break,
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("`{words}` did not end within {} s and was killed", self.limit.as_secs_f32()));
                }
                Err(error) => return Err(format!("failed to wait for `{words}`: {error}")),
            }
        }
        reader.join().map_err(|_| format!("the output of `{words}` could not be read"))
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("npu-smi"));
    in_path.chain(PLACES.iter().map(PathBuf::from)).find(|file| file.is_file())
}
