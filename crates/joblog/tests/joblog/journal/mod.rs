//! The journal's promises on real files.

mod cut;

use std::{
    collections::HashSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use crate::common::{Place, all, texts};
use testrig_joblog::{Journals, Level, Limits, Position};

fn at(offset: u64) -> Position {
    Position { file: 7, offset, time_ns: 0, ordinal: 0 }
}

#[test]
fn lines_come_back_as_they_were_appended_also_after_a_restart() {
    let place = Place::new();
    let journal = place.journal(-5);
    journal.append(Level::Info, "agent", "first");
    journal.append(Level::Error, "service", "tab\there, nul \0, 汉字, emoji 🦀");
    journal.append(Level::Debug, "", "");
    journal.append_at(Level::Warn, "odd\tname\n", "# no mark", at(99));
    let before = all(&journal);
    assert_eq!(texts(&before), ["first", "tab\there, nul \0, 汉字, emoji 🦀", "", "# no mark"]);
    assert_eq!(before.iter().map(|l| l.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(before[3].source, "odd name ");
    assert_eq!(before[3].position, Some(at(99)));
    drop(journal);
    let journal = place.journal(-5);
    assert_eq!(all(&journal), before);
    assert_eq!(journal.len(), 4);
    assert_eq!(journal.last_position("odd\tname\n"), Some(at(99)));
    assert_eq!(place.journals.list().expect("a list"), [-5]);
}

#[test]
fn every_line_break_splits_and_none_is_ever_in_a_line() {
    let place = Place::new();
    let journal = place.journal(1);
    journal.append(Level::Info, "a", "1\n2\r\n3\r4\u{85}5\u{2028}6\u{2029}7\u{b}8\u{c}9\n");
    journal.append(Level::Info, "a", "\n\n");
    assert_eq!(texts(&all(&journal)), ["1", "2", "3", "4", "5", "6", "7", "8", "9", "", ""]);
}

#[test]
fn log_times_increase_strictly_whatever_the_clock_does_and_survive_a_restart() {
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let place = Place::with_clock(Limits::default(), Arc::clone(&clock));
    let journal = place.journal(1);
    journal.append(Level::Info, "a", "x\ny\nz");
    clock.store(500_000, Ordering::Relaxed);
    journal.append(Level::Info, "a", "the clock went back");
    drop(journal);
    let journal = place.journal(1);
    journal.append(Level::Info, "a", "after a restart");
    clock.store(2_000_000, Ordering::Relaxed);
    journal.append(Level::Info, "a", "the clock is ahead again");
    let lines = all(&journal);
    let times: Vec<_> = lines.iter().map(|l| (l.time_ms, l.log_time_ms)).collect();
    let back = 500_000;
    assert_eq!(
        times,
        [
            (1_000_000, 1_000_000),
            (1_000_000, 1_000_001),
            (1_000_000, 1_000_002),
            (back, 1_000_003),
            (back, 1_000_004),
            (2_000_000, 2_000_000)
        ]
    );
}

#[test]
fn a_line_longer_than_the_limit_goes_on_in_the_next_and_loses_nothing() {
    let place = Place::with(Limits { max_line_bytes: 10, ..Limits::default() });
    let journal = place.journal(1);
    let long = "汉字1234567890🦀🦀🦀abc";
    journal.append_at(Level::Info, "a", long, at(40));
    journal.append(Level::Info, "a", "exactly10!");
    let lines = all(&journal);
    assert_eq!(lines.last().expect("a line").text, "exactly10!");
    let pieces = &lines[..lines.len() - 1];
    assert!(pieces.iter().all(|l| l.text.len() <= 10 && !l.text.is_empty()));
    assert_eq!(texts(pieces).concat(), long);
    assert!(pieces.iter().all(|l| l.position == Some(at(40))));
    assert_eq!(journal.last_position("a"), Some(at(40)));
}

#[test]
fn reading_stops_at_lines_and_bytes_but_always_gives_one() {
    let place = Place::new();
    let journal = place.journal(1);
    let big = "x".repeat(5000);
    for i in 0..100 {
        journal.append(Level::Info, "a", &format!("{i} {big}"));
    }
    assert_eq!(journal.read(0, 7, usize::MAX).expect("a read").len(), 7);
    assert_eq!(journal.read(95, 100, usize::MAX).expect("a read").len(), 5);
    assert_eq!(journal.read(50, 100, 1).expect("a read").len(), 1);
    assert_eq!(journal.read(50, 100, 11_000).expect("a read").len(), 2);
    assert_eq!(journal.read(50, 0, 100).expect("a read"), []);
    assert_eq!(journal.read(100, 1, 100).expect("a read"), []);
    assert_eq!(journal.read(u64::MAX, 1, 100).expect("a read"), []);
    for from in [0, 1, 49, 99] {
        let lines = journal.read(from, 1, 1).expect("a read");
        assert_eq!(lines[0].index, from);
        assert!(lines[0].text.starts_with(&format!("{from} ")));
    }
}

#[test]
fn what_comes_after_the_end_is_dropped_counted_and_told_to_the_next_attempt() {
    let place = Place::new();
    let journal = place.journal(1);
    journal.append(Level::Info, "a", "one");
    assert!(!journal.is_closed());
    journal.close("FAILED");
    journal.close("SUCCEED");
    journal.append(Level::Info, "a", "late\nlater");
    assert_eq!(journal.subscribe().borrow().closed.as_deref(), Some("FAILED"));
    assert_eq!((journal.len(), journal.dropped_after_close()), (1, 2));
    journal.reopen();
    journal.reopen();
    journal.append(Level::Info, "a", "two");
    journal.close("SUCCEED");
    let lines = all(&journal);
    let late = "2 lines came after the end of the attempt before and were dropped";
    assert_eq!(texts(&lines), ["one", late, "two"]);
    drop(journal);
    let journal = place.journal(1);
    assert!(journal.is_closed());
    assert_eq!(journal.subscribe().borrow().closed.as_deref(), Some("SUCCEED"));
    assert_eq!(all(&journal), lines);
    journal.reopen();
    drop(journal);
    assert!(!place.journal(1).is_closed(), "open again, also after a restart");
}

#[test]
fn at_the_limit_lines_are_counted_and_the_agents_own_are_kept() {
    let place = Place::with(Limits { max_bytes_per_journal: 2000, ..Limits::default() });
    let journal = place.journal(1);
    for i in 0..100 {
        journal.append_at(Level::Info, "service", &format!("line {i}"), at(i));
    }
    journal.append(Level::Error, "agent", "the reason of the failure");
    drop(journal);
    let journal = place.journal(1);
    journal.append(Level::Info, "service", &"long ".repeat(400));
    journal.append(Level::Info, "service", "short, but after a dropped one");
    journal.close("FAILED");
    let lines = all(&journal);
    let kept = lines.iter().filter(|l| l.source == "service").count();
    assert!((10..40).contains(&kept), "{kept}");
    assert_eq!(journal.last_position("service"), Some(at(kept as u64 - 1)));
    let own: Vec<_> = lines[kept..].iter().map(|l| l.text.as_str()).collect();
    assert!(own[0].contains("reached its limit of 2000 bytes"), "{own:?}");
    assert_eq!(own[1], "the reason of the failure");
    // The count is durable at powers of two: 64 of the 80 or so, and two since the restart.
    assert_eq!(own[2], "about 66 lines of this log were dropped because it was at its limit on disk");
    assert_eq!(own.len(), 3);
    assert!(fs::metadata(journal.path()).expect("the file").len() < 3000);
}

#[test]
fn a_count_within_one_process_is_exact() {
    let place = Place::with(Limits { max_bytes_per_journal: 1500, ..Limits::default() });
    let journal = place.journal(1);
    for i in 0..1000 {
        journal.append(Level::Info, "service", &format!("line {i}\nand more"));
    }
    let kept = all(&journal).iter().filter(|l| l.source == "service").count();
    journal.close("SUCCEED");
    let last = all(&journal).pop().expect("a line").text;
    assert_eq!(last, format!("{} lines of this log were dropped because it was at its limit on disk", 2000 - kept));
}

#[test]
fn subscribers_see_every_length_or_a_later_one_and_the_end() {
    let place = Place::new();
    let journal = place.journal(1);
    let mut changes = journal.subscribe();
    assert_eq!(changes.borrow_and_update().len, 0);
    journal.append(Level::Info, "a", "x\ny");
    journal.append(Level::Info, "a", "z");
    assert!(changes.has_changed().expect("the journal lives"));
    assert_eq!(changes.borrow_and_update().len, 3);
    assert!(!changes.has_changed().expect("the journal lives"));
    journal.close("SUCCEED");
    let end = changes.borrow_and_update().clone();
    assert_eq!((end.len, end.closed.as_deref()), (3, Some("SUCCEED")));
    journal.append(Level::Info, "a", "late");
    assert!(!changes.has_changed().expect("the journal lives"), "a dropped line is no change");
}

#[test]
fn readers_and_writers_at_once_see_each_line_once_and_in_order() {
    let place = Place::new();
    let journal = place.journal(1);
    let (writers, each) = (4, 1500);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let journal = &journal;
            scope.spawn(move || {
                for i in 0..each {
                    journal.append(
                        Level::Info,
                        &format!("w{writer}"),
                        &format!("{writer}-{i} {}", "x".repeat(i % 300)),
                    );
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let (mut next, mut seen, mut last) = (0, HashSet::new(), i64::MIN);
                while next < writers * each as u64 {
                    for line in journal.read(next, 97, 20_000).expect("a read") {
                        assert_eq!(line.index, next);
                        assert!(line.log_time_ms > last);
                        last = line.log_time_ms;
                        next += 1;
                        let word = line.text.split(' ').next().expect("a word").to_owned();
                        assert!(seen.insert(word), "{} twice", line.text);
                    }
                }
            });
        }
    });
}

#[test]
fn all_holders_of_an_instance_share_one_journal_and_it_is_forgotten_after_the_last() {
    let place = Place::new();
    assert!(place.journals.existing(3).expect("a look").is_none());
    let journal = place.journal(3);
    let same = place.journals.existing(3).expect("a look").expect("it is there");
    assert!(Arc::ptr_eq(&journal, &same));
    drop((journal, same));
    assert_eq!(place.journals.existing(3).expect("a look").expect("it is there").len(), 0);
}

#[test]
fn a_journal_that_takes_long_to_open_keeps_nobody_from_theirs() {
    let place = Place::new();
    // A pipe that nobody writes to is read for ever.
    let made = std::process::Command::new("mkfifo").arg(place.journals.path(5)).status().expect("mkfifo runs");
    assert!(made.success());
    let journals = place.journals.clone();
    let opening = std::thread::spawn(move || journals.journal(5).map(drop));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!opening.is_finished(), "it is being opened");
    let (sender, other) = std::sync::mpsc::channel();
    let journals = place.journals.clone();
    std::thread::spawn(move || sender.send(journals.journal(6).map(|journal| journal.len())));
    let other = other.recv_timeout(std::time::Duration::from_secs(20)).expect("the other one opens meanwhile");
    assert_eq!(other.expect("a journal"), 0);
}

