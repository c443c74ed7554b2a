//! Conditions of `severityRules`: `finalStatus == 'FAILED' or metrics.error_rate > 0.05`.
//!
//! ```text
//! or    = and { ("or" | "||") and }          and  = not { ("and" | "&&") not }
//! not   = { "not" | "!" } ( "(" or ")" | side compare side )
//! side  = 'text' | "text" | number | name | metrics.name
//! compare = == | != | < | <= | > | >=        (texts only == and !=)
//! ```
//!
//! A comparison with something that is not known is neither true nor false: `not` of it is unknown, too, and a rule
//! whose condition is unknown does not hold.

mod lex;

use self::lex::{Token, tokens};
use super::facts::{Facts, TEXTS};
use crate::params::nearest;

/// Deepest nesting that is read.
const DEPTH: usize = 50;

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    Or(Vec<Condition>),
    And(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Side, Operator, Side),
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Side {
    Text(String),
    Number(f64),
    Known(String),
    Metric(String),
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// Reads a condition; the error says where and what is accepted.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0, text };
        let condition = parser.or(0)?;
        match parser.peek() {
            None => Ok(condition),
            Some(_) => Err(parser.expected("`and`, `or` or the end")),
        }
    }

    /// Whether it holds; `None` = that cannot be said.
    pub(super) fn holds(&self, facts: &Facts) -> Option<bool> {
        match self {
            Self::Or(all) => decide(all, facts, true),
            Self::And(all) => decide(all, facts, false),
            Self::Not(inner) => inner.holds(facts).map(|holds| !holds),
            Self::Compare(left, operator, right) => compare(left, *operator, right, facts),
        }
    }

    /// The metrics that it asks for.
    pub(super) fn metrics(&self) -> Vec<&str> {
        match self {
            Self::Or(all) | Self::And(all) => all.iter().flat_map(Self::metrics).collect(),
            Self::Not(inner) => inner.metrics(),
            Self::Compare(left, _, right) => [left, right]
                .into_iter()
                .filter_map(|side| match side {
                    Side::Metric(name) => Some(name.as_str()),
                    _ => None,
                })
                .collect(),
        }
    }
}

/// `or` is decided by the first true one, `and` by the first false one; otherwise one unknown makes all unknown.
fn decide(all: &[Condition], facts: &Facts, by: bool) -> Option<bool> {
    let results: Vec<Option<bool>> = all.iter().map(|one| one.holds(facts)).collect();
    if results.contains(&Some(by)) {
        Some(by)
    } else if results.contains(&None) {
        None
    } else {
        Some(!by)
    }
}

fn compare(left: &Side, operator: Operator, right: &Side, facts: &Facts) -> Option<bool> {
    use std::cmp::Ordering;
    let ordering = if left.is_text() {
        left.text(facts)?.cmp(right.text(facts)?)
    } else {
        left.number(facts)?.partial_cmp(&right.number(facts)?)?
    };
    Some(match operator {
        Operator::Equal => ordering == Ordering::Equal,
        Operator::Unequal => ordering != Ordering::Equal,
        Operator::Less => ordering == Ordering::Less,
        Operator::LessOrEqual => ordering != Ordering::Greater,
        Operator::Greater => ordering == Ordering::Greater,
        Operator::GreaterOrEqual => ordering != Ordering::Less,
    })
}

