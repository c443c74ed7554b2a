//! What is wrong with parameters, said so that the reader can mend it.

use std::fmt;

use powerjob_worker::{ProcessResult, TaskContext};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, e.g. `jobParams.healthCheck.type`.
    pub path: String,
    /// What is wrong, what was found, what is accepted.
    pub text: String,
    /// The value is well formed; this agent's configuration does not allow it.
    pub denied: bool,
}

impl Problem {
    /// A value that is not accepted.
    pub fn found(path: impl Into<String>, found: impl fmt::Display, accepted: impl fmt::Display) -> Self {
        Self { path: path.into(), text: format!("found {found}; accepted: {accepted}"), denied: false }
    }

    /// Any other problem.
    pub fn says(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into(), denied: false }
    }
}

impl Problem {
    /// Whether nothing is wrong but that nobody gave it.
    pub(crate) fn is_missing(&self) -> bool {
        self.text.starts_with("is missing")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Everything that is wrong with the parameters of one run, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The processor.
    pub processor: &'static str,
    /// At least one.
    pub list: Vec<Problem>,
}

impl Problems {
    /// Tells them all in the log, where of a result only the first line stands, and ends the run.
    pub fn reject(&self, ctx: &TaskContext) -> ProcessResult {
        ctx.log.error(self);
        ProcessResult::rejected(self.to_string())
    }

    /// Nothing is wrong but that this agent does not allow it.
    pub fn only_denials(&self) -> bool {
        self.list.iter().all(|problem| problem.denied)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.as_slice() {
            [one] => write!(f, "the parameters of {} are not usable: {one}", self.processor),
            many => {
                write!(f, "the parameters of {} are not usable, {} problems:", self.processor, many.len())?;
                many.iter().try_for_each(|problem| write!(f, "\n- {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

/// The known name nearest to what was written, if it is near enough to be meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    known
        .into_iter()
        .map(|name| {
            let candidate = name.to_lowercase();
            let last = candidate.rsplit('.').next().unwrap_or(&candidate);
            // `runtime` is near to `docker.runtime`, but an equal whole name is nearer.
            let score = strsim::jaro_winkler(&lower, &candidate).max(strsim::jaro_winkler(&lower, last) - 0.02);
            (score, name)
        })
        .filter(|(score, _)| *score >= 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
