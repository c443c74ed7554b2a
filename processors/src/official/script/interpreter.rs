//! What runs a script.

use std::path::{Path, PathBuf};

use crate::Environment;

/// The language of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::official) enum Kind {
    /// `/bin/sh`.
    Shell,
    /// `python` of the `PATH`, else `python3`.
    Python,
    /// `pwsh` of the `PATH`, else `powershell`.
    PowerShell,
}

impl Kind {
    /// Programs in the order in which they are looked for.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Shell => &["/bin/sh"],
            Self::Python => &["python", "python3"],
            Self::PowerShell => &["pwsh", "powershell"],
        }
    }

    /// The name of the script file, which a script sees as its own (`$0`).
    pub(super) fn file_name(self, instance_id: i64) -> String {
        match self {
            Self::Shell => format!("shell_{instance_id}.sh"),
            Self::Python => format!("python_{instance_id}.py"),
            Self::PowerShell => format!("powershell_{instance_id}.ps1"),
        }
    }

    /// The interpreter's arguments.
    pub(super) fn arguments(self, file: &Path) -> Vec<String> {
        vec![file.display().to_string()]
    }

    /// The interpreter, if it is here and allowed.
    pub(super) fn find(self, env: &Environment) -> Result<PathBuf, String> {
        self.find_in(env, std::env::var_os("PATH").as_deref())
    }

    fn find_in(self, env: &Environment, path: Option<&std::ffi::OsStr>) -> Result<PathBuf, String> {
        let mut denied = None;
        for program in self.programs() {
            let found = if program.starts_with('/') {
                Some(PathBuf::from(program)).filter(|file| file.is_file())
            } else {
                path.and_then(|path| {
                    std::env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())
                })
            };
            match found.map(|file| (env.allow_program(&file.display().to_string()), file)) {
                Some((Ok(()), file)) => return Ok(file),
                Some((Err(refusal), _)) => denied = Some(refusal.to_string()),
                None => {}
            }
        }
        let names = self.programs().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" nor ");
        Err(denied.unwrap_or_else(|| {
            let neither = if self.programs().len() > 1 { "neither " } else { "no " };
            format!("[SYSTEM] {neither}{names} is installed on this host (looked for in the agent's PATH); install it")
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::environment;

    fn program(dir: &Path, name: &str) -> PathBuf {
        let file = dir.join(name);
        std::fs::write(&file, "").expect("written");
        file
    }

    #[test]
    fn python_falls_back_to_python3_and_what_is_missing_or_denied_is_told() {
        let dir = tempfile::tempdir().expect("dir");
        let mut env = environment(dir.path());
        let path = Some(dir.path().as_os_str());
        let error = Kind::Python.find_in(&env, path).expect_err("none");
        assert!(error.contains("neither `python` nor `python3` is installed"), "{error}");
        let three = program(dir.path(), "python3");
        assert_eq!(Kind::Python.find_in(&env, path), Ok(three.clone()));
        let python = program(dir.path(), "python");
        assert_eq!(Kind::Python.find_in(&env, path), Ok(python));
        env.allowed_programs = Some(vec![three.display().to_string()]);
        assert_eq!(Kind::Python.find_in(&env, path), Ok(three), "what is not allowed is passed over");
        let error = Kind::Shell.find_in(&env, path).expect_err("denied");
        assert!(error.contains("[programs] allowed"), "{error}");
        assert!(Kind::PowerShell.find_in(&env, path).expect_err("none").contains("`pwsh`"));
    }

    #[test]
    fn files_are_called_as_in_java() {
        assert_eq!(Kind::Shell.file_name(7), "shell_7.sh");
        assert_eq!(Kind::Python.file_name(7), "python_7.py");
        assert_eq!(Kind::PowerShell.file_name(7), "powershell_7.ps1");
    }
}
