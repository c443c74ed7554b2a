//! The one SQLite file of the agent: one writer, group commit, migrations
