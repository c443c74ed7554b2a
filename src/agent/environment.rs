//! From the configuration to what processors are given.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Context;
use serde::Deserialize;
use testrig_host::docker::{PullSettings, RegistryAuth};
use testrig_host::process::Boundaries;
use testrig_processors::{
    Database, DiskLimits, Environment, ObjectStore, Official, Root, ServiceDefaults, official::Deny,
};

use crate::config::Config;

/// Key of the result database that exists without a configuration.
const DEFAULT_DATABASE: &str = "default";

/// Robots and health checks are asked directly: a proxy of the shell that started the agent is none of their business. A
/// redirect is an answer and not followed: it would lead past `[outbound] allowed_hosts`.
fn http_client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .build()
        .context("failed to set up the HTTP client")
}

/// Reads the files that the configuration names and builds the processors' environment.
pub(crate) fn environment(config: &Config) -> anyhow::Result<Environment> {
    let state_dir = config.state.dir.clone();
    let mut databases = BTreeMap::new();
    for (key, db) in &config.databases {
        let password = db.password_file.as_deref().map(crate::client::read_token).transpose();
        let password = password.map_err(|e| anyhow::anyhow!("databases.{key}.password_file: {e}"))?;
        databases.insert(key.clone(), Database { url: db.url.clone(), user: db.user.clone(), password });
    }
    databases.entry(DEFAULT_DATABASE.into()).or_insert_with(|| Database {
        url: format!("sqlite://{}", state_dir.join("results.db").display()),
        ..Database::default()
    });
    let roots = config.paths.allowed_roots.clone().unwrap_or_else(|| vec![state_dir.display().to_string()]);
    let mut object_stores = BTreeMap::new();
    for (key, store) in &config.object_stores {
        let (access_key, secret_key) = credentials(&store.credentials_file)?;
        object_stores.insert(
            key.clone(),
            ObjectStore {
                endpoint: Some(store.endpoint.clone()),
                region: store.region.clone(),
                buckets: store.buckets.clone(),
                access_key,
                secret_key,
            },
        );
    }
    let mut secrets = BTreeMap::new();
    for (key, file) in &config.secrets {
        secrets
            .insert(key.clone(), crate::client::read_token(file).map_err(|e| anyhow::anyhow!("secrets.{key}: {e}"))?);
    }
    let http = http_client()?;
    Ok(Environment {
        shim: std::env::current_exe().context("failed to find the path of this program")?,
        boundaries: Boundaries::choose(config.processes.boundary.at_most()),
        allowed_roots: roots.iter().map(|r| Root::parse(r)).collect(),
        datasets: Some(config.paths.datasets.clone().unwrap_or_else(|| state_dir.join("datasets"))),
        docker_endpoint: Some(config.docker.endpoint.clone()),
        allowed_images: config.docker.allowed_images.clone(),
        allow_privileged: config.docker.allow_privileged,
        pulls: pulls(config, http.clone())?,
        allowed_programs: config.programs.allowed.clone(),
        allowed_hosts: config.outbound.allowed_hosts.clone(),
        databases,
        object_stores,
        mail: BTreeMap::new(),
        people: BTreeMap::new(),
        secrets,
        template_dir: None,
        http,
        platform_base_url: config.platform.base_url.clone(),
        platform_logs: None,
        service: ServiceDefaults {
            model_name: config.service.model_name.clone(),
            model_path: config.service.model_path.clone(),
            port: config.service.port,
            python_bin: config.service.python_bin.clone(),
            script_path: config.service.script_path.clone(),
            log_dir: config.service.log_dir.clone(),
        },
        official: official(config)?,
        disk: DiskLimits {
            floor_bytes: config.disk.floor_bytes,
            run_max_bytes: config.disk.run_max_bytes,
            runs_retention_days: config.disk.runs_retention_days,
            runs_max_bytes: config.disk.runs_max_bytes,
        },
        accelerators: crate::accelerators::build(config)?,
        jobs: None,
        state_dir,
    })
}

fn pulls(config: &Config, http: reqwest::Client) -> anyhow::Result<PullSettings> {
    let mut logins = Vec::new();
    for (key, registry) in &config.registries {
        let password = crate::client::read_token(&registry.password_file)
            .map_err(|e| anyhow::anyhow!("registries.{key}.password_file: {e}"))?;
        logins.push(RegistryAuth::new(key, &registry.address, &registry.user, password));
    }
    Ok(PullSettings {
        logins,
        silence: Duration::from_secs(config.docker.pull_silence_seconds),
        tries: config.docker.pull_tries,
        http: Some(http),
        ..PullSettings::default()
    })
}

fn official(config: &Config) -> anyhow::Result<Official> {
    let deny = config.official.sql_deny.iter().map(|pattern| Deny::parse(pattern));
    Ok(Official {
        enabled: config.official.enable.clone(),
        charset: Official::charset_of(&config.official.charset).map_err(anyhow::Error::msg)?,
        sql_deny: deny.collect::<Result<_, _>>().map_err(anyhow::Error::msg)?,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    access_key: String,
    secret_key: String,
}

fn credentials(file: &Path) -> anyhow::Result<(String, String)> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("failed to read credentials file {}", file.display()))?;
    // The cause may quote the line with the secret in it: only the place is told.
    let found: Credentials = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |s| text[..s.start].matches('\n').count() + 1);
        anyhow::anyhow!(
            "{}:{line}: accepted are the two keys access_key = \"..\" and secret_key = \"..\"",
            file.display()
        )
    })?;
    Ok((found.access_key, found.secret_key))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn logins_of_registries_come_from_their_files_and_a_missing_one_is_named() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("lab");
        std::fs::write(&file, "sekret\n").expect("written");
        let mut config = Config::default();
        let lab = config.registries.entry("lab".into()).or_default();
        (lab.address, lab.user, lab.password_file) = ("registry.lab:5000".into(), "rig".into(), file);
        config.docker.pull_tries = 2;
        config.docker.pull_silence_seconds = 7;
        let made = pulls(&config, http_client().expect("client")).expect("readable");
        assert_eq!((made.tries, made.silence, made.http.is_some()), (2, Duration::from_secs(7), true));
        let login = made.login_for("registry.lab:5000/llm/qwen:1").expect("its registry");
        assert_eq!((login.key.as_str(), login.username.as_str(), login.password.as_str()), ("lab", "rig", "sekret"));
        assert!(made.login_for("llm/qwen:1").is_none() && !format!("{made:?}").contains("sekret"));

        config.registries.entry("other".into()).or_default().password_file = dir.path().join("none");
        let error = pulls(&config, http_client().expect("client")).expect_err("no such file").to_string();
        assert!(error.starts_with("registries.other.password_file: "), "{error}");
    }

    #[tokio::test]
    async fn a_redirect_does_not_lead_past_the_allowed_hosts() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let forbidden = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let elsewhere = forbidden.local_addr().expect("bound");
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("asked");
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/x\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("sent");
        });
        let answer = http_client().expect("client").get(format!("http://{address}/")).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 302);
        answering.await.expect("answered");
        let asked = tokio::time::timeout(Duration::from_millis(50), forbidden.accept()).await;
        assert!(asked.is_err(), "nobody asked the other host");
    }
}
