//! On SQLite; the databases behind a server are tried in the end-to-end tests and in the crate `testrig-sql`.

use powerjob_worker::StopReason;
use serde_json::{Value, json};

use super::*;
use crate::{Database, official::Deny, task_rig::Rig};

struct Run {
    result: ProcessResult,
    log: String,
}

async fn run(rig: &Rig, source: Source, deny: &[&str], params: &str) -> Run {
    let mut env = rig.environment();
    env.official.sql_deny = deny.iter().map(|deny| Deny::parse(deny).expect("a pattern")).collect();
    static NEXT: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(1);
    let mut ctx = rig.task(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed), &Value::Null, &Value::Null);
    (ctx.job_params, ctx.instance_params) = (Some(params.to_owned()), None);
    let result = Sql::new(source, Arc::new(env)).process(ctx.clone()).await;
    Run { result, log: rig.log(&ctx) }
}

fn url(rig: &Rig) -> String {
    format!("jdbc:sqlite:{}/a.db", rig.dir.path().display())
}

#[tokio::test]
async fn sql_is_executed_and_its_results_are_shown_when_asked_for() {
    let rig = Rig::new();
    let sql = "create table t (a, b); insert into t values (1, null), (2, 'x'); select a, b from t";
    let params = format!("{{jdbcUrl:'{}', sql:\"{sql}\", show_result:'true', /* java takes it */}}", url(&rig));
    let done = run(&rig, Source::Dynamic, &[], &params).await;
    let text = &done.result.message;
    assert!(done.result.success, "{:?}", done.result);
    assert!(text.starts_with("execute successfully, used time: ") && text.ends_with(" millisecond"), "{text}");
    for line in
        ["[Result-1] update count: 2", "[Result-2] [Columns] a|b", "[Result-2] [Row-0] 1|-", "[Result-2] [Row-1] 2|x"]
    {
        assert!(done.log.contains(line), "{line}: {}", done.log);
    }
    let params = json!({"jdbcUrl": url(&rig), "sql": "select count(*) from t", "showResult": false});
    let done = run(&rig, Source::Dynamic, &[], &params.to_string()).await;
    assert!(done.result.success && !done.log.contains("[Result-"), "{}", done.log);
}

#[tokio::test]
async fn a_failing_statement_rolls_back_and_is_told() {
    let rig = Rig::new();
    let all = |sql: &str| json!({"jdbcUrl": url(&rig), "sql": sql, "showResult": true}).to_string();
    assert!(run(&rig, Source::Dynamic, &[], &all("create table t (a)")).await.result.success);
    let done = run(&rig, Source::Dynamic, &[], &all("insert into t values (1); insert into no values (1)")).await;
    assert!(
        !done.result.success && done.result.message.contains("rolled back: no such table: no"),
        "{:?}",
        done.result
    );
    let done = run(&rig, Source::Dynamic, &[], &all("select count(*) from t")).await;
    assert!(done.log.contains("[Row-0] 0"), "{}", done.log);
}

#[tokio::test]
async fn spring_names_are_databases_of_the_configuration() {
    let rig = Rig::new();
    let done = run(&rig, Source::Spring, &[], "{sql:'select 1 as one', showResult:true}").await;
    assert!(done.result.success && done.log.contains("[Columns] one"), "{:?}", done.result);
    let done = run(&rig, Source::Spring, &[], "{sql:'select 1', dataSourceName:'defualt'}").await;
    let text = &done.result.message;
    assert!(
        text.starts_with("can't find data source with name defualt") && text.contains("did you mean `default`?"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_missing_or_denied_is_told_before_anything_is_executed() {
    let rig = Rig::new();
    let url = url(&rig);
    for (source, params, wanted) in [
        (Source::Dynamic, "{sql:'select 1'}".to_owned(), "jdbcUrl can't be empty in DynamicDatasourceSqlProcessor!"),
        (Source::Dynamic, format!("{{jdbcUrl:'{url}'}}"), "`sql` is missing"),
        (Source::Dynamic, String::new(), "there are none"),
        (Source::Dynamic, "{jdbcUrl:'jdbc:h2:mem:x', sql:'select 1'}".into(), "no driver for `h2`"),
        (Source::Dynamic, "{jdbcUrl:'jdbc:sqlite:/etc/x.db', sql:'select 1'}".into(), "[paths] allowed_roots"),
        (Source::Dynamic, "{jdbcUrl:'jdbc:mysql://h/d', sslMode:'REQUIRED', sql:'x'}".into(), "asks for TLS"),
        (
            Source::Dynamic,
            format!("{{jdbcUrl:'{url}', sql:'DROP  Table t'}}"),
            r"matches `\bdrop\s+table\b` ([official] sql_deny",
        ),
        (Source::Spring, "{sql:'drop table t'}".into(), "[official] sql_deny"),
        (Source::Dynamic, format!("{{jdbcUrl:'{url}', sql:'select 1', timeout:-1}}"), "`timeout` is -1"),
    ] {
        let done = run(&rig, source, &[r"\bdrop\s+table\b"], &params).await;
        assert!(!done.result.success && done.result.message.contains(wanted), "{params}: {:?}", done.result);
        assert!(!done.result.retryable, "{params}");
    }
}

#[tokio::test]
async fn passwords_do_not_get_into_the_log_and_foreign_properties_are_named() {
    let rig = Rig::new();
    let params = json!({
        "jdbcUrl": "jdbc:mysql://u:s3cret@127.0.0.1:1/d?useSSL=false&zeroDateTimeBehavior=round", "password": "s3cret", "sql": "select 1",
    });
    let done = run(&rig, Source::Dynamic, &[], &params.to_string()).await;
    assert!(
        !done.result.success && done.result.message.contains("failed to connect to `mysql://u@127.0.0.1:1/d`"),
        "{:?}",
        done.result
    );
    assert!(!done.log.contains("s3cret") && !done.result.message.contains("s3cret"), "{}", done.log);
    assert!(
        done.log.contains("WARN connection properties") && done.log.contains("zeroDateTimeBehavior"),
        "{}",
        done.log
    );
}

#[tokio::test]
async fn its_own_timeout_and_the_instance_s_end_the_sql() {
    let rig = Rig::new();
    let slow =
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000000) select count(*) from n";
    let params = json!({"jdbcUrl": "jdbc:sqlite::memory:", "sql": slow, "timeout": 1});
    let done = run(&rig, Source::Dynamic, &[], &params.to_string()).await;
    assert!(!done.result.success && done.result.message.contains("cancelled after 1 s"), "{:?}", done.result);
    let mut ctx = rig.task(99, &params, &Value::Null);
    ctx.instance_params = None;
    ctx.stop.raise(StopReason::TimedOut);
    let result = Sql::new(Source::Dynamic, Arc::new(rig.environment())).process(ctx).await;
    assert!(!result.success && result.message.contains("time limit"), "{result:?}");
}

#[test]
fn a_database_shows_no_password() {
    let database = Database { url: "mysql://h/d".into(), user: Some("u".into()), password: Some("s3cret".into()) };
    assert!(!format!("{database:?}").contains("s3cret"));
}