#[tokio::test]
async fn old_journals_are_removed_with_their_cursors_but_none_that_is_held_or_wanted() {
    let place = Place::new();
    for id in 1..=4 {
        place.journal(id).append(Level::Info, "a", "x");
        place.journals.cursors().set(id, "server", 1).await.expect("a cursor");
    }
    let held = place.journal(3);
    let busy = place.journals.remove(3).await.expect_err("it is held");
    assert_eq!(busy.kind(), std::io::ErrorKind::ResourceBusy);
    assert_eq!(place.journals.remove_older(Duration::from_secs(3600), |_| false).await.expect("a look"), []);
    assert_eq!(place.journals.remove_older(Duration::ZERO, |id| id == 4).await.expect("a look"), [1, 2]);
    assert_eq!(place.journals.list().expect("a list"), [3, 4]);
    assert!(!place.journals.remove(1).await.expect("a look"));
    assert_eq!(place.journals.cursors().get(1, "server").await.expect("a cursor"), 0);
    assert_eq!(place.journals.cursors().get(4, "server").await.expect("a cursor"), 1);
    drop(held);
}

#[test]
fn more_journals_than_open_files_are_held_at_once() {
    let place = Place::new();
    let journals: Vec<_> = (0..700).map(|id| place.journal(id)).collect();
    for journal in &journals {
        journal.append(Level::Info, "a", "one");
        journal.append(Level::Info, "a", "two");
    }
    let files = fs::read_dir("/proc/self/fd").expect("the open files").count();
    assert!(files < 620, "{files} files are open");
    assert!(journals.iter().all(|journal| texts(&all(journal)) == ["one", "two"]));
}

