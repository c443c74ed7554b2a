//! Lines that could not be kept, and the lines that say so. Nothing is lost silently.

/// What was lost and not yet told.
#[derive(Debug, Default)]
pub(crate) struct Loss {
    /// Lines dropped because the journal is at its limit, over the whole life of the journal.
    at_limit: u64,
    /// The line that announces the limit was written.
    limit_told: bool,
    /// Lines dropped at the limit before the process started, of which some may be missing here.
    inexact: bool,
    /// Lines that could not be written, with the reason of the last.
    unwritten: u64,
    reason: String,
    /// Lines that came after the end.
    after_close: u64,
}

impl Loss {
    /// What a journal's file told.
    pub(crate) fn found(dropped: u64) -> Self {
        Self { at_limit: dropped, limit_told: dropped > 0, inexact: dropped > 0, ..Self::default() }
    }

    /// The line to write before the first line is dropped at the limit.
    pub(crate) fn limit_line(&self, limit: u64) -> Option<String> {
        (!self.limit_told).then(|| {
            format!(
                "this log has reached its limit of {limit} bytes on disk; further lines are dropped and counted, only \
                 the agent's own are kept"
            )
        })
    }

    /// The new count, if `more` lines bring it to a further power of two: so often it is made durable.
    pub(crate) fn count_to_keep(&self, more: u64) -> Option<u64> {
        let after = self.at_limit + more;
        (more > 0 && (self.at_limit == 0 || after.ilog2() > self.at_limit.ilog2())).then_some(after)
    }

    /// Counts lines dropped at the limit; [`Loss::limit_line`] is on the disk.
    pub(crate) fn at_limit(&mut self, lines: u64) {
        self.at_limit += lines;
        self.limit_told = true;
    }

    pub(crate) fn dropped_at_limit(&self) -> u64 {
        self.at_limit
    }

    /// Counts lines that could not be written.
    pub(crate) fn unwritten(&mut self, lines: u64, reason: String) {
        self.unwritten += lines;
        self.reason = reason;
    }

    /// The line about what could not be written, which stands before the next one that can.
    pub(crate) fn unwritten_line(&self) -> Option<String> {
        (self.unwritten > 0).then(|| {
            format!("{} of this log could not be written and are lost here: {}", lines(self.unwritten), self.reason)
        })
    }

    /// [`Loss::unwritten_line`] is on the disk.
    pub(crate) fn unwritten_told(&mut self) {
        self.unwritten = 0;
    }

    /// Counts lines that came after the end; true for the first.
    pub(crate) fn after_close(&mut self, lines: u64) -> bool {
        self.after_close += lines;
        self.after_close == lines
    }

    pub(crate) fn dropped_after_close(&self) -> u64 {
        self.after_close
    }

    /// The line for a further attempt about what came after the end of the one before.
    pub(crate) fn late_line(&self) -> Option<String> {
        (self.after_close > 0)
            .then(|| format!("{} came after the end of the attempt before and were dropped", lines(self.after_close)))
    }

    /// [`Loss::late_line`] is on the disk.
    pub(crate) fn late_told(&mut self) {
        self.after_close = 0;
    }

    /// The line at the end about what the limit cost.
    pub(crate) fn final_line(&self) -> Option<String> {
        let about = if self.inexact { "about " } else { "" };
        (self.at_limit > 0).then(|| {
            format!("{about}{} of this log were dropped because it was at its limit on disk", lines(self.at_limit))
        })
    }
}

fn lines(n: u64) -> String {
    format!("{n} {}", if n == 1 { "line" } else { "lines" })
}
