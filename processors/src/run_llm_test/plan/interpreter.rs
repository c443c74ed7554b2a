//! What runs a script: what the parameters say, its first line, or the ending of its name.

use std::{
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::Environment;

/// The longest first line that kernels read.
const FIRST_LINE: u64 = 256;

/// Interpreter, its arguments and the script.
///
/// # Errors
/// Nothing says what runs it, or that is not here or not allowed; a text for the parameter's problem.
pub(super) fn command(env: &Environment, script: &Path, chosen: Option<&str>) -> Result<Vec<String>, String> {
    let mut command = match chosen {
        Some("") => return Err("is empty; accepted: a program, or leave it out".to_owned()),
        Some(program) => vec![program.to_owned()],
        None => match shebang(script) {
            Some(words) => words,
            None => by_ending(env, script)?,
        },
    };
    let itself = command.is_empty();
    if itself {
        command.push(script.display().to_string());
    }
    let program = &command[0];
    env.allow_program(program).map_err(|denied| denied.to_string())?;
    if !is_here(program) {
        return Err(format!(
            "the interpreter `{program}` of `{}` is not on this host (looked for in the agent's PATH); install it, or name another one in test.interpreter",
            script.display()
        ));
    }
    if !itself {
        command.push(script.display().to_string());
    }
    Ok(command)
}

/// The words behind `#!`, `env` resolved: the program is what is allowed or not, not `env`.
fn shebang(script: &Path) -> Option<Vec<String>> {
    let mut first = Vec::new();
    std::fs::File::open(script).ok()?.take(FIRST_LINE).read_to_end(&mut first).ok()?;
    let line = String::from_utf8_lossy(first.split(|byte| *byte == b'\n').next()?).into_owned();
    let line = line.strip_prefix("#!")?.trim();
    let (program, rest) = line.split_once([' ', '\t']).map_or((line, ""), |(program, rest)| (program, rest.trim()));
    if program.is_empty() {
        return None;
    }
    if !program.ends_with("/env") {
        // The kernel passes what follows as one argument.
        let rest = (!rest.is_empty()).then(|| rest.to_owned());
        return Some(std::iter::once(program.to_owned()).chain(rest).collect());
    }
    let split = rest.strip_prefix("-S").map(|rest| rest.split_whitespace().map(str::to_owned).collect());
    let words: Vec<String> = split.unwrap_or_else(|| vec![rest.to_owned()]);
    words.first().is_some_and(|word| !word.is_empty()).then_some(words)
}

/// Nothing for a program of its own.
fn by_ending(env: &Environment, script: &Path) -> Result<Vec<String>, String> {
    match script.extension().and_then(|ending| ending.to_str()) {
        Some("py") if Path::new(&env.service.python_bin).is_file() => Ok(vec![env.service.python_bin.clone()]),
        Some("py") => Ok(vec!["python3".into()]),
        Some("sh") => Ok(vec!["/bin/sh".into()]),
        _ if is_executable(script) => Ok(Vec::new()),
        _ => Err(format!(
            "`{}` says nothing about what runs it: it has no `#!` line, ends with neither .py nor .sh and is not executable; accepted: one of these, or test.interpreter",
            script.display()
        )),
    }
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}

fn is_here(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir: PathBuf| dir.join(program)).any(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::environment;

    fn script(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let file = dir.join(name);
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("mode");
        file
    }

    #[test]
    fn the_first_line_says_what_runs_a_script_and_env_is_looked_through() {
        let dir = tempfile::tempdir().expect("dir");
        let cases = [
            ("#!/bin/sh\n", Some(vec!["/bin/sh"])),
            ("#! /bin/sh -e -u\n", Some(vec!["/bin/sh", "-e -u"])),
            ("#!/usr/bin/env python3\nprint()", Some(vec!["python3"])),
            ("#!/usr/bin/env -S python3 -u -B\n", Some(vec!["python3", "-u", "-B"])),
            ("#!\n", None),
            ("print()\n", None),
        ];
        for (text, expected) in cases {
            let file = script(dir.path(), "s", text, 0o644);
            let expected = expected.map(|words| words.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(shebang(&file), expected, "{text}");
        }
    }

    #[test]
    fn an_interpreter_must_be_known_here_and_allowed() {
        let dir = tempfile::tempdir().expect("dir");
        let mut env = environment(dir.path());
        env.service.python_bin = "/no/such/python".into();
        let shell = script(dir.path(), "a.sh", "true\n", 0o644);
        let path = shell.display().to_string();
        assert_eq!(command(&env, &shell, None), Ok(vec!["/bin/sh".to_owned(), path.clone()]));
        assert_eq!(command(&env, &shell, Some("bash")), Ok(vec!["bash".to_owned(), path]));
        let missing = command(&env, &shell, Some("/no/such/python")).expect_err("missing");
        assert!(missing.contains("is not on this host"), "{missing}");
        let plain = script(dir.path(), "plain", "true\n", 0o644);
        let nothing = command(&env, &plain, None).expect_err("nothing says what runs it");
        assert!(nothing.contains("test.interpreter"), "{nothing}");
        let program = script(dir.path(), "program", "\u{7f}ELF", 0o755);
        assert_eq!(command(&env, &program, None), Ok(vec![program.display().to_string()]));
        env.allowed_programs = Some(vec!["/bin/sh".into()]);
        assert!(command(&env, &shell, None).is_ok());
        let denied = command(&env, &shell, Some("/bin/bash")).expect_err("denied");
        assert!(denied.contains("[programs] allowed"), "{denied}");
        let env_script = script(dir.path(), "e", "#!/usr/bin/env perl\n", 0o755);
        let denied = command(&env, &env_script, None).expect_err("denied");
        assert!(denied.contains("perl") && denied.contains("[programs] allowed"), "{denied}");
    }
}
