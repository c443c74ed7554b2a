//! How long a result text and an appended workflow context may be. Both are counted in UTF-16 units, as the server's
//! Java does.

use std::collections::BTreeMap;

/// Number of UTF-16 units.
fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The text itself, or its first `limit` UTF-16 units and `...`. A character is never cut in two.
pub(crate) fn truncate(text: &str, limit: usize) -> String {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.len_utf16();
        if used > limit {
            return format!("{}...", &text[..at]);
        }
    }
    text.to_owned()
}

/// An appended workflow context that is longer than the server's Java would take. It is refused, never cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the appended workflow context is too long: its JSON has {length} characters, {limit} are allowed, and key `{largest}` \
     alone takes {largest_length}; nothing of it was passed on. Append less, e.g. the path of a file in place of its content"
)]
pub struct ContextTooLong {
    /// Length of its JSON, UTF-16 units.
    pub length: usize,
    /// The longest that is allowed.
    pub limit: usize,
    /// The key that takes most of it.
    pub largest: String,
    /// What that key takes, with its value.
    pub largest_length: usize,
}

/// Checks the JSON of the context against the limit.
pub(crate) fn check_context(context: &BTreeMap<String, String>, limit: usize) -> Result<(), ContextTooLong> {
    let json = |text: &String| serde_json::to_string(text).map_or(0, |json| units(&json));
    // Braces, and per entry key, colon, value and (between entries) a comma.
    let entries = context.iter().map(|(key, value)| (key, json(key) + 1 + json(value)));
    let length = 2 + entries.clone().map(|(_, length)| length).sum::<usize>() + context.len().saturating_sub(1);
    if length <= limit || context.is_empty() {
        return Ok(());
    }
    let (largest, largest_length) =
        entries.max_by_key(|(_, length)| *length).map_or((String::new(), 0), |(k, l)| (k.clone(), l));
    Err(ContextTooLong { length, limit, largest, largest_length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_within_the_limit_stays_as_it_is() {
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("", 0), "");
    }

    #[test]
    fn a_longer_text_keeps_its_first_units_and_three_dots() {
        assert_eq!(truncate("abcd", 3), "abc...");
        assert_eq!(truncate("中文字", 2), "中文...");
    }

    #[test]
    fn units_are_utf16_and_a_surrogate_pair_is_never_cut() {
        assert_eq!(truncate("a😀b", 4), "a😀b");
        assert_eq!(truncate("a😀b", 3), "a😀...");
        assert_eq!(truncate("a😀b", 2), "a...");
    }

    #[test]
    fn the_length_of_a_context_is_that_of_its_json_in_utf16_units() {
        let context = BTreeMap::from([("k\"".to_owned(), "😀\n".to_owned()), ("rows".to_owned(), "42".to_owned())]);
        let real = serde_json::to_string(&context).expect("strings").encode_utf16().count();
        assert_eq!(check_context(&context, real), Ok(()));
        let error = check_context(&context, real - 1).expect_err("one unit too long");
        assert_eq!((error.length, error.largest.as_str()), (real, "k\""));
    }

    #[test]
    fn an_empty_context_is_never_too_long() {
        assert_eq!(check_context(&BTreeMap::new(), 0), Ok(()));
    }
}
