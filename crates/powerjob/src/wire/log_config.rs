//! `logConfig` of a job: where the lines of its log go, and which of them.

use serde_json::Value;
use testrig_joblog::{Keep, Level};

/// Where the lines go (`type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogType {
    /// 1: to the server's online log.
    Online,
    /// 2: they stay on this host.
    Local,
    /// 3: they stay on this host, and the worker prints them.
    Stdout,
    /// 4: both. The journal on this host is kept anyhow.
    LocalAndOnline,
    /// 999: nowhere.
    Null,
}

/// A job's settings for its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) kind: LogType,
    /// The least level (`level`); `None` = OFF.
    pub(crate) from: Option<Level>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { kind: LogType::Online, from: Some(Level::Info) }
    }
}

impl LogSettings {
    /// Reads the JSON text as it came with a dispatch. What is missing, unknown or cannot be read is ONLINE and INFO, as in the
    /// Java worker. `loggerName` names a logger of the Java worker and has no meaning here.
    pub(crate) fn read(text: Option<&str>) -> Self {
        let config: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let kind = match number(&config["type"]) {
            Some(2) => LogType::Local,
            Some(3) => LogType::Stdout,
            Some(4) => LogType::LocalAndOnline,
            Some(999) => LogType::Null,
            _ => LogType::Online,
        };
        let from = match number(&config["level"]) {
            Some(1) => Some(Level::Debug),
            Some(3) => Some(Level::Warn),
            Some(4) => Some(Level::Error),
            Some(99) => None,
            _ => Some(Level::Info),
        };
        Self { kind, from }
    }

    /// Which lines the journal takes.
    pub(crate) fn keep(self) -> Keep {
        match self.from {
            Some(level) if self.kind != LogType::Null => Keep::From(level),
            _ => Keep::Nothing,
        }
    }

    /// Whether lines go to the server.
    pub(crate) fn is_sent(self) -> bool {
        matches!(self.kind, LogType::Online | LogType::LocalAndOnline) && self.from.is_some()
    }

    /// Whether the worker prints the lines.
    pub(crate) fn is_printed(self) -> bool {
        self.kind == LogType::Stdout && self.from.is_some()
    }

    /// Whether the worker's own first line, which is INFO, goes to the server: then that can be waited for.
    pub(crate) fn sends_first_line(self) -> bool {
        self.is_sent() && self.keep().takes(Level::Info)
    }
}

/// Texts of digits are numbers to the server's own reader as well.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (LogType, Option<Level>) {
        let settings = LogSettings::read(Some(text));
        (settings.kind, settings.from)
    }

    #[test]
    fn every_type_and_level_has_its_number() {
        for (number, kind) in [
            (1, LogType::Online),
            (2, LogType::Local),
            (3, LogType::Stdout),
            (4, LogType::LocalAndOnline),
            (999, LogType::Null),
        ] {
            assert_eq!(read(&format!(r#"{{"type":{number},"level":2,"loggerName":"x"}}"#)), (kind, Some(Level::Info)));
        }
        for (number, level) in [
            (1, Some(Level::Debug)),
            (2, Some(Level::Info)),
            (3, Some(Level::Warn)),
            (4, Some(Level::Error)),
            (99, None),
        ] {
            assert_eq!(read(&format!(r#"{{"type":2,"level":{number}}}"#)), (LogType::Local, level));
        }
        assert_eq!(read(r#"{"type":"3","level":"4"}"#), (LogType::Stdout, Some(Level::Error)));
    }

    #[test]
    fn what_is_missing_unknown_or_unreadable_is_online_and_info() {
        assert_eq!(LogSettings::read(None), LogSettings::default());
        for text in [
            "",
            "null",
            "{}",
            "[1]",
            "no json",
            r#"{"type":null,"level":null}"#,
            r#"{"type":7,"level":50}"#,
            r#"{"type":{}}"#,
        ] {
            assert_eq!(LogSettings::read(Some(text)), LogSettings::default(), "{text}");
        }
        assert_eq!(read(r#"{"level":3}"#), (LogType::Online, Some(Level::Warn)));
    }

    #[test]
    fn null_and_off_keep_nothing_and_only_what_is_online_is_sent() {
        let settings = |text| LogSettings::read(Some(text));
        for text in [r#"{"type":999}"#, r#"{"type":1,"level":99}"#, r#"{"type":3,"level":99}"#] {
            assert_eq!(settings(text).keep(), Keep::Nothing, "{text}");
            assert!(!settings(text).is_sent() && !settings(text).is_printed(), "{text}");
        }
        assert!(settings("{}").is_sent() && settings(r#"{"type":4}"#).is_sent());
        assert!(!settings(r#"{"type":2}"#).is_sent() && !settings(r#"{"type":3}"#).is_sent());
        assert!(settings("{}").sends_first_line() && !settings(r#"{"level":3}"#).sends_first_line());
    }
}
