//! Packs into a tar.gz stream on a thread of its own: chunks go through a bounded pipe, so that neither disk nor memory
//! holds the archive.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use flate2::{Compression, GzBuilder, write::GzEncoder};
use globset::GlobSet;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tokio::{sync::mpsc, task::JoinHandle};

use super::walk::{Entry, Found, Kind, walk};

/// Bytes that travel through the pipe at once, and how many of them may wait: full, the packing waits for the upload.
pub(super) const CHUNK: usize = 256 * 1024;
const WAITING: usize = 4;
/// Logs shrink to nearly the same size as with more effort, in half the time of a host that has tests to run.
const LEVEL: u32 = 4;

/// What is to be packed.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) dir: PathBuf,
    /// Name of the directory in the archive.
    pub(super) top: String,
    pub(super) extra: Vec<PathBuf>,
    pub(super) skip: GlobSet,
}

/// Counters that can be read while it goes on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) total_bytes: AtomicU64,
    pub(super) total_files: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) read_files: AtomicU64,
    /// Bytes of the archive so far.
    pub(super) packed_bytes: AtomicU64,
}

/// A finished archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) size: u64,
    /// Lower-case hexadecimal.
    pub(super) sha256: String,
    pub(super) files: u64,
    /// Bytes of the files before packing.
    pub(super) content_bytes: u64,
    pub(super) skipped: u64,
    pub(super) warnings: Vec<String>,
}

/// The archive as it is made.
pub(super) struct Packing {
    /// Chunks in order. Dropping it ends the packing.
    pub(super) chunks: mpsc::Receiver<Bytes>,
    /// Ends behind the last chunk; only `Ok` says that the chunks are a whole archive.
    pub(super) done: JoinHandle<io::Result<Packed>>,
}

/// Starts the packing.
pub(super) fn pack(source: Source, progress: Arc<Progress>) -> Packing {
    let (sender, chunks) = mpsc::channel(WAITING);
    let done = tokio::task::spawn_blocking(move || write_archive(&source, &progress, sender));
    Packing { chunks, done }
}

fn write_archive(source: &Source, progress: &Arc<Progress>, sender: mpsc::Sender<Bytes>) -> io::Result<Packed> {
    let found = walk(&source.dir, &source.top, &source.extra, &source.skip)?;
    progress.total_bytes.store(found.bytes, Ordering::Relaxed);
    progress.total_files.store(found.files, Ordering::Relaxed);
    let pipe = Pipe { buffer: Vec::with_capacity(CHUNK), sender, hash: Sha256::new(), progress: Arc::clone(progress) };
    // No time in the head: the same files give the same bytes.
    let gzip: GzEncoder<Pipe> = GzBuilder::new().mtime(0).write(pipe, Compression::new(LEVEL));
    let mut tar = Builder::new(gzip);
    let Found { entries, skipped, mut warnings, .. } = found;
    let (mut files, mut content_bytes) = (0, 0);
    for entry in &entries {
        if let Some(bytes) = append(&mut tar, entry, progress, &mut warnings)? {
            files += 1;
            content_bytes += bytes;
        }
    }
    let mut pipe = tar.into_inner()?.finish()?;
    pipe.flush()?;
    let size = pipe.progress.packed_bytes.load(Ordering::Relaxed);
    Ok(Packed { size, sha256: hex::encode(pipe.hash.finalize()), files, content_bytes, skipped, warnings })
}

/// Appends one entry; the size of a file that is now in the archive.
fn append(
    tar: &mut Builder<GzEncoder<Pipe>>,
    entry: &Entry,
    progress: &Progress,
    warnings: &mut Vec<String>,
) -> io::Result<Option<u64>> {
    let mut header = Header::new_gnu();
    match &entry.kind {
        Kind::Dir => {
            let meta = fs::symlink_metadata(&entry.path).ok();
            head(&mut header, EntryType::Directory, 0, meta.as_ref());
            tar.append_data(&mut header, &entry.name, io::empty())?;
            Ok(None)
        }
        Kind::Link(target) => {
            let meta = fs::symlink_metadata(&entry.path).ok();
            head(&mut header, EntryType::Symlink, 0, meta.as_ref());
            tar.append_link(&mut header, &entry.name, target)?;
            Ok(None)
        }
        Kind::File(_) => {
            // Neither a link nor a pipe that took the file's place may be followed or waited for.
            let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
            let opened = fs::OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(&entry.path)
                .and_then(|file| Ok((file.metadata()?, file)));
            let (meta, file) = match opened {
                Ok((meta, file)) if meta.is_file() => (meta, file),
                Ok(_) => {
                    warnings.push(format!("`{}` is no longer a file and is not in the archive", entry.path.display()));
                    return Ok(None);
                }
                Err(error) => {
                    warnings.push(format!("`{}` is not in the archive: {error}", entry.path.display()));
                    return Ok(None);
                }
            };
            let size = meta.len();
            head(&mut header, EntryType::Regular, size, Some(&meta));
            let mut exact = Exact { file, left: size, missing: 0, failed: None, progress };
            tar.append_data(&mut header, &entry.name, &mut exact)?;
            note_changes(&exact, size, entry, warnings);
            progress.read_files.fetch_add(1, Ordering::Relaxed);
            Ok(Some(size))
        }
    }
}

fn head(header: &mut Header, kind: EntryType, size: u64, meta: Option<&fs::Metadata>) {
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(meta.map_or(0o644, |meta| meta.mode() & 0o7777));
    header.set_mtime(meta.map_or(0, |meta| u64::try_from(meta.mtime()).unwrap_or(0)));
    // Whose files they were on this host says nothing elsewhere.
    header.set_uid(0);
    header.set_gid(0);
}

fn note_changes(exact: &Exact<'_>, size: u64, entry: &Entry, warnings: &mut Vec<String>) {
    let path = entry.path.display();
    if let Some(error) = &exact.failed {
        warnings.push(format!(
            "`{path}` could not be read to its end: {error}; its last {} bytes are zeros in the archive",
            exact.missing
        ));
    } else if exact.missing > 0 {
        warnings.push(format!(
            "`{path}` was cut while it was packed; its last {} bytes are zeros in the archive",
            exact.missing
        ));
    } else if exact.file.metadata().is_ok_and(|now| now.len() > size) {
        warnings.push(format!("`{path}` grew while it was packed; the archive has its first {size} bytes"));
    }
}

/// A file as long as its header says, whatever happens to it meanwhile.
struct Exact<'a> {
    file: File,
    left: u64,
    missing: u64,
    failed: Option<io::Error>,
    progress: &'a Progress,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let mut read = 0;
        if self.missing == 0 {
            read = match self.file.read(&mut buffer[..wanted]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    0
                }
            };
        }
        if read == 0 {
            buffer[..wanted].fill(0);
            self.missing += wanted as u64;
            read = wanted;
        }
        self.left -= read as u64;
        self.progress.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The end of the packing thread: hashes, counts and hands over chunks.
struct Pipe {
    buffer: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
    hash: Sha256,
    progress: Arc<Progress>,
}

impl Write for Pipe {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == CHUNK {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Pipe {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.hash.update(&chunk);
        self.progress.packed_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        self.sender
            .blocking_send(Bytes::from(chunk))
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the archive any more"))
    }
}

#[cfg(test)]
mod tests;
