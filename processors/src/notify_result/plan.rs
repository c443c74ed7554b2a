//! What one run of NotifyResult is to do, checked before anybody is told anything.

use std::collections::BTreeMap;

use super::{
    channel::{Channel, Look},
    facts::{Facts, derived, summary},
    rules::Condition,
    table::TABLE,
    text::{Language, TEMPLATES},
};
use crate::{
    Environment,
    params::{Input, Params, Problems, nearest},
    platform_log,
};

/// Most remarks, and the length of one: a message is no log.
const REMARKS: usize = 20;
const REMARK_CHARS: usize = 300;

/// A checked plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) facts: Facts,
    pub(super) language: Language,
    pub(super) channels: Vec<Channel>,
    pub(super) fallback: Vec<Channel>,
    pub(super) notify_on_success: bool,
}

/// Reads and checks.
pub(super) fn plan(input: &Input<'_>, env: &Environment) -> Result<(Plan, Params), Problems> {
    let mut params = platform_log::read(env, &TABLE, input);
    let plan = build(&mut params, env, input.in_workflow);
    params.check()?;
    Ok((plan.expect("without a problem there is a plan"), params))
}

fn build(p: &mut Params, env: &Environment, in_workflow: bool) -> Option<Plan> {
    let language = language(p);
    let main = if p.given("channelsOverride") { "channelsOverride" } else { "defaultChannels" };
    let channels = channels(p, main, env);
    let fallback: Vec<Channel> = self::channels(p, "fallbackChannels", env);
    if p.given("channelsOverride") && p.strings("channelsOverride").is_empty() {
        p.refuse("channelsOverride", "is empty; accepted: at least one channel, or leave it out");
    }
    let mut facts = facts(p, in_workflow);
    facts.level = level(p, &facts);
    let fallback = fallback.into_iter().filter(|one| !channels.iter().any(|main| main.name() == one.name())).collect();
    Some(Plan { facts, language: language?, channels, fallback, notify_on_success: p.flag("notifyOnSuccess") })
}

fn language(p: &mut Params) -> Option<Language> {
    let name = if p.given("templateIdOverride") { "templateIdOverride" } else { "defaultTemplateId" };
    let template = p.str(name)?.to_owned();
    let language = Language::of(&template);
    if language.is_none() {
        let hint = nearest(&template, TEMPLATES).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        p.refuse(
            name,
            format!(
                "found {template:?}; accepted: {} (templates from files are not served yet){hint}",
                TEMPLATES.join(", ")
            ),
        );
    }
    language
}

fn channels(p: &mut Params, name: &str, env: &Environment) -> Vec<Channel> {
    let mut out: Vec<Channel> = Vec::new();
    for (index, channel) in p.strings(name).iter().enumerate() {
        if out.iter().any(|known| known.name() == channel) {
            continue;
        }
        match channel.as_str() {
            "im" => out.extend(address(p, "channelConfig.im.webhookUrl", env).map(|url| Channel::Im { url })),
            "feishu" => {
                let url = address(p, "channelConfig.feishu.webhookUrl", env);
                let secret = secret(p, env);
                let look =
                    if p.str("channelConfig.feishu.messageType") == Some("text") { Look::Text } else { Look::Card };
                out.extend(url.map(|url| Channel::Feishu { url, secret, look }));
            }
            other => p.refuse(
                &format!("{name}[{index}]"),
                format!("the channel {other:?} is not served yet; accepted: im, feishu"),
            ),
        }
    }
    out
}

fn address(p: &mut Params, name: &str, env: &Environment) -> Option<String> {
    let Some(url) = p.str(name).map(str::to_owned) else {
        p.refuse(name, "is missing for a channel that is to be used; accepted: a URL (http, https)");
        return None;
    };
    if let Err(denied) = env.allow_url(&url) {
        p.refuse(name, denied.to_string());
    }
    Some(url)
}

