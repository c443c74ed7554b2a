//! The official processors by their class names, as a server that knows only the Java ones dispatches them.

use libtest_mimic::{Failed, Trial};
use powerjob_worker::openapi::{InstanceInfo, InstanceStatus};
use serde_json::{Value, json};

use crate::{
    check,
    support::{Agent, AgentOptions, App, Needs, Parts, TestResult, eventually, llm::processes_with, trial},
};

const ENABLED: &str =
    "[official]\nenable = [\"shell\", \"python\", \"http\", \"dynamic-sql\", \"spring-sql\", \"file-cleanup\"]\n";
const SHELL: &str = "tech.powerjob.official.processors.impl.script.ShellProcessor";
const PYTHON: &str = "tech.powerjob.official.processors.impl.script.PythonProcessor";
const HTTP: &str = "tech.powerjob.official.processors.impl.HttpProcessor";
const SQL: &str = "tech.powerjob.official.processors.impl.sql.DynamicDatasourceSqlProcessor";
const SPRING: &str = "tech.powerjob.official.processors.impl.sql.SpringDatasourceSqlProcessor";
const CLEANUP: &str = "tech.powerjob.official.processors.impl.FileCleanupProcessor";
const INJECT: &str = "tech.powerjob.official.processors.impl.context.InjectWorkflowContextProcessor";
const CONFIG: &str = "tech.powerjob.official.processors.impl.ConfigProcessor";
const VERIFICATION: &str = "tech.powerjob.official.processors.impl.VerificationProcessor";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial(
            "official::a_shell_script_ends_with_its_exit_code_and_its_output_in_both_charsets",
            Needs::Server,
            scripts,
        ),
        trial("official::a_script_at_its_time_limit_is_failed_and_its_children_are_dead", Needs::Server, time_limit),
        trial("official::a_stop_kills_a_script_with_its_children_and_stays_stopped", Needs::Server, stop),
        trial("official::a_script_survives_a_killed_agent_with_every_line_once", Needs::Server, killed_agent),
        trial("official::what_is_not_enabled_is_refused_with_how_to_enable_it", Needs::Server, refused),
        trial("official::http_cleanup_config_and_verification_end_as_in_java", Needs::Server, others),
        trial("official::injected_entries_reach_the_next_node", Needs::Server, inject),
        trial("official::sql_runs_on_mariadb_and_postgresql_and_shows_its_rows", Needs::Sql, sql),
    ]
}

async fn agent(name: &str) -> Result<(App, Agent), Failed> {
    let app = App::new(name).await?;
    let agent = Agent::start(name, AgentOptions::new(&app.name).with(ENABLED)).await?;
    Ok((app, agent))
}

async fn run(app: &App, processor: &str, params: &Value) -> Result<InstanceInfo, Failed> {
    let job = app.job(processor, params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.ended(instance).await
}

fn ended(info: &InstanceInfo, status: InstanceStatus, texts: &[&str]) -> TestResult {
    check!(info.status() == Some(status), "{info:?}");
    let result = info.result.as_deref().unwrap_or_default();
    for text in texts {
        check!(result.contains(text), "{text:?} is missing in {result:?}");
    }
    Ok(())
}

async fn gone(agent: &Agent, marker: &str) -> TestResult {
    eventually("nothing of the script is left", || async {
        let left = processes_with(marker);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}; {}", agent.tail())) }
    })
    .await
}

