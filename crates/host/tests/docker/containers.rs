//! What containers get, how they end, and images.

use std::time::Duration;

use testrig_host::docker::{
    ContainerPhase, DockerError, Mount, Network, OutputStream, PullError, PullPolicy, PullSettings, Ulimit,
};
use testrig_host::{Signal, health};

use crate::rig::{LONG, Registry, lines_until_end, none, rig, until_running};

#[tokio::test]
async fn the_engine_says_who_it_is() {
    let Some(rig) = rig("the_engine_says_who_it_is") else {
        return;
    };
    let info = rig.docker.ping().await.expect("it runs");
    assert!(!info.version.is_empty() && !info.api_version.is_empty(), "{info:?}");
    assert!(info.runtimes.iter().any(|name| name == "runc"), "{info:?}");
}

#[tokio::test]
async fn a_container_gets_what_its_spec_says_and_its_end_is_told() {
    let Some(rig) = rig("a_container_gets_what_its_spec_says_and_its_end_is_told") else {
        return;
    };
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("file"), "from the host\n").expect("writable");
    let mut spec = rig.shell(
        "echo \"$A $TESTRIG_BOUNDARY\"; pwd; cat /m/file; touch /m/new 2>/dev/null || echo read-only
         ulimit -n; df -k /dev/shm | tail -1 | awk '{print $2}'; echo \"$0\" >&2; exit 7",
    );
    spec.env = vec![("A".into(), "b c".into())];
    spec.labels = vec![("testrig.instance".into(), "77".into())];
    spec.work_dir = Some("/tmp".into());
    spec.mounts = vec![Mount { host: dir.path().into(), container: "/m".into(), read_only: true }];
    spec.ulimits = vec![Ulimit { name: "nofile".into(), soft: 123, hard: 456 }];
    spec.shm_size = Some(8 << 20);
    spec.network = Network::None;
    let docker = &rig.docker;
    let id = rig.start(&spec).await;
    let exit = docker.wait(&id, none).await.expect("ended");
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(7), None, false), "{exit}");

    let lines = lines_until_end(docker, &id, 0).await;
    let of = |stream| {
        let wanted = lines.iter().filter(move |l| l.stream == stream);
        wanted.map(|l| String::from_utf8_lossy(&l.bytes).into_owned()).collect::<Vec<_>>()
    };
    let first = format!("b c {}", spec.boundary);
    assert_eq!(of(OutputStream::Stdout), [&first, "/tmp", "from the host", "read-only", "123", "8192"]);
    assert_eq!(of(OutputStream::Stderr), ["sh"]);
    assert_eq!(lines.iter().map(|l| l.number).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());

    let found = docker.find_by_label("testrig.boundary", Some(spec.boundary.as_str())).await.expect("listed");
    assert_eq!((found.len(), found[0].id.as_str(), found[0].phase), (1, id.as_str(), ContainerPhase::Exited));
    assert_eq!((found[0].label("testrig.instance"), found[0].boundary()), (Some("77"), Some(spec.boundary.as_str())));
    docker.remove(&id).await.expect("removed");
    docker.remove(&id).await.expect("gone is no error");
    assert!(docker.inspect(&id).await.expect_err("gone").is_not_found());
    assert!(docker.wait(&id, none).await.expect_err("gone").is_not_found());
}

#[tokio::test]
async fn a_taken_name_is_a_conflict_and_who_has_it_can_be_asked() {
    let Some(rig) = rig("a_taken_name_is_a_conflict_and_who_has_it_can_be_asked") else {
        return;
    };
    let spec = rig.shell("true");
    assert!(rig.docker.find_by_name(&spec.name).await.expect("asked").is_none());
    let id = rig.create(&spec).await;
    let error = rig.docker.create(&spec).await.expect_err("taken");
    assert!(matches!(error, DockerError::Conflict { .. }) && error.to_string().contains(&spec.name), "{error}");
    let owner = rig.docker.find_by_name(&spec.name).await.expect("asked").expect("there");
    assert_eq!((owner.id.as_str(), owner.phase), (id.as_str(), ContainerPhase::Created));
    assert!(rig.docker.find_by_name(&id[..12]).await.expect("asked").is_none(), "an id is no name");
}

