//! What is lost, refused, taken back or given up.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use parking_lot::Mutex;
use testrig_joblog::{Level, Pump, PumpOptions, Sink};

use crate::{
    common::{Place, all},
    pump::sink::{FakeSink, LIMIT, LONG, fill, pump, quick, until},
};

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
async fn a_pump_in_the_place_of_another_begins_when_the_last_batch_of_that_one_is_answered() {
    let place = Place::new();
    let journal = fill(&place, 10);
    let sink = Arc::new(FakeSink::gated());
    let first = pump(&place, &sink, PumpOptions { max_lines: 4, stop_within: LONG, ..quick() });
    until(|| sink.batches().len() == 1).await;
    let cursors = place.journals.cursors().clone();
    let second =
        Pump::spawn_after(Some(&first), place.journal(1), Arc::clone(&sink) as Arc<dyn Sink>, cursors, quick());
    let (_, sent) = tokio::join!(first.stop(), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let meanwhile = sink.batches();
        sink.open(100);
        meanwhile
    });
    assert_eq!(sent, [4], "nothing is sent beside the batch in flight");
    assert!(second.drained(LIMIT).await);
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
    // Of an earlier process: a journal that is made now has no cursor yet.
    drop(fill(&place, 2));
    let journal = place.journals.journal(1).expect("the same again");
    place.journals.cursors().set(1, "server", 50).await.expect("a cursor");
    let sink = Arc::new(FakeSink::default());
    let pump = pump(&place, &sink, quick());
    pump.state().wait_for(|s| s.next == 2).await.expect("the pump lives");
    journal.append(Level::Info, "a", "third");
    assert!(pump.drained(LIMIT).await);
    assert_eq!(sink.taken()[0].text, "third");
}
