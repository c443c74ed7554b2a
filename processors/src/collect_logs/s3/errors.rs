//! What went wrong with an object store, in words that say what to do.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::error::display::DisplayErrorContext;
use powerjob_worker::ProcessResult;

use super::Bucket;

/// The failure of a request as a result. `what` continues "failed to".
pub(in crate::collect_logs) fn explain<E, R>(
    what: &str,
    bucket: &Bucket,
    object: &str,
    error: &SdkError<E, R>,
) -> ProcessResult
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let endpoint = bucket.store.endpoint.as_deref().unwrap_or("AWS S3");
    let section = format!("[object_stores.{}]", bucket.key);
    let head = format!("failed to {what} {}://{}/{object}", bucket.scheme, bucket.name);
    match error {
        SdkError::ServiceError(service) => of_service(&head, endpoint, &section, bucket, service.err()),
        SdkError::TimeoutError(_) => {
            ProcessResult::failed(format!("{head}: no answer from {endpoint} in time (`endpoint` of {section})"))
        }
        SdkError::DispatchFailure(_) => ProcessResult::failed(format!(
            "{head}: {endpoint} cannot be reached: {}; check `endpoint` of {section} and that the store is up",
            innermost(error)
        )),
        other => ProcessResult::failed(format!("{head} at {endpoint} ({section}): {}", DisplayErrorContext(other))),
    }
}

fn of_service<E: ProvideErrorMetadata>(
    head: &str,
    endpoint: &str,
    section: &str,
    bucket: &Bucket,
    error: &E,
) -> ProcessResult {
    let code = error.code().unwrap_or("no code");
    let said = error.message().filter(|text| !text.is_empty()).map(|text| format!(" ({text})")).unwrap_or_default();
    match code {
        "NoSuchBucket" => ProcessResult::rejected(format!(
            "{head}: the bucket `{}` does not exist at {endpoint} ({section}); create it or name another target",
            bucket.name
        )),
        "AccessDenied" | "Forbidden" | "AllAccessDisabled" => ProcessResult::rejected(format!(
            "{head}: access denied at {endpoint} for the credentials of {section}{said}; the key needs s3:PutObject and s3:AbortMultipartUpload on the bucket `{}`",
            bucket.name
        )),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" => {
            ProcessResult::rejected(format!(
                "{head}: access denied at {endpoint}: the credentials of {section} are not accepted ({code}){said}; check its `credentials_file`"
            ))
        }
        _ => ProcessResult::failed(format!("{head}: {endpoint} ({section}) answered {code}{said}")),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}
