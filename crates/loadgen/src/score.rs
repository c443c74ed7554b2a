//! Judges answers against the reference of their dataset item.

use std::str::FromStr;

use crate::record::Score;

/// How answers are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scorer {
    /// Not at all.
    #[default]
    None,
    /// 1 when the answer is the reference, apart from white space around both; otherwise 0.
    Exact,
}

impl Scorer {
    /// All names, as the parameter `test.scorer` has them.
    pub const NAMES: [&'static str; 2] = ["none", "exact"];

    /// Judges `answer`; None without a scorer or a reference.
    #[must_use]
    pub fn score(self, answer: &str, reference: Option<&str>) -> Option<Score> {
        match (self, reference) {
            (Self::None, _) | (_, None) => None,
            (Self::Exact, Some(reference)) => {
                let value = if answer.trim() == reference.trim() { 1.0 } else { 0.0 };
                Some(Score { name: "exact".to_owned(), value })
            }
        }
    }
}

impl FromStr for Scorer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "exact" => Ok(Self::Exact),
            other => Err(format!("`{other}` is no scorer of this version; accepted are {}", Self::NAMES.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_ignores_white_space_around_and_nothing_else() {
        let value = |answer, reference| Scorer::Exact.score(answer, reference).map(|score| score.value);
        assert_eq!(value(" 42\n", Some("42")), Some(1.0));
        assert_eq!(value("4 2", Some("42")), Some(0.0));
        assert_eq!(value("42", None), None);
        assert_eq!(Scorer::None.score("42", Some("42")), None);
    }

    #[test]
    fn an_unknown_scorer_is_refused_with_the_list() {
        assert_eq!(
            "gsm8k".parse::<Scorer>(),
            Err("`gsm8k` is no scorer of this version; accepted are none, exact".to_owned())
        );
    }
}
