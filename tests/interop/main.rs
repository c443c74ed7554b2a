//! Our worker and the Java worker 5.1.1 in one app, on the real servers 4.3.9 and 5.1.1: every kind of job, in every role, with
//! workers killed and jobs stopped in the middle. What was seen is the table of `docs/compatibility.md`.

mod alarms;
mod frequent;
mod instant;
mod job;
mod killed;
mod later;
mod site;
mod steady;
mod stopped;
mod table;
mod wait;
mod workers;
mod workflow;

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::site::{Missing, SERVERS, Site};
use crate::table::{Cell, Seen};
use crate::workers::Kind;

/// A case: where it runs is given, what it has seen comes back as rows of the table.
pub(crate) type Rows = Result<Vec<(Cell, Seen)>, Failed>;
type Run = Arc<dyn Fn(Arc<Site>) -> Pin<Box<dyn Future<Output = Rows>>> + Send + Sync>;

/// A case by name.
pub(crate) struct Case {
    name: String,
    run: Run,
    attempts: usize,
}

impl Case {
    pub(crate) fn new<F, Fut>(name: impl Into<String>, run: F) -> Self
    where
        F: Fn(Arc<Site>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Rows> + 'static,
    {
        Self { name: name.into(), run: Arc::new(move |site| Box::pin(run(site))), attempts: 1 }
    }

    /// Who is task tracker in it. On a busy machine a Java one takes a worker for dead whose first answer is late, and fails or leaves
    /// out what that was to do: it may try again. Who fails again and again is wrong himself.
    pub(crate) fn tracked_by(self, tracker: Kind) -> Self {
        Self { attempts: if tracker == Kind::Java { 3 } else { 1 }, ..self }
    }

    async fn rows(&self, site: &Arc<Site>) -> Rows {
        let mut attempt = 1;
        loop {
            match (self.run)(site.clone()).await {
                Err(failed) if attempt < self.attempts => {
                    eprintln!("{}, attempt {attempt}: {}", self.name, failed.message().unwrap_or_default());
                    attempt += 1;
                }
                ended => return ended,
            }
        }
    }
}

fn cases() -> Vec<Case> {
    // The slow ones first.
    [
        killed::cases(),
        later::cases(),
        frequent::cases(),
        alarms::cases(),
        stopped::cases(),
        instant::cases(),
        steady::cases(),
        workflow::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    powerjob_worker::install_tls();
    let mut args = Arguments::from_args();
    // Cases mostly wait: for the Java task tracker, which looks at its tasks every 13 s, and for servers, which judge by the minute.
    args.test_threads = args.test_threads.or(Some(128));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = Arc::new(runtime.expect("a tokio runtime starts"));
    let mut trials = Vec::new();
    for server in &SERVERS {
        let site = Site::of(server);
        for case in cases() {
            let name = format!("{}::{}", server.name, case.name);
            let (site, runtime) = (site.clone(), runtime.clone());
            trials.push(match server.missing() {
                Some(missing) => skip(name, &missing, !args.list),
                None => Trial::test(name, move || {
                    runtime.block_on(async {
                        let site = site.get().await?;
                        for (cell, seen) in case.rows(&site).await? {
                            table::note(server, cell, seen);
                        }
                        Ok(())
                    })
                }),
            });
        }
    }
    let first = libtest_mimic::run(&args, trials);
    site::end_all();
    if args.list || table::is_empty() {
        return if first.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    // The whole table is there only if every case has told its lines.
    let all = !first.has_failed() && first.num_ignored == 0 && first.num_filtered_out == 0;
    args.filter = None;
    let compare = Trial::test("the_table_in_docs_compatibility_md_is_what_was_seen", move || table::compare(all));
    let second = libtest_mimic::run(&args, vec![compare]);
    if first.has_failed() || second.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The place of a case whose parts are not there; the skip is told to whoever counts.
fn skip(name: String, missing: &Missing, tell: bool) -> Trial {
    use std::io::Write as _;
    let reason = missing.to_string();
    if tell && let Ok(path) = std::env::var("TESTRIG_SKIPS_FILE") {
        let line = serde_json::json!({"name": name, "reason": reason});
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("the skip of {name} could not be written to {path}: {error}");
        }
    }
    Trial::test(name, move || Err(Failed::from(reason))).with_ignored_flag(true)
}
