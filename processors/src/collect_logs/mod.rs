//! CollectLogs: finds a run's log directory, packs it, brings the archive to where it is kept, and tells where that is.
//!
//! ```text
//! walk -> tar -> gzip -> hash -> bounded pipe -> mounted directory (written beside, renamed) | S3 (parts)
//! ```
//!
//! Nothing is written to a temporary directory, and memory does not grow with the logs. A run can be repeated at any
//! time: an archive of the same name is replaced as a whole, and what a killed agent left unfinished is taken back.
//!
//! The archive being there is what decides: a platform that cannot be called, or an old archive that cannot be removed, is
//! a warning in log and result.

mod after;
mod find;
mod mounted;
mod name;
mod pack;
mod plan;
mod retention;
mod s3;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod walk;

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext};
use tokio::task::JoinHandle;

pub(crate) use table::TABLE;

use self::{
    pack::{Packed, Progress, Source},
    plan::Plan,
    target::Target,
};
use crate::{
    Environment, input_of,
    params::{Input, Params, Problems},
    related,
};

/// Between two lines that say how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// What a task that is asked to end says it was doing.
const DOING: &str = "packing and uploading the logs";

/// The processor `CollectLogs`.
pub struct CollectLogs {
    env: Arc<Environment>,
}

impl CollectLogs {
    /// A processor with this environment.
    pub fn new(env: Arc<Environment>) -> Self {
        Self { env }
    }
}

/// The parameters as a run would read them; nothing is done.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check(input: &Input<'_>, env: &Environment) -> Result<Params, Problems> {
    plan::plan(input, env).map(|(_, params)| params)
}

#[async_trait]
impl Processor for CollectLogs {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        related::relate(&ctx);
        // Boxed: one large future.
        let result = Box::pin(collect(&self.env, &ctx)).await;
        ctx.workflow.append("collectStatus", if result.success { "SUCCEED" } else { "FAILED" });
        result
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

async fn collect(env: &Arc<Environment>, ctx: &TaskContext) -> ProcessResult {
    let (plan, params) = match plan::plan(&input_of(ctx), env) {
        Ok(planned) => planned,
        Err(problems) => return problems.reject(ctx),
    };
    let mut warnings = params.warnings();
    warnings.iter().for_each(|warning| ctx.log.warn(warning));
    ctx.log.info(format!("parameters: {}", params.masked()));
    if plan.temp_dir_given {
        ctx.log.info("archiveTempDir is not needed: the archive is streamed to its target");
    }
    let dir = match find::directory(&plan) {
        Ok((dir, note)) => {
            note.iter().for_each(|note| ctx.log.info(note));
            dir
        }
        Err(text) => return ProcessResult::failed(text),
    };
    if let Target::Mounted(target) = &plan.target
        && target.starts_with(&dir)
    {
        return ProcessResult::rejected(format!(
            "the target `{}` is inside the log directory `{}` itself; name another uploadTarget",
            target.display(),
            dir.display()
        ));
    }
    let address = plan.target.address(&plan.archive);
    ctx.log.info(format!("packing `{}` to {address}", dir.display()));
    let source = Source { dir, top: plan.suffix.clone(), extra: plan.extra.clone(), skip: plan.skip.clone() };
    let packed = match send(&plan, source, ctx).await {
        Ok(packed) => packed,
        Err(failure) => return failure,
    };
    for warning in &packed.warnings {
        ctx.log.warn(warning);
    }
    warnings.extend(packed.warnings.iter().cloned());
    ctx.log.info(format!(
        "uploaded {address}: {} files, {} packed to {}, sha256 {}{}",
        packed.files,
        mib(packed.content_bytes),
        mib(packed.size),
        packed.sha256,
        if packed.skipped > 0 { format!(", {} left out by skipPatterns", packed.skipped) } else { String::new() }
    ));
    ctx.workflow.append("archiveUrl", address.clone());
    ctx.workflow.append("archiveSha256", packed.sha256.clone());
    let follow = async {
        let mut more = Vec::new();
        after::record(&plan, &address, &packed).await?;
        more.extend(retention::apply(&plan, ctx).await);
        more.extend(after::call_platform(&plan, env, &address, &packed, ctx).await);
        Ok::<_, ProcessResult>(more)
    };
    let more = tokio::select! {
        biased;
        more = follow => more,
        reason = ctx.stop.raised() => Err(related::ended(reason, "doing what follows the upload (the archive is there)")),
    };
    match more {
        Ok(more) => {
            more.iter().for_each(|warning| ctx.log.warn(warning));
            warnings.extend(more);
            ProcessResult::success(told(&address, &packed, &warnings))
        }
        Err(failure) => failure,
    }
}

/// Packs and sends, tells how far it is, and ends at once when it must.
async fn send(plan: &Plan, source: Source, ctx: &TaskContext) -> Result<Packed, ProcessResult> {
    let progress = Arc::new(Progress::default());
    let packing = pack::pack(source, Arc::clone(&progress));
    let watched = async {
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + TELL_EVERY, TELL_EVERY);
        loop {
            tokio::select! {
                reason = ctx.stop.raised() => break related::ended(reason, DOING),
                _ = tick.tick() => tell(&progress, ctx),
            }
        }
    };
    match &plan.target {
        Target::Mounted(dir) => tokio::select! {
            biased;
            ended = watched => Err(ended),
            written = mounted::write(dir, &plan.archive, ctx.instance_id, packing) => written,
        },
        Target::Bucket(bucket) => s3::upload(bucket, &plan.archive, packing, &progress, watched).await,
    }
}

fn tell(progress: &Progress, ctx: &TaskContext) {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    ctx.log.info(format!(
        "packed {} of {} ({} of {} files) into {}",
        mib(get(&progress.read_bytes)),
        mib(get(&progress.total_bytes)),
        get(&progress.read_files),
        get(&progress.total_files),
        mib(get(&progress.packed_bytes)),
    ));
}

/// The end of the packing thread: only then are the chunks a whole archive.
async fn packed(done: JoinHandle<io::Result<Packed>>) -> Result<Packed, ProcessResult> {
    match done.await {
        Ok(Ok(packed)) => Ok(packed),
        Ok(Err(error)) => Err(ProcessResult::failed(format!("failed to pack the log directory: {error}"))),
        Err(error) => Err(ProcessResult::failed(format!("the packing ended: {error}"))),
    }
}

fn told(address: &str, packed: &Packed, warnings: &[String]) -> String {
    let mut text = format!(
        "archived {} files ({}) as {address} ({}, sha256 {})",
        packed.files,
        mib(packed.content_bytes),
        mib(packed.size),
        packed.sha256
    );
    for warning in warnings.iter().take(5) {
        text.push_str("\nwarning: ");
        text.push_str(warning);
    }
    if warnings.len() > 5 {
        text.push_str(&format!("\n{} more warnings are in the log", warnings.len() - 5));
    }
    text
}

/// Bytes for people.
fn mib(bytes: u64) -> String {
    if bytes < 10 << 20 {
        format!("{:.1} KiB", bytes as f64 / 1024.0)
    } else {
        format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
    }
}
