//! What takes lines out of a journal.

use async_trait::async_trait;

use crate::Line;

/// Why a sink did not take a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Nobody there, or not now: the same batch is sent again later.
    #[error("{0}")]
    Retry(String),
    /// The content was refused and will be again: the batch is split until the line is found.
    #[error("{0}")]
    Refused(String),
}

/// Something that takes lines, with a durable cursor under its name. It bounds the time of a call by itself.
#[async_trait]
pub trait Sink: Send + Sync {
    /// The name of its cursor; it never changes.
    fn name(&self) -> &str;

    /// Waits until it wants a batch; the lines are read afterwards, `waiting` of them or more. For a sink that sends those
    /// of several journals together; it must end soon.
    async fn ready(&self, waiting: u64) {
        let _any_moment_is_right = waiting;
    }

    /// Takes the lines, in order and as a whole. After `Ok` they are never sent again, except after a crash or a
    /// [`crate::Pump::rewind`], and then with the same index and log time.
    async fn send(&self, instance_id: i64, lines: &[Line]) -> Result<(), SinkError>;
}