#[test]
fn journals_that_lie_in_directories_of_their_own_are_taken_over() {
    let place = Place::new();
    let journal = place.journal(7);
    journal.append(Level::Info, "a", "kept");
    let dir = place.journals.dir().to_owned();
    let file = journal.path().to_owned();
    drop(journal);
    let former = |id: i64| dir.join(id.to_string());
    for id in [7, 8] {
        fs::create_dir(former(id)).expect("a directory");
    }
    fs::rename(&file, former(7).join("journal.log")).expect("as it was formerly");
    fs::write(former(8).join("other"), "x").expect("a file");
    let journals = testrig_joblog::Journals::open(&dir, Limits::default(), place.store.clone()).expect("journals");
    assert_eq!(journals.list().expect("a list"), [7]);
    assert_eq!(texts(&all(&journals.journal(7).expect("a journal"))), ["kept"]);
    assert!(!former(7).exists() && former(8).join("other").exists(), "only what was empty then is gone");
}

#[test]
fn files_that_are_no_journals_or_of_a_newer_program_are_refused() {
    let place = Place::new();
    for (id, text, told) in
        [(1, "hello\n", "does not begin as a journal"), (2, "#testrig-journal 2 2\n", "newer testrig")]
    {
        let path = place.journals.path(id);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, text).expect("a file");
        let e = place.journals.journal(id).expect_err("it is refused").to_string();
        assert!(e.contains(told) && e.contains(&format!("{id}.log")), "{e}");
        assert_eq!(fs::read_to_string(path).expect("the file"), text, "and left as it is");
    }
}

