//! Every reader of other programs' bytes, with bodies that were changed at random: no panic, and time and memory in
//! proportion to the length.
//!
//! `TESTRIG_FUZZ=1000000` reads so many bodies instead of the usual ones, `TESTRIG_FUZZ_SEED=7` begins elsewhere. The same
//! readers are targets of cargo-fuzz in `fuzz/`, which looks for new ground by coverage.

mod memory;
mod mutator;
mod targets;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use mutator::Mutator;
use targets::TARGETS;

#[global_allocator]
static ALLOCATOR: memory::Measured = memory::Measured;

const USUAL: u64 = 20_000;
const LONG: u64 = 1_000_000;
/// Longest body. The port takes longer ones; what grows too fast shows here already.
const LONGEST: usize = 32 << 10;
/// Generous: the machine may be busy. What grows with the square of the length takes minutes.
const TIME: Duration = Duration::from_secs(20);

fn memory_for(length: usize) -> usize {
    (256 << 10) + 256 * length
}

fn corpus() -> Vec<Vec<u8>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bodies");
    let mut files: Vec<_> = std::fs::read_dir(dir).expect(dir).map(|file| file.expect("a file").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a body")).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Reads one body with every target; the name of the target and what went wrong.
fn read(body: &[u8]) -> Result<(), String> {
    for (name, target) in TARGETS {
        let (began, before) = (Instant::now(), memory::begin());
        let read = catch_unwind(AssertUnwindSafe(|| target(body)));
        let (took, most) = (began.elapsed(), memory::most().saturating_sub(before));
        if read.is_err() {
            return Err(format!("{name} panicked"));
        }
        if took > TIME {
            return Err(format!("{name} took {took:?} for {} bytes", body.len()));
        }
        if most > memory_for(body.len()) {
            return Err(format!("{name} took {most} bytes of memory for a body of {}", body.len()));
        }
    }
    Ok(())
}

#[test]
fn recorded_bodies_are_read_by_their_readers() {
    // A corpus that nothing reads would make the other test blind.
    let bodies = corpus();
    let readable = |parses: fn(&[u8]) -> bool| bodies.iter().filter(|body| parses(body)).count();
    use powerjob_worker::{tasks, wire};
    assert!(readable(|b| wire::ServerScheduleJobReq::parse(b).is_ok_and(|m| !m.execute_type.is_empty())) >= 2);
    assert!(readable(|b| tasks::api::StartTask::parse(b).is_ok()) >= 1);
    assert!(readable(|b| tasks::api::MapTask::parse(b).is_ok_and(|m| m.sub_tasks.len() == 2)) >= 1);
    assert!(readable(|b| wire::WorkerHeartbeat::parse(b).is_ok()) >= 1);
    assert!(readable(|b| tasks::kryo::read(b).is_ok()) >= 5);
    for body in &bodies {
        read(body).expect("as recorded");
    }
}

#[test]
fn no_body_makes_a_reader_panic_or_take_time_or_memory_out_of_proportion() {
    let usual = if std::env::var_os("TESTRIG_LONG").is_some() { LONG } else { USUAL };
    let (bodies, seed) = (number("TESTRIG_FUZZ").unwrap_or(usual), number("TESTRIG_FUZZ_SEED").unwrap_or(1));
    let corpus = corpus();
    let mut mutator = Mutator::new(seed);
    for n in 0..bodies {
        let body = mutator.body(&corpus, LONGEST);
        if let Err(why) = read(&body) {
            let text = String::from_utf8_lossy(&body);
            panic!("body {n} of seed {seed} (TESTRIG_FUZZ_SEED={seed}): {why}\n{text}\n{body:02x?}");
        }
    }
}

#[test]
fn a_body_of_a_mebibyte_is_read_in_proportion_too() {
    let times = (1 << 20) / 8;
    let list = format!("{{\"allWorkerAddress\":[{}\"\"],\"jobId\":1,\"instanceId\":1}}", "\"a:1\",".repeat(times));
    let tasks = format!("{{\"instanceId\":1,\"subTasks\":[{}{{}}]}}", "{},".repeat(times));
    let keys: String = (0..times / 4).map(|n| format!("\"k{n}\":\"v\",")).collect();
    let context =
        format!("{{\"instanceId\":1,\"taskId\":\"0\",\"status\":6,\"appendedWfContext\":{{{keys}\"k\":\"v\"}}}}");
    for body in [list, tasks, context, "[".repeat(1 << 20), format!("{{\"a\":\"{}", "\\u0041".repeat(times))] {
        read(body.as_bytes()).expect("in proportion");
    }
}
