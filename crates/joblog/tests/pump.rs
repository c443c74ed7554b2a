//! The pump's promises, with a sink that does what the test wants.

mod common;

use std::{
    collections::VecDeque,
    io::Write,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use async_trait::async_trait;
use common::{Place, all};
use parking_lot::Mutex;
use testrig_joblog::{Cursors, Journals, Level, Limits, Line, MIGRATIONS, Pump, PumpOptions, Sink, SinkError};
use testrig_store::Store;
use tokio::sync::Semaphore;

/// What the sink answers, in order; afterwards it takes everything.
enum Answer {
    Retry,
    /// Takes the lines and loses the answer.
    Lost,
}

#[derive(Default)]
struct FakeSink {
    answers: Mutex<VecDeque<Answer>>,
    /// Every call, whatever the answer.
    calls: Mutex<Vec<Vec<Line>>>,
    taken: Mutex<Vec<Line>>,
    in_flight: AtomicUsize,
    /// A call waits for a permit, if there is a gate.
    gate: Option<Semaphore>,
    /// Texts that are refused.
    bad: Option<fn(&str) -> bool>,
}

impl FakeSink {
    fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() }
    }

    fn gated() -> Self {
        Self { gate: Some(Semaphore::new(0)), ..Self::default() }
    }

    fn open(&self, calls: usize) {
        self.gate.as_ref().expect("a gate").add_permits(calls);
    }

    fn batches(&self) -> Vec<usize> {
        self.calls.lock().iter().map(Vec::len).collect()
    }

    fn taken(&self) -> Vec<Line> {
        self.taken.lock().clone()
    }
}

#[async_trait]
impl Sink for FakeSink {
    fn name(&self) -> &str {
        "server"
    }

    async fn send(&self, instance_id: i64, lines: &[Line]) -> Result<(), SinkError> {
        assert_eq!(instance_id, 1);
        assert_eq!(self.in_flight.fetch_add(1, Ordering::SeqCst), 0, "one batch in flight");
        self.calls.lock().push(lines.to_vec());
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("the gate stays").forget();
        }
        tokio::task::yield_now().await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if let Some(line) = lines.iter().find(|line| self.bad.is_some_and(|bad| bad(&line.text))) {
            return Err(SinkError::Refused(format!("no {:?} here", line.text)));
        }
        let answer = self.answers.lock().pop_front();
        match answer {
            Some(Answer::Retry) => return Err(SinkError::Retry("nobody there".to_owned())),
            Some(Answer::Lost) => {
                self.taken.lock().extend_from_slice(lines);
                return Err(SinkError::Retry("the answer was lost".to_owned()));
            }
            None => self.taken.lock().extend_from_slice(lines),
        }
        Ok(())
    }
}

fn quick() -> PumpOptions {
    PumpOptions {
        linger: Duration::from_millis(5),
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(10),
        ..PumpOptions::default()
    }
}

const LONG: Duration = Duration::from_secs(3600);
const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

fn fill(place: &Place, lines: u64) -> Arc<testrig_joblog::Journal> {
    let journal = place.journal(1);
    let text: Vec<_> = (0..lines).map(|i| format!("line {i}")).collect();
    journal.append(Level::Info, "a", &text.join("\n"));
    journal
}

fn pump(place: &Place, sink: &Arc<FakeSink>, options: PumpOptions) -> Pump {
    Pump::spawn(place.journal(1), Arc::clone(sink) as Arc<dyn Sink>, place.journals.cursors().clone(), options)
}

/// Waits for a state, not for a time.
async fn until(what: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(30), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("it comes to that");
}

#[tokio::test]
async fn batches_grow_with_the_backlog_and_keep_the_order() {
    let place = Place::new();
    let journal = fill(&place, 2500);
    let sink = Arc::new(FakeSink::default());
    let pump = pump(&place, &sink, quick());
    assert!(pump.drained(LIMIT).await);
    assert_eq!(sink.batches(), [1000, 1000, 500]);
    journal.append(Level::Info, "a", "one more");
    assert!(pump.drained(LIMIT).await);
    assert_eq!(sink.batches()[3..], [1]);
    assert_eq!(sink.taken(), all(&journal));
    assert_eq!(place.journals.cursors().get(1, "server").await.expect("a cursor"), 2501);
}

#[tokio::test]
async fn a_batch_is_bounded_in_bytes() {
    let place = Place::new();
    let journal = place.journal(1);
    for _ in 0..10 {
        journal.append(Level::Info, "a", &"x".repeat(1000));
    }
    let sink = Arc::new(FakeSink::default());
    assert!(pump(&place, &sink, PumpOptions { max_bytes: 3500, ..quick() }).drained(LIMIT).await);
    assert_eq!(sink.batches(), [3, 3, 3, 1]);
}

