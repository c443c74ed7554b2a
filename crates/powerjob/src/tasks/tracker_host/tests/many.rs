//! Very many tasks.

use super::*;

/// Memory of this process, MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) / 1024
}

/// A MAP_REDUCE over two workers; of 20,000 tasks, with `TESTRIG_LONG` of a million, or of `TESTRIG_TASKS`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_empty_tasks_need_little_time_and_memory() {
    let usual = if std::env::var_os("TESTRIG_LONG").is_some() { 1_000_000 } else { 20_000 };
    let tasks: usize = std::env::var("TESTRIG_TASKS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let dir = tempfile::tempdir().expect("a directory");
    let rig = Rig::open(dir.path(), RestartPolicy::Fail, false, move |task, _| match task.task_name.as_str() {
        ROOT_TASK => Some((tasks, true, String::new())),
        LAST_TASK => ok("reduced"),
        _ => ok(""),
    });
    let before = resident();
    let (stop, sampled) = (StopSignal::new(), Arc::new(AtomicI64::new(0)));
    let (stopped, most) = (stop.clone(), sampled.clone());
    let sampler = tokio::spawn(async move {
        while stopped.reason().is_none() {
            most.fetch_max(i64::try_from(resident()).expect("small"), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let since = Instant::now();
    let run = rig.host.run(rig.start(&job("MAP_REDUCE", "API", ""), false));
    let end = tokio::time::timeout(Duration::from_secs(1_200), run).await.expect("it ends");
    let took = since.elapsed();
    stop.raise(crate::StopReason::Stopped);
    sampler.await.expect("no panic");
    let all = i64::try_from(tasks).expect("small") + 2;
    assert_eq!((end.result.message.as_str(), end.progress.total, end.progress.succeeded), ("reduced", all, all));
    assert_eq!(rig.acted.results.load(Ordering::Relaxed), tasks + 1, "reduce saw the root and every sub-task");
    let grown = sampled.load(Ordering::Relaxed) - i64::try_from(before).expect("small");
    println!("{tasks} tasks in {took:?}, {:.0} a second; {grown} MiB more", tasks as f64 / took.as_secs_f64());
    assert!(grown < 100, "{grown} MiB more than before");
}
