#![expect(clippy::needless_pass_by_value, reason = "literals read better without a reference")]

use serde_json::{Value, json};

use super::*;

const VOLUME: &[Field] = &[
    Field::instance("hostPath", Kind::Path, "on the host").required(),
    Field::instance("mode", Kind::Enum(&["ro", "rw"]), "").default("\"ro\""),
];

static TABLE: Table = Table {
    processor: "RunLLMTest",
    job_type: Some("RUN_LLM_TEST"),
    fields: &[
        Field::job("envDefault", Kind::Component, "environment").default("\"dev\""),
        Field::job("docker.runtime", Kind::Str, "runtime"),
        Field::job("docker.memory", Kind::Size, "memory"),
        Field::job("docker.cpu", Kind::Cpu, "cpus"),
        Field::job("healthCheck.type", Kind::Enum(&["HTTP", "TCP", "CMD"]), "kind").default("\"HTTP\""),
        Field::job("healthCheck.maxRetry", Kind::Int(1, 1000), "tries").default("30"),
        Field::job("healthCheck.command", Kind::List(&Kind::Str), "command"),
        Field::job("monitor.killOnTimeout", Kind::Bool, "kill").default("true"),
        Field::job("env.setupScript", Kind::Path, "script"),
        Field::instance("env", Kind::Component, "environment"),
        Field::job("downstream", Kind::Any, "jobs").refused("use a workflow"),
        Field::instance("platformTaskId", Kind::Component, "the platform's id").required(),
        Field::instance("upstreamInstanceId", Kind::Id, "id"),
        Field::instance("date", Kind::Date, "day"),
        Field::instance("modelKey", Kind::Str, "model"),
        Field::instance("logDirSuffix", Kind::Component, "directory"),
        Field::instance("qps", Kind::Num(0.0, 1e6), "load"),
        Field::instance("extraTags", Kind::StrMap, "tags"),
        Field::instance("volumes", Kind::List(&Kind::Object(VOLUME)), "volumes"),
        Field::instance("webhookUrl", Kind::Url(&["http", "https"]), "robot"),
    ],
    not_from_upstream: &["logDirSuffix"],
};

static OTHER: Table = Table {
    processor: "CollectLogs",
    job_type: Some("COLLECT_LOGS"),
    fields: &[Field::instance("uploadTarget", Kind::Str, "target")],
    not_from_upstream: &[],
};

fn read_plain(job: Value, instance: Value) -> Params {
    let (job, instance) = (job.to_string(), instance.to_string());
    read(&TABLE, &Input { job_params: Some(&job), instance_params: Some(&instance), ..Input::default() })
}

