//! Pulls from a real registry: logins, what is missing, lost connections, stalls.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use testrig_host::docker::{Docker, ImageInfo, Missing, PullError, PullPolicy, PullSettings, RegistryAuth};

use crate::line::{Line, Trouble};
use crate::registry::{Hub, KEY, OwnRegistry, hub};
use crate::rig::{LONG, rig};

const MIB: u64 = 1 << 20;

/// Pulls, and gives the lines that were said.
async fn pull(docker: &Docker, name: &str, settings: &PullSettings) -> (Result<ImageInfo, PullError>, Vec<String>) {
    pull_with(docker, name, settings, |_| {}).await
}

async fn pull_with(
    docker: &Docker,
    name: &str,
    settings: &PullSettings,
    mut heard: impl FnMut(&str) + Send,
) -> (Result<ImageInfo, PullError>, Vec<String>) {
    let lines = Mutex::new(Vec::new());
    let say = |line: String| {
        heard(&line);
        lines.lock().push(line);
    };
    let pulled = docker.ensure_image(name, PullPolicy::Always, settings, say);
    let pulled = tokio::time::timeout(LONG * 2, pulled).await.expect("it ends");
    (pulled, lines.into_inner())
}

fn has(lines: &[String], words: &str) -> bool {
    lines.iter().any(|line| line.contains(words))
}

#[tokio::test]
async fn a_pull_with_a_login_brings_the_image_and_says_how_far_it_is() {
    let test = "pulls::a_pull_with_a_login_brings_the_image_and_says_how_far_it_is";
    let Some(rig) = rig(test) else { return };
    let Some(hub) = hub(test, &rig) else { return };
    let name = hub.name("progress");
    hub.put(&name, 5 << 20);
    // A summary with every event.
    let settings = PullSettings { report_every: Duration::ZERO, ..hub.settings(&hub.address) };
    let (pulled, lines) = pull(&rig.docker, &name, &settings).await;
    assert!(pulled.expect("pulled").id.starts_with("sha256:"));
    assert!(has(&lines, &format!("logging in to {} as user `{}`", hub.address, hub.user)), "{lines:#?}");
    assert!(has(&lines, "of 5.0 MiB downloaded") && has(&lines, "(100 %)"), "{lines:#?}");
    assert!(has(&lines, "Pull complete (") && has(&lines, "Status: Downloaded newer image"), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains(&hub.password)), "{lines:#?}");

    // It is here now; with a long pause between summaries there is none.
    let settings = PullSettings { report_every: LONG, ..settings };
    let (pulled, lines) = pull(&rig.docker, &name, &settings).await;
    pulled.expect("pulled");
    assert!(has(&lines, "Image is up to date") && !has(&lines, "downloaded"), "{lines:#?}");
}

#[tokio::test]
async fn a_wrong_login_and_none_and_a_missing_repository_and_tag_are_four_different_things() {
    let test = "pulls::a_wrong_login_and_none_and_a_missing_repository_and_tag_are_four_different_things";
    let Some(rig) = rig(test) else { return };
    let Some(hub) = hub(test, &rig) else { return };
    let name = hub.name("apart");
    hub.put(&name, 1000);
    let docker = &rig.docker;
    let good = hub.settings(&hub.address);

    let (none, _) = pull(docker, &name, &PullSettings::default()).await;
    let error = none.expect_err("it wants a login");
    assert!(matches!(error, PullError::NoLogin { .. }) && error.is_lasting(), "{error:?}");
    assert!(error.to_string().contains(&format!("address = \"{}\"", hub.address)), "{error}");

    // A login for another registry is none for this one.
    let login = RegistryAuth::new("other", "registry.other:5000", &hub.user, &hub.password);
    let (other, _) = pull(docker, &name, &PullSettings { logins: vec![login], ..good.clone() }).await;
    assert!(matches!(other, Err(PullError::NoLogin { .. })), "{other:?}");

    let login = RegistryAuth::new(KEY, &hub.address, &hub.user, "not-the-password");
    let (wrong, _) = pull(docker, &name, &PullSettings { logins: vec![login], ..good.clone() }).await;
    let error = wrong.expect_err("a wrong password");
    assert!(matches!(error, PullError::Unauthorized { .. }) && error.is_lasting(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("user `{}`", hub.user)) && text.contains("[registries.lab]"), "{text}");
    assert!(!text.contains("not-the-password"), "{text}");

    let (nothing, _) = pull(docker, &hub.name("never-pushed"), &good).await;
    let error = nothing.expect_err("no such repository");
    assert!(matches!(error, PullError::NotFound { missing: Missing::Repository, .. }), "{error:?}");
    assert!(error.is_lasting() && error.to_string().contains("no repository of this name"), "{error}");

    let other_tag = name.replace("/apart:1", "/apart:9");
    let (tagless, _) = pull(docker, &other_tag, &good).await;
    let error = tagless.expect_err("no such tag");
    assert!(
        matches!(&error, PullError::NotFound { missing: Missing::Tag { there }, .. } if there == &["1"]),
        "{error:?}"
    );
    assert!(error.to_string().contains("has the tags 1; check the tag"), "{error}");

    // Where it cannot be asked, it is one of the two.
    let (either, _) = pull(docker, &other_tag, &PullSettings { http: None, ..good.clone() }).await;
    assert!(matches!(either, Err(PullError::NotFound { missing: Missing::RepositoryOrTag, .. })), "{either:?}");

    pull(docker, &name, &good).await.0.expect("the right login");
}

