//! What only a stand-in can do: die on command, come back, lose answers.

use serde_json::{Value, json};
use testrig_devserver::{DevServer, DevServerConfig, Fault};

async fn server() -> DevServer {
    DevServer::start(DevServerConfig::default().app("a", "p")).await.expect("it starts on free ports")
}

fn heartbeat(app_id: i64) -> Value {
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis();
    json!({
        "workerAddress": "127.0.0.1:9", "appId": app_id, "heartbeatTime": u64::try_from(now).expect("fits"), "protocol": "HTTP",
        "systemMetrics": {"score": 1},
    })
}

async fn beat(server: &DevServer) -> reqwest::Result<u16> {
    let url = format!("http://{}/server/workerHeartbeat", server.transport());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let app_id = server.app_id("a").expect("the app exists");
    Ok(client.post(url).json(&heartbeat(app_id)).send().await?.status().as_u16())
}

async fn get(server: &DevServer, path: &str) -> reqwest::Result<Value> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    client.get(format!("{}{path}", server.url())).send().await?.json().await
}

#[tokio::test]
async fn a_crash_refuses_everything_and_a_restart_keeps_only_the_database() {
    let mut server = server().await;
    let (web, transport) = (server.web(), server.transport());
    let app_id = server.app_id("a").expect("the app exists");
    assert_eq!(beat(&server).await.expect("answered"), 200);
    assert_eq!(server.online_workers(app_id), ["127.0.0.1:9"]);
    let born = get(&server, "/server/hello").await.expect("answered")["data"]["serverInfo"]["bornTime"].clone();

    server.crash().await;
    assert!(beat(&server).await.expect_err("nobody listens").is_connect());

    server.restart().await.expect("the ports are free again");
    assert_eq!((server.web(), server.transport()), (web, transport));
    assert_eq!(server.app_id("a"), Some(app_id));
    assert!(server.online_workers(app_id).is_empty());
    let again = get(&server, "/server/hello").await.expect("answered")["data"]["serverInfo"]["bornTime"].clone();
    assert!(again.as_i64() >= born.as_i64());
    server.stop().await;
}

#[tokio::test]
async fn injected_faults_hit_the_next_requests_for_their_path_only() {
    let server = server().await;
    let app_id = server.app_id("a").expect("the app exists");
    server.faults().inject("/server/workerHeartbeat", Fault::Refuse, 1);
    assert_eq!(get(&server, "/server/assert?appName=a").await.expect("answered")["data"], json!(app_id));
    assert_eq!(beat(&server).await.expect("answered"), 500);
    assert!(server.online_workers(app_id).is_empty(), "a refused request is not processed");

    server.faults().inject("/server/workerHeartbeat", Fault::LoseAnswer, 1);
    assert!(beat_body(&server).await.is_err(), "the answer is lost");
    assert_eq!(server.online_workers(app_id).len(), 1, "but the request was processed");
    assert_eq!(beat(&server).await.expect("answered"), 200);
}

async fn beat_body(server: &DevServer) -> reqwest::Result<String> {
    let url = format!("http://{}/server/workerHeartbeat", server.transport());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let app_id = server.app_id("a").expect("the app exists");
    client.post(url).json(&heartbeat(app_id)).send().await?.text().await
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_what_to_do() {
    let first = server().await;
    let config = DevServerConfig { web: first.web(), ..DevServerConfig::default() };
    let message = DevServer::start(config).await.expect_err("taken").to_string();
    assert!(message.contains(&first.web().to_string()), "{message}");
    assert!(message.contains("web port") && message.contains("port 0"), "{message}");
}

#[tokio::test]
async fn the_front_page_says_what_it_is_and_escapes_what_it_lists() {
    let server = DevServer::start(DevServerConfig::default().app("<b>&", "p")).await.expect("started");
    beat_for(&server, "<b>&").await;
    let client = reqwest::Client::builder().no_proxy().build().expect("built");
    let page = client.get(server.url()).send().await.expect("answered").text().await.expect("text");
    assert!(page.contains("stand-in for a PowerJob server") && page.contains("127.0.0.1:9"));
    assert!(page.contains("&lt;b&gt;&amp;") && !page.contains("<b>&"));
}

async fn beat_for(server: &DevServer, app: &str) {
    let url = format!("http://{}/server/workerHeartbeat", server.transport());
    let client = reqwest::Client::builder().no_proxy().build().expect("built");
    let app_id = server.app_id(app).expect("the app exists");
    let answer = client.post(url).json(&heartbeat(app_id)).send().await.expect("answered");
    assert_eq!(answer.status().as_u16(), 200);
}
