//! Requests of workers that are not known, or not any more: their job is read from the body, and the server is asked about it.
//!
//! A task of an instance whose other tasks this worker has from the same tracker is taken without asking: the tracker was let in
//! when the instance began, and a server that has just started does not know it yet.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use hyper::Request;

use super::{JobOf, Peers, peers::host_port};
use crate::wire::object::Object;

/// Who knows which trackers this worker has tasks of.
#[async_trait]
pub(crate) trait Engaged: Send + Sync {
    /// Whether there is something here of this instance from the tracker with this address.
    async fn has_tasks_of(&self, instance_id: i64, tracker: &str) -> bool;
}

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
    engaged: Option<&Arc<dyn Engaged>>,
) -> Result<Request<Body>, String> {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(why)) => return Err(format!("it is unknown, and its request could not be read: {why}")),
        Err(_) => return Err(format!("it is unknown, and sent no request within {} s", BODY_TIMEOUT.as_secs())),
    };
    let known = match (engaged, tracker_of(&body, from)) {
        (Some(engaged), Some((instance_id, tracker))) => engaged.has_tasks_of(instance_id, &tracker).await,
        _ => false,
    };
    if known {
        return Ok(Request::from_parts(head, Body::from(body)));
    }
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

/// The instance and the tracker of a `startTask`, if it comes from where that tracker is.
fn tracker_of(body: &Bytes, from: IpAddr) -> Option<(i64, String)> {
    let message = Object::parse(body).ok()?;
    let tracker = message.required_str("taskTrackerAddress").ok()?;
    let instance_id = message.opt_object("instanceInfo").ok()??.required_i64("instanceId").ok()?;
    let host: IpAddr = host_port(&tracker).0.parse().ok()?;
    let from = from.to_canonical();
    (host == from || host.is_loopback() && from.is_loopback()).then_some((instance_id, tracker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_names_a_tracker_only_where_it_comes_from_there() {
        let tracker = |address: &str, from: &str| {
            let text = format!(r#"{{"taskTrackerAddress":"{address}","instanceInfo":{{"instanceId":5,"jobId":12}}}}"#);
            tracker_of(&Bytes::from(text), from.parse().expect("an address"))
        };
        let found = |address: &str| Some((5, address.to_owned()));
        assert_eq!(tracker("10.0.0.5:27777", "10.0.0.5"), found("10.0.0.5:27777"));
        assert_eq!(tracker("10.0.0.5:27777", "::ffff:10.0.0.5"), found("10.0.0.5:27777"));
        assert_eq!(tracker("127.0.0.1:1", "127.0.0.2"), found("127.0.0.1:1"));
        assert_eq!(tracker("10.0.0.5:27777", "10.0.0.6"), None);
        assert_eq!(tracker("a.host:27777", "10.0.0.6"), None, "a name proves nothing");
        for other in ["", "{}", r#"{"taskTrackerAddress":"10.0.0.5:1"}"#, r#"{"instanceId":5,"status":6}"#] {
            assert_eq!(tracker_of(&Bytes::from(other.to_owned()), "10.0.0.5".parse().expect("an address")), None);
        }
    }

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
