//! An engine that is stopped, killed, away or cut off under a run. That is no verdict on anything: the run goes on.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use powerjob_worker::Processor;
use serde_json::json;
use testrig_host::docker::Docker;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    containers::{Engine, engine},
    rig::{Rig, skipped},
};

/// Engines that are started and stopped take their time where others are at work.
const LONG: Duration = Duration::from_secs(300);

/// It says when it was started.
const SAYS: &str = "echo it was started";

fn starts(rig: &Rig) -> usize {
    rig.service_lines().iter().filter(|line| *line == "it was started").count()
}

/// The engine of the tests behind a socket of one's own.
struct Door {
    socket: PathBuf,
    engine: PathBuf,
    /// The answer to a request with these words in its first line is lost, once, with its connection.
    loses: Arc<Mutex<Vec<&'static str>>>,
    /// Before everything that the engine says.
    pause: Duration,
    open: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Door {
    fn new(engine: &Engine, dir: &Path, loses: &[&'static str], pause: Duration) -> Self {
        let path = engine.endpoint.strip_prefix("unix://").expect("the tests' engine has a socket").into();
        let loses = Arc::new(Mutex::new(loses.to_vec()));
        let door = Self { socket: dir.join("door.sock"), engine: path, loses, pause, open: Mutex::default() };
        door.open();
        door
    }

    fn open(&self) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).expect("the socket can be made");
        let (engine, loses, pause) = (self.engine.clone(), Arc::clone(&self.loses), self.pause);
        let serve = async move {
            // Connections end with the door.
            let mut through = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (engine, loses) = (engine.clone(), Arc::clone(&loses));
                through.spawn(async move {
                    if let Ok(server) = UnixStream::connect(engine).await {
                        carry(client, server, &loses, pause).await;
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

    fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

async fn carry(client: UnixStream, server: UnixStream, loses: &Mutex<Vec<&'static str>>, pause: Duration) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let lost = Mutex::new(false);
    let up = async {
        while let Some(bytes) = read(&mut from_client).await {
            let text = String::from_utf8_lossy(&bytes);
            let first = text.lines().next().unwrap_or_default();
            if take(loses, first) {
                *lost.lock() = true;
            }
            if !write(&mut to_server, &bytes).await {
                break;
            }
        }
    };
    let down = async {
        while let Some(bytes) = read(&mut from_server).await {
            tokio::time::sleep(pause).await;
            // The engine has done it.
            if *lost.lock() || !write(&mut to_client, &bytes).await {
                break;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Whether the answer to this request is to be lost; that is no longer so afterwards.
fn take(loses: &Mutex<Vec<&'static str>>, request: &str) -> bool {
    let mut loses = loses.lock();
    let at = loses.iter().position(|words| words.split(' ').all(|word| request.contains(word)));
    at.is_some_and(|at| !loses.remove(at).is_empty())
}

async fn read(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    let n = from.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
    buffer.truncate(n);
    Some(buffer)
}

async fn write(to: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
    to.write_all(bytes).await.is_ok()
}

/// A rig whose engine is behind a door.
fn behind(engine: &Engine, number: i64, loses: &[&'static str], pause: Duration) -> (Rig, Door) {
    let mut door = None;
    let instance = i64::from(std::process::id()) * 1000 + number;
    let rig = Rig::with(instance, |env| {
        let made = Door::new(engine, env.state_dir.parent().expect("a directory"), loses, pause);
        env.docker_endpoint = Some(made.endpoint());
        env.pulls.engine_patience = Duration::from_secs(60);
        door = Some(made);
    });
    (rig, door.expect("made"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_the_engine_that_is_lost_makes_and_starts_nothing_twice() {
    let name = "outages::an_answer_of_the_engine_that_is_lost_makes_and_starts_nothing_twice";
    let Some(engine) = engine(name) else { return };
    let both = ["POST /containers/create", "POST /containers/ /start"];
    for (number, loses) in [(400, &both[..1]), (401, &both[1..]), (402, &both[..])] {
        let (rig, door) = behind(&engine, number, loses, Duration::ZERO);
        let result =
            rig.process(&rig.context(&engine.waiting_job(&rig, &engine.busybox, SAYS), &engine.quick_run(&rig))).await;
        assert!(result.success, "{loses:?}: {}\n{}", result.message, rig.log_text());
        assert!(door.loses.lock().is_empty(), "{loses:?}: the answer was lost");
        assert_eq!(starts(&rig), 1, "{loses:?}: {}", rig.log_text());
        assert_eq!(engine.containers(&rig).await.len(), 0, "{loses:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_away_for_a_while_in_any_stage_fails_no_run() {
    let name = "outages::an_engine_that_is_away_for_a_while_in_any_stage_fails_no_run";
    let Some(engine) = engine(name) else { return };
    let play = async |number, stage: &str| {
        let (rig, door) = behind(&engine, number, &[], Duration::ZERO);
        let away = async {
            rig.logged(&format!("stage {stage}: begins")).await;
            door.close();
            tokio::time::sleep(Duration::from_millis(700)).await;
            door.open();
        };
        let ctx = rig.context(&engine.waiting_job(&rig, &engine.busybox, SAYS), &engine.quick_run(&rig));
        let (result, ()) = tokio::join!(rig.process(&ctx), away);
        assert!(result.success, "{stage}: {}\n{}", result.message, rig.log_text());
        assert_eq!(starts(&rig), 1, "{stage}: {}", rig.log_text());
        assert_eq!(engine.containers(&rig).await.len(), 0, "{stage}");
    };
    // The command is the engine's own, so its stage is not among them.
    tokio::join!(play(410, "pull"), play(411, "create"), play(412, "start"), play(413, "teardown"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_engine_makes_a_slow_run_and_no_other_verdict() {
    let Some(engine) = engine("outages::a_slow_engine_makes_a_slow_run_and_no_other_verdict") else { return };
    let (rig, _door) = behind(&engine, 430, &[], Duration::from_millis(400));
    let result =
        rig.process(&rig.context(&engine.waiting_job(&rig, &engine.busybox, SAYS), &engine.quick_run(&rig))).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!((starts(&rig), rig.log_text().contains("engine was lost")), (1, false), "{}", rig.log_text());
    assert_eq!(engine.containers(&rig).await.len(), 0);
}

/// An engine of this test's own, which may be killed.
struct OwnEngine {
    dir: tempfile::TempDir,
}

impl OwnEngine {
    fn start(name: &str, other: &Engine) -> Option<(Self, Engine)> {
        let own = Self { dir: tempfile::tempdir().expect("a directory") };
        if !own.script(&["start"], &[]) {
            skipped(name, "no engine of our own can be started here");
            return None;
        }
        let endpoint = format!("unix://{}/docker/d.sock", own.dir.path().display());
        let copy = format!("docker -H '{}' save '{}' | docker -H '{endpoint}' load", other.endpoint, other.busybox);
        let copied = Command::new("sh").args(["-c", &copy]).stdout(Stdio::null()).status().expect("sh");
        assert!(copied.success(), "{copy}");
        let docker = Docker::connect(&endpoint).expect("an endpoint");
        let (stub, busybox) = (other.stub.clone(), other.busybox.clone());
        Some((own, Engine { endpoint, docker, stub, busybox }))
    }

    /// Without a runtime's thread, because the script takes its time.
    async fn ctl(&self, what: &'static str) {
        assert!(tokio::task::block_in_place(|| self.script(&["ctl"], &[what])), "{what}");
    }

    fn script(&self, before: &[&str], after: &[&str]) -> bool {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/parts/docker.sh");
        let mut command = Command::new("bash");
        command.arg(script).args(before).arg(self.dir.path()).args(after);
        // Engine and containerd stay behind and would hold a pipe open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        self.script(&["stop"], &[]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_with_live_restore_that_is_killed_and_restarted_under_the_load_fails_no_run() {
    let name = "outages::an_engine_with_live_restore_that_is_killed_and_restarted_under_the_load_fails_no_run";
    let Some(shared) = engine(name) else { return };
    let Some((own, engine)) = OwnEngine::start(name, &shared) else { return };
    assert!(engine.docker.ping().await.expect("it runs").live_restore);
    let rig = engine.rig(420);
    // On the host's network, since what publishes ports goes away with the engine; checked by HTTP all the time.
    let script =
        format!("echo it was started; echo fine > /tmp/healthz; exec httpd -f -p 127.0.0.1:{} -h /tmp", rig.port);
    let mut job = engine.job(&rig, &engine.busybox, &script);
    job["docker"]["networkMode"] = json!("host");
    job["healthCheck"] = json!({"type": "HTTP", "path": "/healthz", "intervalMillis": 100, "timeoutMillis": 5000,
        "maxRetry": 300, "failureThreshold": 20});
    let until = rig.place.dir.path().join("until.sh");
    let go = rig.place.dir.path().join("go");
    std::fs::write(&until, format!("until [ -e '{}' ]; do sleep 0.1; done\n", go.display())).expect("written");
    let mut run = engine.run(&rig);
    run["test.script"] = json!(until);
    let ctx = rig.context(&job, &run);
    let said = |words: &str| rig.log_text().matches(words).count();
    let (lost, back) = ("the container engine was lost", "the container engine is back, the container runs");
    let outages = async {
        rig.logged("stage load: begins").await;
        for (round, how) in [(1, "kill"), (2, "stop")] {
            own.ctl(how).await;
            while said(lost) < round {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            own.ctl("start").await;
            while said(back) < round {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        std::fs::write(&go, "").expect("written");
    };
    // By itself, because the scripts above hold up their own task.
    let processor = Arc::clone(&rig.processor);
    let running = AbortOnDropHandle::new(tokio::spawn(async move { processor.process(ctx).await }));
    let both = async { tokio::join!(running, outages).0.expect("no panic") };
    let result = tokio::time::timeout(LONG, both).await.unwrap_or_else(|_| panic!("no end:\n{}", rig.log_text()));
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    assert_eq!((said(lost), said(back), starts(&rig)), (2, 2, 1), "{}", rig.log_text());
    assert_eq!(rig.result()["ending"], "completed");
    assert_eq!(engine.containers(&rig).await.len(), 0);
}
