//! Answers that the stand-in never gives, byte by byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::ErrorClass;

/// What one request to a server that sends exactly `response`, in pieces of `step` bytes, is recorded as.
async fn answered(response: &str, step: usize) -> Record {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut plan = plan();
    plan.base_url = format!("http://{}", listener.local_addr().expect("bound"));
    plan.max_requests = Some(1);
    let response = response.as_bytes().to_vec();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("one connection");
        socket.set_nodelay(true).expect("a TCP socket");
        let mut request = Vec::new();
        while !request.ends_with(b"}}") {
            socket.read_buf(&mut request).await.expect("a request");
        }
        for part in response.chunks(step) {
            socket.write_all(part).await.expect("the client reads");
            tokio::task::yield_now().await;
        }
    });
    let (records, found) = std::sync::mpsc::channel();
    let sink = RecordSink::none().observe(move |record| records.send(record.clone()).expect("is received"));
    crate::run(plan, sink, |_| {}, CancellationToken::new()).await.expect("a run");
    server.await.expect("no panic");
    found.recv().expect("one record")
}

fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
}

const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"试🦀\"}}]}\r\n\r\n";
const FINISH: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_single_bytes_is_the_same_answer() {
    let body = format!(": hello\r\n\r\n{TOKEN}: ping\r\n\r\n{TOKEN}{TOKEN}{FINISH}data: [DONE]\r\n\r\n");
    for step in [1, 7, 100_000] {
        let record = answered(&stream(&body), step).await;
        assert!(record.ok, "{record:?}");
        assert_eq!((record.events, record.completion_tokens, record.itl_us.len()), (3, Some(3), 2));
        assert_eq!(record.token_source, Some(crate::TokenSource::Events), "nobody reported a usage");
        assert_eq!(record.finish_reason.as_deref(), Some("stop"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_stream_is_judged_by_what_was_said() {
    let good = [format!("{TOKEN}{FINISH}"), format!("{TOKEN}data: [DONE]"), format!("{TOKEN}data: [DONE]\n\n")];
    for body in good {
        let record = answered(&stream(&body), 50).await;
        assert!(record.ok, "{body}: {record:?}");
    }
    let bad = [
        (TOKEN.to_owned(), ErrorClass::Truncated),
        (format!("{TOKEN}{}", &TOKEN[..20]), ErrorClass::Truncated),
        (String::new(), ErrorClass::Truncated),
        (format!("{FINISH}data: [DONE]\n\n"), ErrorClass::Empty),
        ("data: [DONE]\n\n".to_owned(), ErrorClass::Empty),
        (format!("{TOKEN}event: error\ndata: gone\n\n"), ErrorClass::InBandError),
        (
            format!("{TOKEN}data: {{\"error\":{{\"message\":\"out of memory\"}}}}\n\ndata: [DONE]\n\n"),
            ErrorClass::InBandError,
        ),
        (format!("{TOKEN}data: 7\n\n"), ErrorClass::Malformed),
    ];
    for (body, class) in bad {
        let record = answered(&stream(&body), 50).await;
        assert_eq!((record.ok, record.error_class), (false, Some(class)), "{body}: {record:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_does_not_stream_although_asked_is_still_understood() {
    let whole = |body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let good = r#"{"choices":[{"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"completion_tokens":1}}"#;
    assert!(answered(&whole(good), 30).await.ok);
    let error = answered(&whole(r#"{"error":{"message":"model is busy"}}"#), 30).await;
    assert_eq!(error.error_class, Some(ErrorClass::InBandError));
    assert_eq!(error.error.as_deref(), Some("the service answered 200 and then: model is busy"));
    let unlabelled = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{TOKEN}data: [DONE]\n\n");
    let unlabelled = answered(&unlabelled, 30).await;
    assert_eq!((unlabelled.ok, unlabelled.events), (true, 1));
    let page = answered(&whole("<html>"), 30).await;
    assert_eq!(page.error_class, Some(ErrorClass::Malformed));
    let cut = answered("HTTP/1.1 200 OK\r\ncontent-length: 99\r\nconnection: close\r\n\r\n{\"choices\":[", 30).await;
    assert_eq!(cut.error_class, Some(ErrorClass::Truncated));
    let moved = answered("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", 30).await;
    assert_eq!((moved.error_class, moved.http_status), (Some(ErrorClass::HttpOther), Some(302)));
    let refused = answered("HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\ntoo long!", 30).await;
    assert_eq!(refused.error.as_deref(), Some("HTTP status 400: too long!"));
    let silent = answered("", 30).await;
    assert_eq!(silent.error_class, Some(ErrorClass::Disconnected));
}
