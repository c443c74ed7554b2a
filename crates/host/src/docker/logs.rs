//! The log of a container: line by line, from any line on, through outages of the engine.
//!
//! A position is the number of a line, counted from the container's start, because that is the only thing that identifies a
//! line for certain: the time stamps of standard output and standard error are taken apart from each other, and a
//! clock that is set back makes them run backwards. The engine's log has no rotation here ([`super::ContainerSpec`]), so
//! counting again from its first line always gives the same numbers. Reading it again costs the engine about a second per
//! 100,000 lines, and happens only after a restart or an outage.
//!
//! What a container writes while its engine is away is stored once the engine is back, if the container still runs then. If
//! it has ended by that time, the engine (seen with 20.10 and live-restore) never stores these last lines, though the exit
//! code is known; nobody can read them.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures_util::{Stream, StreamExt, TryStreamExt};

use super::client::{Docker, SLOW};
use super::container::short;
use super::error::DockerError;
use super::lines::{Assembler, LogLine};
use super::state::ContainerPhase;

/// So many frames must be found again in the end of the log, of which so many are read.
const REMEMBERED: usize = 32;
const END: usize = 200;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The lines of a container, in the order in which the engine stored them.
pub struct LogStream {
    docker: Docker,
    id: String,
    delivered: u64,
    pass: Option<Pass>,
    pause: Duration,
    /// Everything was delivered.
    done: bool,
}

/// One reading of the log from its first line.
struct Pass {
    frames: Frames,
    assembler: Assembler,
    /// The container had ended before this pass began, so that the pass sees its whole log.
    last: bool,
    /// Lines that the assembler has finished and that were not handed out yet.
    ready: VecDeque<LogLine>,
    /// Fingerprints of the latest frames, to find them again in the end of the log.
    recent: VecDeque<u64>,
}

type Frames = Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

impl Docker {
    /// The lines behind line number `after` (0 = all), then the ones to come, until the container has ended.
    pub fn logs(&self, id: &str, after: u64) -> LogStream {
        LogStream {
            docker: self.clone(),
            id: id.to_owned(),
            delivered: after,
            pass: None,
            pause: FIRST_PAUSE,
            done: false,
        }
    }
}

impl LogStream {
    /// The next line; `None` when the container has ended and every line was handed out.
    ///
    /// A lost engine is waited for, without a limit of its own. Safe to cancel: no line is lost.
    ///
    /// # Errors
    /// [`DockerError::NotFound`] if the container was removed, [`DockerError::Refused`] if the engine will not read its log.
    pub async fn next(&mut self) -> Result<Option<LogLine>, DockerError> {
        loop {
            if self.done {
                return Ok(None);
            }
            if self.pass.is_none() {
                self.pass = Some(self.open(false)?);
            }
            let Some(pass) = self.pass.as_mut() else {
                continue;
            };
            if let Some(line) = pass.ready.pop_front() {
                if line.number <= self.delivered {
                    continue;
                }
                self.delivered = line.number;
                self.pause = FIRST_PAUSE;
                return Ok(Some(line));
            }
            match pass.frames.next().await {
                Some(Ok(frame)) if is_torn(&frame) => self.again().await,
                Some(Ok(frame)) => {
                    if pass.recent.len() == REMEMBERED {
                        pass.recent.pop_front();
                    }
                    pass.recent.push_back(fingerprint(&frame));
                    pass.assembler.push(frame, &mut pass.ready);
                }
                Some(Err(error)) => {
                    let error = self.docker.fail(&self.doing(), error);
                    // The engine also ends a log in the midst of a line of its file when it goes down.
                    if !error.is_unavailable() {
                        return Err(error);
                    }
                    tracing::debug!(container = short(&self.id), %error, "log connection lost");
                    self.again().await;
                }
                None if pass.last => {
                    pass.assembler.finish(&mut pass.ready);
                    // What is left is at most one part of a line per stream.
                    let rest: Vec<LogLine> = pass.ready.drain(..).filter(|l| l.number > self.delivered).collect();
                    if rest.is_empty() {
                        self.done = true;
                    } else {
                        pass.ready.extend(rest);
                        pass.frames = no_frames();
                    }
                }
                None => self.after_end().await?,
            }
        }
    }

