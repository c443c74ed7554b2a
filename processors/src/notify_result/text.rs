//! The built-in templates `default-zh` and `default-en`.

use super::facts::Facts;

/// Names of the templates.
pub(super) const TEMPLATES: [&str; 2] = ["default-zh", "default-en"];

/// A template's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Chinese,
    English,
}

/// A message, ready to be put into a channel's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) title: String,
    /// Without the title and the receivers.
    pub(super) lines: Vec<String>,
    /// Label of the link to the summary page.
    pub(super) link: &'static str,
}

impl Language {
    /// The language of a template.
    pub(super) fn of(template: &str) -> Option<Self> {
        match template {
            "default-zh" => Some(Self::Chinese),
            "default-en" => Some(Self::English),
            _ => None,
        }
    }

    fn pick(self, chinese: &'static str, english: &'static str) -> &'static str {
        match self {
            Self::Chinese => chinese,
            Self::English => english,
        }
    }

    fn status(self, status: &str) -> String {
        let word = match status {
            "SUCCEED" => self.pick("成功", "succeeded"),
            "FAILED" => self.pick("失败", "failed"),
            "PARTIAL_FAILED" => self.pick("部分失败", "failed in part"),
            "STOPPED" => self.pick("已停止", "stopped"),
            other => return other.to_owned(),
        };
        word.to_owned()
    }

    fn line(self, chinese: &'static str, english: &'static str, value: &str) -> String {
        match self {
            Self::Chinese => format!("{chinese}：{value}"),
            Self::English => format!("{english}: {value}"),
        }
    }
}

impl Message {
    /// Title and lines as one text.
    pub(super) fn text(&self) -> String {
        std::iter::once(&self.title).chain(&self.lines).map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Says the facts.
pub(super) fn render(facts: &Facts, language: Language) -> Message {
    let l = language;
    let title =
        format!("[{}] {} {} {}", facts.level, l.pick("LLM 测试", "LLM test"), facts.task, l.status(&facts.status));
    let mut lines = vec![l.line("任务", "task", &facts.task), l.line("环境", "environment", &facts.env)];
    if let Some(model) = &facts.model {
        lines.push(l.line("模型", "model", model));
    }
    if let Some(dataset) = &facts.dataset {
        lines.push(l.line("数据集", "dataset", dataset));
    }
    lines.push(l.line("状态", "status", &format!("{} ({})", l.status(&facts.status), facts.status)));
    let wrong: Vec<String> = facts
        .nodes
        .iter()
        .filter(|(_, status)| status != "SUCCEED")
        .map(|(name, status)| format!("{name} {}", l.status(status)))
        .collect();
    if !wrong.is_empty() {
        lines.push(l.line("异常", "what went wrong", &wrong.join(l.pick("，", ", "))));
    }
    if !facts.metrics.is_empty() {
        lines.push(l.pick("主要指标：", "main metrics:").to_owned());
        lines.extend(facts.metrics.iter().map(|(name, value)| format!("  {name} = {}", with_unit(name, *value, l))));
    }
    if !facts.remarks.is_empty() {
        lines.push(l.pick("说明：", "remarks:").to_owned());
        lines.extend(facts.remarks.iter().map(|remark| format!("  {remark}")));
    }
    if let Some(archive) = &facts.archive {
        lines.push(l.line("日志归档", "log archive", archive));
    }
    if !facts.related.is_empty() {
        lines.push(l.line("相关实例", "instances", &facts.related.join(", ")));
    }
    if let Some(url) = &facts.summary_url {
        lines.push(l.line("详情", "details", url));
    }
    Message { title, lines, link: l.pick("查看详情", "details") }
}

/// A figure as people read it.
fn with_unit(name: &str, value: f64, language: Language) -> String {
    let base = name.rsplit_once('_').map_or(name, |(base, _)| base);
    if ["ttft", "tpot", "itl", "e2el", "latency", "e2el_from_intended", "queue"].contains(&base) {
        return format!("{} ms", short(value, 2));
    }
    match name {
        "error_rate" | "accuracy" | "goodput_ratio" => format!("{} %", short(value * 100.0, 2)),
        "qps" | "goodput" => format!("{} {}", short(value, 2), language.pick("请求/秒", "requests/s")),
        "output_token_rate" | "input_token_rate" | "total_token_rate" => {
            format!("{} {}", short(value, 2), language.pick("词元/秒", "tokens/s"))
        }
        "duration_seconds" => format!("{} s", short(value, 2)),
        _ => short(value, 4),
    }
}

/// At most this many digits behind the point, and no zeros that say nothing.
fn short(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            task: "T1".into(),
            env: "dev".into(),
            model: Some("qwen".into()),
            dataset: Some("builtin".into()),
            status: "PARTIAL_FAILED".into(),
            level: "WARN".into(),
            nodes: vec![("RunLLMTest", "SUCCEED".into()), ("CollectLogs", "FAILED".into())],
            metrics: vec![
                ("requests".into(), 120.0),
                ("ttft_p95".into(), 31.256),
                ("error_rate".into(), 0.0125),
                ("qps".into(), 24.0),
                ("my_count".into(), 1.5),
            ],
            remarks: vec!["failures: timeout 3".into()],
            archive: Some("/mnt/a.tar.gz".into()),
            summary_url: Some("https://platform.local/t/1".into()),
            related: vec!["1".into(), "2".into()],
            receivers: vec![],
        }
    }

    #[test]
    fn the_english_template_says_everything_with_units() {
        let message = render(&facts(), Language::English);
        assert_eq!(message.title, "[WARN] LLM test T1 failed in part");
        let wanted = "task: T1\nenvironment: dev\nmodel: qwen\ndataset: builtin\nstatus: failed in part (PARTIAL_FAILED)\n\
            what went wrong: CollectLogs failed\nmain metrics:\n  requests = 120\n  ttft_p95 = 31.26 ms\n  error_rate = 1.25 %\n  qps = 24 requests/s\n  my_count = 1.5\n\
            remarks:\n  failures: timeout 3\nlog archive: /mnt/a.tar.gz\ninstances: 1, 2\ndetails: https://platform.local/t/1";
        assert_eq!(message.lines.join("\n"), wanted);
    }

    #[test]
    fn the_chinese_template_says_the_same_in_chinese() {
        let text = render(&facts(), Language::Chinese).text();
        for wanted in [
            "[WARN] LLM 测试 T1 部分失败",
            "任务：T1",
            "异常：CollectLogs 失败",
            "  qps = 24 请求/秒",
            "日志归档：/mnt/a.tar.gz",
            "相关实例：1, 2",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
    }

    #[test]
    fn a_hundred_is_not_one() {
        assert_eq!((short(100.0, 2), short(0.5, 2), short(0.0, 2)), ("100".into(), "0.5".into(), "0".into()));
    }
}
