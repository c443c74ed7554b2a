//! The same with containers on a real engine.

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use powerjob_worker::StopReason;
use serde_json::json;
use testrig_host::{BoundaryId, Signal, docker::ContainerSpec};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use super::{
    health::patient,
    row::{Row, play},
};
use crate::containers::{Engine, engine};

/// The engine of the tests behind a socket that can be taken away.
struct Gate {
    socket: PathBuf,
    engine: PathBuf,
    open: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Gate {
    fn new(socket: PathBuf, engine: &str) -> Self {
        let engine = engine.strip_prefix("unix://").expect("the tests' engine has a socket").into();
        let gate = Self { socket, engine, open: Mutex::default() };
        gate.open();
        gate
    }

    fn open(&self) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).expect("the socket can be made");
        let engine = self.engine.clone();
        let serve = async move {
            // Connections end with the gate.
            let mut through = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let engine = engine.clone();
                through.spawn(async move {
                    if let Ok(mut server) = UnixStream::connect(engine).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        };
        *self.open.lock() = Some(AbortOnDropHandle::new(tokio::spawn(serve)));
    }

    fn close(&self) {
        *self.open.lock() = None;
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A container that runs this script, on the engine of the tests. `STUB` and `WAIT` as for a process.
fn container(row: Row, engine: &Arc<Engine>, image: &str, script: &'static str) -> Row {
    let (own, image) = (Arc::clone(engine), image.to_owned());
    let endpoint = engine.endpoint.clone();
    row.host(move |_, env| env.docker_endpoint = Some(endpoint)).params(move |rig, job, run| {
        let stub = format!("/usr/bin/testrig llm-stub --listen 0.0.0.0:{} --tokens 4 --ttft-ms 5", rig.port);
        let script = script.replace("STUB", &stub).replace("WAIT", "while [ ! -e /scripts/go ]; do sleep 0.1; done");
        *job = own.job(rig, &image, &script);
        *run = own.run(rig);
        run["runSeconds"] = json!(600);
    })
}

/// Lets the script in the container go on.
fn go_when(row: Row, mark: &'static str) -> Row {
    row.when(mark, |scene| {
        std::fs::write(scene.rig.place.dir.path().join("scripts/go"), "").expect("written");
        Box::pin(std::future::ready(()))
    })
}

fn rows(engine: &Arc<Engine>) -> Vec<Row> {
    let load = "stage load: begins";
    let exit = "/failure/evidence/exit/code";
    let stub = |row, script| container(row, engine, &engine.stub, script);
    let busybox = |row, script| container(row, engine, &engine.busybox, script);
    let docker = engine.docker.clone();
    vec![
        go_when(stub(Row::new("code 42 under load", "exit_code", "load"), "STUB & WAIT; exit 42"), load)
            .proof(exit, json!(42)),
        busybox(Row::new("code 3 before it was ready", "early_exit", "health"), "echo no weights; exit 3")
            .proof(exit, json!(3))
            .proof("/failure/lastServiceLines/0", json!("no weights")),
        stub(Row::new("killed by somebody under load", "signal", "load"), "exec STUB")
            .when(load, move |scene| {
                Box::pin(async move {
                    let label = scene.rig.instance.to_string();
                    let found =
                        docker.find_by_label(testrig_host::LABEL_INSTANCE, Some(&label)).await.expect("it answers");
                    docker.kill(&found[0].id, Signal::KILL).await.expect("it runs");
                })
            })
            .proof("/failure/evidence/exit/signal", json!(9))
            .proof("/failure/evidence/oom/engineFlag", json!(false)),
        busybox(
            Row::new("the main process needs too much memory", "oom_main", "health"),
            "echo loading; x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo done",
        )
        .run("resources.memory", json!("32m"))
        .proof("/failure/evidence/oom/engineFlag", json!(true))
        .proof("/failure/evidence/exit/oom_killed", json!(true)),
        busybox(
            Row::new("a child needs too much memory and its parent ends", "oom_child", "health"),
            "sh -c \"x=\\$(head -c 200000000 /dev/zero | tr '\\\\0' x); echo done\"; exit 5",
        )
        .run("resources.memory", json!("32m"))
        .proof(exit, json!(5)),
        stub(
            Row::new("a child needs too much memory and the service is loaded to the end", "oom_child", "load"),
            "sh -c \"x=\\$(head -c 400000000 /dev/zero | tr '\\\\0' x); echo done\"; exec STUB",
        )
        .run("resources.memory", json!("96m"))
        .run("runSeconds", json!(0.5)),
        stub(Row::new("stopped under load", "cancelled", "load"), "exec STUB").stop_when(load, StopReason::Stopped),
        stub(Row::new("the job's time limit under load", "time_limit", "load"), "exec STUB")
            .stop_when(load, StopReason::TimedOut),
        busybox(Row::new("nobody listens", "never_ready", "health"), "sleep 600")
            .job("healthCheck", json!({"type": "CMD", "command": ["false"], "intervalMillis": 50, "timeoutMillis": 20_000, "maxRetry": 2}))
            .proof("/health/checks/failed", json!(2)),
        go_when(
            stub(Row::new("its server stops answering", "health_lost", "load"), "STUB & P=$!; WAIT; kill -STOP $P; wait"),
            load,
        )
        .job("healthCheck", patient("HTTP")),
        busybox(Row::new("an image that is not here and not pulled", "image_pull", "pull"), "exit 0")
            .job("docker.baseImage", json!("testrig/not-there:1"))
            .job("docker.pullPolicy", json!("Never")),
        busybox(Row::new("a registry that is not there", "image_pull", "pull"), "exit 0")
            .job("docker.baseImage", json!("127.0.0.1:1/llm/none:1"))
            .job("docker.pullPolicy", json!("Always")),
        busybox(Row::new("a network that is not there", "not_started", "start"), "exit 0")
            .run("networkModeOverride", json!("no-such-network")),
        busybox(Row::new("an entry script that is not there", "not_started", "start"), "exit 0")
            .job("containerEntryScript", json!("/scripts/none.sh")),
        foreign(busybox(Row::new("a container of somebody else's", "refused", "create"), "exit 0"), engine),
        lost_engine(engine, load),
    ]
}

/// A container of this name exists and is not the agent's.
fn foreign(row: Row, engine: &Arc<Engine>) -> Row {
    let (docker, image) = (engine.docker.clone(), engine.busybox.clone());
    let remove = engine.docker.clone();
    row.params(move |rig, _, run| {
        let name = format!("foreign-{}", rig.instance);
        run["containerName"] = json!(name);
        let spec = ContainerSpec::new(BoundaryId::new(rig.instance, 9), &name, &image);
        wait(async move { docker.create(&spec).await }).expect("it is made");
    })
    .when_over(move |rig| {
        let name = format!("foreign-{}", rig.instance);
        wait(async move {
            if let Ok(Some(info)) = remove.find_by_name(&name).await {
                let _ = remove.remove(&info.id).await;
            }
        });
    })
}

/// The engine goes away, the service stops answering, and nobody can say what became of it; it is back for the teardown.
fn lost_engine(engine: &Arc<Engine>, load: &'static str) -> Row {
    let gate: Arc<Mutex<Option<Gate>>> = Arc::default();
    let (made, closed, opened) = (Arc::clone(&gate), Arc::clone(&gate), Arc::clone(&gate));
    let endpoint = engine.endpoint.clone();
    let row = container(
        Row::new("the engine is gone and the service does not answer", "engine_lost", "load"),
        engine,
        &engine.stub,
        "STUB & P=$!; WAIT; kill -STOP $P; wait",
    );
    let row = row
        .host(move |dir, env| {
            let socket = dir.join("engine.sock");
            env.docker_endpoint = Some(format!("unix://{}", socket.display()));
            *made.lock() = Some(Gate::new(socket, &endpoint));
        })
        .when(load, move |_| {
            closed.lock().as_ref().expect("made").close();
            Box::pin(std::future::ready(()))
        });
    go_when(row, "the container engine was lost")
        .when("stage teardown: begins", move |_| {
            opened.lock().as_ref().expect("made").open();
            Box::pin(std::future::ready(()))
        })
        .job("healthCheck", patient("HTTP"))
        .says("the container engine is lost")
        // Open until the run is over.
        .when_over(move |_| drop(gate.lock().take()))
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endings_of_containers_are_told_as_those_of_processes() {
    let Some(engine) = engine("taxonomy::containers::endings_of_containers_are_told_as_those_of_processes") else {
        return;
    };
    let engine = Arc::new(engine);
    play(i64::from(std::process::id()) * 1000 + 900, rows(&engine)).await;
}
