//! Images from a real registry that wants a login (`REGISTRY_ADDRESS`, `REGISTRY_USER`, `REGISTRY_PASSWORD`).

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use testrig_host::docker::RegistryAuth;
use tokio::net::TcpListener;

use crate::{
    containers::{Engine, engine},
    rig::{Rig, skipped},
};

/// The registry with an image in it that is not on the engine.
struct Hub {
    address: String,
    user: String,
    password: String,
    image: String,
    engine: String,
    dir: tempfile::TempDir,
}

impl Hub {
    fn with_image(name: &str, engine: &Engine, what: &str) -> Option<Self> {
        let var = |name: &str| std::env::var(name).ok();
        let found = (|| Some((var("REGISTRY_ADDRESS")?, var("REGISTRY_USER")?, var("REGISTRY_PASSWORD")?)))();
        let Some((address, user, password)) = found else {
            skipped(name, "REGISTRY_ADDRESS, REGISTRY_USER and REGISTRY_PASSWORD are not set");
            return None;
        };
        let image = format!("{address}/runs-{}/{what}:1", std::process::id());
        let dir = tempfile::tempdir().expect("a directory");
        let hub = Self { address, user, password, image, engine: engine.endpoint.clone(), dir };
        let context = hub.dir.path().join("context");
        std::fs::create_dir(&context).expect("written");
        // Nobody else has it, so it is fetched.
        std::fs::write(context.join("payload"), format!("{what} {:?}", std::time::SystemTime::now())).expect("written");
        std::fs::write(context.join("Dockerfile"), format!("FROM {}\nCOPY payload /payload\n", engine.busybox))
            .expect("written");
        for arguments in [
            &["login", "-u", &hub.user, "-p", &hub.password, &hub.address][..],
            &["build", "-q", "-t", &hub.image, &context.display().to_string()],
            &["push", "-q", &hub.image],
            &["rmi", "-f", &hub.image],
        ] {
            let output = hub.docker(arguments).output().expect("the client of the engine is there");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "docker {}: {said}", arguments[0]);
        }
        Some(hub)
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", self.dir.path().join("client")).env("DOCKER_BUILDKIT", "0");
        command.args(["-H", &self.engine]).args(arguments).stdin(Stdio::null());
        command
    }

    fn login(&self, password: &str) -> Vec<RegistryAuth> {
        vec![RegistryAuth::new("lab", &self.address, &self.user, password)]
    }

    fn rig(&self, engine: &Engine, number: i64, logins: Vec<RegistryAuth>) -> Rig {
        let endpoint = engine.endpoint.clone();
        Rig::with(i64::from(std::process::id()) * 1000 + number, move |env| {
            env.docker_endpoint = Some(endpoint);
            env.pulls.logins = logins;
            env.pulls.report_every = Duration::ZERO;
        })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.docker(&["rmi", "-f", &self.image]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_a_registry_with_a_login_is_pulled_and_the_log_says_how_far_it_is() {
    let name = "pulls::an_image_of_a_registry_with_a_login_is_pulled_and_the_log_says_how_far_it_is";
    let Some(engine) = engine(name) else { return };
    let Some(hub) = Hub::with_image(name, &engine, "good") else { return };
    let rig = hub.rig(&engine, 500, hub.login(&hub.password));
    let result =
        rig.process(&rig.context(&engine.waiting_job(&rig, &hub.image, "cat /payload"), &engine.quick_run(&rig))).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
    let log = rig.log_text();
    for words in ["pull: logging in to ", " downloaded", "Pull complete (", "pull: Status: Downloaded newer image"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains(&hub.password), "{log}");
    assert!(rig.service_lines().iter().any(|line| line.starts_with("good ")), "{log}");
    assert!(rig.result()["startup"]["pullMs"].is_u64(), "{}", rig.result()["startup"]);

    // It is here now: nobody needs to log in for it.
    let rig = hub.rig(&engine, 501, Vec::new());
    let result =
        rig.process(&rig.context(&engine.waiting_job(&rig, &hub.image, "cat /payload"), &engine.quick_run(&rig))).await;
    assert!(result.success, "{}\n{}", result.message, rig.log_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_in_which_a_registry_gives_no_image_is_one_failure_that_says_what_to_do() {
    let name = "pulls::each_way_in_which_a_registry_gives_no_image_is_one_failure_that_says_what_to_do";
    let Some(engine) = engine(name) else { return };
    let Some(hub) = Hub::with_image(name, &engine, "bad") else { return };
    let good = || hub.login(&hub.password);
    let (tag, repository) = (hub.image.replace("/bad:1", "/bad:2"), hub.image.replace("/bad:", "/never:"));
    let missing_login = format!("address = \"{}\"", hub.address);
    for (number, image, logins, words) in [
        (510, hub.image.as_str(), Vec::new(), missing_login.as_str()),
        (511, hub.image.as_str(), hub.login("wrong-one"), "check user and password_file of [registries.lab]"),
        (512, tag.as_str(), good(), "the repository is there and has the tags 1; check the tag"),
        (513, repository.as_str(), good(), "it has no repository of this name"),
    ] {
        let rig = hub.rig(&engine, number, logins);
        let result =
            rig.process(&rig.context(&engine.waiting_job(&rig, image, "cat /payload"), &engine.quick_run(&rig))).await;
        assert!(!result.success && !result.retryable, "{image}: it would go the same way again");
        assert!(
            result.message.starts_with("stage pull failed: ") && result.message.contains(words),
            "{words}: {}",
            result.message
        );
        assert_eq!(rig.result()["ending"], "image_pull", "{words}");
        assert!(!rig.log_text().contains("wrong-one"), "{}", rig.log_text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_stalls_ends_the_run_by_the_limit_of_silence_and_not_as_a_lost_engine() {
    let name = "pulls::a_registry_that_stalls_ends_the_run_by_the_limit_of_silence_and_not_as_a_lost_engine";
    let Some(engine) = engine(name) else { return };
    // Connections are made and nobody ever answers.
    let registry = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let image = format!("{}/llm/stalls:1", registry.local_addr().expect("bound"));
    let endpoint = engine.endpoint.clone();
    let rig = Rig::with(i64::from(std::process::id()) * 1000 + 520, move |env| {
        env.docker_endpoint = Some(endpoint);
        env.pulls.silence = Duration::from_millis(500);
        env.pulls.tries = 2;
    });
    let result =
        rig.process(&rig.context(&engine.waiting_job(&rig, &image, "cat /payload"), &engine.quick_run(&rig))).await;
    assert!(result.message.starts_with("stage pull failed: the registry of image"), "{}", result.message);
    assert!(result.message.contains("stalls: nothing came for 0.5 s"), "{}", result.message);
    assert!(result.retryable, "another time it may answer");
    assert_eq!(rig.result()["ending"], "image_pull");
    assert!(rig.log_text().contains("; try 2 of 2 in 1 s"), "{}", rig.log_text());
}
