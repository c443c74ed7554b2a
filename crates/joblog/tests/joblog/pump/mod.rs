//! The pump's promises.

mod faults;
mod killed;
mod sink;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use self::sink::{Answer, FakeSink, LIMIT, LONG, fill, pump, quick, until};
use crate::common::{Place, all};
use async_trait::async_trait;
use testrig_joblog::{Level, Line, Pump, PumpOptions, Sink, SinkError};

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
