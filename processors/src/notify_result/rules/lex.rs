//! The words of a condition.

use std::fmt;

use super::Operator;

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Text(String),
    Number(f64),
    Name(String),
    Operator(Operator),
    And,
    Or,
    Not,
    Open,
    Close,
}

/// All words with the byte they begin at.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let (token, length) = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if let Some((symbol, length)) = symbol(rest) {
            (symbol, length)
        } else if c == '\'' || c == '"' {
            let inner = &rest[1..];
            let end = inner.find(c).ok_or_else(|| {
                format!("has no closing {c} for the text at character {}", text[..at].chars().count() + 1)
            })?;
            (Token::Text(inner[..end].to_owned()), end + 2)
        } else if c.is_ascii_digit() || c == '-' || c == '.' {
            number(rest)?
        } else if c.is_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
            (word(&rest[..end]), end)
        } else if c == '=' {
            return Err("has a single `=`; did you mean `==`?".into());
        } else {
            return Err(format!(
                "at character {}: found `{c}`; accepted: texts in quotes, numbers, names, comparisons, and, or, not, ( and )",
                text[..at].chars().count() + 1
            ));
        };
        out.push((at, token));
        at += length;
    }
    Ok(out)
}

fn symbol(rest: &str) -> Option<(Token, usize)> {
    const SYMBOLS: [(&str, Token); 11] = [
        ("==", Token::Operator(Operator::Equal)),
        ("!=", Token::Operator(Operator::Unequal)),
        ("<=", Token::Operator(Operator::LessOrEqual)),
        (">=", Token::Operator(Operator::GreaterOrEqual)),
        ("&&", Token::And),
        ("||", Token::Or),
        ("<", Token::Operator(Operator::Less)),
        (">", Token::Operator(Operator::Greater)),
        ("!", Token::Not),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    SYMBOLS.into_iter().find(|(symbol, _)| rest.starts_with(symbol)).map(|(symbol, token)| (token, symbol.len()))
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let mut end = 1;
    for c in rest[1..].chars() {
        let exponent = rest[..end].ends_with(['e', 'E']) && matches!(c, '-' | '+');
        if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent) {
            break;
        }
        end += c.len_utf8();
    }
    let text = &rest[..end];
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((Token::Number(number), end)),
        _ => Err(format!("found {text}, which is no number")),
    }
}

fn word(text: &str) -> Token {
    match text.to_ascii_lowercase().as_str() {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        _ => Token::Name(text.to_owned()),
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "the text '{text}'"),
            Self::Number(number) => write!(f, "the number {number}"),
            Self::Name(name) => write!(f, "the name {name}"),
            Self::Operator(_) => f.write_str("a comparison"),
            Self::And => f.write_str("`and`"),
            Self::Or => f.write_str("`or`"),
            Self::Not => f.write_str("`not`"),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
        }
    }
}
