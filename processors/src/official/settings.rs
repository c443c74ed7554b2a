//! `[official]` of the agent's configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An official processor that is off until the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// `..impl.script.ShellProcessor`: any shell script.
    Shell,
    /// `..impl.script.PythonProcessor`: any Python script.
    Python,
    /// `..impl.script.PowerShellProcessor`: any PowerShell script, where `pwsh` is installed.
    #[serde(rename = "powershell")]
    PowerShell,
    /// `..impl.HttpProcessor`: requests to `[outbound] allowed_hosts`.
    Http,
    /// `..impl.sql.DynamicDatasourceSqlProcessor`: SQL on any database.
    DynamicSql,
    /// `..impl.sql.SpringDatasourceSqlProcessor`: SQL on `[databases.*]`.
    SpringSql,
    /// `..impl.FileCleanupProcessor`: removes files below `[paths] allowed_roots`.
    FileCleanup,
}

impl Switch {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Shell, Self::Python, Self::PowerShell, Self::Http, Self::DynamicSql, Self::SpringSql, Self::FileCleanup];

    /// Its name in `[official] enable`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Python => "python",
            Self::PowerShell => "powershell",
            Self::Http => "http",
            Self::DynamicSql => "dynamic-sql",
            Self::SpringSql => "spring-sql",
            Self::FileCleanup => "file-cleanup",
        }
    }

    /// The class name that jobs call it by.
    pub fn class(self) -> &'static str {
        match self {
            Self::Shell => "tech.powerjob.official.processors.impl.script.ShellProcessor",
            Self::Python => "tech.powerjob.official.processors.impl.script.PythonProcessor",
            Self::PowerShell => "tech.powerjob.official.processors.impl.script.PowerShellProcessor",
            Self::Http => "tech.powerjob.official.processors.impl.HttpProcessor",
            Self::DynamicSql => "tech.powerjob.official.processors.impl.sql.DynamicDatasourceSqlProcessor",
            Self::SpringSql => "tech.powerjob.official.processors.impl.sql.SpringDatasourceSqlProcessor",
            Self::FileCleanup => "tech.powerjob.official.processors.impl.FileCleanupProcessor",
        }
    }

    /// The result of a job that names it while it is off.
    pub(super) fn refusal(self) -> String {
        let name = self.class().rsplit('.').next().unwrap_or_default();
        format!(
            "{name} is not enabled on this agent; to enable it, add \"{key}\" to `enable` in the section [official] of the \
             agent's configuration (or start it with --set 'official.enable=[\"{key}\"]') and restart the agent; everybody \
             who may save jobs on the server can use it then",
            key = self.key()
        )
    }
}

/// What the configuration says about the official processors.
#[derive(Clone, Debug)]
pub struct Official {
    /// `enable`.
    pub enabled: Vec<Switch>,
    /// `charset`: how output that is no UTF-8 is read.
    pub charset: &'static encoding_rs::Encoding,
    /// `sql_deny`: SQL that matches one of these patterns is refused.
    pub sql_deny: Vec<Deny>,
}

impl Default for Official {
    fn default() -> Self {
        Self { enabled: Vec::new(), charset: encoding_rs::GBK, sql_deny: Vec::new() }
    }
}

impl Official {
    /// The encoding of a name such as `gbk` or `shift_jis`.
    ///
    /// # Errors
    /// No encoding has this name.
    pub fn charset_of(name: &str) -> Result<&'static encoding_rs::Encoding, String> {
        encoding_rs::Encoding::for_label(name.trim().as_bytes()).ok_or_else(|| {
            format!("`{name}` is no encoding; accepted: gbk, gb18030, big5, shift_jis, euc-kr, latin1, utf-8 and so on")
        })
    }
}

/// A pattern of `sql_deny`.
#[derive(Clone, Debug)]
pub struct Deny {
    pattern: String,
    regex: fancy_regex::Regex,
}

impl Deny {
    /// Java's regular expressions, found anywhere in the SQL, in any case.
    ///
    /// # Errors
    /// It is no regular expression.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        Ok(Self { pattern: pattern.to_owned(), regex: super::pattern::anywhere(pattern)? })
    }

    /// Refuses what it matches, and what it gives up on.
    pub(super) fn check(&self, sql: &str) -> Result<(), String> {
        let pattern = &self.pattern;
        match self.regex.is_match(sql) {
            Ok(false) => Ok(()),
            Ok(true) => Err(format!(
                "the SQL is refused: it matches `{pattern}` ([official] sql_deny in the agent's configuration)"
            )),
            Err(error) => Err(format!("the SQL is refused: `{pattern}` ([official] sql_deny) gave up on it: {error}")),
        }
    }
}
