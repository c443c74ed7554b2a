//! An archive in an object store: parts are sent while the next is filled, and an upload that does not end is taken back.

mod errors;

use std::{future::Future, sync::Arc, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use aws_smithy_http_client::{Builder, tls};
use bytes::Bytes;
use parking_lot::Mutex;
use powerjob_worker::ProcessResult;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    pack::{CHUNK, Packed, Packing, Progress},
    target::Bucket,
};
pub(super) use errors::explain;

/// Size of a part; S3 takes no smaller ones than 5 MiB. Two of them are in memory: one travels, one is filled.
const PART: usize = 6 << 20;
/// S3 takes 10,000 parts; above this many of the usual size parts grow with the archive.
const PARTS: u64 = 9_000;
/// Tries of one request.
const TRIES: u32 = 4;
/// How long taking back an unfinished upload may take.
const ABORT_LIMIT: Duration = Duration::from_secs(10);

/// A client for a store.
pub(super) fn client(bucket: &Bucket) -> Client {
    let store = &bucket.store;
    let plain = store.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let http = if plain {
        Builder::new().build_http()
    } else {
        Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https()
    };
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .operation_attempt_timeout(Duration::from_secs(300))
        .build();
    let mut config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(store.region.clone().unwrap_or_else(|| "us-east-1".to_owned())))
        .credentials_provider(Credentials::new(&store.access_key, &store.secret_key, None, None, "testrig"))
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
        .timeout_config(timeouts)
        .force_path_style(true)
        // The signature covers every byte already; the newer trailing checksums are unknown to older stores.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &store.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

/// Uploads the archive as `name` below the bucket's prefix. Whatever ends it early, dropping included when `stop` wins,
/// leaves no object and no unfinished upload.
pub(super) async fn upload(
    bucket: &Bucket,
    name: &str,
    packing: Packing,
    progress: &Progress,
    stop: impl Future<Output = ProcessResult>,
) -> Result<Packed, ProcessResult> {
    let client = client(bucket);
    let key = bucket.object(name);
    abort_leftovers(&client, bucket, &key).await;
    let open: Arc<Mutex<Option<String>>> = Arc::default();
    let beginning = TaskTracker::new();
    let sending =
        Sending { client: &client, bucket, key: &key, open: Arc::clone(&open), beginning: beginning.clone(), progress };
    let result = tokio::select! {
        biased;
        ended = stop => Err(ended),
        result = sending.run(packing) => result,
    };
    if result.is_err() {
        // A stop may have come while the store began the upload: only its answer has the id.
        beginning.close();
        let _too_long = tokio::time::timeout(ABORT_LIMIT, beginning.wait()).await;
        let left = open.lock().take();
        if let Some(id) = left {
            abort(&client, bucket, &key, &id).await;
        }
    }
    result
}

/// A part on its way; dropped, it is no longer sent.
type Part = AbortOnDropHandle<Result<CompletedPart, ProcessResult>>;

struct Sending<'a> {
    client: &'a Client,
    bucket: &'a Bucket,
    key: &'a str,
    /// The upload to take back, from its creation to its end.
    open: Arc<Mutex<Option<String>>>,
    /// The request that begins the upload; it is never cut.
    beginning: TaskTracker,
    progress: &'a Progress,
}

