//! What a run adds to the start of its container: the stages `create` and `start` of RunLLMTest beside the engine's own calls.
//!
//!     DOCKER_HOST=unix:///path/d.sock TEST_IMAGE_BUSYBOX=name measure_start [COUNT]
//!
//! In turn, so that both see the same machine: a container by the bare API of the engine (one request to make it, one to start
//! it, each over a connection of its own), and a run. The engine's part of a run is measured on the connection between the two,
//! so that the overhead is that of each single run and not the difference of two figures that the engine scatters.

use std::{
    collections::HashMap,
    io::{Read, Write},
    os::unix::net::UnixStream as StdStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use powerjob_worker::{JobLogger, Processor, StopSignal, Task, TaskContext, WorkflowContext};
use serde_json::{Value, json};
use testrig_joblog::{Journals, Limits};
use testrig_processors::{Environment, Root, run_llm_test::RunLlmTest};
use testrig_store::Store;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Milliseconds of the engine for the requests that make and start a container.
type Seen = Arc<Mutex<Vec<f64>>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let count: usize = std::env::args().nth(1).as_deref().unwrap_or("60").parse()?;
    let engine = PathBuf::from(std::env::var("DOCKER_HOST")?.trim_start_matches("unix://"));
    let image = std::env::var("TEST_IMAGE_BUSYBOX")?;
    let dir = tempfile::tempdir()?;
    let seen = Seen::default();
    let socket = dir.path().join("engine.sock");
    tokio::spawn(watch(UnixListener::bind(&socket)?, engine.clone(), Arc::clone(&seen)));
    let rig = Rig::new(dir.path(), &socket, &image)?;
    let (mut bare, mut ours, mut overhead) = (Vec::new(), Vec::new(), Vec::new());
    // The first of each warms up.
    for number in 0..=count {
        let (engine, image, logs) = (engine.clone(), image.clone(), dir.path().to_owned());
        let direct = tokio::task::spawn_blocking(move || by_hand(&engine, &image, &logs, number)).await??;
        seen.lock().clear();
        let run = rig.run(number).await?;
        let engine: f64 = seen.lock().iter().sum();
        if number > 0 {
            bare.push(direct);
            ours.push(run);
            overhead.push(run - engine);
        }
    }
    println!("{count} starts each, in turn, ms:");
    for (what, figures) in
        [("bare API, create + start", bare), ("run, create + start", ours), ("overhead of a run", overhead)]
    {
        let mut sorted = figures;
        sorted.sort_by(f64::total_cmp);
        let at = |share: usize| sorted[(sorted.len() * share / 100).min(sorted.len() - 1)];
        println!("{what:26} p50 {:7.1}  p90 {:7.1}  p99 {:7.1}  max {:7.1}", at(50), at(90), at(99), at(100));
    }
    Ok(())
}

/// Carries the bytes and takes the time from a request of interest to the first byte of its answer.
async fn watch(listener: UnixListener, engine: PathBuf, seen: Seen) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (engine, seen) = (engine.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let Ok(mut server) = UnixStream::connect(engine).await else { return };
            let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
            let mut asked: Option<Instant> = None;
            loop {
                // Whoever ends first takes the connection along.
                tokio::select! {
                    read = client.read(&mut up) => {
                        let Ok(n @ 1..) = read else { return };
                        if is_of_interest(&up[..n]) {
                            asked = Some(Instant::now());
                        }
                        if server.write_all(&up[..n]).await.is_err() { return }
                    }
                    read = server.read(&mut down) => {
                        let Ok(n @ 1..) = read else { return };
                        if let Some(asked) = asked.take() {
                            seen.lock().push(asked.elapsed().as_secs_f64() * 1e3);
                        }
                        if client.write_all(&down[..n]).await.is_err() { return }
                    }
                }
            }
        });
    }
}

/// Makes or starts a container.
fn is_of_interest(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let first = text.lines().next().unwrap_or_default();
    let of_containers = first.starts_with("POST ") && first.contains("/containers/");
    of_containers && (first.contains("/containers/create") || first.contains("/start"))
}

