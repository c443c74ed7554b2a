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
async fn tasks_that_come_from_another_worker_in_the_moment_of_the_own_end_have_a_log_that_goes_on() {
    let rig = Rig::new().await;
    let migrations = [crate::MIGRATIONS, testrig_joblog::MIGRATIONS].concat();
    let store = testrig_store::Store::open(&rig.dir.path().join("worker.db"), &migrations).expect("a store");
    let worker = rig.builder().store(store.clone()).start().await.expect("it starts");
    until("a heartbeat", || worker.status().listed).await;
    rig.fake.book.lock().held.push(fake::REPORT);
    rig.dispatch(&worker, ID, "fail", json!({})).await;
    until("it has ended", || worker.status().instances.iter().any(|i| i.stage == "reporting")).await;
    // The driver waits for the store, with another dispatch in its hands.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (shut, is_shut) = oneshot::channel();
    let blocked = tokio::spawn({
        let store = store.clone();
        async move {
            store
                .write(move |_| {
                    let _ = shut.send(());
                    let _ = gate.recv_timeout(PATIENCE);
                    Ok(())
                })
                .await
        }
    });
    is_shut.await.expect("the writer is held up");
    let (http, url) = (rig.http.clone(), format!("http://{}/worker/runJob", worker.address()));
    let body = request(&worker, ID + 1, "fail", json!({})).to_string();
    let other = tokio::spawn(async move { http.post(url).body(body).send().await });
    until("the driver has it", || {
        worker.shared.counters.dispatches.get() == 2 && worker.inbox.capacity() == worker.inbox.max_capacity()
    })
    .await;
    // Now the answer to the final report comes, and behind it the task.
    rig.fake.book.lock().held.clear();
    until("the answer waits", || {
        !rig.fake.finals(ID).is_empty() && worker.inbox.capacity() < worker.inbox.max_capacity()
    })
    .await;
    let answered = ask(&worker).await;
    drop(open);
    blocked.await.expect("no panic").expect("written");
    assert_eq!(other.await.expect("no panic").expect("an answer").status().as_u16(), 200);
    let log = answered.await.expect("an answer").expect("a log");
    rig.closed(&worker, ID).await;
    log.info("of the other one's task");
    until("it is sent", || has_line(&rig, "of the other one's task")).await;
    assert!(worker.inbox.send(Input::ReleaseLog(ID)).await.is_ok());
    until("it is closed", || journal_text(&rig.journals(), ID).contains("RELEASED")).await;
}
