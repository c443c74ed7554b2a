//! Every parameter with every kind of nonsense in it.

use super::*;
use crate::testing::{try_nonsense, try_wrong_values};

#[test]
fn nonsense_in_any_parameter_is_a_problem_with_its_path_or_a_good_plan_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let mut env = environment(dir.path());
    env.datasets = Some(dir.path().to_owned());
    try_nonsense(&TABLE, &job(dir.path()), &run(), |job, run| build(&env, job, run).map(drop));
}

#[test]
fn every_wrong_value_of_every_parameter_is_one_problem_with_its_path_and_what_is_accepted() {
    let dir = tempfile::tempdir().expect("dir");
    let env = environment(dir.path());
    try_wrong_values(&TABLE, &job(dir.path()), &run(), |job, run| build(&env, job, run).map(drop));
}

#[test]
fn what_would_only_fail_after_the_start_is_refused_before_it() {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::create_dir(dir.path().join("a-directory")).expect("dir");
    nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.jsonl")).expect("link");
    let mut env = environment(dir.path());
    env.datasets = Some(dir.path().to_owned());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let cases: Vec<(&str, Value, &str)> = vec![
        ("datasetPath", json!(path("a-directory")), "is no file"),
        // Opening it would wait for ever.
        ("datasetPath", json!(path("pipe")), "is no file"),
        ("datasetPath", json!(path("link.jsonl")), "outside of the allowed roots"),
        ("datasetPath", json!(path("missing.jsonl")), "No such file"),
        ("datasetId", json!("link.jsonl"), "outside of the dataset directory"),
        ("envVars", json!({"": "x"}), "is no name of a variable"),
        ("envVars", json!({"A=B": "x"}), "is no name of a variable"),
        ("envVars", json!({"A": "x\0y"}), "a NUL character"),
        ("modelKey", json!("a\0b"), "a NUL character"),
        ("image", json!("a image"), "is no image name"),
        ("image", json!("--privileged"), "is no image name"),
        ("modelVersion", json!(""), "is empty"),
        ("test.model", json!(""), "is empty"),
        ("docker.runtime", json!(""), "is empty"),
        ("logDirSuffix", json!("../x"), "separator"),
        ("logDirSuffix", json!(".."), "is not a name"),
        ("env", json!(".."), "is not a name"),
        ("envDefault", json!("a/b"), "separator"),
        ("platformTaskId", json!("../../x"), "separator"),
        ("scenario", json!("../chat"), "separator"),
        ("healthCheck.path", json!("//evil.example/x"), "a path that begins with one `/`"),
        ("healthCheck.path", json!("/\\evil.example/x"), "a path that begins with one `/`"),
    ];
    for (name, value, expected) in cases {
        let (mut job, mut run) = (job(dir.path()), run());
        job[name] = Value::Null;
        run[name] = value.clone();
        let text = build(&env, &job, &run).map(|_| ()).expect_err(name);
        assert!(text.contains(name) && text.contains(expected), "{name} = {value}: `{expected}` is not in:\n{text}");
        assert!(!text.contains("problems"), "{name} = {value}: one problem, not several:\n{text}");
    }
}

#[test]
fn a_model_name_of_any_script_and_length_fits_into_a_file_name() {
    let dir = tempfile::tempdir().expect("dir");
    let mut run = run();
    run["modelKey"] = json!("组织/模型".repeat(100));
    let mut job = job(dir.path());
    job["docker.baseImage"] = json!("registry/base:1");
    let plan = build(&environment(dir.path()), &job, &run).expect("good");
    let files = crate::run_llm_test::dir::RunDir::of(&plan, i64::MAX, "20251123");
    files.create(1, 1).expect("every name can be made");
}
