//! Console pages that harnesses and people poll, as 4.3.9 serves them: without a login.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::answer::{Answer, JsonBody, Params, envelope};
use crate::enums::{INSTANCE_STATUS, status};
use crate::java;
use crate::logs::Page;
use crate::model::Instance;
use crate::openapi::{order, run_job, with_instance};
use crate::server::Server;
use crate::thrown::Thrown;
use crate::web::zone_name;
use crate::world::World;

pub(crate) fn routes(router: Router<Server>) -> Router<Server> {
    router
        .route("/appInfo/list", get(list_apps))
        .route("/instance/list", post(list_instances))
        .route("/instance/log", get(log))
        .route("/instance/detail", get(detail))
        .route("/instance/stop", get(|state, params| order(state, params, "instanceId", World::stop_instance)))
        .route("/instance/retry", get(|state, params| order(state, params, "instanceId", World::retry_instance)))
        .route("/job/run", get(run_job))
        .route("/system/listWorker", get(list_workers))
        .route("/system/overview", get(overview))
        .route("/wfInstance/info", get(wf_instance))
}

pub(crate) async fn save_app(State(server): State<Server>, JsonBody(body): JsonBody) -> Response {
    let text = |name: &str| java::text(body.get(name)).unwrap_or_default();
    envelope(server.change(|world, _| world.save_app(&text("appName"), &text("password"))).map(|_| Value::Null))
}

async fn list_apps(State(server): State<Server>, params: Params) -> Response {
    let part = params.text("condition").unwrap_or_default();
    envelope(Ok(server.change(|world, _| {
        let apps = world.apps.iter().filter(|app| app.name.contains(&part));
        Value::from(apps.map(|app| json!({"id": app.id, "appName": app.name})).collect::<Vec<_>>())
    })))
}

async fn list_instances(State(server): State<Server>, JsonBody(body): JsonBody) -> Response {
    let list = || -> Answer {
        let in_workflow = match java::text(body.get("type")).as_deref() {
            Some("NORMAL") => false,
            Some("WORKFLOW") => true,
            _ => {
                return Err(Thrown::null_pointer(
                    "Cannot invoke \"tech.powerjob.server.common.constants.InstanceType.getV()\" because the return value of \
                     \"tech.powerjob.server.web.request.QueryInstanceRequest.getType()\" is null",
                ));
            }
        };
        let id = |name: &str| java::long(body.get(name));
        let status = INSTANCE_STATUS.read("status", body.get("status").filter(|value| value.as_str() != Some("")))?;
        let wanted = |instance: &&Instance| {
            id("appId").is_none_or(|id| instance.app_id == id)
                && instance.wf_instance_id.is_some() == in_workflow
                && id("jobId").is_none_or(|id| instance.job_id == id)
                && id("instanceId").is_none_or(|id| instance.id == id)
                && id("wfInstanceId").is_none_or(|id| instance.wf_instance_id == Some(id))
                && status.is_none_or(|status| instance.status == status)
        };
        let size = usize::try_from(id("pageSize").unwrap_or(10)).unwrap_or(10).max(1);
        let index = usize::try_from(id("index").unwrap_or(0)).unwrap_or(0);
        Ok(server.change(|world, _| {
            let mut found: Vec<&Instance> = world.instances.values().filter(wanted).collect();
            found.sort_by_key(|instance| std::cmp::Reverse((instance.modified, instance.id)));
            let (total, pages) = (found.len(), found.len().div_ceil(size));
            let rows: Vec<Value> =
                found.into_iter().skip(index * size).take(size).map(|row| world.instance_row(row)).collect();
            json!({"index": index, "pageSize": size, "totalPages": pages, "totalItems": total, "data": rows})
        }))
    };
    envelope(list())
}

