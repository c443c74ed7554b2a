//! Files that somebody appends to, brought into a journal.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use crate::common::{Place, all, texts};
use proptest::prelude::*;
use testrig_joblog::{
    Followed, Journal, Journals, Level, Limits, LineSplitter, MIGRATIONS, Piece, Resumed, Tail, decode_line, follow,
    split_lines,
};
use testrig_store::Store;
use tokio_util::sync::CancellationToken;

fn split(bytes: &[u8], chunks: &[usize], offset: u64, after_cr: bool, max: usize) -> Vec<Piece> {
    let mut splitter = LineSplitter::new(offset, after_cr, max);
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut sizes = chunks.iter().copied().cycle();
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        splitter.push(head, &mut out);
        rest = tail;
    }
    out.extend(splitter.finish());
    assert_eq!(splitter.offset(), offset + bytes.len() as u64);
    out
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just("\u{85}".as_bytes().to_vec()),
        Just("\u{2028}".as_bytes().to_vec()),
        Just("\u{2029}".as_bytes().to_vec()),
        Just(b"\x0b".to_vec()),
        Just("汉🦀é".as_bytes().to_vec()),
        "[a-z]{0,5}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn chunks_do_not_matter_and_lines_are_those_of_the_whole_text(
        bytes in bytes(), chunks in proptest::collection::vec(1..6_usize, 1..5),
    ) {
        let pieces = split(&bytes, &chunks, 0, false, 1 << 20);
        prop_assert_eq!(&pieces, &split(&bytes, &[bytes.len().max(1)], 0, false, 1 << 20));
        let text = decode_line(&bytes);
        let lines: Vec<_> = split_lines(&text).collect();
        let decoded: Vec<_> = pieces.iter().map(|piece| decode_line(&piece.bytes)).collect();
        if bytes.is_empty() {
            prop_assert!(decoded.is_empty());
        } else {
            prop_assert_eq!(decoded, lines);
        }
    }

    #[test]
    fn whoever_resumes_behind_any_line_gets_exactly_the_rest(
        bytes in bytes(), chunks in proptest::collection::vec(1..6_usize, 1..5), max in 4..12_usize,
    ) {
        let pieces = split(&bytes, &chunks, 0, false, max);
        prop_assert!(pieces.iter().all(|piece| piece.bytes.len() <= max));
        for (i, piece) in pieces.iter().enumerate() {
            let at = piece.end as usize;
            let rest = split(&bytes[at..], &chunks, piece.end, bytes[at - 1] == b'\r', max);
            prop_assert_eq!(&rest[..], &pieces[i + 1..], "behind line {}", i);
        }
    }

    #[test]
    fn pieces_of_long_lines_are_cut_between_characters_and_lose_nothing(text in "[a汉🦀é]{0,60}", max in 4..12_usize) {
        let pieces = split(text.as_bytes(), &[3], 0, false, max);
        let whole: Vec<_> = pieces.iter().map(|p| std::str::from_utf8(&p.bytes).expect("whole characters")).collect();
        prop_assert_eq!(whole.concat(), text);
        prop_assert!(pieces.iter().all(|piece| !piece.bytes.is_empty()));
    }
}

fn write(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("a write");
}

fn level(text: &str) -> Level {
    if text.contains("ERROR") { Level::Error } else { Level::Info }
}

async fn wait_for(journal: &Journal, len: u64) {
    let mut changes = journal.subscribe();
    let reached = changes.wait_for(|state| state.len >= len);
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("in time").expect("the journal lives");
}

struct Following {
    ended: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<Followed>>,
}

impl Following {
    fn start(journal: &Arc<Journal>, path: &Path) -> Self {
        let ended = CancellationToken::new();
        let tail = Tail::resume(path, journal, "service");
        let (journal, token) = (Arc::clone(journal), ended.clone());
        let task = tokio::spawn(async move { follow(&journal, "service", level, tail, &token).await });
        Self { ended, task }
    }