/// Makes and starts a container by the engine's API alone, as a run would, and removes it. Milliseconds of the first two.
fn by_hand(engine: &Path, image: &str, logs: &Path, number: usize) -> Outcome<f64> {
    let body = json!({
        "Image": image, "Entrypoint": ["sleep", "600"], "ExposedPorts": {"8000/tcp": {}}, "Labels": {"measure": "start"},
        "HostConfig": {
            "PortBindings": {"8000/tcp": [{"HostPort": ""}]}, "NetworkMode": "bridge",
            "Mounts": [{"Type": "bind", "Source": logs, "Target": "/app/logs"}],
        },
    });
    let begin = Instant::now();
    let name = format!("measure-{}-{number}", std::process::id());
    let made = ask(engine, "POST", &format!("/containers/create?name={name}"), &body.to_string())?;
    let started = ask(engine, "POST", &format!("/containers/{name}/start"), "")?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    ask(engine, "DELETE", &format!("/containers/{name}?force=1"), "")?;
    for answer in [made, started] {
        if !(answer.contains(" 201 ") || answer.contains(" 204 ")) {
            return Err(answer.into());
        }
    }
    Ok(took)
}

fn ask(engine: &Path, method: &str, path: &str, body: &str) -> Outcome<String> {
    let mut stream = StdStream::connect(engine)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = body.len();
    let head = "Host: d\r\nContent-Type: application/json\r\nConnection: close";
    stream.write_all(
        format!("{method} {path} HTTP/1.0\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

struct Rig {
    dir: PathBuf,
    image: String,
    journals: Journals,
    processor: RunLlmTest,
}

impl Rig {
    fn new(dir: &Path, socket: &Path, image: &str) -> Outcome<Self> {
        let state = dir.join("state");
        let migrations = [testrig_joblog::MIGRATIONS, testrig_processors::MIGRATIONS].concat();
        let store = Store::open(&state.join("state.db"), &migrations)?;
        let journals = Journals::open(&state.join("journals"), Limits::default(), store.clone())?;
        let root = Root { path: dir.to_owned(), read_only: false };
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut env = Environment::new(state, std::env::current_exe()?, vec![root], http);
        env.docker_endpoint = Some(format!("unix://{}", socket.display()));
        let processor = RunLlmTest::new(Arc::new(env), store);
        Ok(Self { dir: dir.to_owned(), image: image.to_owned(), journals, processor })
    }

    /// Milliseconds of the stages `create` and `start` of a run.
    async fn run(&self, number: usize) -> Outcome<f64> {
        let instance = i64::from(std::process::id()) * 100_000 + i64::try_from(number)?;
        let scripts = self.dir.join("scripts");
        std::fs::create_dir_all(&scripts)?;
        let entry = scripts.join("entry.sh");
        std::fs::write(&entry, "#!/bin/sh\nexec sleep 600\n")?;
        std::fs::set_permissions(&entry, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let job = json!({
            "jobType": "RUN_LLM_TEST", "hostLogBaseDir": self.dir.join("logs"), "hostScriptDir": scripts,
            "containerEntryScript": "/scripts/entry.sh", "docker": {"baseImage": self.image},
            "healthCheck": {"type": "NONE"}, "monitor": {"stopTimeoutSeconds": 0, "collectMetrics": false},
        });
        let run = json!({
            "platformTaskId": format!("measure-{instance}"), "modelKey": "m", "servicePort": 8000,
            "logDirSuffix": format!("run-{number}"), "test": {"driver": "container", "command": ["true"]},
        });
        let ctx = TaskContext {
            job_id: 1,
            instance_id: instance,
            wf_instance_id: None,
            processor: "RunLLMTest".into(),
            job_params: Some(job.to_string()),
            instance_params: Some(run.to_string()),
            task: Task::single(1, instance),
            attempt: 1,
            task_retry_num: 0,
            time_limit: None,
            resumed: false,
            worker_address: "127.0.0.1:1".into(),
            log: JobLogger::new(self.journals.journal(instance)?),
            stop: StopSignal::new(),
            workflow: WorkflowContext::new(HashMap::new()),
        };
        let result = self.processor.process(ctx).await;
        if !result.success {
            return Err(result.message.into());
        }
        self.took(number)
    }

    fn took(&self, number: usize) -> Outcome<f64> {
        let mut dir = self.dir.join("logs/dev");
        dir = std::fs::read_dir(&dir)?.next().ok_or("no day")??.path();
        let text = std::fs::read_to_string(dir.join(format!("run-{number}/result.json")))?;
        let result: Value = serde_json::from_str(&text)?;
        let part = |name: &str| result["startup"][name].as_f64().ok_or("a part of the start is missing");
        Ok(part("createMs")? + part("startMs")?)
    }
}
