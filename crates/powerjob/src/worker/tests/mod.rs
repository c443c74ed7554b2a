//! Tests of the runtime against a fake server.