    async fn end(self) -> Followed {
        self.ended.cancel();
        self.task.await.expect("no panic").expect("the file can be read")
    }
}

#[tokio::test]
async fn a_growing_file_arrives_line_by_line_and_its_last_line_needs_no_line_break() {
    let place = Place::new();
    let (journal, path) = (place.journal(1), place.dir.path().join("service.log"));
    let following = Following::start(&journal, &path);
    tokio::time::sleep(Duration::from_millis(20)).await;
    write(&path, "one\r\n\r 10%\r 20%\nERROR: tw");
    wait_for(&journal, 4).await;
    write(&path, "o\nthree, the end");
    wait_for(&journal, 5).await;
    assert_eq!(following.end().await, Followed { resumed: Resumed::AtStart, lines: 6 });
    let lines = all(&journal);
    assert_eq!(texts(&lines), ["one", "", " 10%", " 20%", "ERROR: two", "three, the end"]);
    assert_eq!(lines[4].level, Level::Error);
    let size = fs::metadata(&path).expect("the file").len();
    assert_eq!(journal.last_position("service").expect("a position").offset, size);
}

#[tokio::test]
async fn a_file_that_is_never_there_gives_no_line_and_no_error() {
    let place = Place::new();
    let journal = place.journal(1);
    let following = Following::start(&journal, &place.dir.path().join("never"));
    assert_eq!(following.end().await, Followed::default());
    assert!(journal.is_empty());
}

#[tokio::test]
async fn what_was_written_while_nobody_followed_is_read_after_a_restart_without_hole_or_double() {
    let place = Place::new();
    let path = place.dir.path().join("service.log");
    let mut written = Vec::new();
    for round in 0..8 {
        let journal = place.journal(1);
        // The break of the last line may lie on both sides of the restart.
        let following = Following::start(&journal, &path);
        let ends = ["\n", "\r\n", "\r", "\u{2028}"];
        let line = format!("round {round}{}half", ends[round % 4]);
        write(&path, &line);
        written.push(line);
        wait_for(&journal, journal.len() + 1).await;
        // As by a kill: not ended, and the half line is not taken.
        following.task.abort();
        let _aborted = following.task.await;
        let rest = format!(" line{}", ends[(round + 1) % 4]);
        write(&path, &rest);
        written.push(rest);
    }
    let journal = place.journal(1);
    let followed = Following::start(&journal, &path).end().await;
    assert!(matches!(followed.resumed, Resumed::At(_)), "{followed:?}");
    let whole = written.concat();
    assert_eq!(texts(&all(&journal)), split_lines(&whole).collect::<Vec<_>>());
}

#[tokio::test]
async fn another_file_under_the_same_name_is_read_from_its_start() {
    let place = Place::new();
    let (journal, path) = (place.journal(1), place.dir.path().join("service.log"));
    write(&path, "old one\nold two\n");
    Following::start(&journal, &path).end().await;
    // Kept, so that its inode is not used again on file systems without a birth time.
    fs::rename(&path, place.dir.path().join("old")).expect("the old file moves");
    write(&path, "new one, and longer than the old file was\n");
    assert_eq!(Following::start(&journal, &path).end().await, Followed { resumed: Resumed::Replaced, lines: 1 });
    File::create(&path).expect("the file is emptied");
    write(&path, "shorter\n");
    assert_eq!(Following::start(&journal, &path).end().await, Followed { resumed: Resumed::Replaced, lines: 1 });
    let lines = all(&journal);
    assert_eq!(texts(&lines), ["old one", "old two", "new one, and longer than the old file was", "shorter"]);
}

