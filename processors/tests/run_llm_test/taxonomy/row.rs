//! One seeded ending and what must be said of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream};
use powerjob_worker::{StopReason, TaskContext};
use serde_json::{Value, json};
use testrig_processors::Environment;

use crate::{common::HELPER, rig::Rig};

/// Rows that run at a time: what they do is mostly waiting.
const AT_ONCE: usize = 6;

/// A stage that depends on how fast the host is.
pub(super) const ANY: &str = "any";

/// What happens to a run that is under way.
type Act = Box<dyn for<'a> FnOnce(&'a Scene) -> BoxFuture<'a, ()> + Send>;

/// Changes what the agent offers.
type Prepare = Box<dyn FnOnce(&Path, &mut Environment) + Send>;
/// Changes job and instance parameters.
type Change = Box<dyn FnOnce(&Rig, &mut Value, &mut Value) + Send>;
/// Clears up behind a run.
type Clear = Box<dyn FnOnce(&Rig) + Send>;

/// A run, its context and its surroundings.
pub(super) struct Scene {
    pub(super) rig: Rig,
    pub(super) ctx: TaskContext,
    pub(super) env: Environment,
}

impl Scene {
    /// Sends a signal to the process of the run whose command line holds these words.
    pub(super) fn signal(&self, signal: &str, words: &str) {
        let all = self.rig.survivors();
        let found = all.iter().find(|process| process.contains(words)).unwrap_or_else(|| panic!("{words}: {all:?}"));
        let pid = found.split(' ').next().and_then(|path| path.strip_prefix("/proc/")).expect("a pid");
        assert!(Command::new("kill").arg(format!("-{signal}")).arg(pid).status().expect("kill").success());
    }

    /// Kills the shim above the stand-in service, and then the service.
    pub(super) fn kill_with_shim(&self) {
        let all = self.rig.survivors();
        let service =
            all.iter().find_map(|process| process.split_once(" ").filter(|(_, words)| words.contains(" stub ")));
        let (path, _) = service.unwrap_or_else(|| panic!("no service: {all:?}"));
        let status = std::fs::read_to_string(format!("{path}/status")).expect("it lives");
        let shim = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("it has a parent").trim();
        let words = std::fs::read_to_string(format!("/proc/{shim}/cmdline")).expect("it lives");
        assert!(words.contains("__shim"), "{words}");
        for pid in [shim, path.trim_start_matches("/proc/")] {
            assert!(Command::new("kill").args(["-KILL", pid]).status().expect("kill").success());
        }
    }

    /// Lets scripts go on that wait for the file `$GO`.
    pub(super) fn go(&self) {
        std::fs::write(go_file(&self.rig), "").expect("written");
    }
}

fn go_file(rig: &Rig) -> PathBuf {
    rig.place.dir.path().join("go")
}

/// One seeded ending.
pub(super) struct Row {
    name: &'static str,
    ending: &'static str,
    stage: &'static str,
    prepare: Vec<Prepare>,
    change: Vec<Change>,
    acts: Vec<(Option<&'static str>, Act)>,
    cut: Option<&'static str>,
    proofs: Vec<(&'static str, Value)>,
    counts: Vec<&'static str>,
    says: Vec<String>,
    over: Vec<Clear>,
}

impl Row {
    /// A run of the stand-in service with the load going on until something happens.
    pub(super) fn new(name: &'static str, ending: &'static str, stage: &'static str) -> Self {
        Self {
            name,
            ending,
            stage,
            prepare: Vec::new(),
            change: Vec::new(),
            acts: Vec::new(),
            cut: None,
            proofs: Vec::new(),
            counts: Vec::new(),
            says: Vec::new(),
            over: Vec::new(),
        }
    }

    /// The service is this shell script; `STUB` in it is the stand-in service, `HELPER` the program, `GO` the file that
    /// [`Scene::go`] makes and `WAIT` a wait for it.
    pub(super) fn service(self, script: &'static str) -> Self {
        self.params(move |rig, job, _| {
            let go = go_file(rig).display().to_string();
            let stub = format!("{HELPER} stub --port {}", rig.port);
            let script = script
                .replace("STUB", &stub)
                .replace("HELPER", HELPER)
                .replace("WAIT", "while [ ! -e GO ]; do sleep 0.05; done")
                .replace("GO", &go);
            job["service.command"] = json!(["sh", "-c", script]);
        })
    }

    /// The stand-in service with these arguments.
    pub(super) fn stub(self, args: &'static [&'static str]) -> Self {
        self.params(|rig, job, _| job["service.command"] = rig.job(args)["service.command"].clone())
    }

    /// Changes job and instance parameters.
    pub(super) fn params(mut self, change: impl FnOnce(&Rig, &mut Value, &mut Value) + Send + 'static) -> Self {
        self.change.push(Box::new(change));
        self
    }

    /// A parameter of the job.
    pub(super) fn job(self, name: &'static str, value: Value) -> Self {
        self.params(move |_, job, _| set(job, name, value))
    }

    /// A parameter of the instance.
    pub(super) fn run(self, name: &'static str, value: Value) -> Self {
        self.params(move |_, _, run| set(run, name, value))
    }

    /// Changes what the agent offers; the path is the run's own directory.
    pub(super) fn host(mut self, prepare: impl FnOnce(&Path, &mut Environment) + Send + 'static) -> Self {
        self.prepare.push(Box::new(prepare));
        self
    }

    /// Does something when the log holds a line.
    pub(super) fn when(
        mut self,
        mark: &'static str,
        act: impl for<'a> FnOnce(&'a Scene) -> BoxFuture<'a, ()> + Send + 'static,
    ) -> Self {
        self.acts.push((Some(mark), Box::new(act)));
        self
    }

