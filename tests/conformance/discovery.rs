//! What a worker asks on the web port before it works.

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::check::{Outcome, holds, mask_fields, same, same_json};
use crate::context::{Case, Context, PASSWORD};
use crate::target::CORE_5;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("assert_gives_the_id_of_a_known_app_and_refuses_an_unknown_one", assert_app),
        Case::new("acquire_gives_the_transport_address_for_protocol_http_only", acquire),
        Case::new("hello_tells_time_transport_address_and_apps_with_a_worker", hello),
        Case::new("connectivity_is_probed_with_ping_and_pong", connectivity),
        Case::new("unknown_paths_and_wrong_methods_of_the_web_port", web_edges),
        Case::new("openapi_assert_checks_the_password", openapi_assert),
        Case::new("saving_an_app_twice_is_refused", app_twice),
    ]
}

async fn assert_app(cx: Context) -> Outcome {
    let known = cx.get("/server/assert", &[("appName", &cx.app)]).await?;
    same("status and type", &(known.status, known.content_type.as_deref()), &(200, Some("application/json")))?;
    same_json("assert", &known.json()?, &json!({"success": true, "data": cx.app_id, "message": null}))?;
    let second = cx.get("/server/assertV2", &[("appName", &cx.app)]).await?;
    same_json("assertV2", &second.json()?, &json!({"success": true, "data": {"appId": cx.app_id}, "message": null}))?;
    let text = "app(nobody knows me) is not registered! Please register the app in oms-console first.";
    let unknown = cx.get("/server/assert", &[("appName", "nobody knows me")]).await?;
    same_json("unknown app", &unknown.json()?, &json!({"success": false, "data": null, "message": text}))?;
    let nameless = cx.get("/server/assert", &[]).await?;
    holds(nameless.message()?, nameless.message()?.starts_with("app(null) is not registered!"))
}

async fn acquire(cx: Context) -> Outcome {
    let id = cx.app_id.to_string();
    let answer = cx.get("/server/acquire", &[("appId", &id), ("protocol", "HTTP"), ("clientVersion", "x")]).await?;
    same_json("acquire", &answer.json()?, &json!({"success": true, "data": cx.transport, "message": null}))?;
    let current =
        cx.get("/server/acquire", &[("appId", &id), ("protocol", "HTTP"), ("currentServer", &cx.transport)]).await?;
    same("with the current server", &current, &answer)?;
    let unknown = cx.get("/server/acquire", &[("appId", "99999999"), ("protocol", "HTTP")]).await?;
    let text = "PowerJobException: 99999999 is not registered!";
    same_json("unknown app", &unknown.json()?, &json!({"success": false, "data": null, "message": text}))?;
    let lower = cx.get("/server/acquire", &[("appId", &id), ("protocol", "http")]).await?;
    same("lower case", &lower.message()?, &format!("PowerJobException: server elect failed for app {id}"))?;
    let missing = cx.get("/server/acquire", &[("protocol", "HTTP")]).await?;
    holds(
        missing.message()?,
        missing.message()?.starts_with("InvalidDataAccessApiUsageException: The given id must not be null!"),
    )
}

