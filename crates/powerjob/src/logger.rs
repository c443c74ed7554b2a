//! The log of one instance as its processor sees it.

use std::{fmt::Display, sync::Arc};

use testrig_joblog::{Journal, Level, Position};

/// Writes lines into an instance's journal. Never blocks on a slow reader of the log.
#[derive(Clone)]
pub struct JobLogger {
    journal: Arc<Journal>,
}

impl JobLogger {
    /// A logger on this journal.
    pub fn new(journal: Arc<Journal>) -> Self {
        Self { journal }
    }

    /// The journal behind the logger.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Writes text of the given level; line breaks split it into several lines.
    pub fn log(&self, level: Level, source: &str, text: &str) {
        self.journal.append(level, source, text);
    }

    /// Writes text that was read from `position` of its source, so that a restarted worker goes on behind it.
    pub fn log_at(&self, level: Level, source: &str, text: &str, position: Position) {
        self.journal.append_at(level, source, text, position);
    }

    /// INFO from the worker itself.
    pub fn info(&self, text: impl Display) {
        self.log(Level::Info, "agent", &text.to_string());
    }

    /// WARN from the worker itself.
    pub fn warn(&self, text: impl Display) {
        self.log(Level::Warn, "agent", &text.to_string());
    }

    /// ERROR from the worker itself.
    pub fn error(&self, text: impl Display) {
        self.log(Level::Error, "agent", &text.to_string());
    }
}