    /// Lets the service's script go on when the log holds a line.
    pub(super) fn go_when(self, mark: &'static str) -> Self {
        self.when(mark, |scene| {
            scene.go();
            Box::pin(std::future::ready(()))
        })
    }

    /// Sends a signal to the stand-in service when the log holds a line.
    pub(super) fn signal_when(self, mark: &'static str, signal: &'static str) -> Self {
        self.when(mark, move |scene| {
            scene.signal(signal, " stub ");
            Box::pin(std::future::ready(()))
        })
    }

    /// Raises the run's stop signal when the log holds a line.
    pub(super) fn stop_when(self, mark: &'static str, reason: StopReason) -> Self {
        self.when(mark, move |scene| {
            scene.ctx.stop.raise(reason);
            Box::pin(std::future::ready(()))
        })
    }

    /// The agent is killed when the log holds a line; the acts follow, then a new agent goes on with the run.
    pub(super) fn cut_when(mut self, mark: &'static str) -> Self {
        self.cut = Some(mark);
        self
    }

    /// What happens while no agent is there.
    pub(super) fn meanwhile(
        mut self,
        act: impl for<'a> FnOnce(&'a Scene) -> BoxFuture<'a, ()> + Send + 'static,
    ) -> Self {
        self.acts.push((None, Box::new(act)));
        self
    }

    /// Clears up behind the run, however it went.
    pub(super) fn when_over(mut self, clear: impl FnOnce(&Rig) + Send + 'static) -> Self {
        self.over.push(Box::new(clear));
        self
    }

    /// What `result.json` must hold at a place.
    pub(super) fn proof(mut self, pointer: &'static str, value: Value) -> Self {
        self.proofs.push((pointer, value));
        self
    }

    /// What `result.json` must count at least once.
    pub(super) fn counted(mut self, pointer: &'static str) -> Self {
        self.counts.push(pointer);
        self
    }

    /// Words that result text and log must hold.
    pub(super) fn says(mut self, words: impl Into<String>) -> Self {
        self.says.push(words.into());
        self
    }

    /// Brings it about and checks what is said of it; the text is what is wrong.
    async fn play(self, instance: i64) -> Result<(), String> {
        let mut env = None;
        let prepare = self.prepare;
        let rig = Rig::with(instance, |own| {
            let dir = own.state_dir.parent().expect("below the place").to_owned();
            prepare.into_iter().for_each(|prepare| prepare(&dir, own));
            env = Some(own.clone());
        });
        let (mut job, mut run) = (rig.job(&[]), rig.run());
        run["runSeconds"] = json!(600);
        self.change.into_iter().for_each(|change| change(&rig, &mut job, &mut run));
        let ctx = rig.context(&job, &run);
        let scene = Scene { rig, ctx, env: env.expect("it was made") };
        let (rig, ctx) = (&scene.rig, &scene.ctx);
        let _over = Over(rig, self.over);
        let play = async {
            for (mark, act) in self.acts {
                if let Some(mark) = mark {
                    rig.logged(mark).await;
                }
                act(&scene).await;
            }
        };
        let result = match self.cut {
            Some(mark) => {
                rig.cut_at(ctx, mark).await;
                play.await;
                rig.process(&TaskContext { resumed: true, ..ctx.clone() }).await
            }
            None => tokio::join!(rig.process(ctx), play).0,
        };
        let log = rig.log_text();
        let mut wrong = Vec::new();
        let mut check = |right: bool, what: String| {
            if !right {
                wrong.push(what);
            }
        };
        let success = self.ending == "completed";
        check(result.success == success, format!("success is {}", result.success));
        if !success {
            let head = if self.stage == ANY { "stage ".to_owned() } else { format!("stage {} ", self.stage) };
            check(result.message.starts_with(&head), format!("the text does not begin with `{head}`"));
            let line = format!("ending: {}", self.ending);
            let told = |text: &str| text.lines().any(|found| is_ending(found.trim_start_matches("agent "), &line));
            check(told(&result.message), format!("the text does not say `{line}`"));
            check(log.lines().any(|found| found.contains(&line)), format!("the log does not say `{line}`"));
        }
        for words in &self.says {
            check(result.message.contains(words.as_str()), format!("the text does not say `{words}`"));
        }
        if self.stage != "plan" {
            let found = rig.result();
            let at = |pointer: &str| found.pointer(pointer).cloned().unwrap_or(Value::Null);
            check(at("/ending") == self.ending, format!("result.json has the ending {}", at("/ending")));
            check((at("/status") == "SUCCEED") == success, format!("result.json has the status {}", at("/status")));
            if !success {
                check(at("/failure/ending") == self.ending, format!("the failure has {}", at("/failure/ending")));
                let stage = at("/failure/stage");
                check(self.stage == ANY || stage == self.stage, format!("the failure's stage is {stage}"));
            }
            for (pointer, value) in &self.proofs {
                check(at(pointer) == *value, format!("{pointer} is {}, not {value}", at(pointer)));
            }
            for pointer in &self.counts {
                check(at(pointer).as_u64().is_some_and(|count| count > 0), format!("{pointer} is {}", at(pointer)));
            }
        }
        let left = rig.survivors();
        check(left.is_empty(), format!("left running: {left:?}"));
        if wrong.is_empty() {
            return Ok(());
        }
        let written = if self.stage == "plan" { String::new() } else { rig.read("result.json") };
        Err(format!(
            "{}: {}\n--- text\n{}\n--- log\n{log}\n--- result.json\n{written}",
            self.name,
            wrong.join("; "),
            result.message
        ))
    }
}