fn read_in_workflow(job: Value, context: Value) -> Params {
    let (job, context) = (job.to_string(), context.to_string());
    let neighbours: &[&'static Table] = &[&TABLE, &OTHER];
    read(&TABLE, &Input { job_params: Some(&job), instance_params: Some(&context), in_workflow: true, neighbours })
}

fn problem(params: &Params) -> String {
    params.check().expect_err("a problem").to_string()
}

const J: fn() -> Value = || json!({"jobType": "RUN_LLM_TEST"});
const I: fn() -> Value = || json!({"platformTaskId": "T1"});

#[test]
fn defaults_are_overridden_by_the_template_and_the_template_by_the_run() {
    let mut job = J();
    job["healthCheck"] = json!({"type": "TCP", "maxRetry": 7});
    let mut run = I();
    run["healthCheck.maxRetry"] = json!(9);
    let params = read_plain(job, run);
    params.check().expect("good");
    assert_eq!(params.str("healthCheck.type"), Some("TCP"));
    assert_eq!(params.int("healthCheck.maxRetry"), Some(9));
    assert_eq!(params.str("envDefault"), Some("dev"));
    assert_eq!(params.origin("envDefault"), Some(Origin::Default));
    assert_eq!(params.path("healthCheck.type"), "jobParams.healthCheck.type");
}

#[test]
fn dotted_keys_and_nested_objects_mean_the_same_and_may_be_mixed() {
    let mut job = J();
    job["docker.runtime"] = json!("nvidia");
    job["docker"] = json!({"memory": "8g", "cpu": "1.5"});
    job["extraTags.a"] = json!("1");
    let mut run = I();
    run["extraTags"] = json!({"b": 2});
    let params = read_plain(job, run);
    params.check().expect("good");
    assert_eq!(params.str("docker.runtime"), Some("nvidia"));
    assert_eq!(params.u64("docker.memory"), Some(8 << 30));
    assert_eq!(params.num("docker.cpu"), Some(1.5));
    assert_eq!(params.parse::<Value>("extraTags"), Some(json!({"b": "2", "a": "1"})));
}

#[test]
fn one_field_with_two_values_in_one_place_is_a_problem() {
    let mut job = J();
    job["docker.runtime"] = json!("nvidia");
    job["docker"] = json!({"runtime": "runc"});
    assert!(problem(&read_plain(job, I())).contains("jobParams.docker.runtime: is given twice"));
}

#[test]
fn null_means_absent() {
    let mut job = J();
    job["healthCheck"] = json!({"type": null});
    job["docker"] = Value::Null;
    let mut run = I();
    run["qps"] = Value::Null;
    let params = read_plain(job, run);
    params.check().expect("good");
    assert_eq!(params.str("healthCheck.type"), Some("HTTP"));
    assert_eq!(params.get("qps"), None);
}

#[test]
fn every_problem_is_reported_at_once_with_its_path_what_was_found_and_what_is_accepted() {
    let job = json!({"jobType": "COLLECT_LOGS", "healthCheck": {"type": "TCPP", "maxRetry": "4", "command": ["a", 1]}, "docker": 3});
    let run = json!({"qps": true, "volumes": [{"hostPath": "rel", "mode": "rx", "size": 1}, {}]});
    let text = problem(&read_plain(job, run));
    for expected in [
        "jobParams.jobType: found the text \"COLLECT_LOGS\"; accepted: \"RUN_LLM_TEST\"",
        "jobParams.healthCheck.type: found the text \"TCPP\"; accepted: one of HTTP, TCP, CMD; did you mean \"TCP\"?",
        "jobParams.healthCheck.maxRetry: found the text \"4\"; accepted: a whole number from 1 to 1000",
        "jobParams.healthCheck.command[1]: found the number 1; accepted: a text",
        "jobParams.docker: found the number 3; accepted: an object with runtime, memory, cpu",
        "instanceParams.qps: found true; accepted: a number from 0 to 1000000",
        "instanceParams.volumes[0].hostPath: found the text \"rel\"; accepted: an absolute path",
        "instanceParams.volumes[0].mode: found the text \"rx\"; accepted: one of ro, rw",
        "instanceParams.volumes[0].size: is not known here; accepted: hostPath, mode",
        "instanceParams.volumes[1].hostPath: is missing",
        "instanceParams.platformTaskId: is missing; accepted: a text that can be a directory name",
    ] {
        assert!(text.contains(expected), "`{expected}` is not in:\n{text}");
    }
    assert!(text.contains("11 problems"), "{text}");
}

#[test]
fn text_that_is_not_an_object_names_where_it_came_from_and_nothing_else() {
    for (job, run, expected) in [
        ("[1]", "{}", "jobParams: found a list of 1; accepted: a JSON object"),
        ("{}", "\"x\"", "instanceParams: found the text \"x\"; accepted: a JSON object"),
        ("{}", "not json", "instanceParams: is not JSON"),
        ("{\"a\":", "", "jobParams: is not JSON"),
    ] {
        let params = read(&TABLE, &Input { job_params: Some(job), instance_params: Some(run), ..Input::default() });
        let problems = params.check().expect_err("a problem");
        assert!(problems.to_string().contains(expected), "{problems}");
        assert_eq!(problems.list.iter().filter(|p| p.text.contains("missing")).count(), 0, "{problems}");
    }
}

#[test]
fn missing_text_is_an_empty_object() {
    let params = read(&TABLE, &Input::default());
    let text = problem(&params);
    assert!(text.contains("jobParams.jobType: is missing; accepted: \"RUN_LLM_TEST\""), "{text}");
    assert!(text.contains("instanceParams.platformTaskId: is missing"), "{text}");
}

#[test]
fn an_unknown_field_is_a_warning_with_the_nearest_known_name() {
    let mut job = J();
    job["healthCheck"] = json!({"maxRetries": 3});
    job["dockr"] = json!({"runtime": "x"});
    job["zzz"] = json!(1);
    let params = read_plain(job, I());
    params.check().expect("good");
    let text = params.warnings().join("\n");
    assert!(text.contains("jobParams.healthCheck.maxRetries is not a parameter of RunLLMTest and is not used; did you mean `healthCheck.maxRetry`?"), "{text}");
    assert!(text.contains("jobParams.dockr is not"), "{text}");
    assert!(text.contains("jobParams.zzz is not a parameter of RunLLMTest and is not used"), "{text}");
    assert!(!text.contains("zzz is not a parameter of RunLLMTest and is not used;"), "{text}");
}

#[test]
fn a_parameter_that_is_not_served_yet_is_refused_by_name() {
    let mut job = J();
    job["downstream"] = json!([]);
    assert!(problem(&read_plain(job, I())).contains("jobParams.downstream: is not served yet: use a workflow"));
}

#[test]
fn ids_and_dates_are_exact_as_numbers_and_as_texts() {
    for (id, date) in
        [(json!(9_223_372_036_854_775_807_i64), json!(20_251_123)), (json!("9223372036854775807"), json!("20251123"))]
    {
        let mut run = I();
        run["upstreamInstanceId"] = id;
        run["date"] = date;
        let params = read_plain(J(), run);
        params.check().expect("good");
        assert_eq!(params.str("upstreamInstanceId"), Some("9223372036854775807"));
        assert_eq!(params.str("date"), Some("20251123"));
    }
    for (name, bad) in [
        ("upstreamInstanceId", json!(1.5)),
        ("upstreamInstanceId", json!("1x")),
        ("date", json!("20251323")),
        ("date", json!(2025)),
    ] {
        let mut run = I();
        run[name] = bad.clone();
        assert!(problem(&read_plain(J(), run)).contains(name), "{bad}");
    }
    let huge = r#"{"platformTaskId":"T1","upstreamInstanceId":92233720368547758070}"#;
    let job = J().to_string();
    let params = read(&TABLE, &Input { job_params: Some(&job), instance_params: Some(huge), ..Input::default() });
    assert!(problem(&params).contains("upstreamInstanceId"));
}

#[test]
fn sizes_and_cpus_come_in_the_usual_spellings() {
    for (text, bytes) in
        [("8g", 8_u64 << 30), ("8Gi", 8 << 30), ("8192m", 8 << 30), ("1.5GiB", 3 << 29), ("512", 512), ("1 T", 1 << 40)]
    {
        let mut job = J();
        job["docker.memory"] = json!(text);
        assert_eq!(read_plain(job, I()).u64("docker.memory"), Some(bytes), "{text}");
    }
    for bad in [json!("8x"), json!(""), json!("-1g"), json!(0), json!(1.5), json!("99999999999t"), json!([])] {
        let mut job = J();
        job["docker.memory"] = bad.clone();
        assert!(problem(&read_plain(job, I())).contains("a size such as 8g"), "{bad}");
    }
    for bad in [json!("0"), json!(-1), json!("four"), json!("nan"), json!("inf")] {
        let mut job = J();
        job["docker.cpu"] = bad.clone();
        assert!(problem(&read_plain(job, I())).contains("a number of CPUs"), "{bad}");
    }
}

#[test]
fn a_name_that_becomes_a_directory_cannot_leave_it() {
    for bad in ["..", "a/b", "", "a\u{0}b", "."] {
        let text = problem(&read_plain(J(), json!({"platformTaskId": bad})));
        assert!(text.contains("instanceParams.platformTaskId"), "{text}");
    }
}

#[test]
fn texts_of_a_workflow_context_are_parsed_by_the_type_of_their_field() {
    let context = json!({"platformTaskId": "T1", "qps": "4", "monitor.killOnTimeout": "false", "healthCheck": "{\"maxRetry\":5}",
        "extraTags": "{\"a\":\"b\"}", "volumes": "[{\"hostPath\":\"/data\"}]", "healthCheck.command": "[\"true\"]", "modelKey": "4",
        "uploadTarget": "minio://x", "jobType": "COLLECT_LOGS"});
    let params = read_in_workflow(J(), context);
    params.check().expect("good");
    assert_eq!(params.num("qps"), Some(4.0));
    assert!(!params.flag("monitor.killOnTimeout"));
    assert_eq!(params.int("healthCheck.maxRetry"), Some(5));
    assert_eq!(params.map("extraTags").get("a").map(String::as_str), Some("b"));
    assert_eq!(params.parse::<Value>("volumes"), Some(json!([{"hostPath": "/data", "mode": "ro"}])));
    assert_eq!(params.strings("healthCheck.command"), ["true"]);
    assert_eq!(params.str("modelKey"), Some("4"));
    assert_eq!(params.warnings(), [] as [String; 0]);
}

#[test]
fn a_wrong_text_in_the_context_is_still_a_problem() {
    let text =
        problem(&read_in_workflow(J(), json!({"platformTaskId": "T1", "qps": "many", "monitor.killOnTimeout": "yes"})));
    assert!(text.contains("instanceParams.qps: found the text \"many\"; accepted: a number"), "{text}");
    assert!(
        text.contains("instanceParams.monitor.killOnTimeout: found the text \"yes\"; accepted: true or false"),
        "{text}"
    );
}

#[test]
fn a_start_parameter_that_is_not_flat_arrives_as_init_params_and_is_read() {
    let start = json!({"platformTaskId": "T1", "healthCheck": {"maxRetry": 4}, "qps": 2}).to_string();
    let params =
        read_in_workflow(J(), json!({"initParams": start, "modelKey": "from-upstream", "relatedInstances": "[1]"}));
    params.check().expect("good");
    assert_eq!(params.int("healthCheck.maxRetry"), Some(4));
    assert_eq!(params.str("modelKey"), Some("from-upstream"));
    let params = read_in_workflow(J(), json!({"initParams": "a\nb"}));
    assert!(problem(&params).contains("instanceParams.initParams: is not JSON"));
    let params = read_in_workflow(J(), json!({"initParams": null}));
    assert!(problem(&params).contains("platformTaskId: is missing"));
}

#[test]
fn what_upstream_nodes_appended_fills_gaps_but_beats_nobody() {
    let mut job = J();
    job["modelKey"] = json!("second");
    let context = json!({"platformTaskId": "T1", "modelKey": "first", "date": "20251123", "logDirSuffix": "first-dir", "relatedInstances": "[7]"});
    let params = read_in_workflow(job, context);
    params.check().expect("good");
    assert_eq!(params.str("modelKey"), Some("second"));
    assert_eq!(params.str("date"), Some("20251123"));
    assert_eq!(params.str("logDirSuffix"), None, "another run's directory is not this run's");
    let mut job = J();
    job["modelKey"] = json!("template");
    let params = read_in_workflow(job, json!({"platformTaskId": "T1", "modelKey": "start"}));
    assert_eq!(params.str("modelKey"), Some("start"), "before any node ran, the context is the start parameter");
}

#[test]
fn secrets_never_show_in_the_resolved_values_or_in_messages() {
    let mut run = I();
    run["webhookUrl"] = json!("https://open.feishu.cn/open-apis/bot/v2/hook/0123abcd-secret");
    run["extraTags"] = json!({"apiToken": "s3cr3t", "url": "http://user:pw@h/p?access_token=s3cr3t", "maxTokens": "5"});
    let shown = read_plain(J(), run).masked().to_string();
    for secret in ["s3cr3t", "pw@", "0123abcd"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("open.feishu.cn") && shown.contains("\"maxTokens\":\"5\""), "{shown}");
    let mut run = I();
    run["webhookUrl"] = json!("ftp://h/hook/s3cr3t");
    let text = problem(&read_plain(J(), run));
    assert!(!text.contains("s3cr3t") && text.contains("a URL (http, https)"), "{text}");
}

#[test]
fn secrets_in_a_command_are_hidden_and_a_tokenizer_is_no_token() {
    let words = [
        "serve",
        "--api-key",
        "s3cr3t",
        "--tokenizer",
        "/m",
        "--max-tokens=5",
        "HF_TOKEN=s3cr3t",
        "http://u:s3cr3t@h/x",
    ];
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(
        mask::command(&words),
        ["serve", "--api-key", "***", "--tokenizer", "/m", "--max-tokens=5", "HF_TOKEN=***", "http://***@h/x"]
    );
    assert_eq!(mask::json(&json!({"command": words}))["command"][2], "***");
}

#[test]
fn urls_in_text_lose_user_query_and_tokens() {
    assert_eq!(
        mask::text("see http://a:b@h:1/x/y?k=v&z and https://h/hook/abc."),
        "see http://***@h:1/x/y?k=***&*** and https://h/hook/***"
    );
    assert_eq!(mask::text("no url: 中文 a://"), "no url: 中文 a://");
    assert_eq!(
        mask::url("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=693a91f6"),
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/***?key=***"
    );
    assert_eq!(mask::url("http://h/models/qwen"), "http://h/models/qwen");
}

#[test]
fn a_name_may_also_be_the_beginning_of_others() {
    for (job, run) in [
        (
            json!({"jobType": "RUN_LLM_TEST", "env": {"setupScript": "/s"}}),
            json!({"platformTaskId": "T1", "env": "staging"}),
        ),
        (json!({"jobType": "RUN_LLM_TEST", "env.setupScript": "/s", "env": "staging"}), I()),
    ] {
        let params = read_plain(job, run);
        params.check().expect("good");
        assert_eq!((params.str("env"), params.str("env.setupScript")), (Some("staging"), Some("/s")));
        assert_eq!(params.masked()["env.setupScript"], json!("/s"));
    }
    let schema = schema(&TABLE);
    assert_eq!(schema["$defs"]["parameters"]["properties"]["env"]["type"], json!(["string", "null", "object"]));
}

#[test]
fn an_unknown_name_that_another_parameter_points_to_is_used_without_a_warning() {
    let mut run = I();
    run["adminPort"] = json!(9000);
    let mut params = read_plain(J(), run);
    assert_eq!(params.warnings().len(), 1);
    assert_eq!(params.take_unknown("adminPort"), Some(json!(9000)));
    assert_eq!(params.warnings().len(), 0);
}

#[test]
fn the_schema_comes_from_the_same_table() {
    let schema = schema(&TABLE);
    let properties = &schema["$defs"]["parameters"]["properties"];
    assert_eq!(properties["healthCheck"]["properties"]["maxRetry"]["default"], json!(30));
    assert_eq!(properties["healthCheck.maxRetry"]["maximum"], json!(1000));
    assert_eq!(properties["jobType"]["const"], json!("RUN_LLM_TEST"));
    assert!(properties["downstream"]["not"].is_object());
    assert!(schema["allOf"].to_string().contains("platformTaskId"));
}
