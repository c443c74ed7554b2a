//! `GET /ws/log`: the lines of one instance, from an index on, then live.
//!
//! A text frame is exactly the `logContent` that the PowerJob server gets and text frames carry nothing else, so that the
//! number of the frame plus the index asked for is the index of the line: whoever reconnects with the next index loses and
//! doubles nothing. A slow reader is served from the journal at its own pace; nothing is buffered for it.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        RawQuery, State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use testrig_joblog::{Journal, Line};

use super::{AdminState, problem};

/// Keep-alive: proxies close what is silent for a minute.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A platform often subscribes before the dispatch has reached this host.
const WAIT_FOR_INSTANCE: Duration = Duration::from_secs(30);
/// A reader that takes nothing for this long is gone.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// What a subscriber says has no meaning, so nothing long of it is kept.
const INBOUND: usize = 16 << 10;

/// Close codes below 4000 are the standard's; this one is ours, in the style of HTTP.
const CLOSE_NOT_FOUND: u16 = 4404;
const CLOSE_NORMAL: u16 = 1000;
const CLOSE_GOING_AWAY: u16 = 1001;
const CLOSE_ERROR: u16 = 1011;

/// What a subscriber asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    instance_id: i64,
    app_id: Option<i64>,
    index: u64,
    records: bool,
    follow: bool,
}

pub(super) async fn handler(
    State(state): State<Arc<AdminState>>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let wish = match parse(query.as_deref().unwrap_or_default()) {
        Ok(wish) => wish,
        Err(text) => return problem(StatusCode::BAD_REQUEST, &text),
    };
    if let Some(text) = wish.app_id.and_then(|id| state.foreign_app(id)) {
        return problem(StatusCode::NOT_FOUND, &text);
    }
    match upgrade {
        Ok(upgrade) => upgrade
            .max_message_size(INBOUND)
            .max_frame_size(INBOUND)
            .on_upgrade(move |socket| serve(state, wish, socket))
            .into_response(),
        Err(e) => problem(
            StatusCode::UPGRADE_REQUIRED,
            &format!("/ws/log is a WebSocket: connect with ws://, not http:// ({e})"),
        ),
    }
}

fn parse(query: &str) -> Result<Wish, String> {
    let mut wish = Wish { instance_id: 0, app_id: None, index: 0, records: false, follow: true };
    let mut seen = false;
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let number = |accepted: &str| format!("`{key}` is `{value}`; accepted: {accepted}");
        match key.as_ref() {
            "instanceId" => {
                wish.instance_id =
                    value.parse().map_err(|_| number("the id of an instance, e.g. 1004402621408084032"))?;
                seen = true;
            }
            "appId" if value.is_empty() => {}
            "appId" => wish.app_id = Some(value.parse().map_err(|_| number("the number of an app"))?),
            "index" => wish.index = value.parse().map_err(|_| number("the first line wanted, 0 or more"))?,
            "format" => {
                wish.records = match value.as_ref() {
                    "text" => false,
                    "json" => true,
                    _ => return Err(number("text, json")),
                }
            }
            "follow" => wish.follow = value.parse().map_err(|_| number("true, false"))?,
            "token" => {}
            _ => {
                return Err(format!(
                    "unknown parameter `{key}`; known: instanceId, appId, index, format, follow, token"
                ));
            }
        }
    }
    if seen { Ok(wish) } else { Err("`instanceId` is missing: /ws/log?instanceId=..&index=0".into()) }
}

async fn serve(state: Arc<AdminState>, wish: Wish, mut socket: WebSocket) {
    let _counted = state.count_subscriber();
    let (code, reason) = match find(&state, &wish, &mut socket).await {
        Some(Ok(journal)) => match send_lines(&state, &wish, &journal, &mut socket).await {
            Some(end) => end,
            None => return,
        },
        Some(Err(end)) => end,
        None => return,
    };
    let frame = CloseFrame { code, reason: reason.into() };
    // Whoever has gone already needs no farewell.
    let _ = tokio::time::timeout(SEND_LIMIT, socket.send(Message::Close(Some(frame)))).await;
}