#[tokio::test]
async fn a_container_that_outgrows_its_memory_is_told_as_out_of_memory() {
    let Some(rig) = rig("a_container_that_outgrows_its_memory_is_told_as_out_of_memory") else {
        return;
    };
    let mut spec = rig.shell("exec tail /dev/zero");
    spec.memory = Some(16 << 20);
    spec.cpus = Some(1.0);
    let id = rig.start(&spec).await;
    let exit = rig.docker.wait(&id, none).await.expect("ended");
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(137), Some(9), true), "{exit}");
}

#[tokio::test]
async fn a_stop_asks_first_and_kills_after_the_grace_time() {
    let Some(rig) = rig("a_stop_asks_first_and_kills_after_the_grace_time") else {
        return;
    };
    let polite = rig.start(&rig.shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")).await;
    until_running(&rig.docker, &polite, "up").await;
    let exit = rig.docker.stop(&polite, Signal::TERM, LONG).await.expect("ended");
    assert_eq!((exit.code, exit.signal), (Some(3), None), "{exit}");
    // Again, and once more when it is gone.
    assert_eq!(rig.docker.stop(&polite, Signal::TERM, LONG).await.expect("ended").code, Some(3));
    rig.docker.remove(&polite).await.expect("removed");
    assert!(rig.docker.stop(&polite, Signal::TERM, LONG).await.expect_err("gone").is_not_found());

    let deaf = rig.start(&rig.shell("trap '' TERM; echo up; while :; do sleep 0.05; done")).await;
    until_running(&rig.docker, &deaf, "up").await;
    let exit = rig.docker.stop(&deaf, Signal::TERM, Duration::from_millis(300)).await.expect("ended");
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(137), Some(9), false), "{exit}");
}

#[tokio::test]
async fn what_cannot_be_started_says_why_and_is_no_container_that_runs() {
    let Some(rig) = rig("what_cannot_be_started_says_why_and_is_no_container_that_runs") else {
        return;
    };
    let mut spec = rig.shell("");
    spec.entrypoint = Some(vec!["/no/such/program".into()]);
    let id = rig.create(&spec).await;
    let error = rig.docker.start(&id).await.expect_err("no such program");
    assert!(!error.is_unavailable() && error.to_string().contains("/no/such/program"), "{error}");
    let exit = rig.docker.wait(&id, none).await.expect("it has ended");
    assert!(!exit.success() && exit.error.is_some(), "{exit}");

    let mut spec = rig.shell("true");
    spec.mounts = vec![Mount { host: "/no/such/dir".into(), container: "/m".into(), read_only: false }];
    let error = rig.docker.create(&spec).await.expect_err("no such directory");
    assert!(error.to_string().contains("/no/such/dir"), "{error}");

    let mut spec = rig.shell("true");
    spec.runtime = Some("warp-drive".into());
    let outcome = rig.docker.create(&spec).await;
    let error = outcome.expect_err("no such runtime");
    assert!(error.to_string().contains("warp-drive"), "{error}");

    let mut spec = rig.shell("true");
    spec.image = "testrig/never-built:1".into();
    assert!(rig.docker.create(&spec).await.expect_err("no such image").is_not_found());
}

