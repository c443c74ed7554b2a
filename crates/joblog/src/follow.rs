//! Brings a file that somebody appends to into a journal.

use std::{io, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{Entry, Journal, Level, Resumed, Tail, TailLine};

/// How often a full disk is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often at most after the writer has ended; then the lines are counted as lost.
const TRIES_AT_END: u32 = 10;

/// What [`follow`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Followed {
    /// Where it began.
    pub resumed: Resumed,
    /// Lines that it read.
    pub lines: u64,
}

/// Appends the lines of `tail` to the journal under `source`, each with its position, until `ended` (the writer of the
/// file is gone) and the end of the file is reached; a last line without line break counts. While the disk is full it
/// waits: the file still holds the lines. May be dropped at any moment; a later call with a `Tail` from
/// [`Journal::last_position`] goes on with no hole and no double.
///
/// # Errors
/// The file cannot be read.
pub async fn follow(
    journal: &Arc<Journal>,
    source: &str,
    level: impl Fn(&str) -> Level,
    mut tail: Tail,
    ended: &CancellationToken,
) -> io::Result<Followed> {
    let mut lines = 0;
    loop {
        let batch = tokio::select! {
            // The end first, or a file that grows fast would hide it; what is left is read below.
            biased;
            () = ended.cancelled() => break,
            batch = tail.next() => batch?,
        };
        lines += batch.len() as u64;
        append(journal, source, &level, &batch, ended).await;
    }
    while let Some(batch) = tail.read().await? {
        lines += batch.len() as u64;
        append(journal, source, &level, &batch, ended).await;
    }
    if let Some(last) = tail.finish() {
        lines += 1;
        append(journal, source, &level, &[last], ended).await;
    }
    Ok(Followed { resumed: tail.resumed(), lines })
}

async fn append(
    journal: &Journal,
    source: &str,
    level: impl Fn(&str) -> Level,
    lines: &[TailLine],
    ended: &CancellationToken,
) {
    let entries: Vec<Entry<'_>> = lines
        .iter()
        .map(|line| Entry { level: level(&line.text), source, text: &line.text, position: Some(line.position) })
        .collect();
    let mut tries_left = TRIES_AT_END;
    while let Err(e) = journal.try_append_many(&entries) {
        if ended.is_cancelled() {
            tries_left -= 1;
        }
        if tries_left == 0 {
            // Once more, and counted if it fails again.
            journal.append_many(&entries);
            return;
        }
        tracing::debug!(instance = journal.instance_id(), source, error = %e, "lines wait for space on the disk");
        tokio::time::sleep(AGAIN).await;
    }
}