async fn scripts() -> TestResult {
    let (app, agent) = agent("ofsh").await?;
    let job =
        app.job(SHELL, &json!("echo 你好 utf8\nprintf '\\304\\343\\272\\303 gbk\\n'\necho oops >&2"), &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    ended(&info, InstanceStatus::Succeed, &["[INPUT]: 你好 utf8\n你好 gbk\n;[ERROR]: oops\n"])?;
    let log = app.server_log(instance, 5).await?;
    for line in ["你好 utf8", "你好 gbk", "oops"] {
        check!(log.iter().any(|found| found == line), "{line}: {log:#?}");
    }
    let info = run(&app, SHELL, &json!("echo last words; exit 3")).await?;
    ended(&info, InstanceStatus::Failed, &["exit code 3", "last words"])?;
    let info = run(&app, PYTHON, &json!("import sys\nprint('from python')\nsys.exit(5)")).await?;
    ended(&info, InstanceStatus::Failed, &["exit code 5", "from python"])?;
    // Nothing of the three is left on the disk.
    let left: Vec<_> = std::fs::read_dir(agent.dir.join("state/official_script_processor"))?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != "boundaries")
        .collect();
    check!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A script whose children leave its session and ignore SIGTERM; all command lines hold the marker.
fn stubborn(marker: &str) -> Value {
    json!(format!(
        "trap '' TERM\nsetsid /bin/sh -c 'trap \"\" TERM; : {marker}; while :; do sleep 1; done' &\n\
         /bin/sh -c 'trap \"\" TERM; : {marker}; while :; do sleep 1; done' &\necho running\nwhile :; do sleep 1; done\n"
    ))
}

async fn time_limit() -> TestResult {
    let (app, agent) = agent("oflim").await?;
    let marker = format!("testrig-limit-{}", agent.port);
    let job = app.job(SHELL, &stubborn(&marker), &[("instanceTimeLimit", json!(4000))]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    ended(&info, InstanceStatus::Failed, &["instance execute timeout", "the script was ended", "running"])?;
    gone(&agent, &marker).await
}

async fn stop() -> TestResult {
    let (app, agent) = agent("ofstop").await?;
    let marker = format!("testrig-stop-{}", agent.port);
    let job = app.job(SHELL, &stubborn(&marker), &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    eventually("both children run", || async {
        let found = processes_with(&marker);
        if found.len() >= 2 { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await?;
    app.api.stop_instance(app.id, instance).await?;
    gone(&agent, &marker).await?;
    app.reaches(instance, InstanceStatus::Stopped).await?;
    Ok(())
}

async fn killed_agent() -> TestResult {
    let (app, mut agent) = agent("ofkill").await?;
    let go = agent.dir.join("go");
    let script = format!(
        "i=0; while [ $i -lt 200 ]; do echo \"early $i\"; i=$((i+1)); done\nwhile [ ! -e {} ]; do sleep 0.1; done\necho late\nexit 7",
        go.display()
    );
    let job = app.job(SHELL, &json!(script), &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    let journal = agent.dir.join(format!("state/journals/{instance}.log"));
    let said = |word: &str| {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        text.lines().filter(|line| line.contains(word)).count()
    };
    eventually("the first lines are in the journal", || async {
        if said("early 199") > 0 { Ok(()) } else { Err("they are not".to_owned()) }
    })
    .await?;
    agent.kill();
    std::fs::write(&go, "")?;
    agent.spawn()?;
    let info = app.ended(instance).await?;
    ended(&info, InstanceStatus::Failed, &["exit code 7", "late\n"])?;
    let journal = std::fs::read_to_string(&journal)?;
    for i in 0..200 {
        // The line with the result begins with the output, too.
        let found =
            journal.lines().filter(|line| line.contains("\tstdout\t") && line.ends_with(&format!("early {i}"))).count();
        check!(found == 1, "`early {i}` stands {found} times in the journal");
    }
    Ok(())
}

async fn refused() -> TestResult {
    let app = App::new("ofoff").await?;
    let agent = Agent::start("ofoff", AgentOptions::new(&app.name)).await?;
    for (class, key) in [(SHELL, "shell"), (SQL, "dynamic-sql"), (CLEANUP, "file-cleanup"), (HTTP, "http")] {
        let info = run(&app, class, &json!("echo never > /dev/null")).await?;
        let name = class.rsplit('.').next().unwrap_or_default();
        ended(&info, InstanceStatus::Failed, &[name, "is not enabled", &format!("\"{key}\""), "[official]"])?;
    }
    // What cannot do harm needs no switch.
    let info = run(&app, VERIFICATION, &json!("{mode:'BASE', responseSize: 4}")).await?;
    ended(&info, InstanceStatus::Succeed, &["EXECUTE_SUCCESSFULLY_"])?;
    let info = run(&app, "tech.powerjob.official.processors.impl.script.CMDProcessor", &Value::Null).await?;
    ended(&info, InstanceStatus::Failed, &["is not served by this worker", VERIFICATION])?;
    check!(!info.result.as_deref().unwrap_or_default().contains(&format!("`{SHELL}`")), "{info:?}");
    drop(agent);
    Ok(())
}

async fn others() -> TestResult {
    let (app, agent) = agent("ofetc").await?;
    let info = run(&app, HTTP, &json!({"url": format!("{}/healthz", agent.admin), "timeout": 30})).await?;
    ended(&info, InstanceStatus::Succeed, &["code:200, body:"])?;
    let info = run(&app, HTTP, &json!({"url": format!("{}/nowhere", agent.admin)})).await?;
    ended(&info, InstanceStatus::Failed, &["code:404"])?;
    let old = agent.dir.join("logs/a/old.log");
    std::fs::create_dir_all(old.parent().unwrap_or(&agent.dir))?;
    std::fs::write(&old, "x")?;
    let params = json!([{"dirPath": agent.logs(), "filePattern": "old\\.log", "retentionTime": 0}]);
    let info = run(&app, CLEANUP, &params).await?;
    ended(&info, InstanceStatus::Succeed, &["cost:", ",clean:1"])?;
    check!(!old.exists(), "the file is still there");
    let file = agent.dir.join("logs/config.json");
    let info = run(&app, CONFIG, &json!({"config": {"k": "v"}, "persistentFileName": file})).await?;
    ended(&info, InstanceStatus::Succeed, &["UPDATE_SUCCESS"])?;
    check!(std::fs::read_to_string(&file)? == r#"{"k":"v"}"#, "{}", std::fs::read_to_string(&file)?);
    let info = run(&app, VERIFICATION, &json!("{mode:'EXCEPTION'}")).await?;
    ended(&info, InstanceStatus::Failed, &["PowerJobException: exception for test"])?;
    let job = app.job(VERIFICATION, &json!("{mode:'RETRY'}"), &[("taskRetryNum", json!(2))]).await?;
    let info = app.ended(app.run(job, &Value::Null).await?).await?;
    ended(&info, InstanceStatus::Succeed, &["RETRY_SUCCESSFULLY!"])
}

async fn inject() -> TestResult {
    let (app, agent) = agent("ofinj").await?;
    // The second node sees the context as its instance parameters, which a script in a workflow does not run.
    let second = json!("echo its own parameters");
    let workflow = app.chain(&[(INJECT, json!("{city:'上海', n: 4,}"), false), (SHELL, second, false)]).await?;
    let done = app.run_workflow(workflow, &json!({"start": "x"})).await?;
    let context = done.wf_context.clone().unwrap_or_default();
    let context: Value = serde_json::from_str(&context)?;
    check!(context["city"] == "上海" && context["n"] == "4" && context["start"] == "x", "{context}\n{}", agent.tail());
    Ok(())
}

async fn sql() -> TestResult {
    let parts = Parts::get();
    let urls = [parts.mysql.clone(), parts.postgres.clone()];
    let app = App::new("ofsql").await?;
    let dir = parts.dir("ofsql-secrets");
    let mut more = ENABLED.to_owned();
    for (key, url) in ["my", "pg"].iter().zip(urls.iter().flatten()) {
        let (login, rest) = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).unwrap_or_default();
        let (user, password) = login.split_once(':').unwrap_or_default();
        std::fs::write(dir.join(key), password)?;
        let scheme = url.split("://").next().unwrap_or_default();
        more.push_str(&format!(
            "[databases.{key}]\nurl = \"jdbc:{}://{rest}\"\nuser = {user:?}\npassword_file = {:?}\n",
            if scheme == "mysql" { "mysql" } else { "postgresql" },
            dir.join(key).display().to_string()
        ));
    }
    let agent = Agent::start("ofsql", AgentOptions::new(&app.name).with(&more)).await?;
    for (key, url) in ["my", "pg"].iter().zip(urls.iter().flatten()) {
        let table = format!("e2e_{}", agent.port);
        let text = format!(
            "create table {table} (a int, b varchar(9)); insert into {table} values (1, '你好'), (2, null); select a, b from {table} order by a; drop table {table}"
        );
        let job =
            app.job(SQL, &json!({"jdbcUrl": format!("jdbc:{url}"), "sql": text, "showResult": true}), &[]).await?;
        let instance = app.run(job, &Value::Null).await?;
        ended(&app.ended(instance).await?, InstanceStatus::Succeed, &["execute successfully, used time: "])?;
        let log = app.server_log(instance, 8).await?;
        for line in ["[Result-2] [Columns] a|b", "[Result-2] [Row-0] 1|你好", "[Result-2] [Row-1] 2|-"] {
            check!(log.iter().any(|found| found == line), "{line}: {log:#?}");
        }
        check!(!log.iter().any(|line| line.contains("rigsecret")), "the password is in the log: {log:#?}");
        let params = json!({"dataSourceName": key, "sql": "select 40 + 2 as answer", "showResult": true});
        let job = app.job(SPRING, &params, &[]).await?;
        let instance = app.run(job, &Value::Null).await?;
        ended(&app.ended(instance).await?, InstanceStatus::Succeed, &["execute successfully"])?;
        let log = app.server_log(instance, 4).await?;
        check!(log.iter().any(|line| line == "[Result-0] [Row-0] 42"), "{log:#?}");
    }
    Ok(())
}
