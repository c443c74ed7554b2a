//! A subscriber of the log WebSocket.

use std::time::Duration;

use futures_util::StreamExt;
use libtest_mimic::Failed;
use tokio_tungstenite::tungstenite::Message;

/// What a subscriber got.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Text frames, in order.
    pub(crate) lines: Vec<String>,
    /// Close code and reason, if the agent closed.
    pub(crate) closed: Option<(u16, String)>,
}

/// Subscribes from `index` and takes lines until the agent closes, the connection breaks, or `at_most` lines have come.
pub(crate) async fn subscribe(admin: &str, instance: i64, index: u64, at_most: usize) -> Result<Received, Failed> {
    receive(&format!("ws://{admin}/ws/log?instanceId={instance}&index={index}"), at_most).await
}

/// The lines that are there now.
pub(crate) async fn so_far(admin: &str, instance: i64) -> Result<Received, Failed> {
    receive(&format!("ws://{admin}/ws/log?instanceId={instance}&follow=false"), usize::MAX).await
}

async fn receive(url: &str, at_most: usize) -> Result<Received, Failed> {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
    let mut received = Received::default();
    while received.lines.len() < at_most {
        match tokio::time::timeout(Duration::from_secs(150), socket.next()).await {
            Err(_) => {
                return Err(
                    format!("the log WebSocket was silent for 150 s after {} lines", received.lines.len()).into()
                );
            }
            Ok(Some(Ok(Message::Text(text)))) => received.lines.push(text.to_string()),
            Ok(Some(Ok(Message::Close(frame)))) => {
                received.closed = frame.map(|f| (u16::from(f.code), f.reason.to_string()));
                break;
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) => break,
        }
    }
    Ok(received)
}
