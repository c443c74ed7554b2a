//! The archive's name: a pattern with placeholders, filled for this run or matched against what lies at the target.

/// One placeholder of `archiveNamePattern` and its value in this run.
pub(super) type Values<'a> = &'a [(&'static str, String)];

/// The pattern with every known placeholder replaced; unknown ones stay.
pub(super) fn fill(pattern: &str, values: Values<'_>) -> String {
    pieces(pattern, values)
        .into_iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Hole(name) => {
                values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()).unwrap_or_default()
            }
        })
        .collect()
}

/// The placeholders that the pattern uses.
pub(super) fn holes<'a>(pattern: &'a str, values: Values<'_>) -> Vec<&'a str> {
    let hole = |piece| match piece {
        Piece::Hole(name) => Some(name),
        Piece::Text(_) => None,
    };
    pieces(pattern, values).into_iter().filter_map(hole).collect()
}

/// Whether a name could have come from the pattern in another run. A date is eight digits, an instance id digits, anything
/// else at least one character.
pub(super) fn matches(pattern: &str, values: Values<'_>, name: &str) -> bool {
    fits(&pieces(pattern, values), name)
}

#[derive(Clone, Copy, Debug)]
enum Piece<'a> {
    Text(&'a str),
    Hole(&'a str),
}

fn pieces<'a>(pattern: &'a str, values: Values<'_>) -> Vec<Piece<'a>> {
    let mut out = Vec::new();
    let mut rest = pattern;
    let mut from = 0;
    while let Some(open) = rest[from..].find('{').map(|at| from + at) {
        let Some(close) = rest[open..].find('}').map(|at| open + at) else { break };
        let name = &rest[open + 1..close];
        if values.iter().any(|(known, _)| *known == name) {
            out.push(Piece::Text(&rest[..open]));
            out.push(Piece::Hole(name));
            rest = &rest[close + 1..];
            from = 0;
        } else {
            from = open + 1;
        }
    }
    out.push(Piece::Text(rest));
    out.retain(|piece| !matches!(piece, Piece::Text("")));
    out
}

fn fits(pieces: &[Piece<'_>], name: &str) -> bool {
    match pieces {
        [] => name.is_empty(),
        [Piece::Text(text), rest @ ..] => name.strip_prefix(text).is_some_and(|name| fits(rest, name)),
        [Piece::Hole(hole), rest @ ..] => {
            let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
            ends.into_iter().any(|end| could_be(hole, &name[..end]) && fits(rest, &name[end..]))
        }
    }
}

fn could_be(hole: &str, text: &str) -> bool {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match hole {
        "date" => digits && text.len() == 8,
        "upstreamInstanceId" => digits,
        _ => !text.contains('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<(&'static str, String)> {
        vec![
            ("env", "dev".into()),
            ("date", "20251123".into()),
            ("platformTaskId", "T-1".into()),
            ("upstreamInstanceId", "42".into()),
        ]
    }

    #[test]
    fn known_placeholders_are_filled_and_unknown_ones_stay() {
        let filled = fill("logs-{env}-{date}-{platformTaskId}-{what}-{upstreamInstanceId}.tar.gz", &values());
        assert_eq!(filled, "logs-dev-20251123-T-1-{what}-42.tar.gz");
        assert_eq!(fill("{open", &values()), "{open");
        assert_eq!(holes("a{env}{x}{date}", &values()), ["env", "date"]);
    }

    #[test]
    fn only_names_of_the_same_pattern_match() {
        let pattern = "logs-{env}-{date}-{platformTaskId}.tar.gz";
        for name in ["logs-dev-20251123-T-1.tar.gz", "logs-prod-20200101-x.tar.gz"] {
            assert!(matches(pattern, &values(), name), "{name}");
        }
        for name in [
            "logs-dev-2025112-T.tar.gz",
            "logs-dev-20251123-.tar.gz",
            "logs-dev-20251123-T.tar.gz.part",
            "other-dev-20251123-T.tar.gz",
            "",
        ] {
            assert!(!matches(pattern, &values(), name), "{name}");
        }
        assert!(matches("run-{upstreamInstanceId}.tgz", &values(), "run-7.tgz"));
        assert!(!matches("run-{upstreamInstanceId}.tgz", &values(), "run-x.tgz"));
    }
}
