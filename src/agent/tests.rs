//! An agent without a server, in this process.

use std::collections::BTreeSet;

use futures_util::{StreamExt, future::join_all};
use powerjob_worker::Shutdown;
use testrig_joblog::Level;
use tokio_tungstenite::tungstenite::Message;

use super::Agent;
use crate::config::{Config, Purpose, Sources, load};

const ID: i64 = 1_004_402_621_408_084_032;

fn config(dir: &tempfile::TempDir, more: &[&str]) -> Config {
    let mut sets = vec![
        "powerjob.app=it".to_owned(),
        // Nobody listens there.
        "powerjob.servers=[\"127.0.0.1:9\"]".to_owned(),
        "admin.listen=127.0.0.1:0".to_owned(),
        "lane.0.name=main".to_owned(),
        "lane.0.listen=127.0.0.1:0".to_owned(),
        format!("state.dir={}", dir.path().display()),
    ];
    sets.extend(more.iter().map(|set| (*set).to_owned()));
    let file = dir.path().join("empty.toml");
    std::fs::write(&file, "").expect("written");
    let sources = Sources { file: Some(file), sets, ..Sources::default() };
    load(&sources, std::iter::empty(), Purpose::Agent).expect("a good configuration")
}

async fn agent(dir: &tempfile::TempDir) -> Agent {
    powerjob_worker::install_tls();
    Agent::start(config(dir, &[])).await.expect("the agent starts")
}

