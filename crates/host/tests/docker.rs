//! A real container engine (`DOCKER_HOST`) with a real image (`TEST_IMAGE_BUSYBOX`). Without them each test says so.

#[path = "docker/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use rig::{Registry, lines_until_end, rig};
use testrig_host::docker::{
    ContainerPhase, ContainerSpec, Docker, DockerError, EngineNotice, Mount, Network, OutputStream,
    PortPublish, PullError, PullPolicy, Ulimit,
};
use testrig_host::{Signal, health};

const LONG: Duration = Duration::from_secs(60);
const TEN_MS: Duration = Duration::from_millis(10);

#[expect(
    clippy::needless_pass_by_value,
    reason = "it stands for a caller's closure"
)]
fn none(notice: EngineNotice) {
    panic!("the engine was not lost: {notice:?}");
}

async fn until_running(docker: &Docker, id: &str, word: &str) {
    let mut logs = docker.logs(id, 0);
    let line = tokio::time::timeout(LONG, logs.next())
        .await
        .expect("in time")
        .expect("readable")
        .expect("a line");
    assert_eq!(&line.bytes[..], word.as_bytes());
}

#[tokio::test]
async fn the_engine_says_who_it_is() {
    let Some(rig) = rig("the_engine_says_who_it_is") else {
        return;
    };
    let info = rig.docker.ping().await.expect("it runs");
    assert!(
        !info.version.is_empty() && !info.api_version.is_empty(),
        "{info:?}"
    );
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
    spec.mounts = vec![Mount {
        host: dir.path().into(),
        container: "/m".into(),
        read_only: true,
    }];
    spec.ulimits = vec![Ulimit {
        name: "nofile".into(),
        soft: 123,
        hard: 456,
    }];
    spec.shm_size = Some(8 << 20);
    spec.network = Network::None;
    let docker = &rig.docker;
    let id = rig.start(&spec).await;
    let exit = docker.wait(&id, none).await.expect("ended");
    assert_eq!(
        (exit.code, exit.signal, exit.oom_killed),
        (Some(7), None, false),
        "{exit}"
    );

    let lines = lines_until_end(docker, &id, 0).await;
    let of = |stream| {
        let wanted = lines.iter().filter(move |l| l.stream == stream);
        wanted
            .map(|l| String::from_utf8_lossy(&l.bytes).into_owned())
            .collect::<Vec<_>>()
    };
    let first = format!("b c {}", spec.boundary);
    assert_eq!(
        of(OutputStream::Stdout),
        [&first, "/tmp", "from the host", "read-only", "123", "8192"]
    );
    assert_eq!(of(OutputStream::Stderr), ["sh"]);
    assert_eq!(
        lines.iter().map(|l| l.number).collect::<Vec<_>>(),
        (1..=7).collect::<Vec<_>>()
    );

    let found = docker
        .find_by_label("testrig.boundary", Some(spec.boundary.as_str()))
        .await
        .expect("listed");
    assert_eq!(
        (found.len(), found[0].id.as_str(), found[0].phase),
        (1, id.as_str(), ContainerPhase::Exited)
    );
    assert_eq!(
        (found[0].label("testrig.instance"), found[0].boundary()),
        (Some("77"), Some(spec.boundary.as_str()))
    );
    docker.remove(&id).await.expect("removed");
    docker.remove(&id).await.expect("gone is no error");
    assert!(docker.inspect(&id).await.expect_err("gone").is_not_found());
    assert!(
        docker
            .wait(&id, none)
            .await
            .expect_err("gone")
            .is_not_found()
    );
}

#[tokio::test]
async fn a_taken_name_is_a_conflict_and_who_has_it_can_be_asked() {
    let Some(rig) = rig("a_taken_name_is_a_conflict_and_who_has_it_can_be_asked") else {
        return;
    };
    let spec = rig.shell("true");
    assert!(
        rig.docker
            .find_by_name(&spec.name)
            .await
            .expect("asked")
            .is_none()
    );
    let id = rig.create(&spec).await;
    let error = rig.docker.create(&spec).await.expect_err("taken");
    assert!(
        matches!(error, DockerError::Conflict { .. }) && error.to_string().contains(&spec.name),
        "{error}"
    );
    let owner = rig
        .docker
        .find_by_name(&spec.name)
        .await
        .expect("asked")
        .expect("there");
    assert_eq!(
        (owner.id.as_str(), owner.phase),
        (id.as_str(), ContainerPhase::Created)
    );
    assert!(
        rig.docker
            .find_by_name(&id[..12])
            .await
            .expect("asked")
            .is_none(),
        "an id is no name"
    );
}