#[tokio::test]
async fn a_command_in_a_container_has_a_code_an_output_and_a_time_limit() {
    let Some(rig) = rig("a_command_in_a_container_has_a_code_an_output_and_a_time_limit") else {
        return;
    };
    let id = rig.start(&rig.shell("trap 'exit' TERM; echo up; while :; do sleep 0.1; done")).await;
    until_running(&rig.docker, &id, "up").await;
    let command = |words: &str| vec!["sh".to_owned(), "-c".to_owned(), words.to_owned()];
    let outcome = rig.docker.exec(&id, &command("echo out; echo err >&2; exit 5"), LONG, 100).await.expect("ran");
    assert_eq!((outcome.code, outcome.timed_out), (Some(5), false));
    assert!(outcome.output.contains("out\n") && outcome.output.contains("err\n"), "{outcome:?}");
    let outcome = rig.docker.exec(&id, &command("seq 100000"), LONG, 13).await.expect("ran");
    assert_eq!((outcome.code, outcome.output.as_str()), (Some(0), "99999\n100000\n"));
    let outcome = rig.docker.exec(&id, &command("echo begun; sleep 60"), Duration::from_millis(500), 100).await;
    let outcome = outcome.expect("ran");
    assert_eq!((outcome.code, outcome.timed_out, outcome.output.as_str()), (None, true, "begun\n"));
    let left = rig.docker.exec(&id, &command("ps | grep -c '[s]leep 60'"), LONG, 100).await.expect("ran");
    assert_eq!(left.output == "0\n", !outcome.left_running, "{left:?}, {outcome:?}");
    println!("a command at its limit was left running: {}", outcome.left_running);

    let probe = health::container_command(&rig.docker, &id, &command("echo no; exit 1"), LONG).await.expect("ran");
    assert!(!probe.healthy && probe.detail.ends_with("exit code 1: no"), "{probe:?}");
    let missing = rig.docker.exec(&id, &["/no/such".to_owned()], LONG, 500).await.expect("the engine answered");
    assert!(missing.code != Some(0), "{missing:?}");

    rig.docker.stop(&id, Signal::KILL, Duration::ZERO).await.expect("ended");
    let error = rig.docker.exec(&id, &command("true"), LONG, 100).await.expect_err("it does not run");
    assert!(matches!(error, DockerError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn a_sample_shows_what_a_container_uses_and_there_is_none_of_one_that_ended() {
    let Some(rig) = rig("a_sample_shows_what_a_container_uses_and_there_is_none_of_one_that_ended") else {
        return;
    };
    let mut spec = rig.shell("echo up; while :; do :; done");
    spec.cpus = Some(0.5);
    spec.memory = Some(64 << 20);
    let id = rig.start(&spec).await;
    until_running(&rig.docker, &id, "up").await;
    let stats = rig.docker.stats(&id).await.expect("it runs");
    assert!(stats.cpu_percent.is_some_and(|percent| percent > 0.5), "{stats:?}");
    assert!(stats.cpu_total_ns > 0 && stats.memory_bytes > 0 && stats.pids > 0, "{stats:?}");
    assert_eq!(stats.memory_limit_bytes, 64 << 20);
    rig.docker.stop(&id, Signal::KILL, Duration::ZERO).await.expect("ended");
    let error = rig.docker.stats(&id).await.expect_err("it does not run");
    assert!(matches!(error, DockerError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn why_an_image_is_not_here_is_told_apart() {
    let Some(rig) = rig("why_an_image_is_not_here_is_told_apart") else {
        return;
    };
    let docker = &rig.docker;
    // Once, and no second try.
    let settings = PullSettings { tries: 1, ..PullSettings::default() };
    let quiet = |line: String| println!("progress: {line}");
    let here = docker.ensure_image(&rig.image, PullPolicy::IfNotPresent, &settings, quiet).await.expect("here");
    assert_eq!(here, docker.ensure_image(&rig.image, PullPolicy::Never, &settings, quiet).await.expect("here"));

    let never = docker.ensure_image("testrig/never-built:1", PullPolicy::Never, &settings, quiet).await;
    assert!(matches!(never, Err(PullError::NeverPulled { .. })), "{never:?}");
    let name = docker.ensure_image("Not A Name", PullPolicy::Always, &settings, quiet).await;
    assert!(matches!(name, Err(PullError::InvalidName { .. })), "{name:?}");

    let registry = Registry::answering(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#);
    let registry = registry.await;
    let image = format!("{}/models/none:1", registry.address);
    let missing = docker.ensure_image(&image, PullPolicy::IfNotPresent, &settings, quiet).await;
    assert!(matches!(missing, Err(PullError::NotFound { .. })), "{missing:?}");

    let registry =
        Registry::answering(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#).await;
    let image = format!("{}/models/secret:1", registry.address);
    let login = docker.ensure_image(&image, PullPolicy::Always, &settings, quiet).await;
    assert!(matches!(login, Err(PullError::NoLogin { .. })), "{login:?}");

    let closed = registry.close().await;
    let route = docker.ensure_image(&format!("{closed}/models/x:1"), PullPolicy::Always, &settings, quiet).await;
    assert!(matches!(route, Err(PullError::NoRoute { .. })), "{route:?}");
}
