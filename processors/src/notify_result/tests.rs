//! NotifyResult as a whole, against a receiver on loopback.

#![expect(
    clippy::needless_pass_by_value,
    reason = "json! makes values, and a test reads better without borrowing each"
)]

use powerjob_worker::{Processor, StopReason, TaskContext};
use serde_json::{Value, json};

use super::*;
use crate::task_rig::{Receiver, Rig};

const FEISHU_OK: (u16, &str) = (200, r#"{"code":0,"msg":"success"}"#);

fn job(channels: &[&str], config: Value, more: Value) -> Value {
    let mut job = json!({"jobType": "NOTIFY_RESULT", "defaultChannels": channels, "channelConfig": config, "defaultTemplateId": "default-en"});
    job.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    job
}

fn im(receiver: &Receiver) -> Value {
    json!({"im": {"webhookUrl": receiver.url("hook/s3cret-token")}})
}

fn context() -> Value {
    json!({"platformTaskId": "T1", "env": "dev", "modelKey": "m", "datasetId": "builtin", "runStatus": "SUCCEED", "collectStatus": "SUCCEED",
           "aggregateStatus": "SUCCEED", "archiveUrl": "/mnt/a.tar.gz", "metricsSummary": "{\"requests\":120,\"error_rate\":0.1,\"ttft_p95\":31.25}",
           "relatedInstances": "[\"42\",\"43\"]"})
}

fn task_params() -> Value {
    json!({"platformTaskId": "T1", "env": "dev", "relatedInstances": [42, "918273645546372819"], "finalStatus": "FAILED"})
}

async fn run(rig: &Rig, env: crate::Environment, ctx: &TaskContext) -> ProcessResult {
    NotifyResult::new(Arc::new(env), rig.store.clone()).process(ctx.clone()).await
}

#[tokio::test]
async fn in_a_workflow_people_are_told_once_what_the_nodes_left() {
    let rig = Rig::new();
    let receiver = Receiver::answering(&[(200, "ok")]).await;
    let ctx = rig.node(44, &job(&["im"], im(&receiver), json!({})), &context());
    let result = run(&rig, rig.environment(), &ctx).await;
    assert!(result.success, "{}", result.message);
    let got = receiver.got();
    assert_eq!((got.len(), got[0].headers["idempotency-key"].to_str().expect("text")), (1, "44-im"));
    let body = &got[0].body;
    for (key, wanted) in [
        ("finalStatus", json!("SUCCEED")),
        ("level", json!("INFO")),
        ("platformTaskId", json!("T1")),
        ("archiveUrl", json!("/mnt/a.tar.gz")),
        ("relatedInstances", json!(["42", "43"])),
        ("metrics", json!({"requests": 120, "error_rate": 0.1, "ttft_p95": 31.25})),
        ("instanceId", json!("44")),
    ] {
        assert_eq!(body[key], wanted, "{key} of {body:#}");
    }
    let text = body["text"].as_str().expect("text");
    assert!(
        text.contains("ttft_p95 = 31.25 ms") && text.contains("error_rate = 10 %") && text.contains("T1"),
        "{text}"
    );
    assert_eq!(ctx.workflow.appended()["relatedInstances"], r#"["42","43","44"]"#);
    for said in [rig.log(&ctx), result.message.clone()] {
        assert!(
            !said.contains("s3cret-token") && said.contains(&format!("im (http://{}/***)", receiver.address)),
            "{said}"
        );
    }
    // A rerun after a crash: nobody is told again.
    let result = run(&rig, rig.environment(), &ctx).await;
    assert!(result.success && result.message.contains("(before)"), "{}", result.message);
    assert_eq!(receiver.got().len(), 1);
    // Another instance is another message.
    let other = rig.node(45, &job(&["im"], im(&receiver), json!({})), &context());
    assert!(run(&rig, rig.environment(), &other).await.success);
    assert_eq!(receiver.got().len(), 2);
}

#[tokio::test]
async fn a_workflow_whose_nodes_died_in_silence_is_told_as_failed() {
    let rig = Rig::new();
    let receiver = Receiver::answering(&[(200, "ok")]).await;
    let ctx = rig.node(44, &job(&["im"], im(&receiver), json!({})), &json!({"platformTaskId": "T1", "env": "dev"}));
    let result = run(&rig, rig.environment(), &ctx).await;
    let body = receiver.got()[0].body.clone();
    assert!(result.success && body["finalStatus"] == "FAILED" && body["level"] == "CRITICAL", "{body:#}");
    assert!(
        body["text"].as_str().is_some_and(|text| text.contains("no node of this workflow told how it ended")),
        "{body:#}"
    );
}

#[tokio::test]
async fn feishu_gets_a_signed_card_or_text_and_its_code_decides() {
    let rig = Rig::new();
    let mut env = rig.environment();
    env.secrets.insert("robot".into(), "signing-secret".into());
    let receiver =
        Receiver::answering(&[FEISHU_OK, FEISHU_OK, (200, r#"{"code":19024,"msg":"Key Words Not Found"}"#)]).await;
    let config = |more: Value| {
        let mut feishu = json!({"webhookUrl": receiver.url("open-apis/bot/v2/hook/abc"), "secretRef": "robot"});
        feishu.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        json!({"feishu": feishu})
    };
    let mut context = context();
    context["receiversOverride"] = json!("[\"ou_7\",\"somebody else\"]");
    context["summaryUrl"] = json!("https://platform.local/t/1");
    let ctx = rig.node(44, &job(&["feishu"], config(json!({})), json!({"defaultTemplateId": "default-zh"})), &context);
    let result = run(&rig, env.clone(), &ctx).await;
    assert!(result.success, "{}", result.message);
    let body = receiver.got()[0].body.clone();
    assert!(body["msg_type"] == "interactive" && body["sign"].is_string() && body["timestamp"].is_string(), "{body:#}");
    let card = body["card"].to_string();
    for wanted in
        ["LLM 测试 T1 成功", "<at id=ou_7></at>", "https://platform.local/t/1", "查看详情", "\"template\":\"green\""]
    {
        assert!(card.contains(wanted), "{wanted} is missing in {body:#}");
    }
    assert!(
        rig.log(&ctx).contains("neither ids nor mail addresses") && !rig.log(&ctx).contains("signing-secret"),
        "{}",
        rig.log(&ctx)
    );

    let text = job(&["feishu"], config(json!({"messageType": "text"})), json!({}));
    assert!(run(&rig, env.clone(), &rig.node(45, &text, &context)).await.success);
    assert_eq!(receiver.got()[1].body["msg_type"], "text");
    let result = run(&rig, env, &rig.node(46, &text, &context)).await;
    assert!(
        !result.success && result.message.contains("19024") && result.message.contains("Key Words Not Found"),
        "{}",
        result.message
    );
    assert_eq!(receiver.got().len(), 3, "a lasting failure is tried once");
}

#[tokio::test]
async fn rules_and_alert_level_decide_the_level_and_a_quiet_success_tells_nobody() {
    let rig = Rig::new();
    let receiver = Receiver::answering(&[(200, "ok")]).await;
    let rules = json!([{"when": "metrics.accuracy < 0.5", "level": "INFO"}, {"when": "finalStatus == 'FAILED' or metrics.error_rate > 0.05", "level": "CRITICAL"}]);
    let quiet = |rules: &Value| job(&["im"], im(&receiver), json!({"notifyOnSuccess": false, "severityRules": rules}));
    // A success that a rule calls critical is told all the same.
    let ctx = rig.node(44, &quiet(&rules), &context());
    assert!(run(&rig, rig.environment(), &ctx).await.message.contains("CRITICAL"));
    assert!(rig.log(&ctx).contains("metrics.accuracy is not known"), "{}", rig.log(&ctx));
    let result = run(&rig, rig.environment(), &rig.node(45, &quiet(&json!([])), &context())).await;
    assert!(result.success && result.message.contains("nobody was told"), "{}", result.message);
    let mut given = context();
    given["alertLevel"] = json!("WARN");
    given["finalStatus"] = json!("PARTIAL_FAILED");
    assert!(run(&rig, rig.environment(), &rig.node(46, &quiet(&rules), &given)).await.success);
    let levels: Vec<_> = receiver.got().iter().map(|got| got.body["level"].clone()).collect();
    assert_eq!(levels, ["CRITICAL", "WARN"]);
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_a_channel_that_fails_brings_in_the_fallback() {
    let rig = Rig::new();
    let flaky = Receiver::answering(&[(503, "busy"), (200, "ok")]).await;
    let result =
        run(&rig, rig.environment(), &rig.task(44, &job(&["im"], im(&flaky), json!({})), &task_params())).await;
    assert!(result.success && flaky.got().len() == 2, "{}", result.message);
    assert_eq!(flaky.got()[1].body["relatedInstances"], json!(["42", "918273645546372819"]), "ids are exact");

    let (dead, feishu) = (Receiver::answering(&[(404, "gone")]).await, Receiver::answering(&[FEISHU_OK]).await);
    let mut config = im(&dead);
    config["feishu"] = json!({"webhookUrl": feishu.url("hook/x")});
    let with_fallback = job(&["im"], config.clone(), json!({"fallbackChannels": ["feishu"]}));
    let result = run(&rig, rig.environment(), &rig.task(45, &with_fallback, &task_params())).await;
    assert!(
        result.success && result.message.contains("told feishu") && result.message.contains("404"),
        "{}",
        result.message
    );
    let result = run(&rig, rig.environment(), &rig.task(46, &job(&["im"], config, json!({})), &task_params())).await;
    assert!(
        !result.success
            && result.retryable
            && result.message.contains("nobody was told")
            && result.message.contains("HTTP 404 Not Found: gone"),
        "{}",
        result.message
    );
    assert_eq!((dead.got().len(), feishu.got().len()), (2, 1));
}

#[tokio::test]
async fn overrides_of_channel_and_template_win() {
    let rig = Rig::new();
    let (im_hook, feishu) = (Receiver::answering(&[(200, "ok")]).await, Receiver::answering(&[FEISHU_OK]).await);
    let mut config = im(&im_hook);
    config["feishu"] = json!({"webhookUrl": feishu.url("hook/x")});
    let mut params = task_params();
    params["channelsOverride"] = json!(["im"]);
    params["templateIdOverride"] = json!("default-zh");
    params["metricsSummary"] = json!("40 cases, 2 failed");
    params["receiversOverride"] = json!(["u001"]);
    let result = run(&rig, rig.environment(), &rig.task(44, &job(&["feishu"], config, json!({})), &params)).await;
    assert!(result.success && feishu.got().is_empty(), "{}", result.message);
    let body = im_hook.got()[0].body.clone();
    let text = body["text"].as_str().expect("text");
    assert!(text.contains("状态：失败 (FAILED)") && text.contains("40 cases, 2 failed"), "{text}");
    assert_eq!(body["receivers"], json!(["u001"]));
}

#[tokio::test]
async fn wrong_parameters_are_all_named_and_nobody_is_told() {
    let rig = Rig::new();
    let receiver = Receiver::answering(&[(200, "ok")]).await;
    let mut env = rig.environment();
    env.allowed_hosts = Some(vec!["127.0.0.1".into()]);
    env.secrets.insert("robot".into(), "x".into());
    let good = im(&receiver);
    for (job, instance, wanted) in [
        (
            job(&["pigeon"], good.clone(), json!({})),
            json!({}),
            vec!["jobParams.defaultChannels[0]", "pigeon", "feishu"],
        ),
        (
            job(&["dingtalk", "wecom", "email"], good.clone(), json!({})),
            json!({}),
            vec![
                "defaultChannels[0]",
                "\"dingtalk\" is not served yet",
                "\"wecom\"",
                "\"email\"",
                "accepted: im, feishu",
            ],
        ),
        (
            job(&["im"], json!({"dingtalk": {"webhookUrl": "https://x/y"}, "email": {"smtpKey": "ops"}}), json!({})),
            json!({}),
            vec!["channelConfig.dingtalk.webhookUrl", "channelConfig.email.smtpKey", "not served yet"],
        ),
        (job(&["im"], json!({}), json!({})), json!({}), vec!["channelConfig.im.webhookUrl", "is missing"]),
        (
            job(&["im"], json!({"im": {"webhookUrl": "https://evil.local/hook/s3cret"}}), json!({})),
            json!({}),
            vec!["[outbound] allowed_hosts", "evil.local"],
        ),
        (
            job(&["feishu"], json!({"feishu": {"webhookUrl": "http://127.0.0.1/x", "secretRef": "robt"}}), json!({})),
            json!({}),
            vec!["secretRef", "robot"],
        ),
        (
            job(&["im"], good.clone(), json!({"defaultTemplateId": "default-cn"})),
            json!({}),
            vec!["defaultTemplateId", "default-zh, default-en", "not served yet"],
        ),
        (
            job(
                &["im"],
                good.clone(),
                json!({"severityRules": [{"when": "finalstatus == 'FAILED'", "level": "CRITICAL"}]}),
            ),
            json!({}),
            vec!["severityRules[0].when", "did you mean finalStatus?"],
        ),
        (
            job(&["im"], good.clone(), json!({"severityRules": [{"when": "env == 'x'", "level": "BAD"}]})),
            json!({}),
            vec!["severityRules[0].level", "INFO, WARN, CRITICAL"],
        ),
        (job(&["im"], good.clone(), json!({"fallbackChannels": ["email"]})), json!({}), vec!["fallbackChannels[0]"]),
        (job(&["im"], good.clone(), json!({})), json!({"channelsOverride": []}), vec!["channelsOverride", "is empty"]),
        (job(&["im"], good.clone(), json!({})), json!({"finalStatus": "OK"}), vec!["finalStatus", "PARTIAL_FAILED"]),
        (
            job(&["im"], good.clone(), json!({})),
            json!({"finalStatus": null, "relatedInstances": null}),
            vec!["finalStatus: is missing", "relatedInstances: is missing"],
        ),
        (job(&["im"], good, json!({})), json!({"alertLevel": "FATAL"}), vec!["alertLevel"]),
    ] {
        let mut params = task_params();
        params.as_object_mut().expect("object").extend(instance.as_object().expect("object").clone());
        let result = run(&rig, env.clone(), &rig.task(44, &job, &params)).await;
        assert!(!result.success && !result.retryable, "{job}: {}", result.message);
        for text in wanted {
            assert!(result.message.contains(text), "{text} is missing in: {}", result.message);
        }
        assert!(!result.message.contains("s3cret"), "{}", result.message);
    }
    assert!(receiver.got().is_empty());
}

#[tokio::test]
async fn after_a_stop_nobody_is_told() {
    let rig = Rig::new();
    let receiver = Receiver::answering(&[(200, "ok")]).await;
    let ctx = rig.task(44, &job(&["im"], im(&receiver), json!({})), &task_params());
    ctx.stop.raise(StopReason::Stopped);
    let result = run(&rig, rig.environment(), &ctx).await;
    assert!(!result.success && receiver.got().is_empty(), "{}", result.message);
}

#[test]
fn nonsense_in_any_parameter_is_a_problem_with_its_path_or_a_good_plan_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let env = crate::testing::environment(dir.path());
    let job = job(
        &["im", "feishu"],
        json!({}),
        json!({"channelConfig.im.webhookUrl": "http://h/x", "channelConfig.feishu.webhookUrl": "http://h/y"}),
    );
    crate::testing::try_nonsense(&super::TABLE, &job, &task_params(), |job, run| {
        let (job, run) = (job.to_string(), run.to_string());
        let input = crate::params::Input { job_params: Some(&job), instance_params: Some(&run), ..Default::default() };
        super::plan::plan(&input, &env).map(drop).map_err(|problems| problems.to_string())
    });
}

#[tokio::test]
async fn the_secret_part_of_an_address_is_nowhere_whatever_goes_wrong_with_it() {
    const SECRET: &str = "plainword";
    let rig = Rig::new();
    let mut listed = rig.environment();
    listed.allowed_hosts = Some(vec!["platform.local".into()]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("bound");
    let mut id = 70;
    for (env, url) in [
        (listed, format!("http://robots.local/notify/{SECRET}?key={SECRET}")),
        (rig.environment(), format!("http://user:{SECRET}@{closed}/notify/{SECRET}?key={SECRET}#{SECRET}")),
        (rig.environment(), format!("ftp://robots.local/notify/{SECRET}")),
        (rig.environment(), format!("not a url {SECRET}")),
    ] {
        for (channel, misspelt) in [("im", false), ("feishu", false), ("im", true)] {
            id += 1;
            let name = if misspelt { "webhookUri" } else { "webhookUrl" };
            let ctx = rig.task(id, &job(&[channel], json!({channel: {name: url}}), json!({})), &task_params());
            // With a real robot there would be pauses between the tries.
            let ended = tokio::time::timeout(std::time::Duration::from_secs(1), run(&rig, env.clone(), &ctx)).await;
            let said = format!("{:?} {} {:?}", ended, rig.log(&ctx), ctx.workflow.appended());
            assert!(!said.contains(SECRET), "{url}: {said}");
        }
    }
}
