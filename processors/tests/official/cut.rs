//! Scripts that are ended from outside, and scripts whose agent is killed.

use std::time::Duration;

use powerjob_worker::{StopReason, TaskContext};
use testrig_processors::official::Switch;

use crate::rig::{PATIENCE, Rig, alive, pid_in};

/// Children that ignore SIGTERM, one of them in a session of its own.
fn stubborn(rig: &Rig) -> String {
    let dir = rig.place.dir.path().display();
    format!(
        "trap '' TERM\nsetsid sh -c 'trap \"\" TERM; echo $$ > {dir}/far; while :; do sleep 1; done' &\n\
         sh -c 'trap \"\" TERM; echo $$ > {dir}/near; while :; do sleep 1; done' &\necho ready\nwhile :; do sleep 1; done\n"
    )
}

async fn cut(rig: &Rig, ctx: &TaskContext, reason: StopReason) -> powerjob_worker::ProcessResult {
    let (processor, task) = (rig.processor(Switch::Shell), ctx.clone());
    let run = tokio::spawn(async move { processor.process(task).await });
    rig.logged(ctx, "stdout ready").await;
    let pids = [pid_in(&rig.place.dir.path().join("far")).await, pid_in(&rig.place.dir.path().join("near")).await];
    assert!(pids.into_iter().all(alive));
    ctx.stop.raise(reason);
    let result = tokio::time::timeout(PATIENCE, run).await.expect("it ends").expect("no panic");
    for pid in pids {
        assert!(!alive(pid), "{pid} survived: {}", rig.log(ctx));
    }
    result
}

#[tokio::test]
async fn a_stop_kills_the_script_and_all_its_children_and_is_no_success() {
    let rig = Rig::new();
    let ctx = rig.task(31, &stubborn(&rig));
    let result = cut(&rig, &ctx, StopReason::Stopped).await;
    assert!(!result.success && !result.retryable && result.message.contains("stopped by the server"), "{result:?}");
    assert_eq!(rig.left(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn the_time_limit_kills_everything_and_the_run_failed() {
    let rig = Rig::new();
    let ctx = rig.task(32, &stubborn(&rig));
    let result = cut(&rig, &ctx, StopReason::TimedOut).await;
    assert!(!result.success && result.message.contains("time limit"), "{result:?}");
    assert!(result.message.contains("[INPUT]: ready\n"), "{result:?}");
}

#[tokio::test]
async fn a_script_that_ends_well_when_it_is_told_to_end_is_no_success_all_the_same() {
    let rig = Rig::new();
    let ctx = rig.task(33, "trap 'echo bye; exit 0' TERM\necho ready\nwhile :; do sleep 0.05; done");
    let (processor, task) = (rig.processor(Switch::Shell), ctx.clone());
    let run = tokio::spawn(async move { processor.process(task).await });
    rig.logged(&ctx, "stdout ready").await;
    ctx.stop.raise(StopReason::TimedOut);
    let result = tokio::time::timeout(PATIENCE, run).await.expect("it ends").expect("no panic");
    assert!(
        !result.success && result.message.contains("exit code 0") && result.message.contains("bye\n"),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_restarted_agent_takes_a_script_up_without_a_hole_or_a_double_in_the_log() {
    let rig = Rig::new();
    let go = rig.place.dir.path().join("go");
    let script = format!("echo first\nwhile [ ! -e {} ]; do sleep 0.02; done\necho second\nexit 4", go.display());
    let mut ctx = rig.task(34, &script);
    let (processor, task) = (rig.processor(Switch::Shell), ctx.clone());
    let run = tokio::spawn(async move { processor.process(task).await });
    rig.logged(&ctx, "stdout first").await;
    run.abort();
    assert!(run.await.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::write(&go, "").expect("written");
    ctx.resumed = true;
    let result = rig.run(Switch::Shell, &ctx).await;
    assert_eq!(result.message, "exit code 4; [INPUT]: first\nsecond\n;[ERROR]: ");
    let log = rig.log(&ctx);
    assert_eq!((log.matches("stdout first").count(), log.matches("stdout second").count()), (1, 1), "{log}");
    assert_eq!(rig.left(), Vec::<std::path::PathBuf>::new());
    // Cut once more behind the very end: nothing runs twice.
    let result = rig.run(Switch::Shell, &ctx).await;
    assert!(!result.success && !result.retryable && result.message.contains("not run again"), "{result:?}");
}

#[tokio::test]
async fn tasks_of_one_instance_run_side_by_side() {
    let rig = Rig::new();
    let dir = rig.place.dir.path().display();
    let mut tasks = Vec::new();
    for id in ["1", "2"] {
        // Each waits for the other.
        let other = if id == "1" { "2" } else { "1" };
        let mut ctx =
            rig.task(35, &format!("touch {dir}/{id}; while [ ! -e {dir}/{other} ]; do sleep 0.02; done; echo {id}"));
        ctx.task = powerjob_worker::Task::new(id, "OMS_BROADCAST_TASK");
        tasks.push(ctx);
    }
    let (one, two) = tokio::join!(rig.run(Switch::Shell, &tasks[0]), rig.run(Switch::Shell, &tasks[1]));
    assert_eq!((one.message.as_str(), two.message.as_str()), ("[INPUT]: 1\n;[ERROR]: ", "[INPUT]: 2\n;[ERROR]: "));
}