async fn hello(cx: Context) -> Outcome {
    let worker = cx.worker().await?;
    let plain = cx.get("/server/hello", &[]).await?.json()?;
    holds(
        "the app is in appIds",
        plain["data"]["appIds"].as_array().is_some_and(|ids| ids.contains(&json!(cx.app_id))),
    )?;
    let shape = mask_fields(
        &plain,
        &[
            "appIds",
            "id",
            "ip",
            "bornTime",
            "version",
            "localHost",
            "serverTimeTs",
            "serverTime",
            "serverTimeZone",
            "address",
            "externalAddress",
        ],
    );
    let expected = json!({"success": true, "data": {
        "appIds": "*", "serverInfo": {"id": "*", "ip": "*", "bornTime": "*", "version": "*"}, "localHost": "*", "serverTimeTs": "*",
        "serverTime": "*", "serverTimeZone": "*",
        "defaultAddress": {"protocol": "HTTP", "address": "*", "transporter": {"protocol": {}}, "externalAddress": "*"},
    }, "message": null});
    same("hello", &shape, &expected)?;
    let debug = cx.get("/server/hello", &[("debug", "true")]).await?.json()?;
    let shown = &debug["data"]["appId2ClusterInfo"][cx.app_id.to_string()]["allWorkers"][&worker.address];
    let expected = json!({
        "overloading": false, "protocol": "HTTP", "address": worker.address, "containerInfos": [], "lastActiveTime": "*",
        "lastOverloadTime": 0,
        "systemMetrics": {"score": 13, "cpuLoad": 1.25, "jvmMemoryUsage": 0.0364, "diskUsed": 108.5645, "extra": "{\"n\":1}",
            "diskUsage": 0.1241, "diskTotal": 875.0, "cpuProcessors": 8, "jvmMaxMemory": 3.556, "jvmUsedMemory": 0.1294},
        "heavyTaskTrackerNum": 1, "client": "conformance", "lightTaskTrackerNum": 2,
    });
    let mut actual = mask_fields(shown, &["lastActiveTime"]);
    // A worker without a tag has none or null.
    if let Some(map) = actual.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    same("the worker in the debug view", &actual, &expected)
}

async fn connectivity(cx: Context) -> Outcome {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port().to_string();
    let pong = tokio::spawn(async move {
        if let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"pong\n").await;
        }
    });
    let yes = cx.get("/server/checkConnectivity", &[("targetIp", "127.0.0.1"), ("targetPort", &port)]).await?;
    same_json("somebody says pong", &yes.json()?, &json!({"success": true, "data": true, "message": null}))?;
    pong.await?;
    let no = cx.get("/server/checkConnectivity", &[("targetIp", "127.0.0.1"), ("targetPort", &port)]).await?;
    same_json("nobody there", &no.json()?, &json!({"success": true, "data": false, "message": null}))
}

async fn web_edges(cx: Context) -> Outcome {
    for path in ["/nope", "/server/workerHeartbeat", "/openApi/authApp"] {
        let answer = cx.get(path, &[]).await?;
        same("status and type", &(answer.status, answer.content_type.as_deref()), &(404, Some("application/json")))?;
        let shape = mask_fields(&answer.json()?, &["timestamp"]);
        same_json("not found", &shape, &json!({"timestamp": "*", "status": 404, "error": "Not Found", "path": path}))?;
    }
    let wrong = cx.get("/openApi/fetchJob", &[]).await?;
    let text = "HttpRequestMethodNotSupportedException: Request method 'GET' not supported";
    same("status", &wrong.status, &200)?;
    same_json("wrong method", &wrong.json()?, &json!({"success": false, "data": null, "message": text}))
}

async fn openapi_assert(cx: Context) -> Outcome {
    same("right password", &cx.api.assert(&cx.app, PASSWORD).await?, &cx.app_id)?;
    let wrong = cx.form("/openApi/assert", &[("appName", &cx.app), ("password", "no")]).await?;
    let (wrong_text, unknown_text) = match cx.target.name {
        CORE_5 => ("PowerJobException: INCORRECT_PASSWORD", "PowerJobException: INVALID_APP:zz"),
        _ => ("PowerJobException: password error!", "PowerJobException: can't find appInfo by appName: zz"),
    };
    let expected = json!({"success": false, "data": null, "message": wrong_text});
    same_json("wrong password", &wrong.json()?, &expected)?;
    let unknown = cx.form("/openApi/assert", &[("appName", "zz"), ("password", "no")]).await?;
    same("unknown app", &unknown.message()?.as_str(), &unknown_text)
}

async fn app_twice(cx: Context) -> Outcome {
    let again = cx.json("/appInfo/save", &json!({"appName": cx.app, "password": "p"})).await?;
    same("status", &again.status, &200)?;
    holds(again.message()?, again.message()?.starts_with("DataIntegrityViolationException: "))?;
    let nameless = cx.json("/appInfo/save", &json!({"password": "p"})).await?;
    same("no name", &nameless.message()?.as_str(), &"PowerJobException: appName can't be empty")?;
    let spaced = cx.json("/appInfo/save", &json!({"appName": "a b", "password": "p"})).await?;
    same("white space", &spaced.message()?.as_str(), &"PowerJobException: appName can't contains white space!")
}
