//! What follows the upload: the row in a table, the call to the platform.

use std::sync::Arc;

use powerjob_worker::{ProcessResult, TaskContext};
use serde_json::json;
use testrig_store::rusqlite::types::Value as Sql;

use super::{pack::Packed, plan::Plan};
use crate::{
    Environment,
    aggregate_metrics::database::{self, Row},
    outbound,
};

/// Writes the archive's address into `archiveTable`, if one was given.
pub(super) async fn record(plan: &Plan, address: &str, packed: &Packed) -> Result<(), ProcessResult> {
    let Some(table) = &plan.table else { return Ok(()) };
    let text = |value: &str| Sql::Text(value.to_owned());
    let int = |value: u64| Sql::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    let row = Row {
        key: vec![
            ("platform_task_id".into(), plan.task.clone()),
            ("upstream_instance_id".into(), plan.upstream.clone()),
            ("env".into(), plan.env.clone()),
        ],
        values: vec![
            ("run_date".into(), "TEXT", text(&plan.date)),
            ("archive_url".into(), "TEXT", text(address)),
            ("sha256".into(), "TEXT", text(&packed.sha256)),
            ("size_bytes".into(), "INTEGER", int(packed.size)),
            ("file_count".into(), "INTEGER", int(packed.files)),
        ],
    };
    let (database, name, key) = (table.database.clone(), table.table.clone(), table.key.clone());
    let now = jiff::Timestamp::now().to_string();
    let written = tokio::task::spawn_blocking(move || database::upsert(&database, &name, &row, &now)).await;
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(ProcessResult::failed(format!(
            "the archive is at {address}, but its address was not stored (resultDbKey {key:?}): {error}"
        ))),
        Err(error) => {
            Err(ProcessResult::failed(format!("the archive is at {address}, but storing its address ended: {error}")))
        }
    }
}

/// Calls the platform, if it is to be called; the warning when it could not be told.
pub(super) async fn call_platform(
    plan: &Plan,
    env: &Arc<Environment>,
    address: &str,
    packed: &Packed,
    ctx: &TaskContext,
) -> Option<String> {
    let url = plan.callback.as_deref()?;
    let body = json!({
        "platformTaskId": plan.task,
        "upstreamInstanceId": plan.upstream,
        "archiveUrl": address,
        "sizeBytes": packed.size,
        "sha256": packed.sha256,
        "fileCount": packed.files,
        "status": "SUCCEED",
    });
    let shown = outbound::shown(url);
    let told = outbound::with_retries(
        || outbound::post(&env.http, url, &body, &[]),
        |text| ctx.log.warn(format!("platform callback {shown}: {text}")),
    )
    .await;
    match told {
        Ok(_) => {
            ctx.log.info(format!("told the platform at {shown}"));
            None
        }
        Err(text) => {
            Some(format!("the platform at {shown} (platformCallbackUrl) was not told about the archive: {text}"))
        }
    }
}
