//! What the host does to a run: full disks, a lost engine, services that cannot be started.

use std::{path::Path, process::Command};

use serde_json::json;

use super::row::{ANY, Row, play};
use crate::rig::skipped;

/// Mounts a small file system where the logs go; gone with the test's directory.
fn tmpfs(at: &Path, options: &str) -> bool {
    std::fs::create_dir_all(at).expect("it works here");
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output();
    mount.is_ok_and(|done| done.status.success())
}

/// The mount goes with the row, even where it fails.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn on_a_small_disk(row: Row, options: &'static str) -> Row {
    row.params(move |rig, _, _| assert!(tmpfs(&rig.place.dir.path().join("logs"), options))).when_over(|rig| {
        drop(Mounted(rig.place.dir.path().join("logs")));
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_is_told_wherever_it_shows() {
    let probe = tempfile::tempdir().expect("it works here");
    if !tmpfs(probe.path(), "size=64k") {
        skipped(
            "taxonomy::host::a_disk_without_room_is_told_wherever_it_shows",
            "no tmpfs can be mounted here, which needs root",
        );
        return;
    }
    drop(Mounted(probe.path().to_owned()));
    let full = "/failure/evidence/disk/full";
    play(
        8600,
        vec![
            on_a_small_disk(Row::new("records under load", "disk_full", "load"), "size=256k")
                .run("concurrency", json!(16))
                .says("No space left on device"),
            on_a_small_disk(Row::new("a service that cannot write its log", "disk_full", "health"), "size=1m")
                .params(|rig, job, _| {
                    let log = rig.place.dir.path().join("logs/fill");
                    let script = format!("cat /dev/zero > {}; exit 4", log.display());
                    job["service.command"] = json!(["sh", "-c", script]);
                })
                .proof(full, json!(true))
                .proof("/failure/evidence/exit/code", json!(4))
                .says("the disk of the log directory has"),
            on_a_small_disk(Row::new("no inode for the log directory", "disk_full", "plan"), "size=1m,nr_inodes=3")
                .says("No space left on device"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_or_asked_is_told_by_what_is_missing() {
    play(
        8650,
        vec![
            Row::new("no such program", "not_started", "start")
                .job("service.command", json!(["/no/such/program"]))
                .says("/no/such/program"),
            Row::new("a file that is no program", "not_started", "start")
                .job("service.command", json!(["/etc/passwd"]))
                .says("/etc/passwd"),
            Row::new("a port that is taken", "not_started", "create")
                .params(|rig, _, run| {
                    // Held until the test program ends.
                    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("it works here");
                    run["servicePort"] = json!(held.local_addr().expect("it works here").port());
                    assert_ne!(rig.port, held.local_addr().expect("it works here").port());
                    std::mem::forget(held);
                })
                .says("is in use on this host already"),
            Row::new("a set-up script that fails", "not_started", "create")
                .params(|rig, job, _| {
                    let script = rig.place.dir.path().join("setup.sh");
                    std::fs::write(&script, "#!/bin/sh\necho no model there\nexit 3\n").expect("it works here");
                    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                        .expect("it works here");
                    job["env.setupScript"] = json!(script);
                })
                .says("no model there"),
            Row::new("less room than the agent's floor", "disk_full", "plan")
                .host(|_, env| env.disk.floor_bytes = u64::MAX)
                .says("disk.floor_bytes"),
            Row::new("a service that fills its directory", "disk_full", ANY)
                .host(|_, env| env.disk.run_max_bytes = Some(1 << 20))
                .service("yes chatter | head -c 3000000; sleep 600")
                .says("disk.run_max_bytes"),
            Row::new("no container engine", "engine_lost", "pull")
                .job("monitor", json!({"trackMode": "CONTAINER"}))
                .job("service.command", json!(null))
                .run("image", json!("busybox:1"))
                .says("no-engine.sock"),
            Row::new("a shim that is killed with its service", "unknown", "load")
                .when("stage load: begins", |scene| {
                    scene.kill_with_shim();
                    Box::pin(std::future::ready(()))
                })
                .proof("/failure/evidence/exit/unseen", json!("shim_killed"))
                .says("its shim was killed"),
        ],
    )
    .await;
}
