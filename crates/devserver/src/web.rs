//! The web port: the router, and what workers ask there (`/server/*`).

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::answer::{Answer, Params, envelope, not_found, wrong_method};
use crate::console;
use crate::java;
use crate::openapi;
use crate::page;
use crate::server::Server;
use crate::thrown::Thrown;
use crate::world::World;

pub(crate) fn router(server: Server) -> Router {
    let faults = server.faults.clone();
    openapi::routes(console::routes(Router::new()))
        .route("/", get(page::index))
        .route("/server/assert", get(assert))
        .route("/server/assertV2", get(assert_v2))
        .route("/server/acquire", get(acquire))
        .route("/server/checkConnectivity", get(check_connectivity))
        .route("/server/hello", get(hello))
        .route("/actuator/health", get(health))
        .route("/appInfo/save", post(console::save_app))
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .with_state(server)
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(faults, crate::faults::middleware))
}

async fn assert(State(server): State<Server>, params: Params) -> Response {
    envelope(app_id(&server, &params).map(Value::from))
}

async fn assert_v2(State(server): State<Server>, params: Params) -> Response {
    envelope(app_id(&server, &params).map(|id| json!({"appId": id})))
}

fn app_id(server: &Server, params: &Params) -> Result<i64, Thrown> {
    let name = params.text("appName");
    let shown = name.clone().unwrap_or_else(|| "null".to_owned());
    let found = server.change(|world, _| name.and_then(|name| world.app_by_name(&name).map(|app| app.id)));
    found
        .ok_or_else(|| Thrown(format!("app({shown}) is not registered! Please register the app in oms-console first.")))
}

async fn acquire(State(server): State<Server>, params: Params) -> Response {
    envelope(elect(&server, &params).await)
}

async fn elect(server: &Server, params: &Params) -> Answer {
    let Some(app_id) = params.long("appId")? else {
        return Err(Thrown(
            "InvalidDataAccessApiUsageException: The given id must not be null!; nested exception is \
             java.lang.IllegalArgumentException: The given id must not be null!"
                .to_owned(),
        ));
    };
    if !server.change(|world, _| world.apps.iter().any(|app| app.id == app_id)) {
        return Err(Thrown::powerjob(format!("{app_id} is not registered!")));
    }
    if params.text("protocol").as_deref() != Some("HTTP") {
        // Ten attempts, half a second apart.
        tokio::time::sleep(Duration::from_secs(5)).await;
        return Err(Thrown::powerjob(format!("server elect failed for app {app_id}")));
    }
    Ok(Value::from(server.transport.clone()))
}

async fn check_connectivity(params: Params) -> Response {
    let port = match params.long("targetPort") {
        Ok(port) => port.and_then(|port| u16::try_from(port).ok()),
        Err(thrown) => return envelope(Err(thrown)),
    };
    let address =
        params.text("targetIp").zip(port).and_then(|(ip, port)| format!("{ip}:{port}").parse::<SocketAddr>().ok());
    let pong = match address {
        Some(address) => tokio::time::timeout(Duration::from_secs(2), ping(address)).await.ok().and_then(Result::ok),
        None => None,
    };
    envelope(Ok(Value::from(pong.is_some_and(|line| line.trim().eq_ignore_ascii_case("pong")))))
}

async fn ping(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"ping").await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}

async fn health() -> Response {
    use axum::response::IntoResponse;
    ([(axum::http::header::CONTENT_TYPE, "application/json")], r#"{"status":"UP"}"#).into_response()
}

async fn hello(State(server): State<Server>, params: Params) -> Response {
    let debug = params.text("debug").is_some_and(|text| text == "true");
    let transport = server.transport.clone();
    envelope(Ok(server.change(|world, now| {
        let ip = transport.rsplit_once(':').map_or(transport.as_str(), |(ip, _)| ip);
        let mut data = Map::new();
        data.insert("appIds".to_owned(), json!(world.workers.keys().collect::<Vec<_>>()));
        data.insert("serverInfo".to_owned(), json!({"id": 1, "ip": ip, "bornTime": world.born, "version": "stand-in"}));
        if debug {
            data.insert("appId2ClusterInfo".to_owned(), clusters(world));
        }
        data.insert("localHost".to_owned(), json!(ip));
        data.insert("serverTimeTs".to_owned(), json!(now));
        data.insert("serverTime".to_owned(), json!(java::shown(Some(now), &world.config.zone)));
        data.insert("serverTimeZone".to_owned(), json!(zone_name(world)));
        let address = json!({
            "protocol": "HTTP", "address": transport, "transporter": {"protocol": {}}, "externalAddress": transport,
        });
        data.insert("defaultAddress".to_owned(), address);
        Value::Object(data)
    })))
}

fn clusters(world: &World) -> Value {
    let by_app = world.workers.iter().map(|(app, workers)| {
        let all: Map<String, Value> =
            workers.iter().map(|(address, worker)| (address.clone(), World::worker_debug(worker))).collect();
        (app.to_string(), json!({"allWorkers": all}))
    });
    Value::Object(by_app.collect())
}

pub(crate) fn zone_name(world: &World) -> String {
    match world.config.zone.iana_name() {
        Some("UTC" | "Etc/UTC") | None => "Coordinated Universal Time".to_owned(),
        Some(name) => name.to_owned(),
    }
}
