//! One sample of what a boundary's processes use.

use serde::Serialize;

/// What the processes of a boundary used at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProcessStats {
    /// CPU time used so far, nanoseconds.
    pub cpu_total_ns: u64,
    /// CPU use since the last sample of the same handle, percent of one CPU; absent in the first one.
    pub cpu_percent: Option<f64>,
    /// Resident memory of all processes, bytes (shared pages count in each).
    pub memory_bytes: u64,
    /// Bytes read from block devices by the living processes.
    pub block_read_bytes: u64,
    /// Bytes written to block devices by the living processes.
    pub block_write_bytes: u64,
    /// Number of processes.
    pub processes: u64,
}
