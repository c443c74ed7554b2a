//! `/openApi/*`: always POST, form fields or JSON.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use crate::answer::{Answer, JsonBody, Params, envelope};
use crate::render;
use crate::server::Server;
use crate::thrown::Thrown;
use crate::world::World;

const ENABLED: i32 = 1;
const DISABLED: i32 = 2;
const DELETED: i32 = 99;

pub(crate) fn routes(router: Router<Server>) -> Router<Server> {
    router
        .route("/openApi/assert", post(assert))
        .route("/openApi/saveJob", post(save_job))
        .route("/openApi/copyJob", post(copy_job))
        .route("/openApi/fetchJob", post(fetch_job))
        .route("/openApi/fetchAllJob", post(fetch_all_job))
        .route("/openApi/disableJob", post(|state, params| switch_job(state, params, DISABLED)))
        .route("/openApi/enableJob", post(|state, params| switch_job(state, params, ENABLED)))
        .route("/openApi/deleteJob", post(|state, params| switch_job(state, params, DELETED)))
        .route("/openApi/runJob", post(run_job))
        .route("/openApi/stopInstance", post(|state, params| order(state, params, "instanceId", World::stop_instance)))
        .route(
            "/openApi/cancelInstance",
            post(|state, params| order(state, params, "instanceId", World::cancel_instance)),
        )
        .route(
            "/openApi/retryInstance",
            post(|state, params| order(state, params, "instanceId", World::retry_instance)),
        )
        .route("/openApi/fetchInstanceStatus", post(fetch_status))
        .route("/openApi/fetchInstanceInfo", post(fetch_info))
        .route("/openApi/addWorkflowNode", post(add_nodes))
        .route("/openApi/saveWorkflow", post(save_workflow))
        .route("/openApi/fetchWorkflow", post(fetch_workflow))
        .route("/openApi/disableWorkflow", post(|state, params| switch_workflow(state, params, DISABLED)))
        .route("/openApi/enableWorkflow", post(|state, params| switch_workflow(state, params, ENABLED)))
        .route("/openApi/deleteWorkflow", post(|state, params| switch_workflow(state, params, DELETED)))
        .route("/openApi/runWorkflow", post(run_workflow))
        .route(
            "/openApi/stopWfInstance",
            post(|state, params| order(state, params, "wfInstanceId", World::stop_workflow)),
        )
        .route(
            "/openApi/retryWfInstance",
            post(|state, params| order(state, params, "wfInstanceId", World::retry_workflow)),
        )
        .route("/openApi/markWorkflowNodeAsSuccess", post(mark_node))
        .route("/openApi/fetchWfInstanceInfo", post(fetch_wf_instance))
}

async fn assert(State(server): State<Server>, params: Params) -> Response {
    let name = params.text("appName").unwrap_or_else(|| "null".to_owned());
    let password = params.text("password");
    envelope(server.change(|world, _| match world.app_by_name(&name) {
        None => Err(Thrown::powerjob(format!("can't find appInfo by appName: {name}"))),
        Some(app) if Some(&app.password) == password.as_ref() => Ok(Value::from(app.id)),
        Some(_) => Err(Thrown::powerjob("password error!")),
    }))
}

async fn save_job(State(server): State<Server>, JsonBody(body): JsonBody) -> Response {
    envelope(server.change(|world, now| world.save_job(&body, now)).map(Value::from))
}

async fn copy_job(State(server): State<Server>, params: Params) -> Response {
    let answer = params.long("jobId").and_then(|id| server.change(|world, now| world.copy_job(id, now)));
    envelope(answer.map(Value::from))
}

async fn fetch_job(State(server): State<Server>, params: Params) -> Response {
    let fetch = || -> Answer {
        let (job_id, app_id) = (params.long("jobId")?, params.long("appId")?);
        server.change(|world, _| world.job_of(job_id, app_id).map(render::job))
    };
    envelope(fetch())
}

async fn fetch_all_job(State(server): State<Server>, params: Params) -> Response {
    let answer = params.long("appId").map(|app_id| {
        server.change(|world, _| {
            let jobs: Vec<Value> =
                world.jobs.values().filter(|job| Some(job.app_id) == app_id).map(render::job).collect();
            Value::from(jobs)
        })
    });
    envelope(answer)
}

async fn switch_job(State(server): State<Server>, params: Params, to: i32) -> Response {
    let switch = || -> Answer {
        let (job_id, app_id) = (params.long("jobId")?, params.long("appId")?);
        server.change(|world, now| world.switch_job(job_id, app_id, to, now))?;
        Ok(Value::Null)
    };
    envelope(switch())
}

