//! How runs end that do not end well: each is told truly, and nothing is left behind.

use std::time::Duration;

use libtest_mimic::Trial;
use powerjob_worker::openapi::{InstanceInfo, InstanceStatus};
use serde_json::{Value, json};

use crate::{
    check,
    support::{
        Agent, AgentOptions, App, Needs, Parts, Run, TestResult, eventually,
        llm::{containers_of, executable, processes_with},
        trial,
    },
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("endings::a_process_run_succeeds_and_leaves_nothing_running", Needs::Server, process_succeeds),
        trial("endings::a_health_check_that_never_passes_fails_the_run_and_says_so", Needs::Server, never_healthy),
        trial("endings::a_service_that_exits_early_is_noticed_with_its_code_and_last_lines", Needs::Server, early_exit),
        trial("endings::a_service_where_every_request_fails_is_no_success", Needs::Server, all_requests_fail),
        trial("endings::the_time_limit_kills_the_service_and_fails_the_run", Needs::Server, time_limit),
        trial("endings::a_stop_empties_the_boundary_and_stays_stopped", Needs::Server, stop_process),
        trial("endings::a_double_forked_setsid_child_does_not_survive", Needs::Server, daemonised_child),
        trial(
            "endings::a_container_that_exits_early_is_noticed_with_its_code_and_last_lines",
            Needs::Docker,
            container_exits,
        ),
        trial("endings::a_container_killed_for_memory_is_told_as_such", Needs::Docker, container_oom),
        trial("endings::a_stop_removes_the_container_and_stays_stopped", Needs::Docker, stop_container),
        trial("endings::an_image_that_is_missing_is_named", Needs::Docker, image_missing),
        trial("endings::an_absent_engine_is_named_with_what_to_do", Needs::Server, engine_absent),
        trial(
            "endings::resources_environment_and_volumes_reach_the_container_through_a_workflow",
            Needs::Docker,
            container_details,
        ),
        trial("endings::cleanup_policy_never_leaves_the_container_stopped", Needs::Docker, cleanup_never),
    ]
}

async fn agent(name: &str) -> Result<(App, Agent), libtest_mimic::Failed> {
    let app = App::new(name).await?;
    let agent = Agent::start(name, AgentOptions::new(&app.name)).await?;
    Ok((app, agent))
}

