//! Instances: what became of them, and what they are told.

use serde_json::Value;

use super::client::{ApiCall, OpenApi};
use super::error::OpenApiError;
use super::types::{InstanceInfo, InstanceStatus};

impl OpenApi {
    /// An instance as the server's database has it.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn fetch_instance_info(&self, app_id: i64, instance_id: i64) -> Result<InstanceInfo, OpenApiError> {
        self.call(ApiCall::form("/openApi/fetchInstanceInfo", &[("instanceId", instance_id), ("appId", app_id)])).await
    }

    /// An instance's status.
    ///
    /// # Errors
    /// As [`OpenApi::call`]; a code that is none is [`OpenApiError::Unexpected`].
    pub async fn fetch_instance_status(&self, app_id: i64, instance_id: i64) -> Result<InstanceStatus, OpenApiError> {
        let path = "/openApi/fetchInstanceStatus";
        let code: i64 = self.call(ApiCall::form(path, &[("instanceId", instance_id), ("appId", app_id)])).await?;
        InstanceStatus::from_code(code).ok_or_else(|| OpenApiError::Unexpected {
            server: self.last_good().to_owned(),
            path: path.to_owned(),
            status: 200,
            detail: format!("{code} is no instance status"),
        })
    }

    /// Marks an instance STOPPED and tells its worker once.
    ///
    /// # Errors
    /// As [`OpenApi::call`]; a finished one is refused.
    pub async fn stop_instance(&self, app_id: i64, instance_id: i64) -> Result<(), OpenApiError> {
        self.instance_order("/openApi/stopInstance", app_id, instance_id).await
    }

    /// Cancels an instance that has not been dispatched yet.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn cancel_instance(&self, app_id: i64, instance_id: i64) -> Result<(), OpenApiError> {
        self.instance_order("/openApi/cancelInstance", app_id, instance_id).await
    }

    /// Runs a finished instance again under its id.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn retry_instance(&self, app_id: i64, instance_id: i64) -> Result<(), OpenApiError> {
        self.instance_order("/openApi/retryInstance", app_id, instance_id).await
    }

    async fn instance_order(&self, path: &str, app_id: i64, instance_id: i64) -> Result<(), OpenApiError> {
        self.call::<Value>(ApiCall::form(path, &[("instanceId", instance_id), ("appId", app_id)]).once())
            .await
            .map(drop)
    }
}