#[tokio::test]
async fn a_published_port_is_a_free_one_that_answers() {
    let Some(rig) = rig("a_published_port_is_a_free_one_that_answers") else {
        return;
    };
    if std::env::var("DOCKER_BRIDGE").as_deref() == Ok("no") {
        rig::skipped(
            "a_published_port_is_a_free_one_that_answers",
            "the engine has no bridge network",
        );
        return;
    }
    let mut spec =
        rig.shell("mkdir /w; echo fine > /w/healthz; echo up; exec httpd -f -p 8000 -h /w");
    spec.publish = vec![PortPublish {
        container: 8000,
        host: 0,
        bind: None,
    }];
    let id = rig.start(&spec).await;
    until_running(&rig.docker, &id, "up").await;
    let info = rig.docker.inspect(&id).await.expect("there");
    let port = info.host_port(8000).expect("published");
    assert_ne!(port, 0);
    assert_eq!(info.ports[0].bind, "0.0.0.0");

    let provider = rustls::crypto::ring::default_provider().install_default();
    assert!(provider.is_ok(), "the only test here that needs one");
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("client");
    let deadline = Instant::now() + LONG;
    loop {
        let probe = health::http(&client, &format!("http://127.0.0.1:{port}/healthz"), LONG).await;
        if probe.healthy {
            break;
        }
        assert!(Instant::now() < deadline, "{probe:?}");
        tokio::time::sleep(TEN_MS).await;
    }
    assert!(
        !health::http(&client, &format!("http://127.0.0.1:{port}/none"), LONG)
            .await
            .healthy
    );

    // The same port a second time: the start fails and says why.
    let mut second = rig.shell("sleep 60");
    second.publish = vec![PortPublish {
        container: 8000,
        host: port,
        bind: None,
    }];
    let second_id = rig.create(&second).await;
    let error = rig.docker.start(&second_id).await.expect_err("in use");
    assert!(
        !error.is_unavailable() && error.to_string().contains(&port.to_string()),
        "{error}"
    );
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
    assert_eq!(
        (exit.code, exit.signal, exit.oom_killed),
        (Some(137), Some(9), true),
        "{exit}"
    );
}

