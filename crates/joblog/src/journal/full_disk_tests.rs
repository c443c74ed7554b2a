//! A disk that fills up and gets space again.

use std::{sync::Arc, time::Duration};

use testrig_store::Store;
use tokio_util::sync::CancellationToken;

use crate::{Entry, Journal, Journals, Level, Limits, MIGRATIONS, Position, Tail, follow, medium::fault};

struct Place {
    dir: tempfile::TempDir,
    journals: Journals,
}

fn place() -> Place {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open_in_memory(MIGRATIONS).expect("a store");
    let journals = Journals::open(dir.path(), Limits::default(), store).expect("journals");
    Place { dir, journals }
}

fn texts(journal: &Journal) -> Vec<String> {
    journal.read(0, usize::MAX, usize::MAX).expect("a read").into_iter().map(|line| line.text).collect()
}

fn position(offset: u64) -> Position {
    Position { offset, ..Position::default() }
}

#[test]
fn lines_that_a_full_disk_refused_are_counted_in_the_log_when_there_is_space_again() {
    let place = place();
    let journal = place.journals.journal(1).expect("a journal");
    let mut changes = journal.subscribe();
    journal.append(Level::Info, "a", "before");
    changes.mark_unchanged();
    // Some of the first line still fits and must not stay.
    fault::leave_room(Some(20));
    journal.append_at(Level::Info, "a", "lost", position(1));
    journal.append(Level::Info, "a", "lost\ntoo");
    assert!(!changes.has_changed().expect("the journal lives"));
    assert_eq!((journal.len(), journal.last_position("a")), (1, None));
    fault::leave_room(None);
    journal.append(Level::Info, "a", "after");
    let told = "3 lines of this log could not be written and are lost here: no storage space";
    assert_eq!(texts(&journal), ["before", told, "after"]);
    journal.append(Level::Info, "a", "and on");
    let live = texts(&journal);
    assert_eq!(live.len(), 4);
    drop(journal);
    assert_eq!(texts(&place.journals.journal(1).expect("a journal")), live);
}

#[test]
fn an_end_that_a_full_disk_refused_is_told_to_the_one_who_closes_and_can_be_written_later() {
    let place = place();
    let journal = place.journals.journal(1).expect("a journal");
    journal.append(Level::Info, "a", "line");
    fault::leave_room(Some(0));
    assert!(!journal.close("FAILED"));
    assert!(journal.is_closed(), "nobody waits for more");
    fault::leave_room(None);
    drop(journal);
    let journal = place.journals.journal(1).expect("a journal");
    assert!(!journal.is_closed(), "the file does not know");
    fault::leave_room(Some(0));
    assert!(!journal.close("FAILED"));
    fault::leave_room(None);
    assert!(journal.close("FAILED") && journal.close("FAILED"));
    drop(journal);
    let journal = place.journals.journal(1).expect("a journal");
    assert!(journal.is_closed());
    assert_eq!(texts(&journal), ["line"]);
}

#[test]
fn lines_lost_just_before_the_end_are_told_by_the_end() {
    let place = place();
    let journal = place.journals.journal(1).expect("a journal");
    fault::leave_room(Some(0));
    journal.append(Level::Info, "a", "lost");
    fault::leave_room(None);
    journal.close("SUCCEED");
    assert_eq!(texts(&journal), ["1 line of this log could not be written and are lost here: no storage space"]);
    drop(journal);
    assert!(place.journals.journal(1).expect("a journal").is_closed());
}

#[test]
fn a_process_killed_on_a_full_disk_leaves_no_half_line_behind() {
    let place = place();
    let journal = place.journals.journal(1).expect("a journal");
    fault::leave_room(Some(150));
    let entries = ["one whole line that fits", "another that does not, because there is no room left for it here"]
        .map(|text| Entry { level: Level::Info, source: "a", text, position: None });
    journal.append_many(&entries);
    // As after a kill: nothing of the memory is used.
    std::mem::forget(journal);
    let store = Store::open_in_memory(MIGRATIONS).expect("a store");
    let again = Journals::open(place.dir.path(), Limits::default(), store).expect("journals");
    fault::leave_room(None);
    assert_eq!(texts(&again.journal(1).expect("a journal")), [""; 0]);
}

#[test]
fn a_producer_that_can_come_again_loses_nothing() {
    let place = place();
    let journal = place.journals.journal(1).expect("a journal");
    let entry = Entry { level: Level::Info, source: "a", text: "kept\nback", position: Some(position(9)) };
    fault::leave_room(Some(30));
    journal.try_append_many(&[entry]).expect_err("the disk is full");
    fault::leave_room(None);
    journal.try_append_many(&[entry]).expect("there is space");
    assert_eq!(texts(&journal), ["kept", "back"]);
}

#[tokio::test]
async fn a_followed_file_waits_for_space_and_loses_nothing() {
    let place = place();
    let journal = place.journals.journal(1).expect("a journal");
    let path = place.dir.path().join("service.log");
    std::fs::write(&path, "one\ntwo\nthree").expect("a file");
    fault::leave_room(Some(10));
    let ended = CancellationToken::new();
    let (followed, ()) = tokio::join!(
        follow(&journal, "service", |_| Level::Info, Tail::resume(&path, &journal, "service"), &ended),
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(journal.len(), 0);
            fault::leave_room(None);
            ended.cancel();
        }
    );
    assert_eq!(followed.expect("the file can be read").lines, 3);
    assert_eq!(texts(&journal), ["one", "two", "three"]);
}

#[test]
fn the_limit_is_told_even_if_the_disk_was_full_when_it_was_reached() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open_in_memory(MIGRATIONS).expect("a store");
    let limits = Limits { max_bytes_per_journal: 200, ..Limits::default() };
    let journal: Arc<Journal> =
        Journals::open(dir.path(), limits, store).expect("journals").journal(1).expect("a journal");
    fault::leave_room(Some(0));
    journal.append(Level::Info, "a", &"x".repeat(300));
    fault::leave_room(None);
    journal.append(Level::Info, "a", &"x".repeat(300));
    let texts = texts(&journal);
    assert!(texts[0].starts_with("1 line of this log could not be written"), "{texts:?}");
    assert!(texts[1].contains("reached its limit of 200 bytes"), "{texts:?}");
    assert_eq!(journal.dropped_at_limit(), 1);
}
