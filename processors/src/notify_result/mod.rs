//! NotifyResult: tells people how a run ended.
//!
//! Every channel is tried on its own, with retries for what may pass; one that fails for good brings in the fallback
//! channels. The job succeeds when somebody was told. What was sent is remembered for each channel, so that a run that a
//! restart of the agent cut tells nobody twice; only a kill between a robot's answer and its being stored can.

mod channel;
mod facts;
mod plan;
mod rules;
mod sent;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, RestartPolicy, TaskContext};
use testrig_store::Store;

pub(crate) use sent::MIGRATIONS;
pub(crate) use table::TABLE;

use self::{
    channel::{Channel, Delivery},
    plan::Plan,
    sent::Sent,
};
use crate::{
    Environment, input_of, outbound,
    params::{Input, Params, Problems},
    related,
};

/// The processor `NotifyResult`.
pub struct NotifyResult {
    env: Arc<Environment>,
    sent: Sent,
}

impl NotifyResult {
    /// A processor that remembers in this store, which must have been opened with [`MIGRATIONS`], whom it told.
    pub fn new(env: Arc<Environment>, store: Store) -> Self {
        Self { env, sent: Sent::new(store) }
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
impl Processor for NotifyResult {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        related::relate(&ctx);
        self.notify(&ctx).await
    }

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Rerun
    }
}

impl NotifyResult {
    async fn notify(&self, ctx: &TaskContext) -> ProcessResult {
        let (plan, params) = match plan::plan(&input_of(ctx), &self.env) {
            Ok(planned) => planned,
            Err(problems) => return problems.reject(ctx),
        };
        params.warnings().iter().for_each(|warning| ctx.log.warn(warning));
        ctx.log.info(format!("parameters: {}", params.masked()));
        let facts = &plan.facts;
        ctx.log.info(format!("final status {}, level {}", facts.status, facts.level));
        if !plan.notify_on_success && facts.status == "SUCCEED" && facts.level == "INFO" {
            return ProcessResult::success("nobody was told: the run succeeded and notifyOnSuccess is false");
        }
        let all = plan.channels.iter().chain(&plan.fallback);
        if facts.receivers.iter().any(|id| !channel::can_mention(id))
            && all.clone().any(|channel| channel.name() == "feishu")
        {
            ctx.log.warn(
                "receiversOverride holds names that are neither ids nor mail addresses; Feishu does not mention them",
            );
        }
        tokio::select! {
            // What is there before anybody is told keeps them from being told.
            biased;
            reason = ctx.stop.raised() => related::ended(reason, "telling people"),
            result = self.tell(&plan, ctx) => result,
        }
    }

    async fn tell(&self, plan: &Plan, ctx: &TaskContext) -> ProcessResult {
        let done = match self.sent.channels(ctx.instance_id).await {
            Ok(done) => done,
            Err(error) => {
                return ProcessResult::failed(format!("whom this instance told already is not known: {error}"));
            }
        };
        let mut told = Vec::new();
        let mut failed = Vec::new();
        for channel in &plan.channels {
            self.try_channel(channel, plan, &done, ctx, &mut told, &mut failed).await;
        }
        if !failed.is_empty() {
            for channel in &plan.fallback {
                ctx.log.info(format!("falling back to {channel}"));
                self.try_channel(channel, plan, &done, ctx, &mut told, &mut failed).await;
            }
        }
        let failures = failed.join("; ");
        if told.is_empty() {
            return ProcessResult::failed(format!("nobody was told: {failures}"));
        }
        let but = if failures.is_empty() { String::new() } else { format!("; failed: {failures}") };
        ProcessResult::success(format!("told {} ({}, {}){but}", told.join(", "), plan.facts.status, plan.facts.level))
    }

    async fn try_channel(
        &self,
        channel: &Channel,
        plan: &Plan,
        done: &[String],
        ctx: &TaskContext,
        told: &mut Vec<String>,
        failed: &mut Vec<String>,
    ) {
        if done.iter().any(|name| name == channel.name()) {
            ctx.log.info(format!("{channel} was told before, by this very instance"));
            told.push(format!("{channel} (before)"));
            return;
        }
        let message = text::render(&plan.facts, plan.language);
        let delivery = Delivery { instance_id: ctx.instance_id, facts: &plan.facts, message: &message };
        let sent = outbound::with_retries(
            || channel.send(&self.env.http, &delivery),
            |text| ctx.log.warn(format!("{channel}: {text}")),
        )
        .await;
        match sent {
            Ok(()) => {
                ctx.log.info(format!("told {channel}"));
                told.push(channel.to_string());
                let now = jiff::Timestamp::now().as_millisecond();
                if let Err(error) = self.sent.put(ctx.instance_id, channel.name(), now).await {
                    ctx.log.warn(format!(
                        "that {channel} was told could not be stored, so that a restart would tell it again: {error}"
                    ));
                }
            }
            Err(text) => {
                ctx.log.warn(format!("{channel} was not told: {text}"));
                failed.push(format!("{channel}: {text}"));
            }
        }
    }
}
