//! What the console shows of an instance with tasks.

use super::TrackerDeps;
use crate::{
    tasks::{api::Progress, table::Query, tracker::Firing},
    wire::{InstanceDetail, SubInstanceDetail, TaskDetail, TaskDetailInfo},
};

/// InstanceStatus of a run that has not ended, as Java shows it.
const SUB_RUNNING: i32 = 2;
const SUB_FAILED: i32 = 4;
const SUB_SUCCEEDED: i32 = 5;

/// The state of an instance as its loop last saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) progress: Progress,
    pub(super) started_at: i64,
    /// Tasks that wait, were sent, are at work.
    pub(super) stages: (i64, i64, i64),
    pub(super) frequent: bool,
    pub(super) firings: Vec<Firing>,
    /// Keys of the runs in the table.
    pub(super) runs: Vec<i64>,
    /// Workers that may have tasks of it.
    pub(super) used: Vec<String>,
}

/// The answer to `queryInstanceStatus`. Fields of 4.3.8 only for servers that sent a query of 4.3.8.
pub(super) async fn detail(deps: &TrackerDeps, view: View, custom_query: Option<&str>) -> InstanceDetail {
    let Progress { total, succeeded, failed, .. } = view.progress;
    let mut detail = InstanceDetail {
        actual_trigger_time: Some(view.started_at),
        status: 3,
        task_tracker_address: deps.address.clone(),
        ..InstanceDetail::default()
    };
    if view.frequent {
        detail.sub_instance_details = Some(view.firings.iter().map(sub_instance).collect());
        return detail;
    }
    let mut numbers = TaskDetail {
        total_task_num: total,
        succeed_task_num: succeeded,
        failed_task_num: failed,
        ..TaskDetail::default()
    };
    if let Some(text) = custom_query {
        let (waiting, sent, running) = view.stages;
        numbers.waiting_dispatch_task_num = Some(waiting);
        numbers.worker_unreceived_task_num = Some(sent);
        numbers.received_task_num = Some(0);
        numbers.running_task_num = Some(running);
        detail.queried_task_detail_info_list = Some(tasks(deps, &view, text).await);
    }
    detail.task_detail = Some(numbers);
    detail
}

async fn tasks(deps: &TrackerDeps, view: &View, text: &str) -> Vec<TaskDetailInfo> {
    let (Some(&run), Ok(store)) = (view.runs.first(), deps.table.open().await) else { return Vec::new() };
    let query = Query::understand(text);
    let found = store.read(move |db| query.run(db, run)).await;
    found.unwrap_or_else(|error| {
        tracing::debug!(%error, "tasks cannot be shown");
        Vec::new()
    })
}

fn sub_instance(firing: &Firing) -> SubInstanceDetail {
    SubInstanceDetail {
        sub_instance_id: firing.sub,
        start_time: Some(firing.started_at),
        finished_time: Some(firing.finished_at.unwrap_or(0)),
        result: firing.success.map(|_| firing.result.clone()),
        status: match firing.success {
            None => SUB_RUNNING,
            Some(true) => SUB_SUCCEEDED,
            Some(false) => SUB_FAILED,
        },
    }
}