/// What is cleared up behind a run.
struct Over<'a>(&'a Rig, Vec<Clear>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.1.drain(..).for_each(|clear| clear(self.0));
    }
}

fn is_ending(line: &str, wanted: &str) -> bool {
    line.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(';'))
}

/// Sets `a.b` inside of `a` where there is one.
fn set(params: &mut Value, name: &str, value: Value) {
    match name.split_once('.').filter(|(head, _)| params[*head].is_object()) {
        Some((head, rest)) => params[head][rest] = value,
        None => params[name] = value,
    }
}

/// Plays all rows, some at a time, and tells every one that went wrong. Instances are numbered from `first`.
pub(super) async fn play(first: i64, rows: Vec<Row>) {
    let count = rows.len();
    let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), count, "names are unique");
    let wrong: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
    stream::iter(rows.into_iter().zip(first..))
        .for_each_concurrent(AT_ONCE, |(row, instance)| {
            let (name, wrong) = (row.name, Arc::clone(&wrong));
            async move {
                let begin = std::time::Instant::now();
                // A task of its own, so that a panic is one row's.
                let played = tokio::spawn(tokio::time::timeout(Duration::from_secs(120), row.play(instance))).await;
                let text = match played {
                    Ok(Ok(Ok(()))) => None,
                    Ok(Ok(Err(text))) => Some(text),
                    Ok(Err(_)) => Some(format!("{name}: not done in time")),
                    Err(panic) => Some(format!("{name}: {panic}")),
                };
                println!("{name}: {:.2} s", begin.elapsed().as_secs_f64());
                wrong.lock().extend(text);
            }
        })
        .await;
    let wrong = wrong.lock();
    assert!(wrong.is_empty(), "{} of {count} endings are wrong\n\n{}", wrong.len(), wrong.join("\n\n=====\n\n"));
}
