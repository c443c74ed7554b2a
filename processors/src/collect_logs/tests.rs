//! CollectLogs as a whole, on mounted directories.

#![expect(
    clippy::needless_pass_by_value,
    reason = "json! makes values, and a test reads better without borrowing each"
)]

use std::path::{Path, PathBuf};

use powerjob_worker::{Processor, StopReason};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testrig_store::rusqlite::Connection;

use super::*;
use crate::task_rig::{Receiver, Rig};

fn run_dir(rig: &Rig) -> PathBuf {
    let dir = rig.dir.path().join("logs/dev/20251123/task-T1-42");
    std::fs::create_dir_all(&dir).expect("dir");
    std::fs::write(dir.join("metrics-chat.log"), "{}\n").expect("written");
    std::fs::write(dir.join("trace.tmp"), "no").expect("written");
    dir
}

fn job(rig: &Rig, more: Value) -> Value {
    let mut job = json!({
        "jobType": "COLLECT_LOGS", "logBaseDir": rig.dir.path().join("logs"), "uploadBase": rig.dir.path().join("archive"),
    });
    job.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    job
}

fn context() -> Value {
    json!({"platformTaskId": "T1", "env": "dev", "date": "20251123", "logDirSuffix": "task-T1-42", "upstreamInstanceId": "42",
           "modelKey": "org/m", "relatedInstances": "[\"42\"]"})
}

fn files_below(dir: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() { open.push(entry.path()) } else { out.push(entry.path().display().to_string()) }
        }
    }
    out.sort();
    out
}

