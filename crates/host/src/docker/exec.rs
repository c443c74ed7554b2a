//! Running a command in a running container, with a time limit.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::StreamExt;

use super::client::{Docker, QUICK};
use super::container::short;
use super::error::DockerError;

/// How long the engine may take to know the exit code after the output ended.
const CODE_LIMIT: Duration = Duration::from_secs(5);

/// What became of a command in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Exit code; absent when the time limit was reached first.
    pub code: Option<i64>,
    /// The last bytes of its output, both streams, as text.
    pub output: String,
    /// The limit was reached. The command goes on in the container until it ends by itself or with the container: the engine
    /// has no call that ends it.
    pub timed_out: bool,
}

impl Docker {
    /// Runs `command` in the container, keeping the last `keep` bytes of its output.
    ///
    /// # Errors
    /// [`DockerError::Conflict`] if the container does not run.
    pub async fn exec(
        &self,
        id: &str,
        command: &[String],
        limit: Duration,
        keep: usize,
    ) -> Result<ExecOutcome, DockerError> {
        let doing = format!("run `{}` in container `{}`", command.join(" "), short(id));
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let exec = self
            .call(&doing, QUICK, async |d| d.create_exec(id, options).await)
            .await?
            .id;
        let mut output = Vec::new();
        let run = self.attached(&doing, &exec, keep, &mut output);
        let outcome = tokio::time::timeout(limit, run).await;
        let output = String::from_utf8_lossy(&output).into_owned();
        match outcome {
            Ok(code) => Ok(ExecOutcome {
                code: Some(code?),
                output,
                timed_out: false,
            }),
            Err(_) => Ok(ExecOutcome {
                code: None,
                output,
                timed_out: true,
            }),
        }
    }

    async fn attached(
        &self,
        doing: &str,
        exec: &str,
        keep: usize,
        output: &mut Vec<u8>,
    ) -> Result<i64, DockerError> {
        let client = self.client(doing)?;
        let started = client
            .start_exec(exec, None::<StartExecOptions>)
            .await
            .map_err(|e| self.fail(doing, e))?;
        if let StartExecResults::Attached {
            output: mut stream,
            input: _input,
        } = started
        {
            while let Some(part) = stream.next().await {
                keep_tail(
                    output,
                    part.map_err(|e| self.fail(doing, e))?.as_ref(),
                    keep,
                );
            }
        }
        // The stream may end a moment before the engine has the code.
        let deadline = tokio::time::Instant::now() + CODE_LIMIT;
        loop {
            let state = self
                .call(doing, QUICK, async |d| d.inspect_exec(exec).await)
                .await?;
            match state.exit_code {
                Some(code) if state.running != Some(true) => return Ok(code),
                _ if tokio::time::Instant::now() >= deadline => {
                    return Err(DockerError::NotDone {
                        doing: doing.to_owned(),
                        message: "its output ended but the engine has no exit code".to_owned(),
                    });
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

fn keep_tail(kept: &mut Vec<u8>, part: &[u8], limit: usize) {
    kept.extend_from_slice(part);
    if kept.len() > limit {
        kept.drain(..kept.len() - limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_kept_not_its_beginning() {
        let mut kept = Vec::new();
        for part in ["one ", "two ", "three"] {
            keep_tail(&mut kept, part.as_bytes(), 7);
        }
        assert_eq!(kept, b"o three");
    }
}
