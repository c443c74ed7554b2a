//! Logs, and an engine that is lost and comes back.

use std::time::{Duration, Instant};

use testrig_host::docker::{EngineNotice, LogLine, OutputStream};

use crate::rig::{lines_until_end, none, rig, until_running};

/// 600 lines on both streams, with an empty one, UTF-8, and one of 40,000 characters, which the engine stores in parts.
const TALK: &str = "i=0; while [ $i -lt 300 ]; do echo \"out $i ü\"; echo \"err $i\" >&2; i=$((i+1)); done
    echo; head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'no line feed'";

fn check_talk(lines: &[LogLine]) {
    assert_eq!(lines.iter().map(|l| l.number).collect::<Vec<_>>(), (1..=603).collect::<Vec<_>>());
    let of = |stream| {
        let wanted = lines.iter().filter(move |l| l.stream == stream);
        wanted.map(|l| String::from_utf8_lossy(&l.bytes).into_owned()).collect::<Vec<_>>()
    };
    let mut out: Vec<String> = (0..300).map(|i| format!("out {i} ü")).collect();
    out.extend([String::new(), "x".repeat(40_000), "no line feed".to_owned()]);
    assert_eq!(of(OutputStream::Stdout), out);
    assert_eq!(of(OutputStream::Stderr), (0..300).map(|i| format!("err {i}")).collect::<Vec<_>>());
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
    let Some((proxy, docker)) = rig.behind_proxy("a_log_that_is_followed_over_lost_connections_has_every_line_once")
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
    let Some(rig) = rig("an_end_behind_a_lost_engine_is_unknown_until_it_answers_and_then_right") else {
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
        async move { docker.wait(&id, move |notice| drop(tell.send(notice))).await }
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
    assert_eq!(waiter.await.expect("no panic").expect("known").code, Some(6));
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
        assert_eq!(std::str::from_utf8(&line.bytes).expect("digits").parse::<u64>().expect("number"), next);
        assert_eq!(line.number, next);
    }
    assert_eq!(next, 100_000);
    let begin = Instant::now();
    assert!(rig.docker.logs(&id, next).next().await.expect("readable").is_none());
    println!("a second reading of 100,000 lines took {:?}", begin.elapsed());
}

#[tokio::test]
async fn a_long_line_of_one_letter_is_whole_although_its_reader_is_late_and_the_container_gone() {
    let Some(rig) = rig("logs::a_long_line_of_one_letter_is_whole_although_its_reader_is_late_and_the_container_gone")
    else {
        return;
    };
    let id = rig.start(&rig.shell("echo begin; head -c 4000000 /dev/zero | tr '\\0' x; echo; seq 1 40")).await;
    let mut logs = rig.docker.logs(&id, 0);
    let first = logs.next().await.expect("readable").expect("a line");
    assert_eq!(&first.bytes[..], b"begin");
    // The engine stands in the midst of the line, whose parts it has all given the same time.
    rig.docker.wait(&id, none).await.expect("ended");
    let (mut letters, mut rest) = (0, Vec::new());
    while let Some(line) = logs.next().await.expect("readable") {
        let text = std::str::from_utf8(&line.bytes).expect("letters and digits");
        if text.starts_with('x') {
            letters += text.len();
        } else {
            rest.push(text.to_owned());
        }
    }
    assert_eq!(letters, 4_000_000);
    assert_eq!(rest, (1..=40).map(|n| n.to_string()).collect::<Vec<_>>());
}
