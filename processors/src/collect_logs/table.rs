//! Every parameter of CollectLogs, and whether it works in this version.

use crate::params::{Field, Kind, Table};

/// The table.
pub(crate) static TABLE: Table =
    Table { processor: "CollectLogs", job_type: Some("COLLECT_LOGS"), not_from_upstream: &[], fields: FIELDS };

static FIELDS: &[Field] = &[
    Field::job(
        "logBaseDir",
        Kind::Path,
        "root of the log tree, as RunLLMTest's hostLogBaseDir; not needed where logDir is known",
    ),
    Field::job(
        "uploadBase",
        Kind::Str,
        "where archives go: /mounted/path, file:///path, s3://bucket/prefix or minio://bucket/prefix",
    ),
    Field::job(
        "archiveTempDir",
        Kind::Path,
        "only used where the target cannot be streamed to; every target of this version can",
    ),
    Field::job(
        "uploaderType",
        Kind::Enum(&["minio", "s3", "nfs", "scp"]),
        "what the target is; default: what its URI says",
    ),
    Field::job("retentionDays", Kind::Int(1, 36_500), "older archives of this job under the target are removed"),
    Field::job("archiveNamePattern", Kind::Str, "name of the archive, ends with .tar.gz or .tgz")
        .default("\"logs-{env}-{date}-{platformTaskId}.tar.gz\""),
    Field::job(
        "objectStoreKey",
        Kind::Str,
        "which of [object_stores]; default: the one that names the bucket, or the only one",
    ),
    Field::job("archiveTable", Kind::Str, "table of resultDbKey that gets the archive's address"),
    Field::job("resultDbKey", Kind::Str, "which of [databases] holds archiveTable"),
    Field::instance("platformTaskId", Kind::Component, "the platform's task id").required(),
    Field::instance("upstreamInstanceId", Kind::Id, "instance of the RunLLMTest whose logs are collected").required(),
    Field::instance("env", Kind::Component, "environment").required(),
    Field::instance("date", Kind::Date, "day of the run's directory").required(),
    Field::instance("logDirSuffix", Kind::Component, "last directory of the log path").required(),
    Field::instance("logDir", Kind::Path, "the run's directory as RunLLMTest left it in the context"),
    Field::instance("modelKey", Kind::Str, "for {modelKey} in archiveNamePattern"),
    Field::instance("uploadTarget", Kind::Str, "where this archive goes, default {uploadBase}/{env}/{date}"),
    Field::instance(
        "extraFiles",
        Kind::List(&Kind::Path),
        "further files or directories inside the allowed roots, under extra/ in the archive",
    ),
    Field::instance("skipPatterns", Kind::List(&Kind::Str), "globs of what is left out, e.g. *.tmp"),
    Field::instance("notifyArchiveToPlatform", Kind::Bool, "call platformCallbackUrl once the archive is there"),
    Field::instance("platformCallbackUrl", Kind::Url(&["http", "https"]), "gets a POST with the archive's address"),
];
