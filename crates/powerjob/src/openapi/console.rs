//! Console pages: what a person sees of apps, workers and logs. 5.x wants a login for them ([`OpenApi::with_login`]), 4.3.9 none.

use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{ApiCall, OpenApi};
use super::error::OpenApiError;

/// A page of an instance's online log, 100 physical lines each.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogPage {
    /// Page number, from 0.
    #[serde(default)]
    pub index: i64,
    /// Pages there are.
    #[serde(default)]
    pub total_pages: i64,
    /// The lines, each with its line feed. Trouble is told here too, as text.
    #[serde(default, deserialize_with = "text")]
    pub data: String,
}

/// A worker as the console lists it. The loads are texts for people.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are those of the wire")]
pub struct WorkerRow {
    pub address: String,
    pub cpu_load: Option<String>,
    pub memory_load: Option<String>,
    pub disk_load: Option<String>,
    pub protocol: Option<String>,
    pub tag: Option<String>,
    /// 1 good, 2 and 3 loaded, 9999 no heartbeat for 60 s.
    pub status: i32,
    pub overloading: Option<bool>,
    pub light_task_tracker_num: Option<i64>,
    pub heavy_task_tracker_num: Option<i64>,
}

impl WorkerRow {
    /// True while the server counts it as alive.
    pub fn is_online(&self) -> bool {
        self.status < 9999
    }
}

/// `/server/hello`.
#[derive(Clone, Debug)]
pub struct ServerHello {
    /// Start of the server process, epoch ms: another value means that its online logs are empty.
    pub born_time: Option<i64>,
    /// Server's clock, epoch ms.
    pub server_time_ms: Option<i64>,
    /// Version, e.g. `4.3.9` or `UNKNOWN`.
    pub version: Option<String>,
    /// Apps from which this server has had a heartbeat.
    pub app_ids: Vec<i64>,
    /// Its transport address `ip:port`.
    pub transport: Option<String>,
}

impl OpenApi {
    /// The app's id as a worker asks for it (`/server/assert`): no password.
    ///
    /// # Errors
    /// Unknown app: [`OpenApiError::Refused`], see [`OpenApiError::app_not_registered`].
    pub async fn app_id(&self, app: &str) -> Result<i64, OpenApiError> {
        let data: Value = self.call(ApiCall::get("/server/assert").query("appName", app)).await?;
        data.as_i64().or_else(|| data.get("appId").and_then(Value::as_i64)).ok_or_else(|| OpenApiError::Unexpected {
            server: self.last_good().to_owned(),
            path: "/server/assert".to_owned(),
            status: 200,
            detail: format!("{data} is no app id"),
        })
    }

    /// Registers an app unless it exists, and gives its id. 5.x needs a login.
    ///
    /// # Errors
    /// As [`OpenApi::call`]. That the app exists already is no error; its password is then not checked.
    pub async fn ensure_app(&self, app: &str, password: &str) -> Result<i64, OpenApiError> {
        match self.app_id(app).await {
            Err(error) if error.app_not_registered() => {}
            other => return other,
        }
        let body = json!({"appName": app, "password": password, "namespaceCode": "default_namespace", "title": app, "tags": "", "extra": ""});
        let saved = self.call::<Value>(ApiCall::json("/appInfo/save", body)).await;
        match self.app_id(app).await {
            Err(error) if error.app_not_registered() => saved.and(Err(error)),
            other => other,
        }
    }

    /// The worker list of an app.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn list_workers(&self, app_id: i64) -> Result<Vec<WorkerRow>, OpenApiError> {
        self.call(ApiCall::get("/system/listWorker").query("appId", app_id)).await
    }

    /// One page of an instance's log. Never ask before its first line has reached the server: that freezes an empty log.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn log_page(&self, app_id: i64, instance_id: i64, index: i64) -> Result<LogPage, OpenApiError> {
        self.call(
            ApiCall::get("/instance/log").query("appId", app_id).query("instanceId", instance_id).query("index", index),
        )
        .await
    }

    /// All pages of an instance's log, one text.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn whole_log(&self, app_id: i64, instance_id: i64) -> Result<String, OpenApiError> {
        let mut page = self.log_page(app_id, instance_id, 0).await?;
        let mut text = std::mem::take(&mut page.data);
        for index in 1..page.total_pages {
            text.push_str(&self.log_page(app_id, instance_id, index).await?.data);
        }
        Ok(text)
    }

    /// The detail page of an instance; for a RUNNING one the server asks the worker.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn instance_detail(&self, app_id: i64, instance_id: i64) -> Result<Value, OpenApiError> {
        self.call(ApiCall::get("/instance/detail").query("appId", app_id).query("instanceId", instance_id)).await
    }

    /// Who the server is that answers.
    ///
    /// # Errors
    /// As [`OpenApi::call`].
    pub async fn hello(&self) -> Result<ServerHello, OpenApiError> {
        let data: Value = self.call(ApiCall::get("/server/hello")).await?;
        let info = &data["serverInfo"];
        Ok(ServerHello {
            born_time: info["bornTime"].as_i64(),
            server_time_ms: data["serverTimeTs"].as_i64(),
            version: info["version"].as_str().map(str::to_owned),
            app_ids: data["appIds"]
                .as_array()
                .map(|ids| ids.iter().filter_map(Value::as_i64).collect())
                .unwrap_or_default(),
            transport: data["defaultAddress"]["externalAddress"]
                .as_str()
                .or_else(|| data["defaultAddress"]["address"].as_str())
                .map(str::to_owned),
        })
    }
}

fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}
