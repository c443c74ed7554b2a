//! Append-only, disk-backed journal of an instance: index per line, cursors, live subscription.
