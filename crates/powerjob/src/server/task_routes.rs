//! The paths that other workers call about tasks (6.3 to 6.8).
//!
//! What is told is answered 200 with an empty body as soon as it is read and queued (a task that is not taken, with a refusal); what is asked is answered with an
//! `AskResponse`, or with an empty 200 when the instance is not tracked here, which makes the ask of the other side fail.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use tokio_util::task::TaskTracker;

use super::routes::{Reading, named};
use crate::{
    tasks::api::{MapTask, PeerError, ReportTask, ReportWorker, StartTask, TrackerPeer, WorkerPeer},
    wire::{AskResponse, StopTasks},
};

/// The two roles of this worker, as other workers reach them.
#[derive(Clone)]
pub(crate) struct TaskRoutes {
    /// This worker's address, as peers know it.
    pub(crate) address: String,
    /// This worker's own processor trackers.
    pub(crate) processors: Arc<dyn WorkerPeer>,
    /// This worker's own task trackers.
    pub(crate) trackers: Arc<dyn TrackerPeer>,
    /// Owner of the stops under way: the one who tells a stop does not wait for its end.
    pub(crate) tasks: TaskTracker,
    pub(crate) reading: Reading,
}

impl TaskRoutes {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/processorTracker/startTask", post(start_task))
            .route("/processorTracker/stopInstance", post(stop_instance))
            .route("/taskTracker/reportTaskStatus", post(report_task))
            .route("/taskTracker/reportProcessorTrackerStatus", post(report_worker))
            .route("/taskTracker/mapTask", post(map_task))
            .with_state(self)
    }
}

async fn start_task(State(routes): State<TaskRoutes>, body: Body) -> Response {
    let read = async { named("TaskTrackerStartTaskReq", StartTask::parse(&routes.reading.body(body).await?)) };
    match read.await {
        Ok(task) => match routes.processors.start_task(&routes.address, task, None).await {
            Ok(()) => StatusCode::OK.into_response(),
            // A Java tracker does not look at it and sends the task again after 15 s; ours gives it to somebody else at once.
            Err(PeerError::Refused(why) | PeerError::Unreachable(why)) => {
                Json(AskResponse::failure(why)).into_response()
            }
        },
        Err(why) => routes.reading.bad(&why),
    }
}

/// Stands for the trackers of all other workers.
const OTHERS: &str = "";

async fn stop_instance(State(routes): State<TaskRoutes>, body: Body) -> Response {
    let read = async { named("TaskTrackerStopInstanceReq", StopTasks::parse(&routes.reading.body(body).await?)) };
    match read.await {
        Ok(StopTasks { instance_id }) => {
            let processors = routes.processors.clone();
            routes.tasks.spawn(async move {
                // The own tracker does not come this way.
                if let Err(why) = processors.stop_instance(OTHERS, instance_id).await {
                    tracing::warn!(instance_id, ?why, "failed to stop the tasks of an instance");
                }
            });
            StatusCode::OK.into_response()
        }
        Err(why) => routes.reading.bad(&why),
    }
}

async fn report_task(State(routes): State<TaskRoutes>, body: Body) -> Response {
    let read = async { named("ProcessorReportTaskStatusReq", ReportTask::parse(&routes.reading.body(body).await?)) };
    match read.await {
        Ok(report) => asked(routes.trackers.report_task(&routes.address, report).await),
        Err(why) => routes.reading.bad(&why),
    }
}

async fn report_worker(State(routes): State<TaskRoutes>, body: Body) -> Response {
    let read =
        async { named("ProcessorTrackerStatusReportReq", ReportWorker::parse(&routes.reading.body(body).await?)) };
    match read.await {
        Ok(report) => told(routes.trackers.report_worker(&routes.address, report).await),
        Err(why) => routes.reading.bad(&why),
    }
}

async fn map_task(State(routes): State<TaskRoutes>, body: Body) -> Response {
    let read = async { named("ProcessorMapTaskRequest", MapTask::parse(&routes.reading.body(body).await?)) };
    match read.await {
        Ok(map) => asked(routes.trackers.map_task(&routes.address, map).await),
        Err(why) => routes.reading.bad(&why),
    }
}

/// Nobody reads the answer to what is told.
fn told(done: Result<(), PeerError>) -> Response {
    if let Err(why) = done {
        tracing::debug!(?why, "what another worker told came to nothing");
    }
    StatusCode::OK.into_response()
}

fn asked(done: Result<(), PeerError>) -> Response {
    match done {
        Ok(()) => Json(AskResponse { success: true, ..AskResponse::default() }).into_response(),
        Err(PeerError::Refused(why)) => Json(AskResponse::failure(why)).into_response(),
        // Not tracked here: the caller keeps it and tries again, or takes this worker for lost.
        Err(PeerError::Unreachable(why)) => {
            tracing::debug!(why, "another worker asked about an instance that is not tracked here");
            StatusCode::OK.into_response()
        }
    }
}
