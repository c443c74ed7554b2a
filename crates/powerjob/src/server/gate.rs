//! Requests of workers that are not known yet: their job is read from the body, and the server is asked about it.

use std::{net::IpAddr, time::Duration};

use axum::body::{Body, Bytes};
use hyper::Request;

use super::{JobOf, Peers};
use crate::wire::object::Object;

/// A stranger's body may be this long and take this long; those of known workers have the limits of their routes.
const BODY_LIMIT: usize = 1 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The request that makes this worker run something.
pub(super) const START_TASK: &str = "/processorTracker/startTask";

/// Whether workers call this path on each other.
pub(super) fn is_for_workers(path: &str) -> bool {
    matches!(
        path,
        START_TASK
            | "/processorTracker/stopInstance"
            | "/taskTracker/reportTaskStatus"
            | "/taskTracker/reportProcessorTrackerStatus"
            | "/taskTracker/mapTask"
    )
}

/// The request again, when the server names its sender for the job that it is about.
///
/// # Errors
/// Why it is refused.
pub(super) async fn admitted(
    request: Request<Body>,
    from: IpAddr,
    peers: &Peers,
    jobs: &JobOf,
) -> Result<Request<Body>, String> {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(why)) => return Err(format!("it is unknown, and its request could not be read: {why}")),
        Err(_) => return Err(format!("it is unknown, and sent no request within {} s", BODY_TIMEOUT.as_secs())),
    };
    let job = job_of(&body, jobs).ok_or("it is unknown, and its request belongs to no job that is known here")?;
    peers.admit(from, job).await?;
    Ok(Request::from_parts(head, Body::from(body)))
}

/// `startTask` names its job; the other messages name an instance, which must be open here.
fn job_of(body: &Bytes, jobs: &JobOf) -> Option<i64> {
    let message = Object::parse(body).ok()?;
    match message.opt_object("instanceInfo").ok()? {
        Some(info) => info.required_i64("jobId").ok(),
        None => jobs(message.required_i64("instanceId").ok()?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_job_is_read_from_a_start_or_from_the_instance_that_is_open() {
        let jobs: JobOf = Arc::new(|instance| (instance == 1_004_402_621_408_084_033).then_some(11));
        let job = |text: &str| job_of(&Bytes::from(text.to_owned()), &jobs);
        assert_eq!(job(r#"{"taskId":"0.1","instanceInfo":{"jobId":12,"instanceId":5}}"#), Some(12));
        assert_eq!(job(r#"{"instanceId":1004402621408084033,"status":6}"#), Some(11));
        for none in ["", "[]", "{}", r#"{"instanceId":5}"#, r#"{"instanceInfo":{}}"#, r#"{"instanceInfo":7}"#] {
            assert_eq!(job(none), None, "{none}");
        }
    }
}