#[tokio::test]
async fn files_replaced_one_after_the_other_are_each_read_to_their_end() {
    let place = Place::new();
    let (journal, path) = (place.journal(1), place.dir.path().join("service.log"));
    let following = Following::start(&journal, &path);
    let mut expected = Vec::new();
    for turn in 0..20_u64 {
        write(&path, &format!("first of {turn}\n"));
        wait_for(&journal, turn * 3 + 1).await;
        // At any moment between two looks of the reader.
        tokio::time::sleep(Duration::from_millis(turn * 7 % 20)).await;
        write(&path, &format!("second of {turn}\nhalf of {turn}"));
        fs::rename(&path, path.with_extension(turn.to_string())).expect("a rotation");
        expected.extend(["first", "second", "half"].map(|word| format!("{word} of {turn}")));
    }
    write(&path, "last\n");
    expected.push("last".to_owned());
    assert_eq!(following.end().await.resumed, Resumed::Replaced);
    assert_eq!(texts(&all(&journal)), expected);
}

#[tokio::test]
async fn a_file_replaced_while_it_is_followed_is_read_to_its_end_first() {
    let place = Place::new();
    let (journal, path) = (place.journal(1), place.dir.path().join("service.log"));
    write(&path, "one\n");
    let following = Following::start(&journal, &path);
    wait_for(&journal, 1).await;
    write(&path, "two\nhalf");
    fs::rename(&path, place.dir.path().join("service.log.1")).expect("a rotation");
    write(&path, "three\n");
    wait_for(&journal, 4).await;
    assert_eq!(following.end().await.resumed, Resumed::Replaced);
    assert_eq!(texts(&all(&journal)), ["one", "two", "half", "three"]);
}

async fn follow_in(dir: &Path, ended: &CancellationToken) -> Arc<Journal> {
    let store = Store::open_in_memory(MIGRATIONS).expect("a store");
    let limits = Limits { max_line_bytes: 32, ..Limits::default() };
    let journals = Journals::open(&dir.join("journals"), limits, store).expect("journals");
    let journal = journals.journal(1).expect("a journal");
    let tail = Tail::resume(&dir.join("service.log"), &journal, "service");
    follow(&journal, "service", level, tail, ended).await.expect("the file can be read");
    journal
}

#[tokio::test]
async fn a_process_killed_while_it_follows_leaves_no_hole_and_no_double() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("service.log");
    let journal_file = dir.path().join("journals/1.log");
    // Bytes that are no UTF-8 make a line longer than the limit, so that one text gives several lines.
    let line = |i: u64| [format!("line {i} 汉\u{2028}").as_bytes(), &[0xff; 24], b" end\r\n"].concat();
    let total = 60_000;
    let writer = {
        let path = path.clone();
        std::thread::spawn(move || {
            let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
            for block in 0..total / 300 {
                let bytes: Vec<u8> = (block * 300..(block + 1) * 300).flat_map(line).collect();
                file.write_all(&bytes).expect("a write");
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let mut size = 0;
    for _ in 0..6 {
        let mut child = Command::new("/proc/self/exe")
            .args(["--exact", "tail::what_a_child_does"])
            .env("TAIL_TEST_DIR", dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("the test binary starts");
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while fs::metadata(&journal_file).map_or(0, |meta| meta.len()) <= size + 50_000
            && std::time::Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("the child is gone");
        size = fs::metadata(&journal_file).expect("the journal").len();
    }
    writer.join().expect("the writer ends");
    let ended = CancellationToken::new();
    ended.cancel();
    let journal = follow_in(dir.path(), &ended).await;
    let whole: String = all(&journal).into_iter().map(|l| l.text).collect();
    let expected: String = (0..total).map(|i| format!("line {i} 汉{} end", "\u{fffd}".repeat(24))).collect();
    assert!(whole == expected, "{} characters and not {}", whole.len(), expected.len());
}

/// Does nothing unless started by the test above.
#[tokio::test]
async fn what_a_child_does() {
    if let Some(dir) = std::env::var_os("TAIL_TEST_DIR") {
        follow_in(Path::new(&dir), &CancellationToken::new()).await;
    }
}
