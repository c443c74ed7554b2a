//! The testrig agent.
fn main() {}