async fn run(app: &App, run: &Run) -> Result<InstanceInfo, libtest_mimic::Failed> {
    let job = app.job("RunLLMTest", &run.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.ended(instance).await
}

fn failed_with(info: &InstanceInfo, texts: &[&str]) -> TestResult {
    check!(info.status() == Some(InstanceStatus::Failed), "{info:?}");
    let result = info.result.as_deref().unwrap_or_default();
    for text in texts {
        check!(result.contains(text), "{text:?} is missing in {result:?}");
    }
    Ok(())
}

/// No process of the agent's directory but the agent itself.
async fn nothing_left(agent: &Agent, marker: &str) -> TestResult {
    eventually("nothing of the run is left", || async {
        let left: Vec<String> =
            processes_with(marker).into_iter().filter(|p| !p.contains(" agent --config ")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}; {}", agent.tail())) }
    })
    .await
}

async fn process_succeeds() -> TestResult {
    let (app, agent) = agent("proc").await?;
    let run_ = Run::process(&agent, &[]);
    let info = run(&app, &run_).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}\n{}", agent.tail());
    let result = run_.result(&agent)?;
    check!(result["status"] == "SUCCEED", "{result:#}");
    let stages: Vec<&str> = result["stages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["name"].as_str().or(s["stage"].as_str()))
        .collect();
    for stage in ["plan", "start", "health", "load", "teardown"] {
        check!(stages.contains(&stage), "stage {stage} is missing in {stages:?}");
    }
    check!(result["metrics"]["qps"].as_f64().is_some_and(|q| q > 0.0), "{result:#}");
    nothing_left(&agent, &agent.dir.display().to_string()).await
}

async fn never_healthy() -> TestResult {
    let (app, agent) = agent("unhealthy").await?;
    let run_ =
        Run::process(&agent, &[]).with("healthCheck.path", json!("/nowhere")).with("healthCheck.maxRetry", json!(4));
    let info = run(&app, &run_).await?;
    failed_with(&info, &["health", "404"])?;
    check!(run_.result(&agent)?["status"] == "FAILED", "result.json says otherwise");
    nothing_left(&agent, &agent.dir.display().to_string()).await
}

async fn early_exit() -> TestResult {
    let (app, agent) = agent("early").await?;
    let script = "echo loading weights; echo 'cannot find the weights' >&2; exit 3".to_owned();
    let run_ = Run::command(&agent, &["/bin/sh".into(), "-c".into(), script])
        .with("healthCheck.intervalMillis", json!(60_000));
    let info = run(&app, &run_).await?;
    failed_with(&info, &["3", "cannot find the weights"])
}

async fn all_requests_fail() -> TestResult {
    let (app, agent) = agent("allfail").await?;
    let run_ = Run::process(&agent, &["--fault", "http500=1"]);
    let info = run(&app, &run_).await?;
    failed_with(&info, &["load"])?;
    let result = run_.result(&agent)?;
    check!(result["metrics"]["error_rate"].as_f64() == Some(1.0), "{result:#}");
    Ok(())
}

async fn time_limit() -> TestResult {
    let (app, agent) = agent("tlimit").await?;
    let run_ = Run::process(&agent, &[]).with("defaultLoad.runSeconds", json!(600));
    let job = app.job("RunLLMTest", &run_.params, &[("instanceTimeLimit", json!(6000))]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    failed_with(&info, &["instance execute timeout"])?;
    check!(run_.result(&agent)?["status"] != "SUCCEED", "result.json says success");
    nothing_left(&agent, &agent.dir.display().to_string()).await
}

async fn stop_process() -> TestResult {
    let (app, agent) = agent("pstop").await?;
    let run_ = Run::process(&agent, &[]).with("defaultLoad.runSeconds", json!(600));
    let job = app.job("RunLLMTest", &run_.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    app.reaches(instance, InstanceStatus::Running).await?;
    eventually("the load has begun", || async {
        let file = run_.dir(&agent).map_err(|e| format!("{e:?}"))?.join("metrics-chat_completion.log");
        std::fs::metadata(&file).ok().filter(|m| m.len() > 0).map(|_| ()).ok_or_else(|| "no record yet".to_owned())
    })
    .await?;
    app.api.stop_instance(app.id, instance).await?;
    nothing_left(&agent, &agent.dir.display().to_string()).await?;
    tokio::time::sleep(Duration::from_secs(13)).await;
    let info = app.info(instance).await?;
    check!(info.status() == Some(InstanceStatus::Stopped), "{info:?}\n{}", agent.tail());
    Ok(())
}

async fn daemonised_child() -> TestResult {
    let (app, agent) = agent("daemon").await?;
    let marker = format!("testrig-daemon-{}", agent.port);
    // The grandchild leaves session and group, ignores SIGTERM and is nobody's child any more.
    let script = format!(
        "(setsid /bin/sh -c 'trap \"\" TERM HUP INT; : {marker}; while :; do sleep 1; done' >/dev/null 2>&1 &) ; exec {} llm-stub --listen 127.0.0.1:$SERVICE_PORT",
        Parts::get().testrig.display()
    );
    let run_ = Run::command(&agent, &["/bin/sh".into(), "-c".into(), script]);
    let info = run(&app, &run_).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}\n{}", agent.tail());
    let left = processes_with(&marker);
    check!(left.is_empty(), "survived: {left:?}");
    Ok(())
}

async fn container_exits() -> TestResult {
    let (app, agent) = agent("cexit").await?;
    let run_ = Run::llama(&agent)?
        .with("envVars", json!({ "LLAMA_ARG_MODEL": "/nowhere.gguf" }))
        .with("healthCheck.intervalMillis", json!(60_000));
    // The entry script is what the image has for other uses: here it only fails.
    let script = agent.dir.join("fail.sh");
    executable(&script, "#!/bin/sh\necho booting\necho 'no such model' >&2\nexit 42\n")?;
    let run_ = run_
        .with("volumes", json!([{ "hostPath": script, "containerPath": "/fail.sh", "mode": "ro" }]))
        .with("containerEntryScript", json!("/fail.sh"));
    let job = app.job("RunLLMTest", &run_.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    failed_with(&info, &["42", "no such model"])?;
    check!(containers_of(instance)?.is_empty(), "{:?}", containers_of(instance)?);
    Ok(())
}

async fn container_oom() -> TestResult {
    let (app, agent) = agent("oom").await?;
    let script = agent.dir.join("eat.sh");
    executable(&script, "#!/bin/sh\necho eating\nexec /bin/busybox tail -f /dev/zero\n")?;
    let image = Parts::get().image_busybox.clone().unwrap_or_default();
    let run_ = Run::container(&agent, &image, 8080)
        .with("volumes", json!([{ "hostPath": script, "containerPath": "/eat.sh", "mode": "ro" }]))
        .with("containerEntryScript", json!("/eat.sh"))
        .with("resources.memory", json!("32m"));
    let job = app.job("RunLLMTest", &run_.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Failed), "{info:?}");
    let result = info.result.unwrap_or_default().to_lowercase();
    check!(result.contains("memory") || result.contains("oom"), "{result}");
    check!(containers_of(instance)?.is_empty(), "{:?}", containers_of(instance)?);
    Ok(())
}

async fn stop_container() -> TestResult {
    let (app, agent) = agent("cstop").await?;
    let run_ = Run::llama(&agent)?.with("defaultLoad.runSeconds", json!(600));
    let job = app.job("RunLLMTest", &run_.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    eventually("the container runs", || async {
        let all = containers_of(instance).map_err(|e| format!("{e:?}"))?;
        if all.iter().any(|c| c.contains("Up")) { Ok(()) } else { Err(format!("{all:?} {}", agent.tail())) }
    })
    .await?;
    app.api.stop_instance(app.id, instance).await?;
    eventually("the container is gone", || async {
        let all = containers_of(instance).map_err(|e| format!("{e:?}"))?;
        if all.is_empty() { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(13)).await;
    let info = app.info(instance).await?;
    check!(info.status() == Some(InstanceStatus::Stopped), "{info:?}");
    Ok(())
}

async fn image_missing() -> TestResult {
    let (app, agent) = agent("noimage").await?;
    let run_ = Run::container(&agent, "testrig/no-such-image:1", 80);
    let info = run(&app, &run_).await?;
    failed_with(&info, &["testrig/no-such-image:1", "pullPolicy"])
}

async fn engine_absent() -> TestResult {
    let app = App::new("noengine").await?;
    let options = AgentOptions::new(&app.name).with("[docker]\nendpoint = \"unix:///nowhere/docker.sock\"\n");
    let agent = Agent::start("noengine", options).await?;
    let run_ = Run::container(&agent, "testrig/busybox:test", 80);
    let info = run(&app, &run_).await?;
    failed_with(&info, &["unix:///nowhere/docker.sock"])
}

/// As a second node: everything comes out of the workflow context, where every value is text.
async fn container_details() -> TestResult {
    let (app, agent) = agent("details").await?;
    let mount = agent.dir.join("mounted");
    std::fs::create_dir_all(&mount)?;
    executable(
        &mount.join("entry.sh"),
        "#!/bin/sh\necho \"model key is $MODEL_KEY and $EXTRA\"\ncat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max\ntouch /mounted/was-here\nexec /usr/bin/llama-server -m /models/tiny.gguf --host 0.0.0.0 --port 8080 -c 2048 -np 2 -t 1\n",
    )?;
    let mut init = serde_json::Map::new();
    init.insert("resources".into(), Value::String(json!({ "cpu": "1", "memory": "256m" }).to_string()));
    init.insert(
        "envVars".into(),
        Value::String(json!({ "MODEL_KEY": "from-context", "EXTRA": "ümläut 中文" }).to_string()),
    );
    init.insert(
        "volumes".into(),
        Value::String(json!([{ "hostPath": mount, "containerPath": "/mounted", "mode": "rw" }]).to_string()),
    );
    init.insert("servicePort".into(), Value::String("8080".into()));
    let node = || -> Result<Value, libtest_mimic::Failed> {
        let mut run_ = Run::llama(&agent)?.with("containerEntryScript", json!("/mounted/entry.sh"));
        run_.params.as_object_mut().ok_or("an object")?.remove("servicePort");
        Ok(run_.params)
    };
    let chain = app.chain(&[("RunLLMTest", node()?, false), ("RunLLMTest", node()?, false)]).await?;
    let info = app.run_workflow(chain, &Value::Object(init)).await?;
    let nodes = info.nodes()?;
    let second = nodes.last().ok_or("two nodes")?;
    check!(second.status == Some(InstanceStatus::Succeed.code()), "{second:?}\n{}", agent.tail());
    let id = second.instance_id.ok_or("an instance")?;
    let log = app.server_log(id, 5).await?;
    check!(log.iter().any(|l| l.contains("model key is from-context and ümläut 中文")), "envVars: {log:#?}");
    check!(log.iter().any(|l| l.contains(&(256 << 20).to_string())), "memory limit: {log:#?}");
    check!(mount.join("was-here").exists(), "the volume was not written");
    Ok(())
}

async fn cleanup_never() -> TestResult {
    let (app, agent) = agent("never").await?;
    let run_ = Run::llama(&agent)?.with("monitor.cleanupPolicy", json!("NEVER"));
    let job = app.job("RunLLMTest", &run_.params, &[]).await?;
    let instance = app.run(job, &Value::Null).await?;
    let info = app.ended(instance).await?;
    check!(info.status() == Some(InstanceStatus::Succeed), "{info:?}\n{}", agent.tail());
    let left = containers_of(instance)?;
    check!(left.len() == 1 && left[0].contains("Exited"), "{left:?}");
    std::process::Command::new("docker")
        .args(["-H", Parts::get().docker.as_deref().unwrap_or_default(), "rm", "-f"])
        .arg(left[0].split(' ').next().unwrap_or_default())
        .output()?;
    Ok(())
}