fn secret(p: &mut Params, env: &Environment) -> Option<String> {
    let name = "channelConfig.feishu.secretRef";
    let key = p.str(name)?.to_owned();
    let secret = env.secrets.get(&key).cloned();
    if secret.is_none() {
        let known: Vec<_> = env.secrets.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        p.refuse(name, format!("found {key:?}; keys of [secrets] in the agent's configuration: {known}"));
    }
    secret
}

fn facts(p: &mut Params, in_workflow: bool) -> Facts {
    let nodes: BTreeMap<&'static str, String> =
        [("RunLLMTest", "runStatus"), ("CollectLogs", "collectStatus"), ("AggregateMetrics", "aggregateStatus")]
            .into_iter()
            .filter_map(|(job, name)| Some((job, p.str(name)?.to_owned())))
            .collect();
    let status = match p.str("finalStatus") {
        Some(status) => status.to_owned(),
        None if in_workflow || !nodes.is_empty() => derived(&nodes).to_owned(),
        None => {
            p.refuse("finalStatus", "is missing; accepted: one of SUCCEED, FAILED, PARTIAL_FAILED");
            String::new()
        }
    };
    let related = p.strings("relatedInstances");
    if related.is_empty() && !in_workflow {
        p.refuse("relatedInstances", "is missing; accepted: a list of instance ids, the run's other jobs");
    }
    let (metrics, mut remarks) = summary(p.get("metricsSummary"));
    if nodes.is_empty() && in_workflow && !p.given("finalStatus") {
        remarks.push("no node of this workflow told how it ended".to_owned());
    }
    remarks.truncate(REMARKS);
    let remarks = remarks.into_iter().map(|remark| remark.chars().take(REMARK_CHARS).collect()).collect();
    let text = |name: &str| p.str(name).filter(|text| !text.is_empty()).map(str::to_owned);
    // In the order in which a run goes.
    let nodes = ["RunLLMTest", "CollectLogs", "AggregateMetrics"]
        .into_iter()
        .filter_map(|job| Some((job, nodes.get(job)?.clone())))
        .collect();
    Facts {
        task: p.string("platformTaskId"),
        env: p.string("env"),
        model: text("modelKey"),
        dataset: text("datasetId"),
        status,
        level: String::new(),
        nodes,
        metrics,
        remarks,
        archive: text("archiveUrl"),
        summary_url: text("summaryUrl"),
        related,
        receivers: p.strings("receiversOverride"),
    }
}

/// `alertLevel`, else the first rule that holds, else what the status says.
fn level(p: &mut Params, facts: &Facts) -> String {
    let rules: Vec<(String, String)> = p
        .get("severityRules")
        .and_then(serde_json::Value::as_array)
        .map(|rules| rules.iter().map(|rule| (plain(&rule["when"]), plain(&rule["level"]))).collect())
        .unwrap_or_default();
    let mut found = None;
    for (index, (when, level)) in rules.into_iter().enumerate() {
        match Condition::parse(&when) {
            Err(text) => p.refuse(&format!("severityRules[{index}].when"), format!("{text} (in {when:?})")),
            Ok(condition) if found.is_none() => match condition.holds(facts) {
                Some(true) => found = Some(level),
                Some(false) => {}
                None => {
                    let missing: Vec<_> = condition
                        .metrics()
                        .into_iter()
                        .filter(|name| facts.metric(name).is_none())
                        .map(|name| format!("metrics.{name}"))
                        .collect();
                    let missing =
                        if missing.is_empty() { "something that it asks for".to_owned() } else { missing.join(", ") };
                    p.warn(format!(
                        "severityRules[{index}] cannot be decided, because {missing} is not known: it does not hold"
                    ));
                }
            },
            Ok(_) => {}
        }
    }
    let by_status = match facts.status.as_str() {
        "SUCCEED" => "INFO",
        "PARTIAL_FAILED" => "WARN",
        _ => "CRITICAL",
    };
    p.str("alertLevel").map(str::to_owned).or(found).unwrap_or_else(|| by_status.to_owned())
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
