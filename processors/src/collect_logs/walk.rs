//! What goes into the archive: every entry with its name there, in a fixed order. No link is followed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use globset::GlobSet;

/// One entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Its name in the archive.
    pub(super) name: PathBuf,
    pub(super) kind: Kind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    /// With its size when it was seen.
    File(u64),
    /// Kept as a link, with its text.
    Link(PathBuf),
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// Files and their bytes.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// What was left out by `skipPatterns`.
    pub(super) skipped: u64,
    pub(super) warnings: Vec<String>,
}

/// Walks the log directory into `{top}/..` and the extra paths into `extra/..`.
pub(super) fn walk(dir: &Path, top: &str, extra: &[PathBuf], skip: &GlobSet) -> io::Result<Found> {
    let mut found = Found::default();
    found.entries.push(Entry { path: dir.to_owned(), name: top.into(), kind: Kind::Dir });
    below(dir, dir, Path::new(top), skip, &mut found)?;
    for path in extra {
        let own = path.file_name().unwrap_or(path.as_os_str());
        let taken = |name: &Path, found: &Found| found.entries.iter().any(|entry| entry.name == name);
        let mut name = Path::new("extra").join(own);
        let mut number = 2;
        while taken(&name, &found) {
            name = Path::new("extra").join(format!("{}-{number}", own.to_string_lossy()));
            number += 1;
        }
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => {
                found.entries.push(Entry { path: path.clone(), name: name.clone(), kind: Kind::Dir });
                below(path, path, &name, skip, &mut found)?;
            }
            Ok(meta) => add(path.clone(), name, &meta, &mut found),
            Err(error) => {
                found.warnings.push(format!("the extra path `{}` is not in the archive: {error}", path.display()));
            }
        }
    }
    Ok(found)
}

fn below(root: &Path, dir: &Path, name: &Path, skip: &GlobSet, found: &mut Found) -> io::Result<()> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        // The root itself must be readable; what is below it may have gone or be closed.
        Err(error) if dir == root => return Err(error),
        Err(error) => {
            found
                .warnings
                .push(format!("the directory `{}` cannot be read and is empty in the archive: {error}", dir.display()));
            return Ok(());
        }
    };
    let mut paths = listed.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let relative = path.strip_prefix(root).expect("what a directory lists is below it");
        if skip.is_match(relative) {
            found.skipped += 1;
            continue;
        }
        let name = name.join(path.file_name().expect("what a directory lists has a name"));
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                found.entries.push(Entry { path: path.clone(), name: name.clone(), kind: Kind::Dir });
                below(root, &path, &name, skip, found)?;
            }
            Ok(meta) => add(path, name, &meta, found),
            Err(error) => found.warnings.push(format!("`{}` is not in the archive: {error}", path.display())),
        }
    }
    Ok(())
}

fn add(path: PathBuf, name: PathBuf, meta: &fs::Metadata, found: &mut Found) {
    let kind = if meta.is_file() {
        found.files += 1;
        found.bytes += meta.len();
        Kind::File(meta.len())
    } else if meta.is_symlink() {
        match fs::read_link(&path) {
            Ok(link) => Kind::Link(link),
            Err(error) => {
                found.warnings.push(format!("the link `{}` is not in the archive: {error}", path.display()));
                return;
            }
        }
    } else {
        found
            .warnings
            .push(format!("`{}` is neither file, directory nor link and is not in the archive", path.display()));
        return;
    };
    found.entries.push(Entry { path, name, kind });
}
