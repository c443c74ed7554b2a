//! Where a database is, and how to log in.

use std::{fmt, path::PathBuf, time::Duration};

use crate::jdbc;

/// What [`Address::parse`] takes, for messages.
pub const SUPPORTED: &str = "jdbc:mysql://host:3306/db, jdbc:mariadb://host:3306/db, jdbc:postgresql://host:5432/db, \
     jdbc:sqlite:/absolute/path.db, jdbc:sqlite::memory:, or mysql://, postgres://, sqlite:///absolute/path.db";

/// How long a connection may take to be there unless the address says otherwise.
const CONNECT: Duration = Duration::from_secs(10);

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file, or memory.
    Sqlite,
    /// MySQL or MariaDB.
    MySql,
    /// PostgreSQL.
    Postgres,
}

/// A database and how to log in. `Display` and `Debug` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(crate) place: Place,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// PostgreSQL's `search_path`.
    pub(crate) schema: Option<String>,
    pub(crate) application: Option<String>,
    pub(crate) connect_limit: Duration,
    left_out: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    File(PathBuf),
    Server { engine: Engine, host: String, port: u16, database: String },
}

/// An address that cannot be used. The text never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; accepted: {SUPPORTED}")]
pub struct AddressError(pub(crate) String);

impl Address {
    /// Reads a JDBC URL or a native one. Properties in its query count as if they were given to
    /// [`Address::set_property`].
    ///
    /// # Errors
    /// Another kind of database, no host, a relative path, or a property that asks for TLS.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let parsed = jdbc::parse(url)?;
        let mut address = Self {
            place: parsed.place,
            user: parsed.user,
            password: parsed.password,
            schema: None,
            application: None,
            connect_limit: CONNECT,
            left_out: Vec::new(),
        };
        for (name, value) in &parsed.properties {
            address.set_property(name, value)?;
        }
        Ok(address)
    }

    /// Applies a connection property of the JDBC drivers. One without a counterpart here is noted in
    /// [`Address::left_out`], as JDBC drivers let pass what they do not know.
    ///
    /// # Errors
    /// It asks for TLS, or its value cannot be read.
    pub fn set_property(&mut self, name: &str, value: &str) -> Result<(), AddressError> {
        let wrong = |what: &str| AddressError(format!("the connection property `{name}` is `{value}`, {what}"));
        match name {
            "user" => self.user = Some(value.to_owned()),
            "password" => self.password = Some(value.to_owned()),
            "connectTimeout" => {
                let number: u64 = value.parse().map_err(|_| wrong("which is no number"))?;
                let limit = match self.engine() {
                    // Milliseconds for MySQL's drivers, seconds for PostgreSQL's.
                    Engine::MySql => Duration::from_millis(number),
                    _ => Duration::from_secs(number),
                };
                self.connect_limit = if limit.is_zero() { CONNECT } else { limit };
            }
            "currentSchema" if self.engine() == Engine::Postgres => self.schema = Some(value.to_owned()),
            "ApplicationName" if self.engine() == Engine::Postgres => self.application = Some(value.to_owned()),
            "useSSL" | "requireSSL" | "ssl" | "sslMode" | "sslmode" | "useTls" if self.engine() != Engine::Sqlite => {
                let insists = match value.to_lowercase().as_str() {
                    "false" | "disabled" | "disable" | "preferred" | "prefer" | "allow" => false,
                    // MySQL's driver takes what it gets when only `useSSL` is set.
                    "true" => name != "useSSL",
                    _ => true,
                };
                if insists {
                    return Err(wrong("which asks for TLS, and the database drivers of this agent have none"));
                }
            }
            // Always so here.
            "allowMultiQueries" | "useUnicode" => {}
            "characterEncoding" if matches!(value.to_lowercase().as_str(), "utf8" | "utf-8" | "utf8mb4") => {}
            _ => self.left_out.push(name.to_owned()),
        }
        Ok(())
    }

    /// Properties that have no counterpart here and change nothing.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Whether a password was given.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Which kind of database it is.
    pub fn engine(&self) -> Engine {
        match &self.place {
            Place::Memory | Place::File(_) => Engine::Sqlite,
            Place::Server { engine, .. } => *engine,
        }
    }

    /// The server's host, if it has one.
    pub fn host(&self) -> Option<&str> {
        match &self.place {
            Place::Server { host, .. } => Some(host),
            _ => None,
        }
    }

    /// SQLite's file, if it is one.
    pub fn file(&self) -> Option<&std::path::Path> {
        match &self.place {
            Place::File(path) => Some(path),
            _ => None,
        }
    }

    /// The same database at another path, e.g. with its links resolved. Only for SQLite's files.
    #[must_use]
    pub fn at(mut self, path: PathBuf) -> Self {
        if let Place::File(file) = &mut self.place {
            *file = path;
        }
        self
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Memory => f.write_str("an SQLite database in memory"),
            Place::File(path) => write!(f, "the SQLite file `{}`", path.display()),
            Place::Server { engine, host, port, database } => {
                let name = if *engine == Engine::MySql { "mysql" } else { "postgresql" };
                let user = self.user.as_deref().map(|user| format!("{user}@")).unwrap_or_default();
                write!(f, "`{name}://{user}{host}:{port}/{database}`")
            }
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}
