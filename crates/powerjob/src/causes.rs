//! Errors in words.

use std::error::Error;

/// The error with its causes in one line; a cause that the text names already is not said again.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Link {
        words: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn every_cause_is_told_once() {
        let link = |words, source| Link { words, source };
        let last = link("disk is full", None);
        let middle = link("write failed: disk is full", Some(Box::new(last)));
        let first = link("no commit", Some(Box::new(middle)));
        assert_eq!(with_causes(&first), "no commit: write failed: disk is full");
    }
}