#[tokio::test]
async fn a_layer_whose_connection_is_lost_goes_on_from_the_byte_where_it_was() {
    let test = "pulls::a_layer_whose_connection_is_lost_goes_on_from_the_byte_where_it_was";
    let Some(rig) = rig(test) else { return };
    let Some(hub) = hub(test, &rig) else { return };
    let name = hub.name("cut");
    hub.put(&name, 8 << 20);
    let line = Line::to(&hub.address, Trouble::CutAt(3 * MIB)).await;
    let over = hub.over(line.address, &name);
    hub.will_go(&over);
    let (pulled, lines) = pull(&rig.docker, &over, &hub.settings(line.address)).await;
    pulled.unwrap_or_else(|error| panic!("{error}\n{lines:#?}"));
    assert!(has(&lines, "the connection to the registry was lost; the engine goes on with this layer"), "{lines:#?}");
    assert!(line.asked().to_lowercase().contains("range: bytes="), "{}", line.asked());
    assert!(line.passed() < 12 * MIB, "the whole layer was fetched again: {}", line.passed());
}

#[tokio::test]
async fn a_pull_that_the_engine_gives_up_is_begun_again() {
    let test = "pulls::a_pull_that_the_engine_gives_up_is_begun_again";
    let Some(rig) = rig(test) else { return };
    let Some(hub) = hub(test, &rig) else { return };
    let name = hub.name("again");
    hub.put(&name, 1000);
    let line = Arc::new(Line::to(&hub.address, Trouble::Closed).await);
    let over = hub.over(line.address, &name);
    hub.will_go(&over);
    let settings = hub.settings(line.address);
    let (own, mends) = (Arc::clone(&line), PullSettings { tries: 3, ..settings.clone() });
    let (pulled, lines) = pull_with(&rig.docker, &over, &mends, move |said| {
        if said.contains("; try 3 of 3 in ") {
            own.set(Trouble::None);
        }
    })
    .await;
    pulled.unwrap_or_else(|error| panic!("{error}\n{lines:#?}"));
    assert!(has(&lines, "; try 2 of 3 in 1 s"), "{lines:#?}");

    // It ends when the tries are used up, and says what it was.
    line.set(Trouble::Closed);
    let (lost, lines) = pull(&rig.docker, &over, &PullSettings { tries: 2, ..settings }).await;
    let error = lost.expect_err("it stays closed");
    assert!(matches!(error, PullError::Lost { .. }) && !error.is_lasting(), "{error:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("; try ")).count(), 1, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_is_killed_under_a_pull_and_comes_back_is_waited_for() {
    let test = "pulls::a_registry_that_is_killed_under_a_pull_and_comes_back_is_waited_for";
    let Some(rig) = rig(test) else { return };
    let Some(own) = OwnRegistry::start(test) else { return };
    let hub = Hub::at(own.address.clone(), own.user.clone(), own.password.clone(), &rig);
    let name = hub.name("killed");
    // More than what the system keeps on the way, which would arrive all the same.
    hub.put(&name, 12 << 20);
    let line = Arc::new(Line::to(&hub.address, Trouble::StallAt(MIB)).await);
    let over = hub.over(line.address, &name);
    hub.will_go(&over);
    let settings = PullSettings { tries: 10, ..hub.settings(line.address) };
    let pulling = pull(&rig.docker, &over, &settings);
    let trouble = async {
        // The layer is under way, and held up.
        line.reached(MIB - (64 << 10)).await;
        tokio::task::block_in_place(|| own.ctl("kill"));
        line.set(Trouble::None);
        tokio::task::block_in_place(|| own.ctl("start"));
    };
    let ((pulled, lines), ()) = tokio::join!(pulling, trouble);
    pulled.unwrap_or_else(|error| panic!("{error}\n{lines:#?}"));
    assert!(has(&lines, "the connection to the registry was lost") || has(&lines, "; try 2 of 10"), "{lines:#?}");
}

#[tokio::test]
async fn a_registry_that_stalls_is_told_and_left_and_may_come_to_itself() {
    let test = "pulls::a_registry_that_stalls_is_told_and_left_and_may_come_to_itself";
    let Some(rig) = rig(test) else { return };
    let Some(hub) = hub(test, &rig) else { return };
    let name = hub.name("stalls");
    hub.put(&name, 4 << 20);
    let line = Arc::new(Line::to(&hub.address, Trouble::StallAt(MIB)).await);
    let over = hub.over(line.address, &name);
    hub.will_go(&over);
    let settings = PullSettings { silence: Duration::from_secs(2), ..hub.settings(line.address) };
    let (stalled, lines) = pull(&rig.docker, &over, &PullSettings { tries: 1, ..settings.clone() }).await;
    let error = stalled.expect_err("nothing comes");
    assert!(matches!(error, PullError::Stalled { .. }) && !error.is_lasting(), "{error:?}\n{lines:#?}");
    assert!(error.to_string().contains("nothing came for 2 s (docker.pull_silence_seconds"), "{error}");

    // A slow machine may need some tries more.
    let (own, mends) = (Arc::clone(&line), PullSettings { tries: 10, ..settings });
    let (pulled, lines) = pull_with(&rig.docker, &over, &mends, move |said| {
        if said.contains(" stalls: ") {
            own.set(Trouble::None);
        }
    })
    .await;
    pulled.unwrap_or_else(|error| panic!("{error}\n{lines:#?}"));
    assert!(has(&lines, "; try 2 of 10 in 1 s"), "{lines:#?}");
}

#[tokio::test]
async fn the_policy_says_whether_the_registry_is_asked() {
    let test = "pulls::the_policy_says_whether_the_registry_is_asked";
    let Some(rig) = rig(test) else { return };
    let Some(hub) = hub(test, &rig) else { return };
    let name = hub.name("policy");
    hub.put(&name, 1000);
    let line = Line::to(&hub.address, Trouble::None).await;
    let over = hub.over(line.address, &name);
    let settings = hub.settings(line.address);
    let ensure = async |policy| rig.docker.ensure_image(&over, policy, &settings, |_| {}).await;

    let never = ensure(PullPolicy::Never).await.expect_err("it is not here");
    assert!(matches!(never, PullError::NeverPulled { .. }), "{never:?}");
    assert_eq!(line.made(), 0, "nobody asked");
    // Another image of the same name.
    hub.make(&over, 1000);
    let here = ensure(PullPolicy::IfNotPresent).await.expect("it is here");
    assert_eq!(ensure(PullPolicy::Never).await.expect("it is here"), here);
    assert_eq!(line.made(), 0, "nobody asked");
    let newer = ensure(PullPolicy::Always).await.expect("pulled");
    assert!(line.made() > 0 && newer.id != here.id, "{here:?} {newer:?}");
    assert_eq!(ensure(PullPolicy::IfNotPresent).await.expect("it is here"), newer);
}