#[test]
fn a_damaged_line_is_shown_and_the_others_keep_their_index() {
    let place = Place::new();
    let journal = place.journal(1);
    for text in ["one", "two", "three"] {
        journal.append(Level::Info, "a", text);
    }
    let path = journal.path().to_owned();
    drop(journal);
    let text = fs::read_to_string(&path).expect("the file");
    let damaged: Vec<_> = text.lines().map(|l| if l.ends_with("two") { "gar\u{85}bage" } else { l }).collect();
    fs::write(&path, damaged.join("\n") + "\n").expect("the file");
    let journal = place.journal(1);
    journal.append(Level::Info, "a", "four");
    let lines = all(&journal);
    assert_eq!(texts(&lines), ["one", "this line of the journal is damaged: gar bage", "three", "four"]);
    assert_eq!(lines[3].index, 3);
    assert!(lines.windows(2).all(|w| w[0].log_time_ms < w[1].log_time_ms));
}

#[test]
fn the_directory_says_when_it_cannot_be_made() {
    let place = Place::new();
    let file = place.dir.path().join("file");
    fs::write(&file, "").expect("a file");
    let e = Journals::open(&file, Limits::default(), place.store.clone()).expect_err("it is a file").to_string();
    assert!(e.contains("failed to create the directory of the journals"), "{e}");
}
