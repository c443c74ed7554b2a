//! Stand-ins for the drivers' libraries, built by the tests with the C compiler and loaded like the real ones.

use std::{fs, path::PathBuf, process::Command};

/// A library in a directory of its own, with the file that it answers from.
pub(super) struct FakeLibrary {
    dir: tempfile::TempDir,
}

impl FakeLibrary {
    /// Compiles `fakes/{name}.c`; `old` = a driver that lacks what newer ones have.
    pub(super) fn build(name: &str, old: bool) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/accelerators/fakes/{name}.c"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O0", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]);
        compiler.args(old.then_some("-DOLD")).arg("-o").arg(dir.path().join("lib.so")).arg(source).arg("-ldl");
        let done = compiler.output().expect("there is a C compiler");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Self { dir }
    }

    /// Where it is.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("lib.so")
    }

    /// What it answers from now on.
    pub(super) fn state(&self, text: &str) {
        let new = self.dir.path().join("state.new");
        fs::write(&new, text).expect("written");
        fs::rename(new, self.dir.path().join("state")).expect("in place");
    }

    /// A directory for further files.
    pub(super) fn dir(&self) -> PathBuf {
        self.dir.path().join("root")
    }
}

/// One line for a person, one for the summary of `scripts/test.sh`.
pub(super) fn skipped(name: &str, reason: &str) {
    println!("skipped: {name}: {reason}");
    if let Some(file) = std::env::var_os("TESTRIG_SKIPS_FILE") {
        use std::io::Write;
        let line = serde_json::json!({"name": name, "reason": reason});
        let file = fs::File::options().create(true).append(true).open(file);
        writeln!(file.expect("writable"), "{line}").expect("writable");
    }
}
