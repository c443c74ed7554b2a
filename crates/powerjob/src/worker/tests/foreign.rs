//! The logs of instances that other workers own, in the moments in which this worker gets or loses the instance itself.

use tokio::sync::{Notify, oneshot};

use super::*;
use crate::{JobLogger, worker::driver::Input};

const ID: i64 = 1_004_402_621_408_084_032;

/// Says `begun`, waits, says `late`.
struct Late(Arc<Notify>);

#[async_trait]
impl Processor for Late {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        ctx.log.info("begun");
        self.0.notified().await;
        ctx.log.info("late");
        ProcessResult::success("done")
    }
}

/// What a task of another worker's tracker asks for.
async fn ask(worker: &WorkerHandle) -> oneshot::Receiver<Result<JobLogger, String>> {
    let (answer, answered) = oneshot::channel();
    let input = Input::TaskLog { instance_id: ID, log_config: None, foreign: true, answer };
    assert!(worker.inbox.send(input).await.is_ok(), "the worker lives");
    answered
}

async fn logger(worker: &WorkerHandle) -> JobLogger {
    ask(worker).await.await.expect("an answer").expect("a log")
}

fn has_line(rig: &Rig, text: &str) -> bool {
    rig.fake.lines(ID).iter().any(|line| line.log_content.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_comes_to_this_worker_while_the_rest_of_its_foreign_log_is_sent_keeps_its_log() {
    let rig = Rig::new().await;
    let go = Arc::new(Notify::new());
    let worker = rig.builder().processor("late", Arc::new(Late(go.clone()))).start().await.expect("it starts");
    until("a heartbeat", || worker.status().listed).await;
    rig.fake.book.lock().held.push(fake::REPORT_LOG);
    logger(&worker).await.info("of the other one's task");
    assert!(worker.inbox.send(Input::ReleaseLog(ID)).await.is_ok());
    rig.dispatch(&worker, ID, "late", json!({})).await;
    until("it runs", || worker.status().instances.iter().any(|i| i.stage == "running")).await;
    rig.fake.book.lock().held.clear();
    until("what was to be the rest", || has_line(&rig, "of the other one's task") && has_line(&rig, "begun")).await;
    // Time for the end of the sending to do its harm.
    tokio::time::sleep(Duration::from_millis(200)).await;
    go.notify_one();
    until("the end", || !rig.fake.finals(ID).is_empty()).await;
    assert!(has_line(&rig, "late"), "the log is with the server before the end: {:?}", rig.fake.lines(ID));
    rig.closed(&worker, ID).await;
    until("one end", || journal_text(&rig.journals(), ID).contains("SUCCEED")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_that_come_from_another_worker_while_the_own_end_is_on_its_way_have_a_log_that_goes_on() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.fake.book.lock().held.push(fake::REPORT);
    rig.dispatch(&worker, ID, "fail", json!({})).await;
    until("it has ended", || worker.status().instances.iter().any(|i| i.stage == "reporting")).await;
    // The server takes this worker for dead, and another one has the instance now.
    let log = logger(&worker).await;
    log.info("first");
    rig.fake.book.lock().held.clear();
    rig.closed(&worker, ID).await;
    log.info("second");
    until("both are sent", || has_line(&rig, "first") && has_line(&rig, "second")).await;
    assert!(worker.inbox.send(Input::ReleaseLog(ID)).await.is_ok());
    until("it is closed", || journal_text(&rig.journals(), ID).contains("RELEASED")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_while_the_own_end_is_on_its_way_leaves_the_log_to_that_end() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    rig.fake.book.lock().held.push(fake::REPORT);
    rig.dispatch(&worker, ID, "fail", json!({})).await;
    until("it has ended", || worker.status().instances.iter().any(|i| i.stage == "reporting")).await;
    logger(&worker).await.info("of the other one's task");
    assert!(worker.inbox.send(Input::ReleaseLog(ID)).await.is_ok());
    rig.fake.book.lock().held.clear();
    rig.closed(&worker, ID).await;
    until("it is closed once", || journal_text(&rig.journals(), ID).contains("SUCCEED")).await;
    assert!(!journal_text(&rig.journals(), ID).contains("RELEASED"));
}
