use std::{
    io::Read,
    path::Path,
    time::{Duration, SystemTime},
};

use globset::GlobSet;

use super::*;

fn source(dir: &Path) -> Source {
    Source { dir: dir.to_owned(), top: "run-a".into(), extra: vec![], skip: GlobSet::empty() }
}

/// Packs all of it and gives the bytes.
async fn packed(source: Source) -> (Packed, Vec<u8>) {
    let mut packing = pack(source, Arc::default());
    let mut all = Vec::new();
    while let Some(chunk) = packing.chunks.recv().await {
        all.extend_from_slice(&chunk);
    }
    (packing.done.await.expect("thread").expect("packed"), all)
}

/// Names and contents as the archive has them.
fn unpacked(bytes: &[u8]) -> Vec<(String, Vec<u8>, u64)> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    archive
        .entries()
        .expect("a tar")
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            let name = entry.path().expect("a path").display().to_string();
            let mtime = entry.header().mtime().expect("a time");
            entry.read_to_end(&mut content).expect("content");
            (name, content, mtime)
        })
        .collect()
}

#[tokio::test]
async fn the_archive_has_every_file_in_order_with_its_time_and_the_hash_is_that_of_its_bytes() {
    let dir = tempfile::tempdir().expect("dir");
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
    for (name, text) in [("b.log", "bb"), ("a.log", "aaa"), (long.as_str(), "long"), ("empty/.keep", "")] {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().expect("parent")).expect("dir");
        std::fs::write(file, text).expect("written");
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    std::fs::File::options().write(true).open(dir.path().join("a.log")).expect("open").set_modified(at).expect("set");
    let (told, bytes) = packed(source(dir.path())).await;
    let (again, same) = packed(source(dir.path())).await;
    assert_eq!((told.size, told.files, told.content_bytes), (bytes.len() as u64, 4, 9));
    assert_eq!(told.sha256, hex::encode(Sha256::digest(&bytes)));
    assert_eq!((again.sha256, same), (told.sha256, bytes.clone()), "the same files give the same archive");
    let entries = unpacked(&bytes);
    let names: Vec<_> = entries.iter().map(|(name, ..)| name.trim_end_matches('/').to_owned()).collect();
    let wanted = [
        "run-a",
        "run-a/a.log",
        "run-a/b.log",
        &format!("run-a/{}", "d".repeat(90)),
        &format!("run-a/{long}"),
        "run-a/empty",
        "run-a/empty/.keep",
    ];
    assert_eq!(names, wanted);
    assert_eq!((entries[1].1.as_slice(), entries[1].2), (b"aaa".as_slice(), 1_700_000_000));
}

#[tokio::test]
async fn links_are_kept_as_links_special_files_are_left_out_and_patterns_skip() {
    let dir = tempfile::tempdir().expect("dir");
    let outside = tempfile::tempdir().expect("dir");
    std::fs::write(outside.path().join("secret"), "secret").expect("written");
    std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("link")).expect("link");
    std::os::unix::fs::symlink(outside.path(), dir.path().join("link-dir")).expect("link");
    nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    for name in ["keep.log", "no.tmp", "deep/no.tmp", "cache/x.log"] {
        std::fs::create_dir_all(dir.path().join(name).parent().expect("parent")).expect("dir");
        std::fs::write(dir.path().join(name), "x").expect("written");
    }
    let mut source = source(dir.path());
    source.extra = vec![outside.path().join("secret"), outside.path().join("missing")];
    source.skip = globset::GlobSetBuilder::new()
        .add(globset::Glob::new("**/*.tmp").expect("glob"))
        .add(globset::Glob::new("cache").expect("glob"))
        .build()
        .expect("set");
    let (told, bytes) = packed(source).await;
    let names: Vec<_> = unpacked(&bytes).into_iter().map(|(name, content, _)| (name, content.len())).collect();
    let wanted = [
        ("run-a", 0),
        ("run-a/deep", 0),
        ("run-a/keep.log", 1),
        ("run-a/link", 0),
        ("run-a/link-dir", 0),
        ("extra/secret", 6),
    ];
    assert_eq!(names, wanted.map(|(name, size)| (name.to_owned(), size)));
    assert_eq!(told.skipped, 3);
    assert!(
        told.warnings.iter().any(|w| w.contains("pipe")) && told.warnings.iter().any(|w| w.contains("missing")),
        "{:?}",
        told.warnings
    );
}

#[test]
fn a_file_has_the_length_of_its_header_whether_it_grows_or_is_cut() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("f.log");
    std::fs::write(&path, "0123456789").expect("written");
    let entry = Entry { path: path.clone(), name: "f.log".into(), kind: Kind::File(10) };
    let read = |size: u64| {
        let progress = Progress::default();
        let mut exact =
            Exact { file: File::open(&path).expect("open"), left: size, missing: 0, failed: None, progress: &progress };
        let mut content = Vec::new();
        exact.read_to_end(&mut content).expect("read");
        let mut warnings = Vec::new();
        note_changes(&exact, size, &entry, &mut warnings);
        (content, warnings)
    };
    let (content, warnings) = read(10);
    assert_eq!((content.as_slice(), warnings.len()), (b"0123456789".as_slice(), 0));
    let (content, warnings) = read(4);
    assert_eq!(content, b"0123");
    assert!(warnings[0].contains("grew") && warnings[0].contains("first 4 bytes"), "{warnings:?}");
    let (content, warnings) = read(12);
    assert_eq!(content, b"0123456789\0\0");
    assert!(warnings[0].contains("cut") && warnings[0].contains("last 2 bytes"), "{warnings:?}");
}

#[tokio::test]
async fn the_packing_ends_when_nobody_takes_the_archive_any_more() {
    let dir = tempfile::tempdir().expect("dir");
    let noise: Vec<u8> = (0..4_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(dir.path().join("big.log"), noise).expect("written");
    let packing = pack(source(dir.path()), Arc::default());
    drop(packing.chunks);
    let error = packing.done.await.expect("thread").expect_err("ended");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn any_name_that_a_file_system_takes_is_in_the_archive_as_it_is() {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let dir = tempfile::tempdir().expect("dir");
    let odd: Vec<Vec<u8>> = vec![
        b"line\nbreak.log".to_vec(),
        "模型 🚀.log".as_bytes().to_vec(),
        b"not-utf8-\xff\xfe.log".to_vec(),
        vec![b'n'; 255],
        b"...".to_vec(),
        b"-rf".to_vec(),
        b"a\\b".to_vec(),
    ];
    for name in &odd {
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "x").expect("written");
    }
    let link = std::ffi::OsString::from_vec(vec![b'l'; 200]);
    std::os::unix::fs::symlink(format!("../{}", "t".repeat(180)), dir.path().join(&link)).expect("link");
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).expect("bound");
    let (told, bytes) = packed(source(dir.path())).await;
    assert_eq!(told.files, odd.len() as u64);
    assert!(told.warnings.len() == 1 && told.warnings[0].contains("socket"), "{:?}", told.warnings);
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
    let mut found = Vec::new();
    for entry in archive.entries().expect("a tar") {
        let entry = entry.expect("an entry");
        let name = entry.path_bytes().into_owned();
        if entry.header().entry_type().is_symlink() {
            assert_eq!(entry.link_name_bytes().expect("a target").len(), 183);
        } else if entry.header().entry_type().is_file() {
            found.push(name.strip_prefix(b"run-a/").expect("below the top").to_vec());
        }
    }
    let mut wanted = odd.clone();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}
