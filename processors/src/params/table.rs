//! The words in which a processor declares its parameters.

/// The parameters of one processor.
#[derive(Debug)]
pub struct Table {
    /// The processor's name, e.g. `RunLLMTest`.
    pub processor: &'static str,
    /// The only accepted value of `jobType`; `None` when the processor has no such parameter.
    pub job_type: Option<&'static str>,
    /// Every parameter, dotted names. `jobType`, `testPlatformBaseUrl` and `traceId` are known everywhere and not listed.
    pub fields: &'static [Field],
    /// Names that an upstream node leaves in the workflow context and that this processor must not take as its own.
    pub not_from_upstream: &'static [&'static str],
}

/// One parameter.
#[derive(Debug)]
pub struct Field {
    /// Dotted name; `a.b` and `{"a":{"b":..}}` are the same.
    pub name: &'static str,
    /// Where the documentation puts it. It is accepted in both places; the instance's value wins.
    pub home: Home,
    /// What it accepts.
    pub kind: Kind,
    /// Must be there once everything is merged.
    pub required: bool,
    /// Built-in default as JSON text.
    pub default: Option<&'static str>,
    /// Whether it works in this version.
    pub state: State,
    /// One line for people, in the schema.
    pub doc: &'static str,
}

/// Where a parameter belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// `jobParams`, the template.
    Job,
    /// `instanceParams`, this run.
    Instance,
}

/// Whether a parameter works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It works.
    Served,
    /// It is known but does not work yet: giving it fails the instance with this text.
    Refused(&'static str),
}

/// What a parameter accepts, and what its checked value is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Str,
    /// Text that becomes one component of a path: no separators, not `.` or `..`, at most 200 bytes.
    Component,
    /// A 64-bit id, number or string; the value is its decimal text.
    Id,
    /// `yyyyMMdd`, number or string; the value is text.
    Date,
    /// A whole number within bounds (both included).
    Int(i64, i64),
    /// A number within bounds (both included).
    Num(f64, f64),
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// An absolute path.
    Path,
    /// A URL with one of these schemes.
    Url(&'static [&'static str]),
    /// `8g`, `8Gi`, `8192m` or bytes; the value is bytes. Letters are powers of 1024 as in Docker.
    Size,
    /// CPUs: `4`, `"1.5"`; the value is a number.
    Cpu,
    /// A list.
    List(&'static Kind),
    /// An object of texts; numbers and booleans in it become text.
    StrMap,
    /// An object with these fields.
    Object(&'static [Field]),
    /// Any JSON, checked by the processor.
    Any,
}

impl Table {
    /// Whether earlier nodes of a workflow may leave a value for this parameter.
    pub(crate) fn takes_from_upstream(&self, name: &str) -> bool {
        APPENDED.contains(&name) && !self.not_from_upstream.contains(&name)
    }
}

impl Field {
    /// A parameter of the template.
    pub const fn job(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, home: Home::Job, kind, required: false, default: None, state: State::Served, doc }
    }

    /// A parameter of the run.
    pub const fn instance(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, home: Home::Instance, kind, required: false, default: None, state: State::Served, doc }
    }

    /// Must be there after merging.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Has this built-in default (JSON text).
    pub const fn default(mut self, json: &'static str) -> Self {
        self.default = Some(json);
        self
    }

    /// Is known, but giving it fails the instance: `why` continues "is not served yet: ".
    pub const fn refused(mut self, why: &'static str) -> Self {
        self.state = State::Refused(why);
        self
    }
}

/// Known to every processor.
pub(super) const COMMON: &[Field] = &[
    Field::instance(
        "testPlatformBaseUrl",
        Kind::Url(&["http", "https"]),
        "log lines are also posted to {base}/api/log/append",
    ),
    Field::instance("traceId", Kind::Str, "kept as a label"),
];

/// Keys that nodes append to the workflow context.
pub(super) const APPENDED: &[&str] = &[
    "upstreamInstanceId",
    "env",
    "date",
    "logDirSuffix",
    "logDir",
    "metricsFilePath",
    "modelKey",
    "datasetId",
    "timeRange",
    "runStatus",
    "metricsSummary",
    "archiveUrl",
    "archiveSha256",
    "collectStatus",
    "aggregateStatus",
    "relatedInstances",
];

impl Table {
    /// All parameters, those common to all processors included.
    pub fn all(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().chain(COMMON.iter())
    }

    /// The parameter of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.all().find(|field| field.name == name)
    }

    /// Whether a name is one of the parameters or the beginning of one (`docker`).
    pub fn knows(&self, name: &str) -> bool {
        name == "jobType" || self.all().any(|field| field.name == name || is_prefix(name, field.name))
    }
}

/// Whether `prefix` names an object that holds `name`: `docker` for `docker.runtime`.
pub(super) fn is_prefix(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
}