/// What a subscriber gets: its lines, and the code and reason of the end.
async fn subscribe(agent: &Agent, query: &str) -> (Vec<String>, Option<(u16, String)>) {
    let url = format!("ws://{}/ws/log?{query}", agent.admin_address());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("connected");
    let mut lines = Vec::new();
    while let Some(message) = socket.next().await {
        match message {
            Ok(Message::Text(text)) => lines.push(text.to_string()),
            Ok(Message::Close(Some(frame))) => {
                return (lines, Some((u16::from(frame.code), frame.reason.to_string())));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    (lines, None)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("waited in vain for: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_subscribers_get_every_line_and_are_told_when_the_agent_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let agent = agent(&dir).await;
    let journal = agent.journals().journal(ID).expect("a journal");
    let query = format!("instanceId={ID}");
    let end = async {
        until("all are there", || agent.admin_state.subscribers() == 200).await;
        for n in 0..50 {
            journal.append(Level::Info, "svc", &format!("line {n}"));
        }
        until("all have all", || agent.admin_state.lines_sent() == 200 * 50).await;
        agent.shutdown(Shutdown::Detach).await;
    };
    let (all, ()) = tokio::join!(join_all((0..200).map(|_| subscribe(&agent, &query))), end);
    for (lines, end) in all {
        assert_eq!(lines.len(), 50);
        assert_eq!(end, Some((1001, "the agent is stopping".to_owned())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_beyond_the_end_waits_for_its_line_and_a_closed_log_that_is_opened_again_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let agent = agent(&dir).await;
    let journal = agent.journals().journal(ID).expect("a journal");
    for n in 0..3 {
        journal.append(Level::Info, "svc", &format!("line {n}"));
    }
    let query = format!("instanceId={ID}&index=5");
    let appends = async {
        until("it is there", || agent.admin_state.subscribers() == 1).await;
        for n in 3..7 {
            journal.append(Level::Info, "svc", &format!("line {n}"));
        }
        // A retry that opens the log right after its end: whoever has not seen the end sees the lines of the retry.
        journal.close("FAILED");
        journal.reopen();
        journal.append(Level::Info, "svc", "line 7");
        journal.close("SUCCEED");
    };
    let ((lines, end), ()) = tokio::join!(subscribe(&agent, &query), appends);
    assert!(lines == ["line 5", "line 6"] || lines == ["line 5", "line 6", "line 7"], "{lines:?}");
    let ends = BTreeSet::from([(1000, "FAILED".to_owned()), (1000, "SUCCEED".to_owned())]);
    assert!(ends.contains(&end.clone().expect("an end")), "{end:?}");
    let (lines, end) = subscribe(&agent, &format!("instanceId={ID}&index=100")).await;
    assert_eq!((lines.len(), end), (0, Some((1000, "SUCCEED".to_owned()))));
    journal.reopen();
    let (lines, end) = subscribe(&agent, &format!("instanceId={ID}&index=6&follow=false")).await;
    assert_eq!((lines, end), (vec!["line 6".to_owned(), "line 7".to_owned()], Some((1000, "RUNNING".to_owned()))));
    let (_, end) = subscribe(&agent, "instanceId=77&follow=false").await;
    assert_eq!(end, Some((4404, "no log of instance 77 on this host".to_owned())));
    agent.shutdown(Shutdown::Detach).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_lane_ends_unasked_says_which() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut agent = agent(&dir).await;
    agent.workers()[0].shutdown(Shutdown::Detach).await;
    assert_eq!(agent.broken().await, "lane `main`");
    agent.shutdown(Shutdown::Detach).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_run_with_unusable_parameters_names_every_problem() {
    let dir = tempfile::tempdir().expect("a directory");
    let agent = agent(&dir).await;
    let request = serde_json::json!({"jobId": 1, "instanceId": ID, "executeType": "STANDALONE", "processorType": "BUILT_IN",
        "processorInfo": "NotifyResult", "instanceTimeoutMS": 0, "jobParams": "{\"chanels\":[]}", "timeExpressionType": "API"});
    let url = format!("http://{}/worker/runJob", agent.workers()[0].address());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.post(url).body(request.to_string()).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 200);
    until("it has ended", || agent.workers()[0].status().instances.iter().any(|i| i.stage == "draining")).await;
    let journal = agent.journals().journal(ID).expect("a journal");
    let lines: Vec<String> =
        journal.read(0, 100, 1 << 20).expect("readable").into_iter().map(|line| line.text).collect();
    let told = lines.iter().filter(|line| line.starts_with("- ")).count();
    let said = lines.iter().find(|line| line.contains(" problems:")).expect("a count");
    assert!(told > 1 && said.contains(&format!("{told} problems")), "{lines:?}");
    agent.shutdown(Shutdown::Detach).await;
}

/// A state directory with the store of a killed agent of the first version.
fn first_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let db = rusqlite::Connection::open(dir.path().join("testrig.db")).expect("a file");
    db.execute_batch(include_str!("first_store.sql")).expect("the first version's store");
    dir
}

const OPEN_IN_FIRST: &str = "1004487671348723777";

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_the_first_version_is_migrated_and_what_was_open_in_it_is_taken_up() {
    let dir = first_store();
    for _ in 0..2 {
        let agent = agent(&dir).await;
        let status = agent.workers()[0].status();
        assert_eq!(
            status.address, "127.0.0.1:17792",
            "the address of before, under which the server knows the instance"
        );
        let open: Vec<_> = status.instances.iter().map(|i| (i.instance_id.as_str(), i.stage, i.attempt)).collect();
        // Its log is empty, so its outcome may be on its way already.
        assert!(
            matches!(open[..], [(OPEN_IN_FIRST, "draining" | "reporting", 1)]),
            "it ended before and has not been told yet: {open:?}"
        );
        let outcome = status.instances[0].outcome.clone().expect("it has ended");
        assert!(!outcome.0 && outcome.1.contains("not usable"), "{outcome:?}");
        agent.shutdown(Shutdown::Detach).await;
    }
    // Every table is at the version that this program knows.
    let db = rusqlite::Connection::open(dir.path().join("testrig.db")).expect("a file");
    for migration in super::migrations() {
        let newest: u32 = db
            .query_row("SELECT max(version) FROM schema_migrations WHERE module = ?1", [migration.module], |r| r.get(0))
            .expect("the module is there");
        assert!(newest >= migration.version, "{} is at {newest}", migration.module);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_newer_version_is_refused_with_what_to_do_and_left_as_it_is() {
    let dir = first_store();
    let file = dir.path().join("testrig.db");
    let db = rusqlite::Connection::open(&file).expect("a file");
    db.execute("INSERT INTO schema_migrations (module, version) VALUES ('powerjob', 999)", []).expect("a newer one");
    let why = format!("{:#}", Agent::start(config(&dir, &[])).await.err().expect("refused"));
    for part in ["testrig.db", "version 999 of the tables of `powerjob`", "newer testrig", "move the file away"] {
        assert!(why.contains(part), "{part} in {why}");
    }
    let steps: u32 = db.query_row("SELECT count(*) FROM schema_migrations", [], |row| row.get(0)).expect("readable");
    assert_eq!(steps, 6, "nothing was migrated");
    db.execute("DELETE FROM schema_migrations WHERE version = 999", []).expect("the right program again");
    let agent = agent(&dir).await;
    assert_eq!(agent.workers()[0].status().instances.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_a_state_directory_ends_at_once_and_says_who_holds_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = agent(&dir).await;
    let why = format!("{:#}", Agent::start(config(&dir, &[])).await.err().expect("held"));
    for part in [format!("in use by process {} since 20", std::process::id()), "--state-dir".to_owned()] {
        assert!(why.contains(&part), "{part} in {why}");
    }
    assert!(!first.admin.is_finished(), "the first one does not notice");
    first.shutdown(Shutdown::Detach).await;
    drop(first);
    agent(&dir).await.shutdown(Shutdown::Detach).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_second_lane_cannot_start_leaves_nothing_of_its_first_one_behind() {
    powerjob_worker::install_tls();
    let dir = tempfile::tempdir().expect("a directory");
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = free();
    let first = free().local_addr().expect("bound");
    let second = taken.local_addr().expect("bound");
    let lanes = [format!("lane.0.listen={first}"), "lane.1.name=more".into(), format!("lane.1.listen={second}")];
    let start = || Agent::start(config(&dir, &lanes.each_ref().map(String::as_str)));

    let error = start().await.err().expect("the port is taken");
    let told = format!("{error:#}");
    assert!(told.starts_with("failed to start lane `more`") && told.contains(&second.port().to_string()), "{told}");

    // Its port, the directory and the store are free at once: the same agent starts as soon as the other port is.
    drop(taken);
    let agent = start().await.expect("nothing is left of the first attempt");
    assert_eq!(agent.workers().len(), 2);
    agent.shutdown(Shutdown::Detach).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_only_requests_to_names_of_this_host_are_served_and_no_other_page_may_read_the_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    powerjob_worker::install_tls();
    let agent = Agent::start(config(&dir, &["admin.hosts=[\"rig.lab\"]"])).await.expect("the agent starts");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = async |method: reqwest::Method, path: &str, host: &str| {
        let request = http.request(method, format!("http://{}{path}", agent.admin_address())).header("host", host);
        // A page whose name was led to this host is of its own origin there.
        request.header("origin", format!("http://{host}")).send().await.expect("an answer")
    };
    let port = agent.admin_address().port();
    let post = reqwest::Method::POST;
    for path in ["/api/drain", "/api/resume"] {
        let answer = ask(post.clone(), path, &format!("evil.example:{port}")).await;
        assert_eq!(answer.status().as_u16(), 403, "{path}");
        let text = answer.text().await.expect("a body");
        assert!(text.contains("evil.example") && text.contains("admin.hosts"), "{text}");
    }
    assert!(!agent.workers()[0].status().draining);
    for path in ["/api/status", "/metrics", "/ws/log?instanceId=1"] {
        assert_eq!(ask(reqwest::Method::GET, path, "evil.example").await.status().as_u16(), 403, "{path}");
    }
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "rig.lab".to_owned()] {
        let answer = ask(reqwest::Method::GET, "/api/status", &host).await;
        assert_eq!(answer.status().as_u16(), 200, "{host}");
        let cors = answer.headers().keys().filter(|name| name.as_str().starts_with("access-control-")).count();
        assert_eq!(cors, 0, "{host}");
    }
    let preflight = ask(reqwest::Method::OPTIONS, "/api/drain", "localhost").await;
    assert!(!preflight.status().is_success() && !preflight.headers().contains_key("access-control-allow-origin"));
    assert_eq!(ask(reqwest::Method::GET, "/healthz", "probe.example").await.status().as_u16(), 200, "it tells nothing");
    assert_eq!(ask(post, "/api/drain", "rig.lab").await.status().as_u16(), 200);
    assert!(agent.workers()[0].status().draining);
    agent.shutdown(Shutdown::Detach).await;
}
