//! The pages about jobs (`docs/jobs.md`, `docs/jobs.zh-CN.md`) and the examples agree with the code: every parameter with
//! its place, type and default, nothing that is not there, and examples that the real reader takes without a remark. And every
//! page in two languages has the same parts in both.

#[path = "docs/parameters.rs"]
mod parameters;

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Map, Value, json};
use testrig_loadgen::{ErrorClass, Summary, names};
use testrig_processors::{
    params::{Field, Home, Input, Kind, State, Table, read},
    tables,
};

/// A page and its words.
struct Page {
    file: &'static str,
    /// Heading of the section with what every job has.
    common: &'static str,
    /// First cell of the head of a parameter table.
    parameter: &'static str,
    /// The default of a parameter that must be there.
    required: &'static str,
    /// First words of the paragraph that ends with the list of refused parameters.
    refused: &'static str,
    word: fn(&Kind) -> &'static str,
}

const PAGES: [Page; 2] = [
    Page {
        file: "docs/jobs.md",
        common: "Every job",
        parameter: "parameter",
        required: "**required**",
        refused: "Refused",
        word: english,
    },
    Page {
        file: "docs/jobs.zh-CN.md",
        common: "所有任务",
        parameter: "参数",
        required: "**必填**",
        refused: "会被拒绝",
        word: chinese,
    },
];

/// One row of a parameter table.
#[derive(Debug)]
struct Row {
    home: String,
    kind: String,
    default: String,
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("failed to read {file}: {error}"))
}

impl Page {
    /// The part of the page below `## heading`.
    fn section(&self, heading: &str) -> String {
        let text = text(self.file);
        let mut lines = text.lines().skip_while(|line| line.strip_prefix("## ") != Some(heading));
        assert!(lines.next().is_some(), "{} has no section {heading:?}", self.file);
        lines.take_while(|line| !line.starts_with("## ")).collect::<Vec<_>>().join("\n")
    }

    /// Rows of the parameter tables in a section.
    fn rows(&self, heading: &str) -> BTreeMap<String, Row> {
        let mut rows = BTreeMap::new();
        let mut inside = false;
        for line in self.section(heading).lines() {
            let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
                inside = false;
                continue;
            };
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            if cells[0] == self.parameter {
                inside = true;
                assert_eq!(cells.len(), 5, "{}: {line}", self.file);
            } else if inside && !cells[0].starts_with("--") {
                assert_eq!(cells.len(), 5, "{}: {line}", self.file);
                assert!(!cells[4].is_empty(), "{}: no meaning in {line}", self.file);
                for name in names_of(cells[0]) {
                    let row = Row { home: cells[1].into(), kind: cells[2].into(), default: cells[3].into() };
                    assert!(rows.insert(name.clone(), row).is_none(), "{}: `{name}` stands twice", self.file);
                }
            }
        }
        rows
    }

    /// Names in the list behind the paragraph about refused parameters, each with its line.
    fn refused(&self, heading: &str) -> BTreeMap<String, String> {
        let section = self.section(heading);
        let list = section
            .lines()
            .skip_while(|line| !line.starts_with(self.refused))
            .skip(1)
            .skip_while(|line| line.is_empty() || !line.starts_with("- "))
            .take_while(|line| line.starts_with("- "));
        list.flat_map(|line| {
            let names = line.split([':', '：']).next().unwrap_or_default();
            names_of(names).into_iter().map(|name| (name, line.to_owned())).collect::<Vec<_>>()
        })
        .collect()
    }
}

/// What stands between backticks. `.path` behind `a.b.type` means `a.b.path`.
fn ticked(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn names_of(cell: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for word in ticked(cell) {
        let first = names.first().and_then(|first| first.rsplit_once('.')).map(|(group, _)| group);
        match (word.strip_prefix('.'), first) {
            (Some(last), Some(group)) => names.push(format!("{group}.{last}")),
            _ => names.push(word.to_owned()),
        }
    }
    names
}

fn english(kind: &Kind) -> &'static str {
    match kind {
        Kind::Str => "text",
        Kind::Component => "name",
        Kind::Id => "id",
        Kind::Date => "date",
        Kind::Int(..) => "int",
        Kind::Num(..) => "number",
        Kind::Bool => "bool",
        Kind::Path => "path",
        Kind::Url(_) => "URL",
        Kind::Size => "size",
        Kind::Cpu => "CPU",
        Kind::StrMap => "{text: text}",
        Kind::Any => "JSON",
        Kind::Object(_) => "object",
        Kind::Enum(_) => "word",
        Kind::List(inner) => match inner {
            Kind::Str => "[text]",
            Kind::Path => "[path]",
            Kind::Id => "[id]",
            Kind::Enum(_) => "[word]",
            Kind::Object(_) => "[object]",
            _ => "[JSON]",
        },
    }
}

