//! Every parameter of NotifyResult, and whether it works in this version.

use crate::params::{Field, Kind, Table};

/// Every channel that the specification names; which of them are served is the plan's matter.
pub(super) const CHANNELS: &[&str] = &["feishu", "dingtalk", "wecom", "email", "im"];
/// Final statuses.
pub(super) const STATUSES: &[&str] = &["SUCCEED", "FAILED", "PARTIAL_FAILED"];
/// Levels, the mildest first.
pub(super) const LEVELS: &[&str] = &["INFO", "WARN", "CRITICAL"];

const RULE: &[Field] = &[
    Field::job("when", Kind::Str, "condition, e.g. finalStatus == 'FAILED' or metrics.error_rate > 0.05").required(),
    Field::job("level", Kind::Enum(LEVELS), "level where it holds").required(),
];

/// The table.
pub(crate) static TABLE: Table =
    Table { processor: "NotifyResult", job_type: Some("NOTIFY_RESULT"), not_from_upstream: &[], fields: FIELDS };

const NOT_THIS_CHANNEL: &str = "this version tells people through `im` and `feishu`";

static FIELDS: &[Field] = &[
    Field::job("defaultChannels", Kind::List(&Kind::Enum(CHANNELS)), "through which people are told").required(),
    Field::job("channelConfig.feishu.webhookUrl", Kind::Url(&["http", "https"]), "address of the Feishu robot"),
    Field::job(
        "channelConfig.feishu.secretRef",
        Kind::Str,
        "key of the robot's signing secret in [secrets] of the agent's configuration",
    ),
    Field::job("channelConfig.feishu.messageType", Kind::Enum(&["card", "text"]), "how it looks").default("\"card\""),
    Field::job("channelConfig.im.webhookUrl", Kind::Url(&["http", "https"]), "gets a POST of JSON"),
    Field::job("channelConfig.dingtalk.webhookUrl", Kind::Str, "address of the DingTalk robot")
        .refused(NOT_THIS_CHANNEL),
    Field::job("channelConfig.dingtalk.secretRef", Kind::Str, "its signing secret").refused(NOT_THIS_CHANNEL),
    Field::job("channelConfig.wecom.webhookUrl", Kind::Str, "address of the WeCom robot").refused(NOT_THIS_CHANNEL),
    Field::job("channelConfig.wecom.secretRef", Kind::Str, "its signing secret").refused(NOT_THIS_CHANNEL),
    Field::job("channelConfig.email.smtpKey", Kind::Str, "key of a mail server").refused(NOT_THIS_CHANNEL),
    Field::job("channelConfig.email.to", Kind::Any, "receivers of the mail").refused(NOT_THIS_CHANNEL),
    Field::job("defaultTemplateId", Kind::Str, "default-zh or default-en").required(),
    Field::job("severityRules", Kind::List(&Kind::Object(RULE)), "the first rule that holds gives the level"),
    Field::job("fallbackChannels", Kind::List(&Kind::Enum(CHANNELS)), "tried when a channel fails for good"),
    Field::job("notifyOnSuccess", Kind::Bool, "whether a success of level INFO is told, too").default("true"),
    Field::instance("platformTaskId", Kind::Str, "the platform's task id").required(),
    Field::instance("env", Kind::Str, "environment").required(),
    Field::instance(
        "relatedInstances",
        Kind::List(&Kind::Id),
        "instance ids of the run's other jobs; in a workflow known from its nodes",
    ),
    Field::instance(
        "finalStatus",
        Kind::Enum(STATUSES),
        "default in a workflow: from the statuses of the nodes before",
    ),
    Field::instance("summaryUrl", Kind::Url(&["http", "https"]), "page of the platform"),
    Field::instance("metricsSummary", Kind::Any, "main metrics, an object or text"),
    Field::instance("receiversOverride", Kind::List(&Kind::Str), "whom to mention"),
    Field::instance("channelsOverride", Kind::List(&Kind::Enum(CHANNELS)), "overrides defaultChannels"),
    Field::instance("templateIdOverride", Kind::Str, "overrides defaultTemplateId"),
    Field::instance("alertLevel", Kind::Enum(LEVELS), "beats the rules"),
    Field::instance("modelKey", Kind::Str, "the model, for the text"),
    Field::instance("datasetId", Kind::Str, "the dataset, for the text"),
    Field::instance("runStatus", Kind::Str, "how RunLLMTest ended"),
    Field::instance("collectStatus", Kind::Str, "how CollectLogs ended"),
    Field::instance("aggregateStatus", Kind::Str, "how AggregateMetrics ended"),
    Field::instance("archiveUrl", Kind::Str, "where the archive is"),
];