#[tokio::test]
async fn in_a_workflow_everything_is_found_and_the_archive_is_a_plain_path_for_the_next_node() {
    let rig = Rig::new();
    run_dir(&rig);
    let params = job(
        &rig,
        json!({"skipPatterns": ["*.tmp"], "archiveTable": "archives", "resultDbKey": "default", "archiveTempDir": "/tmp"}),
    );
    let ctx = rig.node(7, &params, &context());
    let processor = CollectLogs::new(Arc::new(rig.environment()));
    let result = processor.process(ctx.clone()).await;
    assert!(result.success, "{}", result.message);
    let told = ctx.workflow.appended();
    let archive = PathBuf::from(&told["archiveUrl"]);
    assert_eq!(
        archive,
        rig.dir.path().canonicalize().expect("dir").join("archive/dev/20251123/logs-dev-20251123-T1.tar.gz")
    );
    let bytes = std::fs::read(&archive).expect("archive");
    assert_eq!(told["archiveSha256"], hex::encode(Sha256::digest(&bytes)));
    assert_eq!((told["collectStatus"].as_str(), told["relatedInstances"].as_str()), ("SUCCEED", r#"["42","7"]"#));
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
    let names: Vec<_> =
        tar.entries().expect("tar").map(|e| e.expect("entry").path().expect("path").display().to_string()).collect();
    assert_eq!(names, ["task-T1-42", "task-T1-42/metrics-chat.log"]);
    assert!(rig.log(&ctx).contains("archiveTempDir is not needed"), "{}", rig.log(&ctx));
    let row = |rig: &Rig| -> (i64, String) {
        let conn = Connection::open(rig.database()).expect("database");
        conn.query_row("SELECT count(*), archive_url FROM archives", [], |r| Ok((r.get(0)?, r.get(1)?))).expect("row")
    };
    assert_eq!(row(&rig), (1, told["archiveUrl"].clone()));

    // Again, as after a crash that left half a file: the archive and the row are replaced, nothing is left over.
    std::fs::write(archive.with_file_name(".logs-dev-20251123-T1.tar.gz.7.part"), "half").expect("written");
    std::fs::write(&archive, "old").expect("written");
    let result = processor.process(rig.node(7, &params, &context())).await;
    assert!(result.success, "{}", result.message);
    assert_eq!(std::fs::read(&archive).expect("archive"), bytes);
    assert_eq!(files_below(&rig.dir.path().join("archive")).len(), 1);
    assert_eq!(row(&rig).0, 1);
}

#[tokio::test]
async fn a_missing_directory_and_that_of_another_run_fail_with_what_to_check() {
    let rig = Rig::new();
    let processor = CollectLogs::new(Arc::new(rig.environment()));
    let ctx = rig.node(7, &job(&rig, json!({})), &context());
    let result = processor.process(ctx.clone()).await;
    assert!(
        !result.success
            && result.message.contains("logs/dev/20251123/task-T1-42")
            && result.message.contains("logBaseDir"),
        "{}",
        result.message
    );
    assert_eq!(ctx.workflow.appended()["collectStatus"], "FAILED");
    assert!(!ctx.workflow.appended().contains_key("archiveUrl"));

    let dir = run_dir(&rig);
    std::fs::write(dir.join("result.json"), r#"{"instanceId":"43"}"#).expect("written");
    let result = processor.process(rig.node(7, &job(&rig, json!({})), &context())).await;
    assert!(!result.success && result.message.contains("instance 43"), "{}", result.message);
    // The one that was set aside under its instance is the right one.
    let aside = dir.with_file_name("task-T1-42.42");
    std::fs::create_dir(&aside).expect("dir");
    std::fs::write(aside.join("mine.log"), "mine").expect("written");
    let ctx = rig.node(7, &job(&rig, json!({})), &context());
    let result = processor.process(ctx.clone()).await;
    assert!(result.success && rig.log(&ctx).contains("set aside"), "{}", result.message);
}

#[tokio::test]
async fn the_directory_that_the_run_left_is_used_where_no_base_is_given() {
    let rig = Rig::new();
    let dir = run_dir(&rig);
    let mut context = context();
    context["logDir"] = json!(dir);
    let mut params = job(&rig, json!({"archiveNamePattern": "{modelKey}-{upstreamInstanceId}.tgz"}));
    params.as_object_mut().expect("object").remove("logBaseDir");
    let ctx = rig.node(7, &params, &context);
    let result = CollectLogs::new(Arc::new(rig.environment())).process(ctx.clone()).await;
    assert!(result.success && ctx.workflow.appended()["archiveUrl"].ends_with("/org_m-42.tgz"), "{}", result.message);
}

#[tokio::test]
async fn wrong_parameters_are_all_named_and_nothing_is_written() {
    let rig = Rig::new();
    run_dir(&rig);
    let env = Arc::new(rig.environment());
    for (more, instance, wanted) in [
        (json!({"uploadBase": "scp://u@h/x"}), json!({}), vec!["jobParams.uploadBase", "scp", "not served yet"]),
        (json!({"uploaderType": "scp"}), json!({}), vec!["uploaderType", "scp is not served yet"]),
        (json!({"uploadBase": "/etc/x"}), json!({}), vec!["[paths] allowed_roots"]),
        (json!({"archiveNamePattern": "a.tar.zst"}), json!({}), vec!["archiveNamePattern", "zstd"]),
        (json!({"archiveNamePattern": "../a.tar.gz"}), json!({}), vec!["archiveNamePattern", "without a directory"]),
        (
            json!({"archiveTable": "x;y", "resultDbKey": "defalt"}),
            json!({}),
            vec!["archiveTable", "resultDbKey", "did you mean \"default\""],
        ),
        (json!({"archiveTable": "x"}), json!({}), vec!["resultDbKey", "is missing"]),
        (
            json!({}),
            json!({"extraFiles": ["/etc/passwd"]}),
            vec!["instanceParams.extraFiles[0]", "[paths] allowed_roots"],
        ),
        (json!({}), json!({"skipPatterns": ["[a"]}), vec!["skipPatterns[0]", "no glob"]),
        (json!({}), json!({"notifyArchiveToPlatform": true}), vec!["platformCallbackUrl", "is missing"]),
        (json!({}), json!({"date": "2025-11-23"}), vec!["instanceParams.date", "yyyyMMdd"]),
        (
            json!({"objectStoreKey": "x", "uploadBase": "s3://b/p"}),
            json!({}),
            vec!["uploadBase", "objectStoreKey", "none; add [object_stores"],
        ),
        (json!({"retentionDays": 0}), json!({}), vec!["retentionDays", "from 1"]),
    ] {
        let mut params = context();
        params.as_object_mut().expect("object").extend(instance.as_object().expect("object").clone());
        let result = CollectLogs::new(Arc::clone(&env)).process(rig.task(7, &job(&rig, more.clone()), &params)).await;
        assert!(!result.success && !result.retryable, "{more} {instance}: {}", result.message);
        for text in wanted {
            assert!(result.message.contains(text), "{text} is missing in: {}", result.message);
        }
    }
    assert!(!rig.dir.path().join("archive").exists());
}

#[tokio::test]
async fn the_platform_is_called_and_its_silence_is_a_warning_and_no_failure() {
    let rig = Rig::new();
    run_dir(&rig);
    let receiver = Receiver::answering(&[(200, "ok"), (400, "no such task")]).await;
    let mut params = context();
    params["notifyArchiveToPlatform"] = json!(true);
    params["platformCallbackUrl"] = json!(receiver.url("callback?token=s3cret"));
    let processor = CollectLogs::new(Arc::new(rig.environment()));
    let ctx = rig.task(7, &job(&rig, json!({})), &params);
    let result = processor.process(ctx.clone()).await;
    assert!(result.success, "{}", result.message);
    let body = receiver.got()[0].body.clone();
    for (key, wanted) in [
        ("platformTaskId", json!("T1")),
        ("upstreamInstanceId", json!("42")),
        ("status", json!("SUCCEED")),
        ("fileCount", json!(2)),
    ] {
        assert_eq!(body[key], wanted, "{body}");
    }
    assert!(
        body["archiveUrl"].as_str().is_some_and(|url| Path::new(url).is_file())
            && body["sizeBytes"].is_u64()
            && body["sha256"].is_string(),
        "{body}"
    );
    assert!(!rig.log(&ctx).contains("s3cret"), "{}", rig.log(&ctx));
    let result = processor.process(rig.task(7, &job(&rig, json!({})), &params)).await;
    assert!(
        result.success && result.message.contains("no such task") && !result.message.contains("s3cret"),
        "{}",
        result.message
    );
}

#[tokio::test]
async fn a_stop_ends_it_at_once_and_leaves_nothing_half() {
    let rig = Rig::new();
    run_dir(&rig);
    let ctx = rig.node(7, &job(&rig, json!({})), &context());
    ctx.stop.raise(StopReason::TimedOut);
    let result = CollectLogs::new(Arc::new(rig.environment())).process(ctx).await;
    assert_eq!(files_below(&rig.dir.path().join("archive")), Vec::<String>::new());
    assert!(!result.success && result.message.contains("time limit"), "{}", result.message);
}

#[tokio::test]
async fn a_target_inside_of_the_logs_or_without_rights_is_refused() {
    let rig = Rig::new();
    let dir = run_dir(&rig);
    let processor = CollectLogs::new(Arc::new(rig.environment()));
    let mut params = context();
    params["uploadTarget"] = json!(dir.join("archive"));
    let result = processor.process(rig.task(7, &job(&rig, json!({})), &params)).await;
    assert!(!result.success && result.message.contains("inside the log directory"), "{}", result.message);
    std::fs::write(rig.dir.path().join("file"), "").expect("written");
    params["uploadTarget"] = json!(rig.dir.path().join("file/x"));
    let result = processor.process(rig.task(7, &job(&rig, json!({})), &params)).await;
    assert!(!result.success && result.message.contains("file/x"), "{}", result.message);
}

#[tokio::test]
async fn old_archives_of_the_job_go_when_a_new_one_is_there() {
    let rig = Rig::new();
    run_dir(&rig);
    let old = rig.dir.path().join("archive/dev/20250101");
    std::fs::create_dir_all(&old).expect("dir");
    for name in ["logs-dev-20250101-T0.tar.gz", "precious.tar.gz"] {
        std::fs::write(old.join(name), "x").expect("written");
        let file = std::fs::File::options().write(true).open(old.join(name)).expect("open");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set");
    }
    let ctx = rig.node(7, &job(&rig, json!({"retentionDays": 30})), &context());
    let result = CollectLogs::new(Arc::new(rig.environment())).process(ctx.clone()).await;
    assert!(result.success && rig.log(&ctx).contains("retentionDays 30"), "{}", result.message);
    let left = files_below(&rig.dir.path().join("archive"));
    assert!(
        left.len() == 2 && left[0].ends_with("precious.tar.gz") && left[1].ends_with("logs-dev-20251123-T1.tar.gz"),
        "{left:?}"
    );
}

#[test]
fn nonsense_in_any_parameter_is_a_problem_with_its_path_or_a_good_plan_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let env = crate::testing::environment(dir.path());
    std::fs::create_dir_all(dir.path().join("target")).expect("dir");
    let job = json!({"jobType": "COLLECT_LOGS", "logBaseDir": dir.path(), "uploadBase": dir.path().join("target")});
    let run = json!({"platformTaskId": "T1", "upstreamInstanceId": 42, "env": "dev", "date": "20251123", "logDirSuffix": "task-T1"});
    crate::testing::try_nonsense(&super::TABLE, &job, &run, |job, run| {
        let (job, run) = (job.to_string(), run.to_string());
        let input = crate::params::Input { job_params: Some(&job), instance_params: Some(&run), ..Default::default() };
        super::plan::plan(&input, &env).map(drop).map_err(|problems| problems.to_string())
    });
}
