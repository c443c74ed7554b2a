//! The one SQLite file of the agent: one writer, group commit, migrations.
//!
//! Every crate that keeps something brings its own tables as [`Migration`]s; the agent concatenates them and opens one
//! [`Store`]. All writes run on one thread: it drains its queue, puts what it found into one transaction (a savepoint
//! for each operation, so that one that fails undoes only itself) and answers after the commit. Readers have
//! connections of their own and never wait for the writer.
//!
//! The promise is for `kill -9`, not for power loss: WAL with `synchronous=NORMAL`. What [`Store::write`] has returned
//! is there after the process is killed at any moment.
//!
//! [`StateDirLock`] keeps a second agent out of a state directory.

mod die;
mod error;
mod lock;
mod migrate;
mod readers;
mod store;
mod writer;

pub use die::kill_point;
pub use error::StoreError;
pub use lock::{LockError, StateDirLock};
pub use migrate::Migration;
pub use store::Store;

pub use rusqlite;
