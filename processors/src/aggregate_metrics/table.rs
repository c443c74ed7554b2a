//! Every parameter of AggregateMetrics, and whether it works in this version.

use crate::params::{Field, Kind, Table};

/// The table.
pub(crate) static TABLE: Table = Table {
    processor: "AggregateMetrics",
    job_type: Some("AGGREGATE_METRICS"),
    not_from_upstream: &[],
    fields: FIELDS,
};

static FIELDS: &[Field] = &[
    Field::job(
        "metricsSource",
        Kind::Enum(&["file", "db", "object_storage"]),
        "where the raw results are; this version reads files",
    )
    .required(),
    Field::job("resultDbKey", Kind::Str, "which of [databases] gets the row").required(),
    Field::job("outputTable", Kind::Str, "table of the summary, created if missing, one row a run").required(),
    Field::job("defaultTimeWindowSeconds", Kind::Num(0.001, 31_536_000.0), "window when timeRange names only its end")
        .default("900"),
    Field::job("fileBaseDir", Kind::Path, "root of the log tree, where metricsFilePath is not known"),
    Field::job("sourceTable", Kind::Str, "table with raw results")
        .refused("this version reads files (`metricsSource` file)"),
    Field::job("sourceQuery", Kind::Str, "query of raw results")
        .refused("this version reads files (`metricsSource` file)"),
    Field::job("objectStorageBase", Kind::Str, "root of raw results in an object store")
        .refused("this version reads files (`metricsSource` file)"),
    Field::job(
        "metricDefinitions",
        Kind::List(&Kind::Any),
        "what is computed: names, or objects with name, field, aggregate and filter; default: all figures",
    ),
    Field::job(
        "aggStrategy",
        Kind::Enum(&["percentile", "average", "max", "custom"]),
        "how a distribution is reduced where its definition does not say; custom: every definition says it",
    ),
    Field::instance("platformTaskId", Kind::Str, "the platform's task id").required(),
    Field::instance("upstreamInstanceId", Kind::Id, "instance of the RunLLMTest whose records are added up").required(),
    Field::instance("env", Kind::Component, "environment").required(),
    Field::instance("modelKey", Kind::Str, "the model").required(),
    Field::instance("datasetId", Kind::Str, "the dataset, builtin if none").required(),
    Field::instance("timeRange", Kind::Any, "{\"start\",\"end\"} or {\"end\"}, RFC 3339 or epoch milliseconds")
        .required(),
    Field::instance("metricsFilePath", Kind::Str, "record file, or a glob of several"),
    Field::instance("date", Kind::Date, "day of the run's directory below fileBaseDir, default any"),
    Field::instance(
        "logDirSuffix",
        Kind::Component,
        "name of the run's directory below fileBaseDir, default task-{platformTaskId}-{upstreamInstanceId}",
    ),
    Field::instance("filterTags", Kind::StrMap, "only records with these tags"),
    Field::instance("outputTableOverride", Kind::Str, "overrides outputTable"),
    Field::instance("extraTags", Kind::StrMap, "kept as JSON in the row"),
    Field::instance("metricsSummary", Kind::Any, "what RunLLMTest told; replaced by this processor's"),
];