/// The journal, or the close frame that says why there is none; `None` when the subscriber left.
async fn find(state: &AdminState, wish: &Wish, socket: &mut WebSocket) -> Option<Result<Arc<Journal>, (u16, String)>> {
    let deadline = tokio::time::Instant::now() + WAIT_FOR_INSTANCE;
    loop {
        let (journals, id) = (state.journals.clone(), wish.instance_id);
        // A long journal that nobody has open is read from end to end first.
        let found = tokio::task::spawn_blocking(move || journals.existing(id)).await;
        match found.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(Some(journal)) => return Some(Ok(journal)),
            Ok(None) if tokio::time::Instant::now() < deadline && wish.follow => {}
            Ok(None) => {
                return Some(Err((CLOSE_NOT_FOUND, format!("no log of instance {} on this host", wish.instance_id))));
            }
            Err(e) => return Some(Err((CLOSE_ERROR, short(&format!("the log cannot be opened: {e}"))))),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            () = state.shutdown.cancelled() => return Some(Err((CLOSE_GOING_AWAY, "the agent is stopping".into()))),
            left = left(socket) => if left { return None },
        }
    }
}

/// Sends until the end; gives the close frame, or `None` when the subscriber left.
async fn send_lines(
    state: &AdminState,
    wish: &Wish,
    journal: &Arc<Journal>,
    socket: &mut WebSocket,
) -> Option<(u16, String)> {
    let mut changes = journal.subscribe();
    let mut next = wish.index;
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        let now = changes.borrow_and_update().clone();
        while next < now.len {
            let from = Arc::clone(journal);
            let lines = match tokio::task::spawn_blocking(move || from.read(next, 512, 256 << 10)).await {
                Ok(Ok(lines)) if !lines.is_empty() => lines,
                Ok(Ok(_)) => return Some((CLOSE_ERROR, format!("line {next} of the log is gone"))),
                Ok(Err(e)) => return Some((CLOSE_ERROR, short(&format!("the log cannot be read: {e}")))),
                Err(_) => return Some((CLOSE_GOING_AWAY, "the agent is stopping".into())),
            };
            for line in lines {
                if state.shutdown.is_cancelled() {
                    return Some((CLOSE_GOING_AWAY, "the agent is stopping".into()));
                }
                next = line.index + 1;
                let text = if wish.records { record(&line) } else { line.text };
                match tokio::time::timeout(SEND_LIMIT, socket.send(Message::Text(text.into()))).await {
                    Ok(Ok(())) => state.count_line(),
                    Ok(Err(_)) | Err(_) => return None,
                }
            }
        }
        if let Some(status) = now.closed {
            return Some((CLOSE_NORMAL, status));
        }
        if !wish.follow {
            return Some((CLOSE_NORMAL, "RUNNING".into()));
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Some((CLOSE_GOING_AWAY, "the log was put away".into())) },
            _ = ping.tick() => {
                let sent = tokio::time::timeout(SEND_LIMIT, socket.send(Message::Ping(Vec::new().into()))).await;
                if !matches!(sent, Ok(Ok(()))) { return None }
            }
            left = left(socket) => if left { return None },
            () = state.shutdown.cancelled() => return Some((CLOSE_GOING_AWAY, "the agent is stopping".into())),
        }
    }
}

/// Waits for something from the subscriber; true when it left. What it says otherwise has no meaning here.
async fn left(socket: &mut WebSocket) -> bool {
    !matches!(socket.recv().await, Some(Ok(message)) if !matches!(message, Message::Close(_)))
}

fn record(line: &Line) -> String {
    json!({ "index": line.index, "time": line.time_ms, "logTime": line.log_time_ms, "level": line.level.name(),
        "source": line.source, "text": line.text })
    .to_string()
}

/// A close reason holds 123 bytes at most.
fn short(text: &str) -> String {
    let mut end = text.len().min(120);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_each_mistake_is_named() {
        let wish = parse("instanceId=1004402621408084032&appId=1&index=7&format=json").expect("good");
        assert_eq!(
            wish,
            Wish { instance_id: 1_004_402_621_408_084_032, app_id: Some(1), index: 7, records: true, follow: true }
        );
        for (query, text) in [
            ("", "`instanceId` is missing"),
            ("instanceId=x", "`instanceId` is `x`; accepted: the id"),
            ("instanceId=1&index=-1", "`index` is `-1`; accepted: the first line wanted"),
            ("instanceId=1&format=xml", "accepted: text, json"),
            ("instanceId=1&indx=3", "unknown parameter `indx`"),
        ] {
            let e = parse(query).expect_err(query);
            assert!(e.contains(text), "{query}: {e}");
        }
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        assert!(short(&"日志".repeat(100)).len() <= 120);
    }
}
