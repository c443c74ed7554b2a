//! The script as a file: the parameters themselves, or what they say where to download.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use powerjob_worker::{ProcessResult, TaskContext};

use crate::{Environment, official::outside, related};

/// The largest script that is downloaded.
const MOST: usize = 16 << 20;
const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(300);

/// Writes the script file into a new directory. An error is the run's result.
pub(super) async fn put(
    env: &Arc<Environment>,
    ctx: &TaskContext,
    dir: &Path,
    name: &str,
    text: &str,
) -> Result<PathBuf, ProcessResult> {
    let told = |result: ProcessResult| {
        ctx.log.error(&result.message);
        result
    };
    let script = match address(text) {
        None => text.as_bytes().to_vec(),
        Some(url) if url.starts_with("ftp:") => {
            let text =
                "[SYSTEM] scripts are downloaded by http and https, not by ftp; put the script behind a web server";
            return Err(told(ProcessResult::rejected(text)));
        }
        Some(url) => {
            if let Err(denied) = env.allow_url(url) {
                return Err(told(ProcessResult::rejected(format!("[SYSTEM] {denied}"))));
            }
            ctx.log.info(format!("[SYSTEM] downloading the script from {}", super::shown(url)));
            tokio::select! {
                biased;
                reason = ctx.stop.raised() => return Err(related::ended(reason, "downloading the script")),
                script = download(env, url) => script.map_err(|error| {
                    told(ProcessResult::failed(format!("[SYSTEM] the script could not be downloaded: {error}")))
                })?,
            }
        }
    };
    write(dir, name, &script).map_err(|error| {
        told(ProcessResult::failed(format!("[SYSTEM] failed to write the script into {}: {error}", dir.display())))
    })
}

/// A text that is an address as a whole is one; a script that only begins with `http` is a script.
fn address(text: &str) -> Option<&str> {
    let text = text.trim();
    let is_address = ["http://", "https://", "ftp://"].iter().any(|scheme| text.starts_with(scheme));
    (is_address && !text.contains(char::is_whitespace)).then_some(text)
}

async fn download(env: &Arc<Environment>, url: &str) -> Result<Vec<u8>, String> {
    let client = outside::client(env, CONNECT, WHOLE)?;
    let response = client.get(url).send().await.map_err(|error| outside::cause(&error))?;
    if !response.status().is_success() {
        return Err(format!("the answer was HTTP {}", response.status()));
    }
    match outside::body(response, MOST).await? {
        (script, false) => Ok(script),
        (_, true) => Err(format!("it has more than {} MiB", MOST >> 20)),
    }
}

fn write(dir: &Path, name: &str, script: &[u8]) -> std::io::Result<PathBuf> {
    if dir.is_dir() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    // Scripts hold passwords often enough.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    let file = dir.join(name);
    std::fs::write(&file, script)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_that_is_an_address_as_a_whole_is_one() {
        for url in ["http://h/a.sh", " https://h/a.py?x=1\n", "ftp://h/a"] {
            assert_eq!(address(url), Some(url.trim()));
        }
        for script in ["echo http://h/", "http_proxy=x curl y", "https://h/a\necho b", ""] {
            assert_eq!(address(script), None, "{script}");
        }
    }
}