#[tokio::test]
async fn the_first_line_leaves_at_once_and_twenty_do_not_wait_for_more() {
    let place = Place::new();
    let sink = Arc::new(FakeSink::default());
    let pump = pump(&place, &sink, PumpOptions { linger: LONG, ..quick() });
    let journal = fill(&place, 1);
    assert!(pump.first_sent().await);
    for _ in 0..19 {
        journal.append(Level::Info, "a", "more");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(sink.batches(), [1], "nineteen wait");
    journal.append(Level::Info, "a", "the twentieth");
    until(|| sink.batches() == [1, 20]).await;
    journal.append(Level::Info, "a", "one");
    assert!(pump.drained(LIMIT).await, "who waits for the end does not wait for more lines");
    journal.append(Level::Info, "a", "last");
    journal.close("SUCCEED");
    until(|| sink.batches() == [1, 20, 1, 1]).await;
}

#[tokio::test]
async fn a_batch_sent_again_is_the_same_with_the_same_log_times() {
    let place = Place::new();
    let journal = fill(&place, 1);
    let sink = Arc::new(FakeSink::answering([Answer::Retry, Answer::Lost]));
    let pump = pump(&place, &sink, quick());
    until(|| sink.batches().len() >= 2).await;
    journal.append(Level::Info, "a", "meanwhile");
    assert!(pump.drained(LIMIT).await);
    let calls = sink.calls.lock().clone();
    assert_eq!(calls[0], calls[1]);
    assert_eq!(calls[2][0], calls[1][0]);
    let mut expected = all(&journal);
    expected.insert(0, expected[0].clone());
    assert_eq!(sink.taken(), expected, "the batch whose answer was lost stands there twice, and nothing else");
}

#[tokio::test]
async fn an_outage_is_told_and_a_kick_ends_the_pause() {
    let place = Place::new();
    let journal = fill(&place, 3);
    let sink = Arc::new(FakeSink::answering([Answer::Retry, Answer::Retry]));
    let pump = pump(&place, &sink, PumpOptions { first_pause: LONG, longest_pause: LONG, ..quick() });
    let mut state = pump.state();
    for calls in 1..=2 {
        state.wait_for(|s| s.failing.as_deref() == Some("nobody there")).await.expect("the pump lives");
        until(|| sink.batches().len() == calls).await;
        assert!(!pump.drained(Some(Duration::from_millis(20))).await);
        pump.kick();
    }
    assert!(pump.drained(LIMIT).await);
    assert_eq!(pump.state().borrow().failing, None);
    assert_eq!(sink.taken(), all(&journal));
}

#[tokio::test]
async fn a_rewind_sends_everything_again_and_the_answer_in_flight_does_not_count() {
    let place = Place::new();
    let journal = fill(&place, 30);
    let sink = Arc::new(FakeSink::gated());
    let pump = pump(&place, &sink, quick());
    until(|| sink.batches().len() == 1).await;
    pump.rewind();
    sink.open(1);
    until(|| sink.batches().len() == 2).await;
    assert_eq!(pump.state().borrow().next, 0, "the first answer came from before the rewind");
    sink.open(1);
    assert!(pump.drained(LIMIT).await);
    pump.rewind();
    assert!(!pump.drained(Some(Duration::from_millis(20))).await, "not drained until all was sent again");
    sink.open(1000);
    assert!(pump.first_sent().await && pump.drained(LIMIT).await);
    let once = all(&journal);
    assert_eq!(sink.taken(), [once.clone(), once.clone(), once].concat());
    pump.rewind();
    pump.stop().await;
}

#[tokio::test]
async fn a_rewind_is_durable_before_anything_is_sent_again() {
    let place = Place::new();
    fill(&place, 5);
    let sink = Arc::new(FakeSink::gated());
    let first = pump(&place, &sink, PumpOptions { stop_within: Duration::ZERO, ..quick() });
    sink.open(1);
    assert!(first.drained(LIMIT).await);
    first.rewind();
    until(|| sink.batches().len() == 2).await;
    first.stop().await;
    assert_eq!(place.journals.cursors().get(1, "server").await.expect("a cursor"), 0);
}

#[tokio::test]
async fn a_refused_line_is_found_told_and_skipped_and_all_others_arrive() {
    let place = Place::new();
    let journal = fill(&place, 300);
    let sink = Arc::new(FakeSink {
        bad: Some(|text| ["line 0", "line 77", "line 78", "line 299"].contains(&text)),
        ..FakeSink::default()
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let on_refused: testrig_joblog::OnRefused =
        Arc::new(move |line, reason| tell.lock().push((line.index, reason.to_owned())));
    let pump = pump(&place, &sink, PumpOptions { on_refused: Some(on_refused), ..quick() });
    assert!(pump.drained(LIMIT).await);
    assert_eq!(pump.state().borrow().refused, 4);
    let expected = [0, 77, 78, 299].map(|i| (i, format!("no \"line {i}\" here")));
    assert_eq!(*told.lock(), expected);
    let mut left = all(&journal);
    left.retain(|line| ![0, 77, 78, 299].contains(&line.index));
    assert_eq!(sink.taken(), left);
    let asked = |text: &str| sink.calls.lock().iter().filter(|c| c.len() == 1 && c[0].text == text).count();
    assert_eq!(asked("line 77"), 3, "three tries alone");
}

#[tokio::test]
async fn stop_waits_for_the_batch_in_flight_and_the_next_pump_goes_on_behind_it() {
    let place = Place::new();
    let journal = fill(&place, 10);
    let sink = Arc::new(FakeSink::gated());
    let first = pump(&place, &sink, PumpOptions { max_lines: 4, stop_within: LONG, ..quick() });
    until(|| sink.batches().len() == 1).await;
    let (sunk, ()) = tokio::join!(first.drained(LIMIT), async {
        let stop = first.stop();
        tokio::pin!(stop);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut stop).await.is_err(), "it waits");
        sink.open(1);
        stop.await;
        first.stop().await;
    });
    assert!(!sunk, "who waits is told that it ended");
    assert_eq!(sink.batches(), [4], "nothing more was sent");
    sink.open(100);
    assert!(pump(&place, &sink, quick()).drained(LIMIT).await);
    assert_eq!(sink.taken(), all(&journal), "no line twice");
}

#[tokio::test]
async fn a_batch_that_does_not_end_is_given_up_by_stop() {
    let place = Place::new();
    fill(&place, 1);
    let sink = Arc::new(FakeSink::gated());
    let pump = pump(&place, &sink, PumpOptions { stop_within: Duration::from_millis(10), ..quick() });
    until(|| sink.batches().len() == 1).await;
    pump.stop().await;
    assert!(!pump.first_sent().await);
    assert_eq!(place.journals.cursors().get(1, "server").await.expect("a cursor"), 0);
}

#[tokio::test]
async fn nothing_is_sent_before_the_cursor_of_the_last_batch_is_durable() {
    let place = Place::new();
    let journal = fill(&place, 10);
    let sink = Arc::new(FakeSink::gated());
    let first = pump(&place, &sink, PumpOptions { max_lines: 4, ..quick() });
    until(|| sink.batches().len() == 1).await;
    // The store's writer hangs: the batch is acknowledged, its cursor cannot be written.
    let (go, held) = mpsc::channel::<()>();
    let store = place.store.clone();
    let hung = std::thread::spawn(move || {
        store.write_blocking(move |_| {
            let _let_go = held.recv();
            Ok(())
        })
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    sink.open(100);
    until(|| sink.taken().len() == 4).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((sink.batches(), first.state().borrow().next), (vec![4], 0));
    go.send(()).expect("it hangs");
    hung.join().expect("no panic").expect("it is let go");
    assert!(first.drained(LIMIT).await);
    assert_eq!(sink.taken(), all(&journal));
}

#[tokio::test]
async fn a_cursor_that_was_set_back_by_hand_stays_there_whatever_was_on_its_way() {
    let place = Place::new();
    fill(&place, 10);
    let sink = Arc::new(FakeSink::gated());
    let first = pump(&place, &sink, PumpOptions { max_lines: 4, stop_within: Duration::ZERO, ..quick() });
    let (go, held) = mpsc::channel::<()>();
    let store = place.store.clone();
    until(|| sink.batches().len() == 1).await;
    let hung = std::thread::spawn(move || {
        store.write_blocking(move |_| {
            let _let_go = held.recv();
            Ok(())
        })
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    sink.open(1);
    until(|| sink.taken().len() == 4).await;
    // The acknowledged batch's cursor waits in the store's queue, and is overtaken.
    tokio::time::sleep(Duration::from_millis(20)).await;
    first.rewind();
    go.send(()).expect("it hangs");
    hung.join().expect("no panic").expect("it is let go");
    first.stop().await;
    assert_eq!(place.journals.cursors().get(1, "server").await.expect("a cursor"), 0);
}

#[tokio::test]
async fn a_cursor_beyond_the_journal_goes_back_to_its_end() {
    let place = Place::new();
    let journal = fill(&place, 2);
    place.journals.cursors().set(1, "server", 50).await.expect("a cursor");
    let sink = Arc::new(FakeSink::default());
    let pump = pump(&place, &sink, quick());
    pump.state().wait_for(|s| s.next == 2).await.expect("the pump lives");
    journal.append(Level::Info, "a", "third");
    assert!(pump.drained(LIMIT).await);
    assert_eq!(sink.taken()[0].text, "third");
}

struct Counter(AtomicUsize);

#[async_trait]
impl Sink for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    async fn send(&self, _: i64, lines: &[Line]) -> Result<(), SinkError> {
        self.0.fetch_add(lines.len(), Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test]
async fn a_thousand_journals_are_pumped_at_once() {
    let place = Place::new();
    let sink = Arc::new(Counter(AtomicUsize::new(0)));
    let journals: Vec<_> = (0..1000).map(|id| place.journal(id)).collect();
    let start = |journal: &Arc<_>| {
        Pump::spawn(Arc::clone(journal), Arc::clone(&sink) as Arc<dyn Sink>, place.journals.cursors().clone(), quick())
    };
    let pumps: Vec<_> = journals.iter().map(start).collect();
    for journal in &journals {
        journal.append(Level::Info, "a", "one\ntwo\nthree");
    }
    for pump in &pumps {
        assert!(pump.drained(LIMIT).await);
    }
    assert_eq!(sink.0.load(Ordering::Relaxed), 3000);
}

/// A sink that another process can look at: one line of the file for each line sent.
struct FileSink(Mutex<std::fs::File>);

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &str {
        "file"
    }

    async fn send(&self, _: i64, lines: &[Line]) -> Result<(), SinkError> {
        let text: String = lines.iter().map(|l| format!("{} {} {}\n", l.index, l.log_time_ms, lines.len())).collect();
        self.0.lock().write_all(text.as_bytes()).map_err(|e| SinkError::Retry(e.to_string()))
    }
}

async fn pump_into_file(dir: &std::path::Path) {
    let store = Store::open(&dir.join("state.db"), MIGRATIONS).expect("a store");
    let journals = Journals::open(&dir.join("journals"), Limits::default(), store.clone()).expect("journals");
    let file = std::fs::OpenOptions::new().append(true).create(true).open(dir.join("sink")).expect("a file");
    let sink = Arc::new(FileSink(Mutex::new(file)));
    let journal = journals.journal(1).expect("a journal");
    let options = PumpOptions { max_lines: 7, ..quick() };
    assert!(Pump::spawn(journal, sink, Cursors::new(store), options).drained(None).await);
}

#[tokio::test]
async fn a_process_killed_at_any_moment_loses_no_line_and_doubles_one_batch_at_most() {
    let dir = tempfile::tempdir().expect("a directory");
    let total = 4000;
    {
        let store = Store::open(&dir.path().join("state.db"), MIGRATIONS).expect("a store");
        let journals = Journals::open(&dir.path().join("journals"), Limits::default(), store).expect("journals");
        let text: Vec<_> = (0..total).map(|i| i.to_string()).collect();
        journals.journal(1).expect("a journal").append(Level::Info, "a", &text.join("\n"));
    }
    let sink = dir.path().join("sink");
    let kills = 6;
    for kill in 1..=kills {
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", "what_a_child_does"])
            .env("PUMP_TEST_DIR", dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("the test binary starts");
        let wanted = kill * 400 * 12;
        until(|| std::fs::metadata(&sink).is_ok_and(|meta| meta.len() > wanted)).await;
        child.kill().expect("SIGKILL");
        child.wait().expect("the child is gone");
    }
    pump_into_file(dir.path()).await;
    let text = std::fs::read_to_string(&sink).expect("the sink's file");
    let rows: Vec<Vec<u64>> =
        text.lines().map(|l| l.split(' ').map(|word| word.parse().expect("a number")).collect()).collect();
    let (mut next, mut doubled, mut times) = (0, 0, std::collections::HashMap::new());
    for row in &rows {
        let &[index, log_time, _] = row.as_slice() else { panic!("three numbers: {row:?}") };
        assert!(index <= next, "line {next} is missing");
        if index < next {
            assert!(next - index <= 7, "more than a batch doubled");
            doubled += 1;
        } else {
            next += 1;
        }
        assert_eq!(*times.entry(index).or_insert(log_time), log_time, "the same log time each time");
    }
    assert_eq!(next, total);
    assert!(doubled <= kills * 7, "{doubled} lines doubled by {kills} kills");
}

/// Does nothing unless started by the test above.
#[tokio::test]
async fn what_a_child_does() {
    if let Some(dir) = std::env::var_os("PUMP_TEST_DIR") {
        pump_into_file(std::path::Path::new(&dir)).await;
    }
}
