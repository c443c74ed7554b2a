//! The S3 server as a test looks at it.

use std::io::Write;

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use aws_smithy_http_client::{Builder, tls};
use libtest_mimic::Failed;

use super::Parts;

/// A client of the tests' S3 server.
pub(crate) fn client() -> Result<Client, Failed> {
    let (endpoint, key, secret) = Parts::get().s3.clone().ok_or("tests that need S3 are skipped without")?;
    let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(key, secret, None, None, "test"))
        .force_path_style(true)
        .build();
    Ok(Client::from_conf(config))
}

/// Makes a bucket, and gives the agent configuration of the store that holds it.
pub(crate) async fn bucket(name: &str) -> Result<String, Failed> {
    let (endpoint, key, secret) = Parts::get().s3.clone().ok_or("tests that need S3 are skipped without")?;
    client()?.create_bucket().bucket(name).send().await.map_err(|e| format!("{e:?}"))?;
    let file = Parts::get().dir("s3").join("s3.toml");
    writeln!(std::fs::File::create(&file)?, "access_key = {key:?}\nsecret_key = {secret:?}")?;
    Ok(format!(
        "[object_stores.main]\nendpoint = {endpoint:?}\nbuckets = [{name:?}]\ncredentials_file = {:?}\n",
        file.display().to_string()
    ))
}
