//! Against a real S3 server (MinIO), where S3_ENDPOINT names one.

use std::{io::Write, path::PathBuf};

use powerjob_worker::{Processor, StopReason};
use serde_json::{Value, json};

use super::*;
use crate::{Environment, ObjectStore, collect_logs::CollectLogs, task_rig::Rig};

/// The server's store, or nothing; then the test says that it is skipped.
fn store(test: &str) -> Option<ObjectStore> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let found = (|| Some((var("S3_ENDPOINT")?, var("S3_ACCESS_KEY")?, var("S3_SECRET_KEY")?)))();
    let Some((endpoint, access_key, secret_key)) = found else {
        println!("skipped {test}: no S3 server (S3_ENDPOINT)");
        if let Some(file) = var("TESTRIG_SKIPS_FILE") {
            let line = json!({ "name": test, "reason": "no S3 server (S3_ENDPOINT)" });
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).expect("the file of skips");
            writeln!(file, "{line}").expect("written");
        }
        return None;
    };
    Some(ObjectStore { endpoint: Some(endpoint), region: None, buckets: vec![], access_key, secret_key })
}

/// A rig with a run directory, an environment with the store, and a new bucket.
struct Bench {
    rig: Rig,
    env: Environment,
    bucket: Bucket,
    client: Client,
}

impl Bench {
    async fn new(test: &str) -> Option<Self> {
        let mut store = store(test)?;
        let rig = Rig::new();
        let mut env = rig.environment();
        let name = format!(
            "unit-{}-{}",
            test.chars().take(20).collect::<String>().replace('_', "-"),
            uuid::Uuid::new_v4().simple()
        );
        let name: String = name.chars().take(60).collect();
        store.buckets = vec![name.clone()];
        env.object_stores.insert("main".into(), store.clone());
        let bucket = Bucket { scheme: "s3".into(), name, prefix: String::new(), key: "main".into(), store };
        let client = client(&bucket);
        client.create_bucket().bucket(&bucket.name).send().await.expect("bucket");
        Some(Self { rig, env, bucket, client })
    }

    /// A run directory with this many bytes that no compressor makes smaller.
    fn run_dir(&self, bytes: usize) -> PathBuf {
        let dir = self.rig.dir.path().join("logs/dev/20251123/run-a");
        std::fs::create_dir_all(&dir).expect("dir");
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = Vec::with_capacity(bytes);
        while noise.len() < bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend_from_slice(&state.to_le_bytes());
        }
        std::fs::write(dir.join("svc.log"), noise).expect("written");
        dir
    }

    fn job(&self, target: &str) -> Value {
        json!({"jobType": "COLLECT_LOGS", "logBaseDir": self.rig.dir.path().join("logs"), "uploadBase": target})
    }

    async fn collect(&self, job: &Value) -> (ProcessResult, powerjob_worker::TaskContext) {
        let ctx = self.rig.task(7, job, &params());
        let result = CollectLogs::new(Arc::new(self.env.clone())).process(ctx.clone()).await;
        (result, ctx)
    }

    /// Keys with sizes and ETags.
    async fn objects(&self) -> Vec<(String, i64, String)> {
        let page = self.client.list_objects_v2().bucket(&self.bucket.name).send().await.expect("listed");
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        page.contents().iter().map(|o| (text(o.key()), o.size().unwrap_or(0), text(o.e_tag()))).collect()
    }

    async fn unfinished(&self, key: &str) -> usize {
        self.client
            .list_multipart_uploads()
            .bucket(&self.bucket.name)
            .prefix(key)
            .send()
            .await
            .expect("listed")
            .uploads()
            .len()
    }
}

fn params() -> Value {
    json!({"platformTaskId": "T1", "upstreamInstanceId": 42, "env": "dev", "date": 20_251_123, "logDirSuffix": "run-a"})
}

const KEY: &str = "llm/dev/20251123/logs-dev-20251123-T1.tar.gz";

#[tokio::test]
async fn small_archives_are_one_object_and_large_ones_come_in_parts_with_the_same_hash() {
    let Some(bench) = Bench::new("small_archives_are_one_object_and_large_ones_come_in_parts_with_the_same_hash").await
    else {
        return;
    };
    bench.run_dir(1000);
    let job = bench.job(&format!("minio://{}/llm", bench.bucket.name));
    let (result, ctx) = bench.collect(&job).await;
    assert!(result.success, "{}", result.message);
    let objects = bench.objects().await;
    assert!(objects.len() == 1 && objects[0].0 == KEY && !objects[0].2.contains('-'), "{objects:?}");
    assert_eq!(ctx.workflow.appended()["archiveUrl"], format!("minio://{}/{KEY}", bench.bucket.name));

    // Three parts and some more, under the same name: replaced as a whole.
    bench.run_dir(18 << 20);
    let (result, ctx) = bench.collect(&job).await;
    assert!(result.success, "{}", result.message);
    let objects = bench.objects().await;
    assert!(
        objects.len() == 1 && objects[0].2.trim_matches('"').ends_with("-4") && objects[0].1 > 18 << 20,
        "{objects:?}"
    );
    let body = bench.client.get_object().bucket(&bench.bucket.name).key(KEY).send().await.expect("object").body;
    let bytes = body.collect().await.expect("read").into_bytes();
    use sha2::Digest;
    assert_eq!(hex::encode(sha2::Sha256::digest(&bytes)), ctx.workflow.appended()["archiveSha256"]);
    assert_eq!(bench.unfinished(KEY).await, 0);
}

