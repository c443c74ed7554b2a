//! Java's regular expressions on `fancy-regex`, whose classes know more letters than Java's.

use fancy_regex::Regex;

/// A pattern that must match a whole name, as Java's `matches` wants it.
///
/// # Errors
/// It is no regular expression.
pub(super) fn whole(pattern: &str) -> Result<Regex, String> {
    compile(pattern, |java| format!(r"\A(?:{java})\z"))
}

/// A pattern that is looked for anywhere, in any case.
///
/// # Errors
/// It is no regular expression.
pub(super) fn anywhere(pattern: &str) -> Result<Regex, String> {
    compile(pattern, |java| format!("(?is:{java})"))
}

fn compile(pattern: &str, wrap: impl Fn(&str) -> String) -> Result<Regex, String> {
    let told = |error: String| format!("`{pattern}` is no regular expression: {error}");
    let java = translate(pattern).map_err(told)?;
    // By itself first: a parenthesis too many could close the one around it.
    Regex::new(&java).map_err(|error| told(error.to_string()))?;
    Regex::new(&wrap(&java)).map_err(|error| told(error.to_string()))
}

/// `\d`, `\w`, `\s` and the POSIX classes mean ASCII in Java; `\Q..\E`, `\0n`, `\uXXXX`, `\h` and `\e` are Java's own.
fn translate(java: &str) -> Result<String, String> {
    let mut out = String::with_capacity(java.len() + 16);
    let mut rest = java;
    let mut in_class = 0_u32;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let Some(kind) = rest.chars().next() else { return Err("it ends with a backslash".to_owned()) };
                rest = &rest[kind.len_utf8()..];
                rest = escape(kind, rest, in_class > 0, &mut out)?;
            }
            '[' => {
                in_class += 1;
                out.push('[');
                if let Some(behind) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = behind;
                }
            }
            ']' if in_class > 0 => {
                in_class -= 1;
                out.push(']');
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Puts the meaning of `\kind..` out and gives what stands behind it.
fn escape<'a>(kind: char, rest: &'a str, in_class: bool, out: &mut String) -> Result<&'a str, String> {
    let mut class = |members: &str, negated: bool| {
        let sign = if negated { "^" } else { "" };
        out.push_str(&format!("[{sign}{members}]"));
    };
    match kind {
        'd' | 'D' => class("0-9", kind == 'D'),
        'w' | 'W' => class("0-9A-Za-z_", kind == 'W'),
        's' | 'S' => class(r" \t\n\x0B\f\r", kind == 'S'),
        'h' | 'H' => class(r" \t\xA0\x{1680}\x{180e}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}", kind == 'H'),
        'e' => out.push_str(r"\x1B"),
        'Q' => {
            let (literal, behind) = rest.split_once(r"\E").unwrap_or((rest, ""));
            out.push_str(&fancy_regex::escape(literal));
            return Ok(behind);
        }
        'u' => {
            let digits = rest.get(..4).filter(|digits| u32::from_str_radix(digits, 16).is_ok());
            let digits = digits.ok_or_else(|| r"\u without four hexadecimal digits".to_owned())?;
            out.push_str(&format!(r"\x{{{digits}}}"));
            return Ok(&rest[4..]);
        }
        '0' => {
            let length = rest.chars().take(3).take_while(|c| ('0'..='7').contains(c)).count();
            let value = u32::from_str_radix(&rest[..length], 8).map_err(|_| r"\0 without octal digits".to_owned())?;
            out.push_str(&format!(r"\x{{{value:x}}}"));
            return Ok(&rest[length..]);
        }
        'p' | 'P' => {
            let name = rest.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let Some((members, behind)) = name.and_then(|(name, behind)| Some((posix(name)?, behind))) else {
                out.push('\\');
                out.push(kind);
                return Ok(rest);
            };
            class(members, kind == 'P');
            return Ok(behind);
        }
        // A hyphen or slash may be escaped anywhere in Java.
        c if !c.is_ascii_alphanumeric() && !in_class => out.push_str(&fancy_regex::escape(&c.to_string())),
        c => {
            out.push('\\');
            out.push(c);
        }
    }
    Ok(rest)
}

fn posix(name: &str) -> Option<&'static str> {
    Some(match name {
        "Lower" => "a-z",
        "Upper" => "A-Z",
        "ASCII" => r"\x00-\x7F",
        "Alpha" => "A-Za-z",
        "Digit" => "0-9",
        "Alnum" => "0-9A-Za-z",
        "Punct" => r##"!-/:-@\[-`{-~"##,
        "Graph" => "!-~",
        "Print" => " -~",
        "Blank" => r" \t",
        "Cntrl" => r"\x00-\x1F\x7F",
        "XDigit" => "0-9A-Fa-f",
        "Space" => r" \t\n\x0B\f\r",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_java_and_cover_the_whole_name() {
        for (pattern, yes, no) in [
            (r".*\.log", &["a.log", ".log"][..], &["a.log.1", "alog"][..]),
            ("tmp|cache", &["tmp", "cache"], &["tmp1", "xcache"]),
            (r"app-\d+\.txt", &["app-12.txt"], &["app-.txt", "app-٣.txt"]),
            (r"\w+", &["a_1"], &["模型"]),
            (r"\Qa.b\E.*", &["a.bc"], &["axb"]),
            (r"[a-z&&[^aeiou]]+", &["xyz"], &["xay"]),
            (r"(?<y>\d{4})-\k<y>\.gz", &["2024-2024.gz"], &["2024-2025.gz"]),
            (r"(?!core).*", &["x"], &["core.1"]),
            (r"a++b", &["aab"], &["aac"]),
            (r"(?i)READ\-ME", &["read-me"], &["read_me"]),
            (r"[\d\-]+", &["1-2"], &["1_2"]),
            (r"\p{Lower}\p{XDigit}\u4f60\x41\0101", &["aF你AA"], &["AF你AA"]),
            (r"\p{L}+", &["é模"], &["1"]),
            (r"\S+\s\S+", &["a b"], &["a\u{a0}b"]),
            ("", &[""], &["a"]),
        ] {
            let regex = whole(pattern).expect(pattern);
            for name in yes {
                assert!(regex.is_match(name).expect("matched"), "{pattern} {name}");
            }
            for name in no {
                assert!(!regex.is_match(name).expect("matched"), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for pattern in ["*.log", "(", "a)(b", r"x\", r"\u12", "[a"] {
            let error = whole(pattern).expect_err(pattern);
            assert!(error.contains(pattern) && error.contains("no regular expression"), "{error}");
        }
    }

    #[test]
    fn a_deny_pattern_is_found_anywhere_in_any_case() {
        let deny = anywhere(r"\bdrop\s+table\b").expect("valid");
        assert!(deny.is_match("select 1;\nDROP\n TABLE x").expect("matched"));
        assert!(!deny.is_match("select dropped from table").expect("matched"));
    }
}