#[tokio::test]
async fn a_stop_asks_first_and_kills_after_the_grace_time() {
    let Some(rig) = rig("a_stop_asks_first_and_kills_after_the_grace_time") else {
        return;
    };
    let polite = rig
        .start(&rig.shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"))
        .await;
    until_running(&rig.docker, &polite, "up").await;
    let exit = rig
        .docker
        .stop(&polite, Signal::TERM, LONG)
        .await
        .expect("ended");
    assert_eq!((exit.code, exit.signal), (Some(3), None), "{exit}");
    // Again, and once more when it is gone.
    assert_eq!(
        rig.docker
            .stop(&polite, Signal::TERM, LONG)
            .await
            .expect("ended")
            .code,
        Some(3)
    );
    rig.docker.remove(&polite).await.expect("removed");
    assert!(
        rig.docker
            .stop(&polite, Signal::TERM, LONG)
            .await
            .expect_err("gone")
            .is_not_found()
    );

    let deaf = rig
        .start(&rig.shell("trap '' TERM; echo up; while :; do sleep 0.05; done"))
        .await;
    until_running(&rig.docker, &deaf, "up").await;
    let exit = rig
        .docker
        .stop(&deaf, Signal::TERM, Duration::from_millis(300))
        .await
        .expect("ended");
    assert_eq!(
        (exit.code, exit.signal, exit.oom_killed),
        (Some(137), Some(9), false),
        "{exit}"
    );
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
    assert!(
        !error.is_unavailable() && error.to_string().contains("/no/such/program"),
        "{error}"
    );
    let exit = rig.docker.wait(&id, none).await.expect("it has ended");
    assert!(!exit.success() && exit.error.is_some(), "{exit}");

    let mut spec = rig.shell("true");
    spec.mounts = vec![Mount {
        host: "/no/such/dir".into(),
        container: "/m".into(),
        read_only: false,
    }];
    let error = rig
        .docker
        .create(&spec)
        .await
        .expect_err("no such directory");
    assert!(error.to_string().contains("/no/such/dir"), "{error}");

    let mut spec = rig.shell("true");
    spec.runtime = Some("warp-drive".into());
    let outcome = rig.docker.create(&spec).await;
    let error = outcome.expect_err("no such runtime");
    assert!(error.to_string().contains("warp-drive"), "{error}");

    let mut spec = rig.shell("true");
    spec.image = "testrig/never-built:1".into();
    assert!(
        rig.docker
            .create(&spec)
            .await
            .expect_err("no such image")
            .is_not_found()
    );
}

#[tokio::test]
async fn a_command_in_a_container_has_a_code_an_output_and_a_time_limit() {
    let Some(rig) = rig("a_command_in_a_container_has_a_code_an_output_and_a_time_limit") else {
        return;
    };
    let id = rig
        .start(&rig.shell("trap 'exit' TERM; echo up; while :; do sleep 0.1; done"))
        .await;
    until_running(&rig.docker, &id, "up").await;
    let command = |words: &str| vec!["sh".to_owned(), "-c".to_owned(), words.to_owned()];
    let outcome = rig
        .docker
        .exec(&id, &command("echo out; echo err >&2; exit 5"), LONG, 100)
        .await
        .expect("ran");
    assert_eq!((outcome.code, outcome.timed_out), (Some(5), false));
    assert!(
        outcome.output.contains("out\n") && outcome.output.contains("err\n"),
        "{outcome:?}"
    );
    let outcome = rig
        .docker
        .exec(&id, &command("seq 100000"), LONG, 13)
        .await
        .expect("ran");
    assert_eq!(
        (outcome.code, outcome.output.as_str()),
        (Some(0), "99999\n100000\n")
    );
    let outcome = rig
        .docker
        .exec(
            &id,
            &command("echo begun; sleep 60"),
            Duration::from_millis(500),
            100,
        )
        .await;
    let outcome = outcome.expect("ran");
    assert_eq!(
        (outcome.code, outcome.timed_out, outcome.output.as_str()),
        (None, true, "begun\n")
    );
    let left = rig
        .docker
        .exec(&id, &command("ps | grep -c '[s]leep 60'"), LONG, 100)
        .await
        .expect("ran");
    assert_eq!(
        left.output == "0\n",
        !outcome.left_running,
        "{left:?}, {outcome:?}"
    );
    println!(
        "a command at its limit was left running: {}",
        outcome.left_running
    );

    let probe = health::container_command(&rig.docker, &id, &command("echo no; exit 1"), LONG)
        .await
        .expect("ran");
    assert!(
        !probe.healthy && probe.detail.ends_with("exit code 1: no"),
        "{probe:?}"
    );
    let missing = rig
        .docker
        .exec(&id, &["/no/such".to_owned()], LONG, 500)
        .await
        .expect("the engine answered");
    assert!(missing.code != Some(0), "{missing:?}");

    rig.docker
        .stop(&id, Signal::KILL, Duration::ZERO)
        .await
        .expect("ended");
    let error = rig
        .docker
        .exec(&id, &command("true"), LONG, 100)
        .await
        .expect_err("it does not run");
    assert!(matches!(error, DockerError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn a_sample_shows_what_a_container_uses_and_there_is_none_of_one_that_ended() {
    let Some(rig) = rig("a_sample_shows_what_a_container_uses_and_there_is_none_of_one_that_ended")
    else {
        return;
    };
    let mut spec = rig.shell("echo up; while :; do :; done");
    spec.cpus = Some(0.5);
    spec.memory = Some(64 << 20);
    let id = rig.start(&spec).await;
    until_running(&rig.docker, &id, "up").await;
    let stats = rig.docker.stats(&id).await.expect("it runs");
    assert!(
        stats.cpu_percent.is_some_and(|percent| percent > 0.5),
        "{stats:?}"
    );
    assert!(
        stats.cpu_total_ns > 0 && stats.memory_bytes > 0 && stats.pids > 0,
        "{stats:?}"
    );
    assert_eq!(stats.memory_limit_bytes, 64 << 20);
    rig.docker
        .stop(&id, Signal::KILL, Duration::ZERO)
        .await
        .expect("ended");
    let error = rig.docker.stats(&id).await.expect_err("it does not run");
    assert!(matches!(error, DockerError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn why_an_image_is_not_here_is_told_apart() {
    let Some(rig) = rig("why_an_image_is_not_here_is_told_apart") else {
        return;
    };
    let docker = &rig.docker;
    let quiet = |line: String| println!("progress: {line}");
    let here = docker
        .ensure_image(&rig.image, PullPolicy::IfNotPresent, None, quiet)
        .await
        .expect("here");
    assert_eq!(
        here,
        docker
            .ensure_image(&rig.image, PullPolicy::Never, None, quiet)
            .await
            .expect("here")
    );

    let never = docker
        .ensure_image("testrig/never-built:1", PullPolicy::Never, None, quiet)
        .await;
    assert!(
        matches!(never, Err(PullError::NeverPulled { .. })),
        "{never:?}"
    );
    let name = docker
        .ensure_image("Not A Name", PullPolicy::Always, None, quiet)
        .await;
    assert!(
        matches!(name, Err(PullError::InvalidName { .. })),
        "{name:?}"
    );

    let registry = Registry::answering(
        404,
        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
    );
    let registry = registry.await;
    let image = format!("{}/models/none:1", registry.address);
    let missing = docker
        .ensure_image(&image, PullPolicy::IfNotPresent, None, quiet)
        .await;
    assert!(
        matches!(missing, Err(PullError::NotFound { .. })),
        "{missing:?}"
    );

    let registry = Registry::answering(
        401,
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
    )
    .await;
    let image = format!("{}/models/secret:1", registry.address);
    let login = docker
        .ensure_image(&image, PullPolicy::Always, None, quiet)
        .await;
    assert!(
        matches!(login, Err(PullError::Unauthorized { .. })),
        "{login:?}"
    );

    let closed = registry.close().await;
    let route = docker
        .ensure_image(
            &format!("{closed}/models/x:1"),
            PullPolicy::Always,
            None,
            quiet,
        )
        .await;
    assert!(matches!(route, Err(PullError::NoRoute { .. })), "{route:?}");
}

/// 600 lines on both streams, with an empty one, UTF-8, and one of 40,000 characters, which the engine stores in parts.
const TALK: &str =
    "i=0; while [ $i -lt 300 ]; do echo \"out $i ü\"; echo \"err $i\" >&2; i=$((i+1)); done
    echo; head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'no line feed'";

fn check_talk(lines: &[testrig_host::docker::LogLine]) {
    assert_eq!(
        lines.iter().map(|l| l.number).collect::<Vec<_>>(),
        (1..=603).collect::<Vec<_>>()
    );
    let of = |stream| {
        let wanted = lines.iter().filter(move |l| l.stream == stream);
        wanted
            .map(|l| String::from_utf8_lossy(&l.bytes).into_owned())
            .collect::<Vec<_>>()
    };
    let mut out: Vec<String> = (0..300).map(|i| format!("out {i} ü")).collect();
    out.extend([String::new(), "x".repeat(40_000), "no line feed".to_owned()]);
    assert_eq!(of(OutputStream::Stdout), out);
    assert_eq!(
        of(OutputStream::Stderr),
        (0..300).map(|i| format!("err {i}")).collect::<Vec<_>>()
    );
    assert!(lines.iter().all(|l| l.time_ns > 0 && !l.continues));
}

#[tokio::test]
async fn a_log_is_read_on_from_any_line_with_no_hole_and_no_double() {
    let Some(rig) = rig("a_log_is_read_on_from_any_line_with_no_hole_and_no_double") else {
        return;
    };
    let id = rig.start(&rig.shell(TALK)).await;
    let all = lines_until_end(&rig.docker, &id, 0).await;
    check_talk(&all);
    for after in [1, 299, 600, 602, 603, 9999] {
        let rest = lines_until_end(&rig.docker, &id, after).await;
        let from = usize::try_from(after).expect("small").min(all.len());
        assert_eq!(rest, all[from..], "behind line {after}");
    }
}

#[tokio::test]
async fn a_log_that_is_followed_over_lost_connections_has_every_line_once() {
    let Some(rig) = rig("a_log_that_is_followed_over_lost_connections_has_every_line_once") else {
        return;
    };
    let Some((proxy, docker)) =
        rig.behind_proxy("a_log_that_is_followed_over_lost_connections_has_every_line_once")
    else {
        return;
    };
    let talk = TALK.replace("i=$((i+1))", "i=$((i+1)); [ $((i % 20)) = 0 ] && sleep 0.1");
    let spec = rig.shell(&talk);
    let id = rig.create(&spec).await;
    // Followed before it is started.
    let reader = tokio::spawn({
        let (docker, id) = (docker.clone(), id.clone());
        async move { lines_until_end(&docker, &id, 0).await }
    });
    tokio::time::sleep(Duration::from_millis(150)).await;
    rig.docker.start(&id).await.expect("started");
    let mut cuts = 0;
    while !reader.is_finished() {
        tokio::time::sleep(Duration::from_millis(250)).await;
        proxy.cut();
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.mend();
        cuts += 1;
    }
    check_talk(&reader.await.expect("no panic"));
    println!("{cuts} cuts");
    assert!(cuts > 2, "the log was read too fast for the cuts to matter");
}

#[tokio::test]
async fn an_end_behind_a_lost_engine_is_unknown_until_it_answers_and_then_right() {
    let Some(rig) = rig("an_end_behind_a_lost_engine_is_unknown_until_it_answers_and_then_right")
    else {
        return;
    };
    let Some((proxy, docker)) =
        rig.behind_proxy("an_end_behind_a_lost_engine_is_unknown_until_it_answers_and_then_right")
    else {
        return;
    };
    let id = rig.start(&rig.shell("echo up; sleep 0.5; exit 6")).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let waiter = tokio::spawn({
        let (docker, id) = (docker.clone(), id.clone());
        async move {
            docker
                .wait(&id, move |notice| drop(tell.send(notice)))
                .await
        }
    });
    until_running(&docker, &id, "up").await;
    proxy.cut();
    let lost = told.recv().await.expect("told");
    assert!(matches!(lost, EngineNotice::Lost(_)), "{lost:?}");
    let error = docker.inspect(&id).await.expect_err("nobody answers");
    assert!(error.is_unavailable(), "{error}");
    // It ends while nobody can see it.
    rig.docker.wait(&id, none).await.expect("ended");
    assert!(!waiter.is_finished());
    proxy.mend();
    assert_eq!(told.recv().await, Some(EngineNotice::Back));
    assert_eq!(
        waiter.await.expect("no panic").expect("known").code,
        Some(6)
    );
}

#[tokio::test]
async fn a_container_on_the_hosts_network_publishes_nothing_and_is_reachable() {
    let Some(rig) = rig("a_container_on_the_hosts_network_publishes_nothing_and_is_reachable")
    else {
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("free")
        .port();
    let mut spec = rig.shell(&format!("echo up; exec httpd -f -p 127.0.0.1:{port} -h /"));
    spec.network = Network::Host;
    spec.publish = vec![PortPublish {
        container: port,
        host: 0,
        bind: None,
    }];
    let id = rig.start(&spec).await;
    until_running(&rig.docker, &id, "up").await;
    let deadline = Instant::now() + LONG;
    while !health::tcp(([127, 0, 0, 1], port).into(), LONG)
        .await
        .healthy
    {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(TEN_MS).await;
    }
    let info = rig.docker.inspect(&id).await.expect("there");
    assert_eq!((info.network_mode.as_str(), info.ports.len()), ("host", 0));
}

#[tokio::test]
async fn a_hundred_thousand_lines_are_read_in_order() {
    let Some(rig) = rig("a_hundred_thousand_lines_are_read_in_order") else {
        return;
    };
    let id = rig.start(&rig.shell("seq 1 100000")).await;
    let mut logs = rig.docker.logs(&id, 0);
    let mut next = 0u64;
    while let Some(line) = logs.next().await.expect("readable") {
        next += 1;
        assert_eq!(
            std::str::from_utf8(&line.bytes)
                .expect("digits")
                .parse::<u64>()
                .expect("number"),
            next
        );
        assert_eq!(line.number, next);
    }
    assert_eq!(next, 100_000);
    let begin = Instant::now();
    assert!(
        rig.docker
            .logs(&id, next)
            .next()
            .await
            .expect("readable")
            .is_none()
    );
    println!(
        "a second reading of 100,000 lines took {:?}",
        begin.elapsed()
    );
}

#[test]
fn a_spec_needs_no_more_than_names() {
    let spec = ContainerSpec::new(testrig_host::BoundaryId::new(1, 0), "n", "i");
    assert_eq!(spec.network, Network::Bridge);
}