/// Dispatches inside the call, so that its outcome is the answer.
pub(crate) async fn run_job(State(server): State<Server>, params: Params) -> Response {
    let run = async || -> Answer {
        let (app_id, job_id, delay) =
            (params.long("appId")?, params.long("jobId")?, params.long("delay")?.unwrap_or(0));
        let instance_params = params.text("instanceParams");
        let id =
            server.change_and_wait(|world, now| world.run_job(app_id, job_id, instance_params, delay, now)).await?;
        Ok(Value::from(id))
    };
    envelope(run().await)
}

type Order = fn(&mut World, Option<i64>, Option<i64>, i64) -> Result<(), Thrown>;

/// Stop, cancel, retry: app id, id of the thing, nothing in the answer.
pub(crate) async fn order(
    State(server): State<Server>,
    params: Params,
    id_field: &'static str,
    order: Order,
) -> Response {
    let run = async || -> Answer {
        let (app_id, id) = (params.long("appId")?, params.long(id_field)?);
        server.change_and_wait(|world, now| order(world, app_id, id, now)).await?;
        Ok(Value::Null)
    };
    envelope(run().await)
}

async fn fetch_status(State(server): State<Server>, params: Params) -> Response {
    envelope(with_instance(&server, &params, |_, instance| json!(instance.status)))
}

async fn fetch_info(State(server): State<Server>, params: Params) -> Response {
    envelope(with_instance(&server, &params, |_, instance| render::instance(instance)))
}

/// Reading an instance asks for no app.
pub(crate) fn with_instance(
    server: &Server,
    params: &Params,
    show: impl FnOnce(&World, &crate::model::Instance) -> Value,
) -> Answer {
    let id = params.long("instanceId")?;
    let shown = id.map_or_else(|| "null".to_owned(), |id| id.to_string());
    server.change(|world, _| {
        let instance = id.and_then(|id| world.instances.get(&id));
        instance
            .map(|instance| show(world, instance))
            .ok_or_else(|| Thrown::illegal(format!("invalid instanceId: {shown}")))
    })
}

async fn add_nodes(State(server): State<Server>, JsonBody(body): JsonBody) -> Response {
    let Value::Array(requests) = body else {
        return envelope(Err(Thrown::unreadable(
            "Cannot deserialize value of type `java.util.ArrayList` from Object value",
        )));
    };
    envelope(server.change(|world, now| {
        let ids = world.save_nodes(&requests, now)?;
        Ok(Value::from(ids.iter().filter_map(|id| world.nodes.get(id)).map(render::node).collect::<Vec<_>>()))
    }))
}

async fn save_workflow(State(server): State<Server>, JsonBody(body): JsonBody) -> Response {
    envelope(server.change(|world, now| world.save_workflow(&body, now)).map(Value::from))
}

async fn fetch_workflow(State(server): State<Server>, params: Params) -> Response {
    let fetch = || -> Answer {
        let (id, app_id) = (params.long("workflowId")?, params.long("appId")?);
        server.change(|world, _| world.workflow_of(id, app_id).map(|workflow| world.workflow(workflow)))
    };
    envelope(fetch())
}

async fn switch_workflow(State(server): State<Server>, params: Params, to: i32) -> Response {
    let switch = || -> Answer {
        let (id, app_id) = (params.long("workflowId")?, params.long("appId")?);
        server.change(|world, now| world.switch_workflow(id, app_id, to, now))?;
        Ok(Value::Null)
    };
    envelope(switch())
}

async fn run_workflow(State(server): State<Server>, params: Params) -> Response {
    let run = async || -> Answer {
        let (app_id, id, delay) =
            (params.long("appId")?, params.long("workflowId")?, params.long("delay")?.unwrap_or(0));
        let init = params.text("initParams");
        let id = server.change_and_wait(|world, now| world.run_workflow(app_id, id, init, delay, now)).await?;
        Ok(Value::from(id))
    };
    envelope(run().await)
}

async fn mark_node(State(server): State<Server>, params: Params) -> Response {
    let mark = || -> Answer {
        let (app_id, id, node_id) = (params.long("appId")?, params.long("wfInstanceId")?, params.long("nodeId")?);
        server.change(|world, now| world.mark_node(app_id, id, node_id, now))?;
        Ok(Value::Null)
    };
    envelope(mark())
}

async fn fetch_wf_instance(State(server): State<Server>, params: Params) -> Response {
    let fetch = || -> Answer {
        let (app_id, id) = (params.long("appId")?, params.long("wfInstanceId")?);
        server.change(|world, _| {
            let run = world.wf_instance_of(app_id, id)?.clone();
            Ok(world.wf_instance(&run))
        })
    };
    envelope(fetch())
}
