//! An agent that is killed, and what the next one finds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testrig_host::Signal;
use testrig_host::process::{ProcessRunner, ShimCommand};

use crate::rig::{LONG, Rig, SHIM, agent, boundary, is_alive, shim_pid, skipped, until};

#[tokio::test]
async fn a_program_outlives_its_killed_agent_and_is_adopted_with_all_of_its_output_and_its_exit_code() {
    let (rig, id) = (Rig::new(), boundary());
    let go = rig.path("go");
    let script = format!("echo one; until [ -e {} ]; do sleep 0.05; done; echo two; exit 9", go.display());
    let mut agent = agent(&rig, &id, &script);
    until("first line", || rig.output() == "one\n").await;
    agent.kill().expect("ours");
    agent.wait().expect("ours");

    let handle = rig.runner.adopt(&id).await.expect("readable").expect("it was started");
    assert!(is_alive(handle.pid().expect("known")));
    assert!(handle.exit().expect("readable").is_none());
    fs::write(&go, "").expect("writable");
    assert_eq!(handle.wait().await.expect("readable").code, Some(9));
    assert_eq!(rig.output(), "one\ntwo\n");
}

#[tokio::test]
async fn an_end_that_nobody_was_there_to_see_is_known_all_the_same() {
    let (rig, id) = (Rig::new(), boundary());
    let mut agent = agent(&rig, &id, "echo one; sleep 0.3; echo two; exit 9");
    until("first line", || rig.output().starts_with("one")).await;
    let shim = shim_pid(&rig, &id);
    agent.kill().expect("ours");
    agent.wait().expect("ours");
    until("the shim is gone", || !is_alive(shim)).await;

    let handle = rig.runner.adopt(&id).await.expect("readable").expect("it was started");
    assert_eq!(handle.exit().expect("readable").expect("ended").code, Some(9));
    assert_eq!(rig.output(), "one\ntwo\n");
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_of_the_start_leaves_one_running_program_or_none() {
    let rig = Rig::new();
    let mut outcomes = [0, 0];
    for round in 0..24 {
        let id = boundary();
        let mark = rig.path(&format!("ran-{round}"));
        let mut agent = agent(&rig, &id, &format!("echo x >> {}; exec sleep 60", mark.display()));
        // The start lasts a few milliseconds: spread the kills over it.
        std::thread::sleep(Duration::from_micros(round * 400));
        agent.kill().expect("ours");
        agent.wait().expect("ours");
        let adopted = rig.runner.adopt(&id).await.expect("readable");
        outcomes[usize::from(adopted.is_some())] += 1;
        match adopted {
            Some(handle) => {
                until("it ran", || mark.exists()).await;
                handle.stop(Signal::KILL, Duration::ZERO).await.expect("emptied");
                handle.forget().await.expect("empty");
                assert_eq!(fs::read_to_string(&mark).expect("there"), "x\n");
            }
            None => {
                // A shim that came too late must find its permission withdrawn.
                tokio::time::sleep(Duration::from_millis(30)).await;
                assert!(!mark.exists(), "round {round}: started after it was said that nothing was");
                assert!(!rig.state(&id).exists());
            }
        }
    }
    println!("nothing started: {}, adopted: {}", outcomes[0], outcomes[1]);
}

#[tokio::test]
async fn a_shim_that_comes_after_the_verdict_starts_nothing() {
    let (rig, id) = (Rig::new(), boundary());
    let spec = rig.shell(&id, "echo started");
    fs::create_dir(rig.state(&id)).expect("directory");
    fs::write(rig.state(&id).join("spec.json"), serde_json::to_vec(&spec).expect("JSON")).expect("writable");
    assert!(rig.runner.adopt(&id).await.expect("readable").is_none());
    let status = Command::new(SHIM).arg("__shim").arg(rig.state(&id).join("spec.json")).status().expect("shim");
    assert!(status.success());
    assert_eq!(rig.output(), "");
    assert!(rig.runner.adopt(&id).await.expect("readable").is_none());
}

#[tokio::test]
async fn a_second_shim_for_the_same_spec_starts_nothing() {
    let (rig, id) = (Rig::new(), boundary());
    let handle = rig.run(&id, "echo started; exit 4").await;
    handle.wait().await.expect("readable");
    until("the shim is gone", || !is_alive(shim_pid(&rig, &id))).await;
    let status = Command::new(SHIM).arg("__shim").arg(rig.state(&id).join("spec.json")).status().expect("shim");
    assert!(status.success());
    assert_eq!(handle.wait().await.expect("readable").code, Some(4));
    assert_eq!(rig.output(), "started\n");
}

#[tokio::test]
async fn an_end_on_a_full_disk_is_written_down_as_soon_as_there_is_room() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let Some(_mount) = Mount::small(dir.path()) else {
        skipped("an_end_on_a_full_disk_is_written_down_as_soon_as_there_is_room", "a tmpfs cannot be mounted here");
        return;
    };
    let runner = ProcessRunner::new(dir.path().join("state"), ShimCommand::of(SHIM)).expect("state directory");
    let (rig, id) = (Rig::new(), boundary());
    let go = rig.path("go");
    let handle = runner
        .spawn(rig.shell(&id, &format!("until [ -e {} ]; do sleep 0.02; done; exit 8", go.display())))
        .await
        .expect("started");
    let mut file = fs::File::create(dir.path().join("filler")).expect("writable");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    fs::write(&go, "").expect("writable");
    let main = handle.pid().expect("known");
    until("the program has ended", || !is_alive(main)).await;
    assert!(handle.exit().expect("readable").is_none(), "unknown is not an exit code");
    file.set_len(0).expect("there is room again");
    let exit = tokio::time::timeout(LONG, handle.wait()).await.expect("written");
    assert_eq!(exit.expect("readable").code, Some(8));
    handle.forget().await.expect("empty");
}

/// A file system of 64 KiB, unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    fn small(at: &Path) -> Option<Self> {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("size=64k")).ok()?;
        Some(Self(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