fn chinese(kind: &Kind) -> &'static str {
    match kind {
        Kind::Str => "文本",
        Kind::Component => "名称",
        Kind::Id => "ID",
        Kind::Date => "日期",
        Kind::Int(..) => "整数",
        Kind::Num(..) => "数值",
        Kind::Bool => "布尔",
        Kind::Path => "路径",
        Kind::Url(_) => "URL",
        Kind::Size => "容量",
        Kind::Cpu => "CPU",
        Kind::StrMap => "{文本: 文本}",
        Kind::Any => "JSON",
        Kind::Object(_) => "对象",
        Kind::Enum(_) => "枚举",
        Kind::List(inner) => match inner {
            Kind::Str => "[文本]",
            Kind::Path => "[路径]",
            Kind::Id => "[ID]",
            Kind::Enum(_) => "[枚举]",
            Kind::Object(_) => "[对象]",
            _ => "[JSON]",
        },
    }
}

/// What a default is in the page: texts without quotes, everything else as JSON.
fn shown(default: &str) -> String {
    match serde_json::from_str(default).expect("a table's default is JSON") {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn common() -> Vec<&'static Field> {
    let table = tables()[0];
    table.all().filter(|field| !table.fields.iter().any(|own| own.name == field.name)).collect()
}

fn check_row(page: &Page, place: &str, field: &Field, row: &Row) {
    let at = format!("{}, {place}, `{}`", page.file, field.name);
    let home = if field.home == Home::Job { "J" } else { "I" };
    assert_eq!(row.home, home, "{at}: place");
    if let Kind::Enum(words) = field.kind {
        assert_eq!(ticked(&row.kind), words, "{at}: accepted words");
    } else {
        assert_eq!(row.kind, (page.word)(&field.kind), "{at}: type");
    }
    match field.default {
        Some(default) => assert_eq!(ticked(&row.default), [shown(default)], "{at}: default"),
        None => assert!(ticked(&row.default).is_empty(), "{at}: the code has no default, the page has {}", row.default),
    }
    assert_eq!(row.default == page.required, field.required, "{at}: required");
}

fn check_section(page: &Page, heading: &str, fields: &[&'static Field]) {
    let rows = page.rows(heading);
    let refused = page.refused(heading);
    for field in fields {
        let at = format!("{}, {heading}, `{}`", page.file, field.name);
        match field.state {
            State::Served => {
                let row = rows.get(field.name).unwrap_or_else(|| panic!("{at}: is missing"));
                check_row(page, heading, field, row);
                assert!(!refused.contains_key(field.name), "{at}: works, and stands in the list of refused ones");
            }
            State::Refused(why) => {
                let line =
                    refused.get(field.name).unwrap_or_else(|| panic!("{at}: is not in the list of refused ones"));
                assert!(page.file.contains("zh-CN") || line.contains(why), "{at}: {line} does not say {why:?}");
                assert!(!rows.contains_key(field.name), "{at}: is refused, and stands in a table");
            }
        }
    }
    let known = |name: &String| fields.iter().any(|field| field.name == name) || name == "jobType";
    let unknown: Vec<_> = rows.keys().chain(refused.keys()).filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{}, {heading}: no such parameter: {unknown:?}", page.file);
}

#[test]
fn both_pages_have_every_parameter_of_the_code_with_its_place_type_and_default_and_no_other() {
    for page in &PAGES {
        check_section(page, page.common, &common());
        for table in tables() {
            check_section(page, table.processor, &table.fields.iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn both_pages_name_the_figures_and_failure_classes_of_the_load_generator() {
    let classes = [
        ErrorClass::Connect,
        ErrorClass::Disconnected,
        ErrorClass::Timeout,
        ErrorClass::Http4xx,
        ErrorClass::Http5xx,
        ErrorClass::HttpOther,
        ErrorClass::InBandError,
        ErrorClass::Truncated,
        ErrorClass::Malformed,
        ErrorClass::Empty,
        ErrorClass::Cancelled,
        ErrorClass::NotSent,
        ErrorClass::Other,
    ];
    for (page, figures, failures) in [(&PAGES[0], "Figures", "Failure classes"), (&PAGES[1], "指标", "失败类别")]
    {
        let named: Vec<String> = first_cells(&page.section(figures));
        for name in &named {
            let is = Summary::knows(name) || names::DISTRIBUTIONS.contains(&name.as_str());
            assert!(is, "{}: `{name}` is no figure of the code", page.file);
        }
        let own = Summary::default().metrics().into_iter().map(|(name, _)| name);
        let rates = [
            "error_rate",
            "qps",
            "input_token_rate",
            "output_token_rate",
            "total_token_rate",
            "accuracy",
            "goodput",
            "goodput_ratio",
        ];
        for name in own.chain(rates.map(str::to_owned)).chain(names::DISTRIBUTIONS.map(str::to_owned)) {
            assert!(named.contains(&name), "{}: the figure `{name}` is missing", page.file);
        }
        let named = first_cells(&page.section(failures));
        assert_eq!(named, classes.map(ErrorClass::as_str), "{}: failure classes", page.file);
    }
}

/// Names in the first cells of all tables.
fn first_cells(section: &str) -> Vec<String> {
    let cells = section.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    cells.flat_map(names_of).collect()
}

/// What upstream nodes leave, and the start parameter of a run: a context as a server keeps it.
fn context() -> Map<String, Value> {
    let context = json!({
        "platformTaskId": "T20251123-0001", "env": "staging", "modelKey": "qwen2_7b", "scenario": "chat_completion",
        "servicePort": "8000", "relatedInstances": "[\"1004402621408084032\"]", "upstreamInstanceId": "1004402621408084032",
        "date": "20251123", "logDirSuffix": "task-T20251123-0001-1004402621408084032",
        "logDir": "/data/llm-tests/logs/staging/20251123/task-T20251123-0001-1004402621408084032",
        "metricsFilePath": "/data/llm-tests/logs/staging/20251123/task-T20251123-0001-1004402621408084032/metrics-chat_completion.log",
        "datasetId": "builtin", "timeRange": "{\"start\":1763870000000,\"end\":1763870300000}", "runStatus": "SUCCEED",
        "metricsSummary": "{\"requests\":100,\"error_rate\":0}",
    });
    context.as_object().cloned().expect("an object")
}

/// What the reader says about an example: problems and warnings.
fn remarks(table: &'static Table, job: &Value, instance: &Value, in_workflow: bool) -> Vec<String> {
    let (job, instance) = (job.to_string(), instance.to_string());
    let params = read(
        table,
        &Input { job_params: Some(&job), instance_params: Some(&instance), in_workflow, neighbours: tables() },
    );
    let problems = params.check().err().map(|problems| problems.to_string());
    problems.into_iter().chain(params.warnings()).collect()
}

fn table_of(job: &Value) -> &'static Table {
    let found = tables().iter().find(|table| table.job_type.is_some() && table.job_type == job["jobType"].as_str());
    found.copied().unwrap_or_else(|| panic!("no processor for jobType {}", job["jobType"]))
}

fn parsed(name: &str, text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{name} is not JSON: {error}\n{text}"))
}

#[test]
fn every_example_job_is_read_without_a_problem_or_a_warning() {
    let dir = root().join("examples/jobs");
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .expect("examples/jobs")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    for file in files.iter().filter(|file| !file.ends_with(".instance.json")) {
        let path = format!("examples/jobs/{file}");
        let job = parsed(&path, &text(&path));
        let own = format!("{}.instance.json", file.trim_end_matches(".json"));
        let found = if files.contains(&own) {
            let path = format!("examples/jobs/{own}");
            remarks(table_of(&job), &job, &parsed(&path, &text(&path)), false)
        } else {
            remarks(table_of(&job), &job, &Value::Object(context()), true)
        };
        assert_eq!(found, Vec::<String>::new(), "{path}");
    }
    for file in files.iter().filter(|file| file.ends_with(".instance.json")) {
        assert!(files.contains(&file.replace(".instance.json", ".json")), "{file} belongs to no job");
    }
}

#[test]
fn the_example_workflow_is_read_without_a_problem_or_a_warning() {
    let workflow = parsed("examples/workflow.json", &text("examples/workflow.json"));
    check_workflow("examples/workflow.json", &workflow);
}

fn check_workflow(name: &str, workflow: &Value) {
    let nodes = workflow["nodes"].as_array().expect("nodes");
    for (index, node) in nodes.iter().enumerate() {
        let table = table_of(&node["jobParams"]);
        assert_eq!(node["processor"], table.processor, "{name}: node {index}");
        let mut values = if index == 0 { Map::new() } else { context() };
        for (key, value) in workflow["initParams"].as_object().expect("an object") {
            values.insert(key.clone(), value.as_str().map_or_else(|| json!(value.to_string()), |text| json!(text)));
        }
        let found = remarks(table, &node["jobParams"], &Value::Object(values), true);
        assert_eq!(found, Vec::<String>::new(), "{name}: node {index}");
    }
}

#[test]
fn the_examples_in_the_pages_are_read_without_a_problem_or_a_warning() {
    for page in &PAGES {
        let mut jobs = 0;
        for block in text(page.file).split("```json\n").skip(1) {
            let block = block.split("```").next().expect("a block ends");
            let value = parsed(page.file, block);
            if value["jobType"].is_string() {
                let found = remarks(table_of(&value), &value, &Value::Object(context()), true);
                assert_eq!(found, Vec::<String>::new(), "{}:\n{block}", page.file);
                jobs += 1;
            } else if value["nodes"].is_array() {
                check_workflow(page.file, &value);
            }
        }
        assert!(jobs >= 4, "{} shows {jobs} jobs", page.file);
    }
}

/// Levels of the headings of a page, and its language links; what stands in code blocks is none.
fn headings(text: &str) -> Vec<usize> {
    let mut code = false;
    let mut levels = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        let level = line.bytes().take_while(|&byte| byte == b'#').count();
        if !code && level > 0 && line[level..].starts_with(' ') {
            levels.push(level);
        }
    }
    levels
}

/// Rows of tables, without those that a test suite writes into one page only.
fn table_rows(text: &str) -> usize {
    let written = text.split_once("<!-- seen: begin -->").and_then(|(_, rest)| rest.split_once("<!-- seen: end -->"));
    let count = |text: &str| text.lines().filter(|line| line.starts_with('|')).count();
    count(text) - written.map_or(0, |(table, _)| count(table))
}

#[test]
fn every_chinese_page_has_the_sections_the_tables_and_the_examples_of_its_english_one() {
    let mut pairs = 0;
    for dir in [root(), root().join("docs")] {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let Some(stem) = name.strip_suffix(".zh-CN.md") else { continue };
            let (english, chinese) = (dir.join(format!("{stem}.md")), path);
            let read = |path: &PathBuf| {
                std::fs::read_to_string(path).unwrap_or_else(|error| panic!("failed to read {path:?}: {error}"))
            };
            let (en, zh) = (read(&english), read(&chinese));
            assert_eq!(headings(&en), headings(&zh), "the sections of {stem}.md and {name}");
            assert_eq!(table_rows(&en), table_rows(&zh), "the table rows of {stem}.md and {name}");
            let blocks = |text: &str| text.lines().filter(|line| line.trim_start().starts_with("```")).count();
            assert_eq!(blocks(&en), blocks(&zh), "the code blocks of {stem}.md and {name}");
            assert!(
                en.contains(&format!("({name})")) && zh.contains(&format!("({stem}.md)")),
                "{stem}: one leads to the other"
            );
            pairs += 1;
        }
    }
    assert!(pairs >= 8, "only {pairs} pages have a Chinese one");
}
