//! An archive in a mounted directory: written beside its name, made durable, then renamed over it.

use std::{
    io,
    path::{Path, PathBuf},
};

use powerjob_worker::ProcessResult;
use tokio::{fs, io::AsyncWriteExt};

use super::pack::{Packed, Packing};

/// Removes the unfinished file unless it was renamed.
struct Part {
    path: PathBuf,
    done: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.done {
            // Nothing more can be done about a directory that has gone away.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes the archive as `dir/name`. The unfinished file carries the instance's id: a rerun of the instance writes over it.
pub(super) async fn write(
    dir: &Path,
    name: &str,
    instance_id: i64,
    mut packing: Packing,
) -> Result<Packed, ProcessResult> {
    let fail = |what: &str, path: &Path, error: &io::Error| {
        ProcessResult::failed(format!(
            "failed to {what} `{}`: {error}; check that the target is mounted, that the agent's user may write there and that it has room",
            path.display()
        ))
    };
    fs::create_dir_all(dir).await.map_err(|error| fail("create the directory", dir, &error))?;
    let target = dir.join(name);
    let mut part = Part { path: dir.join(format!(".{name}.{instance_id}.part")), done: false };
    // Not on another thread: dropped in the middle, that would make the file after it was removed.
    let file = std::fs::File::create(&part.path).map_err(|error| fail("create", &part.path, &error))?;
    let mut file = fs::File::from_std(file);
    while let Some(chunk) = packing.chunks.recv().await {
        file.write_all(&chunk).await.map_err(|error| fail("write", &part.path, &error))?;
    }
    let packed = super::packed(packing.done).await?;
    file.flush().await.map_err(|error| fail("write", &part.path, &error))?;
    file.sync_all().await.map_err(|error| fail("write", &part.path, &error))?;
    drop(file);
    fs::rename(&part.path, &target).await.map_err(|error| fail("rename the finished archive to", &target, &error))?;
    part.done = true;
    // The name itself is durable once the directory is; some network file systems cannot say so.
    if let Ok(dir) = fs::File::open(dir).await {
        let _ = dir.sync_all().await;
    }
    Ok(packed)
}