#[tokio::test]
async fn a_stop_takes_the_unfinished_upload_back_and_a_rerun_that_of_a_killed_agent() {
    let Some(bench) = Bench::new("a_stop_takes_the_unfinished_upload_back_and_a_rerun_that_of_a_killed_agent").await
    else {
        return;
    };
    bench.run_dir(40 << 20);
    let job = bench.job(&format!("s3://{}/llm", bench.bucket.name));
    let ctx = bench.rig.task(7, &job, &params());
    let collect = CollectLogs::new(Arc::new(bench.env.clone()));
    let stop_inside = async {
        while bench.unfinished(KEY).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ctx.stop.raise(StopReason::Stopped);
    };
    let (result, ()) = tokio::join!(collect.process(ctx.clone()), stop_inside);
    assert!(!result.success && result.message.contains("stopped"), "{}", result.message);
    assert_eq!((bench.unfinished(KEY).await, bench.objects().await.len()), (0, 0));

    // What a killed agent leaves.
    bench.client.create_multipart_upload().bucket(&bench.bucket.name).key(KEY).send().await.expect("begun");
    assert_eq!(bench.unfinished(KEY).await, 1);
    bench.run_dir(100);
    let (result, _) = bench.collect(&job).await;
    assert!(result.success, "{}", result.message);
    assert_eq!((bench.unfinished(KEY).await, bench.objects().await.len()), (0, 1));
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_told_apart() {
    let Some(mut bench) = Bench::new("what_is_wrong_with_a_store_is_told_apart").await else { return };
    for bytes in [100, 9 << 20] {
        bench.run_dir(bytes);
        let (result, _) = bench.collect(&bench.job("s3://no-such-bucket-here/x")).await;
        for wanted in [
            "the bucket `no-such-bucket-here` does not exist",
            "[object_stores.main]",
            bench.bucket.store.endpoint.as_deref().expect("endpoint"),
        ] {
            assert!(
                !result.success && result.message.contains(wanted),
                "{bytes}: {wanted} is missing in: {}",
                result.message
            );
        }
    }
    bench.run_dir(100);
    let job = bench.job(&format!("s3://{}/x", bench.bucket.name));
    let change = |env: &mut Environment, change: &dyn Fn(&mut ObjectStore)| {
        change(env.object_stores.get_mut("main").expect("there"));
    };
    change(&mut bench.env, &|store| store.secret_key = "wrong-secret".into());
    let (result, _) = bench.collect(&job).await;
    assert!(
        !result.success && result.message.contains("access denied") && result.message.contains("credentials_file"),
        "{}",
        result.message
    );
    assert!(!result.message.contains("wrong-secret"), "{}", result.message);
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_named_with_its_key() {
    let rig = Rig::new();
    let mut env = rig.environment();
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bound").local_addr().expect("address").port();
    let endpoint = Some(format!("http://127.0.0.1:{port}"));
    env.object_stores.insert(
        "cold".into(),
        ObjectStore {
            endpoint: endpoint.clone(),
            region: None,
            buckets: vec![],
            access_key: "a".into(),
            secret_key: "s".into(),
        },
    );
    let dir = rig.dir.path().join("logs/dev/20251123/run-a");
    std::fs::create_dir_all(&dir).expect("dir");
    std::fs::write(dir.join("a.log"), "a").expect("written");
    let job =
        json!({"jobType": "COLLECT_LOGS", "logBaseDir": rig.dir.path().join("logs"), "uploadBase": "s3://bucket/x"});
    let result = CollectLogs::new(Arc::new(env)).process(rig.task(7, &job, &params())).await;
    for wanted in [
        endpoint.as_deref().expect("endpoint"),
        "cannot be reached",
        "[object_stores.cold]",
        "s3://bucket/x/dev/20251123/",
    ] {
        assert!(
            !result.success && result.retryable && result.message.contains(wanted),
            "{wanted} is missing in: {}",
            result.message
        );
    }
}

#[tokio::test]
async fn old_archives_in_a_bucket_go_and_everything_else_stays() {
    let Some(bench) = Bench::new("old_archives_in_a_bucket_go_and_everything_else_stays").await else { return };
    let put = async |key: &str| {
        bench
            .client
            .put_object()
            .bucket(&bench.bucket.name)
            .key(key)
            .body(ByteStream::from_static(b"x"))
            .send()
            .await
            .expect("put");
    };
    for key in [
        "llm/dev/20200101/logs-dev-20200101-T0.tar.gz",
        "llm/dev/20200101/notes.txt",
        "llm/prod/20200101/logs-prod-20200101-T0.tar.gz",
    ] {
        put(key).await;
    }
    // The server's clock cannot be set back, so what is oldest is said in place of how long things are kept.
    let plan_env = &bench.env;
    let job = bench.job(&format!("s3://{}/llm", bench.bucket.name));
    let mut job_with = job.clone();
    job_with["retentionDays"] = json!(30);
    bench.run_dir(10);
    let ctx = bench.rig.task(7, &job_with, &params());
    let (plan, _) = crate::collect_logs::plan::plan(&crate::input_of(&ctx), plan_env).expect("a plan");
    let future = std::time::SystemTime::now() + Duration::from_secs(3600);
    let (removed, warnings) = crate::collect_logs::retention::at_target(&plan, future).await;
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(removed, [format!("s3://{}/llm/dev/20200101/logs-dev-20200101-T0.tar.gz", bench.bucket.name)]);
    let left: Vec<_> = bench.objects().await.into_iter().map(|(key, ..)| key).collect();
    assert_eq!(left, ["llm/dev/20200101/notes.txt", "llm/prod/20200101/logs-prod-20200101-T0.tar.gz"]);
    let (result, _) = bench.collect(&job_with).await;
    assert!(result.success && bench.objects().await.len() == 3, "nothing is old enough: {}", result.message);
}
