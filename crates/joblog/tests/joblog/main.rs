//! Journals, pumps and tails on real files. One binary, so that what the tests share is used by it as a whole.

mod common;
mod journal;
mod pump;
mod tail;