impl Side {
    fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Known(_))
    }

    fn text<'a>(&'a self, facts: &'a Facts) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Known(name) => facts.text(name),
            Self::Number(_) | Self::Metric(_) => None,
        }
    }

    fn number(&self, facts: &Facts) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Metric(name) => facts.metric(name),
            Self::Text(_) | Self::Known(_) => None,
        }
    }
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    at: usize,
    text: &'a str,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn take(&mut self, wanted: &Token) -> bool {
        let hit = self.peek() == Some(wanted);
        self.at += usize::from(hit);
        hit
    }

    fn expected(&self, what: &str) -> String {
        match self.tokens.get(self.at) {
            Some((at, token)) => {
                format!("at character {}: found {token}; accepted: {what}", self.text[..*at].chars().count() + 1)
            }
            None => format!("ends too early; accepted: {what}"),
        }
    }

    fn or(&mut self, depth: usize) -> Result<Condition, String> {
        let mut all = vec![self.and(depth)?];
        while self.take(&Token::Or) {
            all.push(self.and(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Or(all) })
    }

    fn and(&mut self, depth: usize) -> Result<Condition, String> {
        let mut all = vec![self.not(depth)?];
        while self.take(&Token::And) {
            all.push(self.not(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::And(all) })
    }

    fn not(&mut self, depth: usize) -> Result<Condition, String> {
        if depth > DEPTH {
            return Err("is nested too deeply".into());
        }
        if self.take(&Token::Not) {
            return Ok(Condition::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take(&Token::Open) {
            let inner = self.or(depth + 1)?;
            return if self.take(&Token::Close) { Ok(inner) } else { Err(self.expected("`and`, `or` or `)`")) };
        }
        let left = self.side()?;
        let operator = match self.peek() {
            Some(Token::Operator(operator)) => *operator,
            _ => return Err(self.expected("==, !=, <, <=, > or >=")),
        };
        self.at += 1;
        let right = self.side()?;
        if left.is_text() != right.is_text() {
            return Err(
                "compares a text with a number; accepted: texts with texts, metrics with numbers or metrics".into()
            );
        }
        if left.is_text() && !matches!(operator, Operator::Equal | Operator::Unequal) {
            return Err("compares texts by size; accepted: == or !=".into());
        }
        Ok(Condition::Compare(left, operator, right))
    }

    fn side(&mut self) -> Result<Side, String> {
        let side = match self.peek() {
            Some(Token::Text(text)) => Side::Text(text.clone()),
            Some(Token::Number(number)) => Side::Number(*number),
            Some(Token::Name(name)) => match name.strip_prefix("metrics.") {
                Some(metric) if !metric.is_empty() => Side::Metric(metric.to_owned()),
                _ if TEXTS.contains(&name.as_str()) => Side::Known(name.clone()),
                _ => {
                    let hint = nearest(name, TEXTS).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                    return Err(format!(
                        "found the name {name}, which is not known{hint}; accepted: {}, metrics.<name>",
                        TEXTS.join(", ")
                    ));
                }
            },
            _ => return Err(self.expected("a 'text', a number, a name such as finalStatus, or metrics.<name>")),
        };
        self.at += 1;
        Ok(side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            status: "FAILED".into(),
            env: "prod".into(),
            nodes: vec![("CollectLogs", "SUCCEED".into())],
            metrics: vec![("error_rate".into(), 0.1), ("qps".into(), 12.0)],
            ..Facts::default()
        }
    }

    fn holds(text: &str) -> Option<bool> {
        Condition::parse(text).expect(text).holds(&facts())
    }

    #[test]
    fn conditions_are_read_and_decided() {
        for (text, wanted) in [
            ("finalStatus == 'FAILED' or metrics.error_rate > 0.05", true),
            ("finalStatus != \"FAILED\" && metrics.error_rate > 0.05", false),
            ("env == 'prod' and (metrics.qps < 10 or metrics.error_rate >= 0.1)", true),
            ("not env == 'prod'", false),
            ("!(env == 'dev') and collectStatus == 'SUCCEED'", true),
            ("metrics.qps > metrics.error_rate", true),
            ("0.1 <= metrics.error_rate", true),
            ("metrics.error_rate == 0.1 AND metrics.qps > -1e3", true),
            // `and` binds closer than `or`.
            ("env == 'prod' or env == 'x' and env == 'y'", true),
        ] {
            assert_eq!(holds(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_decides_nothing() {
        for text in [
            "metrics.accuracy < 0.9",
            "not metrics.accuracy < 0.9",
            "modelKey == 'm'",
            "metrics.accuracy < 1 and env == 'prod'",
        ] {
            assert_eq!(holds(text), None, "{text}");
        }
        assert_eq!(holds("metrics.accuracy < 0.9 or env == 'prod'"), Some(true));
        assert_eq!(holds("metrics.accuracy < 0.9 and env == 'dev'"), Some(false));
        assert_eq!(Condition::parse("metrics.a > 1 or not metrics.b > 2").expect("good").metrics(), ["a", "b"]);
    }

    #[test]
    fn mistakes_say_where_and_what_is_accepted() {
        for (text, wanted) in [
            ("", "ends too early"),
            ("finalStatus = 'FAILED'", "did you mean `==`"),
            ("finalStatus == FAILED", "the name FAILED, which is not known"),
            ("finalstatus == 'FAILED'", "did you mean finalStatus?"),
            ("finalStatus > 'FAILED'", "compares texts by size"),
            ("metrics.qps == 'x'", "a text with a number"),
            ("metrics.qps > 1 metrics.qps", "at character 17: found the name metrics.qps; accepted: `and`, `or`"),
            ("(metrics.qps > 1", "ends too early; accepted: `and`, `or` or `)`"),
            ("metrics.qps", "accepted: ==, !="),
            ("finalStatus == 'FAILED", "has no closing"),
            ("metrics.qps > 1 ; drop", "found `;`"),
            ("metrics.qps > 1.2.3", "1.2.3"),
        ] {
            let error = Condition::parse(text).expect_err(text);
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert!(Condition::parse(&"(".repeat(10_000)).expect_err("deep").contains("too deeply"));
    }
}