async fn log(State(server): State<Server>, params: Params) -> Response {
    let read = || -> Answer {
        let (instance_id, index) = (params.long("instanceId")?, params.long("index")?);
        let Some(instance_id) = instance_id else {
            return Err(Thrown::null_pointer(
                "Cannot invoke \"java.lang.Long.longValue()\" because \"instanceId\" is null",
            ));
        };
        let page = server.change(|world, now| {
            let (zone, cache) = (world.config.zone.clone(), java::millis(world.config.timers.log_cache));
            let page = world.logs.page(instance_id, index.unwrap_or(0), now, cache, &zone);
            match index {
                Some(_) => page,
                None => Page::trouble(
                    "oms-server execution exception, caused by NullPointerException: Cannot invoke \"java.lang.Long.longValue()\" \
                     because \"index\" is null"
                        .to_owned(),
                ),
            }
        });
        Ok(json!({"index": page.index, "totalPages": page.total, "data": page.text}))
    };
    envelope(read())
}

async fn detail(State(server): State<Server>, params: Params) -> Response {
    envelope(show_detail(&server, &params).await)
}

/// For a RUNNING instance of a known worker the worker is asked; otherwise, or when it gives no good answer, the row is shown.
async fn show_detail(server: &Server, params: &Params) -> Answer {
    let row = with_instance(server, params, |world, instance| world.instance_detail(instance))?;
    let id = params.long("instanceId")?.unwrap_or_default();
    let running = server.change(|world, _| {
        let instance = world.instances.get(&id).filter(|instance| instance.status == status::RUNNING)?;
        let address = instance.address.as_ref()?;
        world.workers.get(&instance.app_id)?.get(address).map(|worker| (instance.clone(), worker.address.clone()))
    });
    let Some((instance, address)) = running else {
        return Ok(row);
    };
    let request = json!({"instanceId": id, "customQuery": "status in (5, 6) order by last_modified_time desc"});
    let answer = server.ask(&address, "/worker/queryInstanceStatus", &request).await;
    Ok(match answer.as_ref().and_then(worker_data) {
        Some(data) => server.change(|world, _| world.worker_detail(&data, &instance)),
        None => row,
    })
}

fn worker_data(answer: &Value) -> Option<Value> {
    let text = answer.get("data").and_then(Value::as_str).filter(|_| java::boolean(answer.get("success")))?;
    let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

async fn list_workers(State(server): State<Server>, params: Params) -> Response {
    let answer = params.long("appId").and_then(|app_id| match app_id {
        Some(app_id) => Ok(server.change(|world, now| Value::from(world.worker_rows(app_id, now)))),
        None => Err(Thrown("NumberFormatException: For input string: \"null\"".to_owned())),
    });
    envelope(answer)
}

async fn overview(State(server): State<Server>, params: Params) -> Response {
    let transport = server.transport.clone();
    let answer = params.long("appId").map(|app_id| {
        server.change(|world, now| {
            let count = |wanted: fn(&Instance) -> bool| {
                world.instances.values().filter(|instance| Some(instance.app_id) == app_id && wanted(instance)).count()
            };
            let jobs = world.jobs.values().filter(|job| Some(job.app_id) == app_id && job.status != 99).count();
            let ip = transport.rsplit_once(':').map_or(transport.as_str(), |(ip, _)| ip);
            json!({
                "jobCount": jobs, "runningInstanceCount": count(|instance| instance.status == status::RUNNING),
                "failedInstanceCount": count(|instance| instance.status == status::FAILED), "timezone": zone_name(world),
                "serverTime": java::shown(Some(now), &world.config.zone),
                "serverInfo": {"id": 1, "ip": ip, "bornTime": world.born, "version": "stand-in"},
            })
        })
    });
    envelope(answer)
}

async fn wf_instance(State(server): State<Server>, params: Params) -> Response {
    let show = || -> Answer {
        let (app_id, id) = (params.long("appId")?, params.long("wfInstanceId")?);
        server.change(|world, _| {
            let run = world.wf_instance_of(app_id, id)?.clone();
            Ok(world.wf_instance_page(&run))
        })
    };
    envelope(show())
}