impl Sending<'_> {
    async fn run(&self, mut packing: Packing) -> Result<Packed, ProcessResult> {
        let mut travelling: Option<Part> = None;
        let mut parts = Vec::new();
        let spare = Spare::default();
        let mut first = true;
        loop {
            let (part, last) = fill(&mut packing, self.part_size(), &spare).await;
            if last && first {
                // All of it: one request, once it is known to be whole.
                let packed = super::packed(packing.done).await?;
                return self.put(part).await.map(|()| packed);
            }
            if first {
                self.create().await?;
                first = false;
            }
            if let Some(sent) = travelling.take() {
                parts.push(joined(sent).await?);
            }
            if !part.is_empty() {
                let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
                travelling = Some(AbortOnDropHandle::new(tokio::spawn(self.part(number, part))));
            }
            if last {
                break;
            }
        }
        if let Some(sent) = travelling {
            parts.push(joined(sent).await?);
        }
        let packed = super::packed(packing.done).await?;
        self.complete(parts).await?;
        Ok(packed)
    }

    /// Bytes of the next part: larger than usual only where the archive would not fit into the parts there are.
    fn part_size(&self) -> usize {
        let expected = self.progress.total_bytes.load(std::sync::atomic::Ordering::Relaxed);
        PART.max(usize::try_from(expected / PARTS).unwrap_or(PART)).next_multiple_of(CHUNK)
    }

    async fn put(&self, body: Bytes) -> Result<(), ProcessResult> {
        let request = self.client.put_object().bucket(&self.bucket.name).key(self.key).content_type("application/gzip");
        request
            .body(ByteStream::from(body))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| explain("upload the archive to", self.bucket, self.key, &error))
    }

    async fn create(&self) -> Result<(), ProcessResult> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket.name)
            .key(self.key)
            .content_type("application/gzip");
        let (open, bucket, key) = (Arc::clone(&self.open), self.bucket.clone(), self.key.to_owned());
        let begun = self.beginning.spawn(async move {
            let created = request.send().await.map_err(|error| explain("begin an upload to", &bucket, &key, &error))?;
            match created.upload_id().filter(|id| !id.is_empty()) {
                Some(id) => *open.lock() = Some(id.to_owned()),
                None => {
                    let text = format!("the object store `{}` began an upload without giving its id", bucket.key);
                    return Err(ProcessResult::failed(text));
                }
            }
            Ok(())
        });
        let ended = |error| ProcessResult::failed(format!("the beginning of the upload ended: {error}"));
        begun.await.unwrap_or_else(|error| Err(ended(error)))
    }

    fn part(
        &self,
        number: i32,
        body: Bytes,
    ) -> impl Future<Output = Result<CompletedPart, ProcessResult>> + Send + 'static {
        let id = self.open.lock().clone().unwrap_or_default();
        let (bucket, key) = (self.bucket.clone(), self.key.to_owned());
        let request = self
            .client
            .upload_part()
            .bucket(&bucket.name)
            .key(&key)
            .upload_id(id)
            .part_number(number)
            .body(ByteStream::from(body));
        async move {
            let sent = request
                .send()
                .await
                .map_err(|error| explain(&format!("upload part {number} to"), &bucket, &key, &error))?;
            Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag().map(str::to_owned)).build())
        }
    }

    async fn complete(&self, parts: Vec<CompletedPart>) -> Result<(), ProcessResult> {
        let id = self.open.lock().clone().unwrap_or_default();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket.name)
            .key(self.key)
            .upload_id(id)
            .multipart_upload(parts);
        request.send().await.map_err(|error| explain("complete the upload to", self.bucket, self.key, &error))?;
        self.open.lock().take();
        Ok(())
    }
}

/// The next part, and whether it is the last.
async fn fill(packing: &mut Packing, size: usize, spare: &Spare) -> (Bytes, bool) {
    let mut part = spare.take();
    let last = loop {
        if part.len() >= size {
            break false;
        }
        match packing.chunks.recv().await {
            Some(chunk) => {
                // At once, or growing would hold the part twice; memory that is not written to is none yet.
                part.reserve_exact(size.saturating_sub(part.len()).max(chunk.len()));
                part.extend_from_slice(&chunk);
            }
            None => break true,
        }
    };
    (Bytes::from_owner(Filled { part, spare: spare.clone() }), last)
}

/// Memory of parts that have been sent, for the next ones: an allocator that is given it back keeps more than that.
#[derive(Clone, Default)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }
}

/// A part; once nobody needs it any more, its memory is spare.
struct Filled {
    part: Vec<u8>,
    spare: Spare,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let mut part = std::mem::take(&mut self.part);
        part.clear();
        self.spare.0.lock().push(part);
    }
}

async fn joined(part: Part) -> Result<CompletedPart, ProcessResult> {
    part.await.unwrap_or_else(|error| Err(ProcessResult::failed(format!("the upload of a part ended: {error}"))))
}

/// Takes back what a killed agent left of this very object.
async fn abort_leftovers(client: &Client, bucket: &Bucket, key: &str) {
    let request = client.list_multipart_uploads().bucket(&bucket.name).prefix(key);
    // Whatever is wrong with the store is told by the upload itself; listing may not be permitted.
    let Ok(Ok(found)) = tokio::time::timeout(ABORT_LIMIT, request.send()).await else { return };
    for upload in found.uploads().iter().filter(|upload| upload.key() == Some(key)) {
        abort(client, bucket, key, upload.upload_id().unwrap_or_default()).await;
    }
}

async fn abort(client: &Client, bucket: &Bucket, key: &str, id: &str) {
    let request = client.abort_multipart_upload().bucket(&bucket.name).key(key).upload_id(id);
    match tokio::time::timeout(ABORT_LIMIT, request.send()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(bucket = bucket.name, key, error = %explain("take back the upload to", bucket, key, &error).message, "an unfinished upload is left");
        }
        Err(_) => {
            tracing::warn!(bucket = bucket.name, key, "an unfinished upload is left: taking it back took too long");
        }
    }
}

#[cfg(test)]
mod tests;
