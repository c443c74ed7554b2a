//! SQLite, MySQL (MariaDB) and PostgreSQL behind one face: an [`Address`] read from a JDBC or native URL, and [`execute`],
//! which runs SQL text in one transaction under a time limit and hands out what it gives as text.
//!
//! Absent on purpose: TLS to the server (an address that insists on it is refused), pools, parameters of statements.

mod address;
mod engine;
mod error;
mod jdbc;
mod mysql;
mod postgres;
mod sqlite;

pub use address::{Address, AddressError, Engine, SUPPORTED};
pub use engine::{Event, execute};
pub use error::SqlError;
