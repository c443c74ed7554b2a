use serde_json::json;

use super::*;
use crate::{
    service_control::TABLE,
    task_rig::{Receiver, Rig},
};

/// What the rig's own instance is called.
const ID: i64 = 1_004_402_621_408_084_032;

fn told(rig: &Rig, env: Environment) -> (Told, Arc<PlatformLogs>) {
    let env = Arc::new(env);
    let logs = Arc::new(PlatformLogs::new(rig.store.clone(), env.http.clone()));
    let inner = Arc::new(crate::CollectLogs::new(Arc::clone(&env)));
    (Told { inner, table: &TABLE, env, logs: Arc::clone(&logs) }, logs)
}

#[tokio::test]
async fn the_parameter_is_stronger_than_the_configuration_and_a_platform_that_is_not_allowed_gets_nothing() {
    let rig = Rig::new();
    let mut env = rig.environment();
    env.platform_base_url = Some("http://configured".into());
    env.allowed_hosts = Some(vec!["given".into()]);
    let (told, _logs) = told(&rig, env);
    let of = |job: serde_json::Value| told.platform(&rig.task(ID, &job, &json!({})));
    assert_eq!(
        of(json!({})).as_deref(),
        Some("http://configured"),
        "the operator's own is not asked whether it is allowed"
    );
    assert_eq!(of(json!({"testPlatformBaseUrl": "http://given/x"})).as_deref(), Some("http://given/x"));
    assert_eq!(of(json!({"testPlatformBaseUrl": "http://other"})), None);
    assert_eq!(of(json!({"testPlatformBaseUrl": 5})), None);
    let (job, input) = (json!({"testPlatformBaseUrl": "http://other"}).to_string(), Input::default());
    let problems = read(&told.env, &TABLE, &Input { job_params: Some(&job), ..input }).check().expect_err("denied");
    let text = problems.to_string();
    assert!(text.contains("jobParams.testPlatformBaseUrl: the host `other` is not allowed here"), "{text}");
    assert!(problems.only_denials());
}

#[tokio::test]
async fn a_line_that_the_platform_refuses_for_good_does_not_hold_up_the_others() {
    let rig = Rig::new();
    // Both lines in one batch, each alone, and the first one again and again: it is what is wrong.
    let no = (400, "no");
    let receiver = Receiver::answering(&[no, no, no, no, (200, "")]).await;
    let (told, logs) = told(&rig, rig.environment());
    let ctx = rig.task(ID, &json!({"testPlatformBaseUrl": receiver.url("own/")}), &json!({}));
    ctx.log.info("refused");
    ctx.log.info("taken");
    ctx.log.journal().close("SUCCEED");
    told.begin(&ctx).await;
    logs.keepers.close();
    logs.keepers.wait().await;
    let got = receiver.got();
    let last = &got.last().expect("asked").body;
    assert_eq!((last["instanceId"].as_i64(), &last["lines"]), (Some(ID), &json!(["taken"])), "{got:?}");
    assert!(logs.known().await.expect("readable").is_empty(), "nothing is left to be done");
}

#[test]
fn platforms_have_names_of_their_own_that_hold_no_secret() {
    let http = Rig::new().environment().http;
    let name = |base: &str| testrig_joblog::Sink::name(&AppendSink::new(http.clone(), base)).to_owned();
    let (one, other) = (name("http://me:secret-1@p.example/"), name("http://me:secret-2@p.example/"));
    assert!(one != other && one.contains("p.example") && !one.contains("secret"), "{one} {other}");
    assert_eq!(one, name("http://me:secret-1@p.example/"), "it is the cursor's name");
}
