//! Lines of several instances in one request. One thread, so that what is sent at the same moment is the same on every
//! machine.

use std::sync::atomic::AtomicBool;

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use futures_util::{FutureExt, future::join_all};
use parking_lot::Mutex;
use testrig_joblog::{Level, Line, SinkError};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{core::Owner, wire::WorkerLogReportReq, worker::logs::collector::Collector, worker::shared::Shared};

/// The instance and the text of each line of a request.
type Rows = Vec<(i64, String)>;

/// A server that keeps what it is told and answers with a status.
struct Server {
    address: String,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    status: StatusCode,
    requests: Vec<Rows>,
}

impl Server {
    async fn start() -> Self {
        let book: Arc<Mutex<Book>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let answer = async |State(book): State<Arc<Mutex<Book>>>, body: Bytes| {
            let request = WorkerLogReportReq::parse(&body).expect("a log report");
            let lines = request.instance_log_contents.into_iter().map(|line| (line.instance_id, line.log_content));
            let mut book = book.lock();
            book.requests.push(lines.collect());
            book.status
        };
        let routes = Router::new().route("/server/reportLog", post(answer)).with_state(book.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, book }
    }

    fn owner(&self) -> Owner {
        Owner { transport: self.address.clone(), web: String::new(), born_time: Some(1), app_id: 7 }
    }

    /// The requests since the last call, each in the order of its instances.
    fn take(&self) -> Vec<Rows> {
        let mut requests = std::mem::take(&mut self.book.lock().requests);
        requests.iter_mut().for_each(|request| request.sort());
        requests.sort();
        requests
    }
}

fn collector(server: &Server) -> (Arc<Collector>, Arc<Shared>) {
    let shared = super::races::shared(WorkerConfig::new(["127.0.0.1:1"], "app"));
    shared.log_owner.send_replace(Some(server.owner()));
    (Collector::new(shared.clone(), TaskTracker::new()), shared)
}

fn lines(texts: &[&str]) -> Vec<Line> {
    let line = |(index, text): (usize, &&str)| Line {
        index: index as u64,
        time_ms: 1,
        log_time_ms: 1 + index as i64,
        level: Level::Info,
        source: "agent".to_owned(),
        text: (*text).to_owned(),
        position: None,
    };
    texts.iter().enumerate().map(line).collect()
}

fn row(instance: i64, text: &str) -> (i64, String) {
    (instance, text.to_owned())
}

#[tokio::test]
async fn batches_of_the_same_moment_are_one_request_and_a_long_one_has_its_own() {
    let server = Server::start().await;
    let (collector, shared) = collector(&server);
    let (one, two, long) = (lines(&["a", "b"]), lines(&["c"]), lines(&["x"; 20]));
    let alone = AtomicBool::new(false);
    let sent = [(1, &one), (2, &two), (3, &long)].map(|(id, lines)| collector.send(id, lines, &alone));
    assert_eq!(join_all(sent).await, [Ok(()), Ok(()), Ok(())]);
    let together = vec![row(1, "a"), row(1, "b"), row(2, "c")];
    assert_eq!(server.take(), [together, vec![row(3, "x"); 20]]);
    assert_eq!(shared.counters.log_lines_sent.get(), 23);
}

#[tokio::test]
async fn after_a_common_request_that_failed_each_log_is_sent_alone_until_it_is_taken() {
    let server = Server::start().await;
    let (collector, _shared) = collector(&server);
    let (one, two) = (lines(&["a"]), lines(&["b"]));
    let alone = [AtomicBool::new(false), AtomicBool::new(false)];
    let both = || join_all([collector.send(1, &one, &alone[0]), collector.send(2, &two, &alone[1])]);
    server.book.lock().status = StatusCode::INTERNAL_SERVER_ERROR;
    assert!(both().await.iter().all(|sent| matches!(sent, Err(SinkError::Retry(why)) if why.contains("500"))));
    assert_eq!(server.take(), [[row(1, "a"), row(2, "b")]]);
    server.book.lock().status = StatusCode::OK;
    assert_eq!(both().await, [Ok(()), Ok(())]);
    assert_eq!(server.take(), [[row(1, "a")], [row(2, "b")]]);
    assert_eq!(both().await, [Ok(()), Ok(())]);
    assert_eq!(server.take(), [[row(1, "a"), row(2, "b")]], "together again");
}

#[tokio::test]
async fn what_was_given_up_before_its_request_left_is_not_in_it() {
    let server = Server::start().await;
    let (collector, _shared) = collector(&server);
    let (one, two) = (lines(&["a"]), lines(&["b"]));
    let alone = AtomicBool::new(false);
    let mut held = Box::pin(collector.send(1, &one, &alone));
    assert!((&mut held).now_or_never().is_none());
    drop(held);
    collector.send(2, &two, &alone).await.expect("taken");
    assert_eq!(server.take(), [[row(2, "b")]]);
}

#[tokio::test]
async fn what_was_meant_for_the_server_of_before_does_not_go_to_another_one() {
    let (server, other) = (Server::start().await, Server::start().await);
    let (collector, shared) = collector(&server);
    let one = lines(&["a"]);
    let alone = AtomicBool::new(false);
    let mut sent = Box::pin(collector.send(1, &one, &alone));
    assert!((&mut sent).now_or_never().is_none());
    shared.log_owner.send_replace(Some(other.owner()));
    assert_eq!(sent.await, Err(SinkError::Retry("the app's server changed".to_owned())));
    assert!(server.take().is_empty() && other.take().is_empty());
}