    /// The number of the last line handed out.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The log ended: because the container did, or only the connection.
    async fn after_end(&mut self) -> Result<(), DockerError> {
        match self.docker.inspect(&self.id).await {
            Ok(info) if info.phase == ContainerPhase::Exited => {}
            Ok(_) => {
                self.again().await;
                return Ok(());
            }
            Err(error) if error.is_unavailable() => {
                self.again().await;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        // It may have written between the last frame and its end. Now nothing can be added: look at the end of the log, and
        // read all of it once more if what was read last is not to be found there.
        let recent = self.pass.as_ref().map(|pass| pass.recent.clone()).unwrap_or_default();
        let end = match end_of_log(&self.docker, &self.id, &recent).await {
            Ok(end) => end,
            Err(error) if error.is_unavailable() => {
                self.again().await;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match (self.pass.as_mut(), end) {
            (Some(pass), Some(unseen)) => {
                for frame in unseen {
                    pass.assembler.push(frame, &mut pass.ready);
                }
                pass.frames = no_frames();
                pass.last = true;
            }
            _ => self.pass = Some(self.open(true)?),
        }
        Ok(())
    }

    async fn again(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.pass = None;
    }

    fn open(&self, last: bool) -> Result<Pass, DockerError> {
        let frames: Frames = match self.docker.client(&self.doing()) {
            Ok(client) => Box::pin(client.logs(&self.id, Some(log_options(!last))).fuse()),
            // No engine: an empty pass, behind which the container is inspected and the pass repeated.
            Err(error) if error.is_unavailable() => no_frames(),
            Err(error) => return Err(error),
        };
        let (ready, recent) = (VecDeque::new(), VecDeque::new());
        Ok(Pass { frames, assembler: Assembler::default(), last, ready, recent })
    }

    fn doing(&self) -> String {
        format!("read the log of container `{}`", short(&self.id))
    }
}

/// The frames behind the last one that was read, if that one can be found among the last frames of the log.
async fn end_of_log(docker: &Docker, id: &str, recent: &VecDeque<u64>) -> Result<Option<Vec<LogOutput>>, DockerError> {
    if !is_unique(recent) {
        return Ok(None);
    }
    let doing = format!("read the end of the log of container `{}`", short(id));
    let options = LogsOptions { tail: END.to_string(), ..log_options(false) };
    let mut frames: Vec<LogOutput> =
        docker.call(&doing, SLOW, async |d| d.logs(id, Some(options)).try_collect().await).await?;
    if frames.iter().any(is_torn) {
        return Ok(None);
    }
    let prints: Vec<u64> = frames.iter().map(fingerprint).collect();
    let found = prints.windows(REMEMBERED).rposition(|window| recent.iter().eq(window));
    Ok(found.map(|at| frames.split_off(at + REMEMBERED)))
}

/// Whether the place of these frames can be told. All parts of one long line have the time of its first one: those of a line that
/// repeats itself are all the same, and which of them were the last ones read nobody knows.
fn is_unique(recent: &VecDeque<u64>) -> bool {
    recent.len() == REMEMBERED && recent.iter().collect::<HashSet<_>>().len() == REMEMBERED
}

/// bollard hands out the rest of a connection that ended within a frame as console output, which no container here has.
fn is_torn(frame: &LogOutput) -> bool {
    matches!(frame, LogOutput::Console { .. } | LogOutput::StdIn { .. })
}

fn log_options(follow: bool) -> LogsOptions {
    LogsOptions { follow, stdout: true, stderr: true, timestamps: true, ..LogsOptions::default() }
}

fn no_frames() -> Frames {
    Box::pin(futures_util::stream::empty())
}

/// With its time stamp in nanoseconds a frame is unique, but for the parts of a line.
fn fingerprint(frame: &LogOutput) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::mem::discriminant(frame).hash(&mut hasher);
    frame.as_ref().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_among_equal_parts_of_a_line_is_none() {
        let different: VecDeque<u64> = (0..REMEMBERED as u64).collect();
        assert!(is_unique(&different));
        let mut twice = different.clone();
        twice[3] = 9;
        assert!(!is_unique(&twice), "two streams with such a line each take turns");
        assert!(!is_unique(&VecDeque::from(vec![7; REMEMBERED])));
        assert!(!is_unique(&different.into_iter().skip(1).collect()), "a log that has only begun");
    }
}
