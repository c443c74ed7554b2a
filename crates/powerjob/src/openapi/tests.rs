//! The client against a small server made for each test: what it sends, where it turns, what it makes of answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;

use super::{JobSpec, OpenApi, OpenApiError};

const OK: &str = r#"{"success":true,"data":7,"message":null}"#;

/// Serves until the test's runtime ends.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("it is bound").to_string()
}

fn passed(flag: &str, body: &str) -> Response {
    ([("x-powerjob-auth-passed", flag.to_owned())], body.to_owned()).into_response()
}

#[tokio::test]
async fn forms_carry_the_exact_content_type_and_percent_encoded_text() {
    let seen = async |request: Request| {
        let kind = request.headers()["content-type"].to_str().unwrap_or_default().to_owned();
        let body = axum::body::to_bytes(request.into_body(), 10_000).await.unwrap_or_default();
        let ok = kind == "application/x-www-form-urlencoded"
            && body == "appId=1&jobId=2&instanceParams=%7B%22a%22%3A%22%C3%A4+%26%22%7D&delay=5";
        if ok { OK.to_owned() } else { format!("{kind} {body:?}") }
    };
    let api = OpenApi::new(&[serve(Router::new().route("/openApi/runJob", post(seen))).await]).expect("built");
    assert_eq!(api.run_job(1, 2, Some("{\"a\":\"ä &\"}"), 5).await, Ok(7));
}

#[tokio::test]
async fn servers_are_tried_in_order_and_the_last_good_one_comes_first_next_time() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let answer = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { OK }
    };
    let good = serve(Router::new().route("/server/assert", get(answer))).await;
    let api = OpenApi::new(&[nobody().await, good.clone(), nobody().await]).expect("built");
    assert_eq!(api.app_id("a").await, Ok(7));
    assert_eq!(api.last_good(), format!("http://{good}"));
    assert_eq!(api.app_id("a").await, Ok(7));
    assert_eq!(hits.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn when_no_server_answers_every_address_is_named_with_its_reason() {
    let (first, second) = (nobody().await, nobody().await);
    let api = OpenApi::new(&[&first, &second]).expect("built");
    let error = api.app_id("a").await.expect_err("nobody there");
    let text = error.to_string();
    assert!(error.is_no_server() && text.contains(&first) && text.contains(&second), "{text}");
    assert!(text.contains("/server/assert") && text.to_lowercase().contains("refused"), "{text}");
}

#[tokio::test]
async fn what_may_have_happened_is_not_asked_of_another_server() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = hits.clone();
    let other = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { OK }
    };
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        OK
    };
    let slow = serve(Router::new().fallback(slow)).await;
    let other = serve(Router::new().fallback(other)).await;
    let limit = Duration::from_millis(300);
    let api = OpenApi::new(&[&slow, &other]).and_then(|api| api.with_timeout(limit)).expect("built");
    let error = api.run_job(1, 2, None, 0).await.expect_err("no answer in time");
    assert!(matches!(error, OpenApiError::Unanswered { .. }), "{error}");
    assert!(error.to_string().contains("may have been carried out"), "{error}");
    assert_eq!(hits.load(Ordering::Relaxed), 0);
    let other = api.fetch_instance_status(1, 2).await.expect_err("7 is no status");
    assert!(other.to_string().contains("7 is no instance status"), "{other}");
    assert_eq!(hits.load(Ordering::Relaxed), 1, "a question may be asked again elsewhere");
}

#[tokio::test]
async fn refusals_carry_the_servers_words_and_code() {
    let body =
        json!({"success": false, "data": null, "message": "app(x) is not registered! Please register", "code": "-501"});
    let api =
        OpenApi::new(&[serve(Router::new().fallback(move || async move { body.to_string() })).await]).expect("built");
    let error = api.app_id("x").await.expect_err("refused");
    assert!(error.app_not_registered());
    assert_eq!(error.code(), Some("-501"));
    assert!(error.to_string().contains("is not registered") && error.to_string().contains("(code -501)"), "{error}");
}

#[tokio::test]
async fn what_is_no_powerjob_server_is_said_so() {
    let page = || async { (StatusCode::BAD_GATEWAY, "<h1>proxy</h1>") };
    let api = OpenApi::new(&[serve(Router::new().fallback(page)).await]).expect("built");
    let text = api.hello().await.expect_err("no answer of a server").to_string();
    assert!(text.contains("502") && text.contains("proxy") && text.contains("web port"), "{text}");
}

#[tokio::test]
async fn an_expired_token_is_fetched_anew_once_and_the_call_repeated() {
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = issued.clone();
    let auth = move |body: String| {
        // MD5 of "secret"
        let right = body.contains("5ebe2294ecd0e0f08eab7690d2a6ee69") && body.contains("\"encryptType\":\"md5\"");
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if right {
                json!({"success": true, "data": {"appId": 3, "token": format!("t{number}"), "extra": null}}).to_string()
            } else {
                format!("{body} is not what was wanted")
            }
        }
    };
    let call = |headers: HeaderMap| async move {
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        if header("x-powerjob-app-id") == "3" && header("x-powerjob-access-token") == "t2" {
            passed("true", OK)
        } else {
            passed("false", r#"{"success":false,"data":null,"message":"TOKEN_EXPIRED:x","code":"-403"}"#)
        }
    };
    let router = Router::new().route("/openApi/authApp", post(auth)).fallback(call);
    let api = OpenApi::new(&[serve(router).await]).and_then(|api| api.with_app_token("a", "secret")).expect("built");
    assert_eq!(api.save_job(&JobSpec::api(3, "j", "p")).await, Ok(7));
    assert_eq!(api.run_job(3, 7, None, 0).await, Ok(7));
    assert_eq!(issued.load(Ordering::Relaxed), 2, "the second token serves both calls");
}

#[tokio::test]
async fn a_server_without_tokens_is_called_without_them() {
    let call =
        |headers: HeaderMap| async move { if headers.contains_key("x-powerjob-access-token") { "no" } else { OK } };
    let router = Router::new().route("/openApi/saveJob", post(call));
    let api = OpenApi::new(&[serve(router).await]).and_then(|api| api.with_app_token("a", "secret")).expect("built");
    assert_eq!(api.save_job(&JobSpec::api(3, "j", "p")).await, Ok(7));
}

#[tokio::test]
async fn console_pages_carry_the_login_and_log_in_again_when_it_is_over() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counter = logins.clone();
    let login = move || {
        let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
        async move { json!({"success": true, "data": {"id": 1, "jwtToken": format!("j{number}")}}).to_string() }
    };
    let page = |headers: HeaderMap| async move {
        if headers.get("powerjwt").is_some_and(|token| token == "j2") {
            r#"{"success":true,"data":[],"message":null}"#
        } else {
            r#"{"success":false,"data":null,"message":"PowerJobAuthException: UserNotLoggedIn","code":"-100"}"#
        }
    };
    let router = Router::new().route("/auth/thirdPartyLoginDirect", post(login)).route("/system/listWorker", get(page));
    let api = OpenApi::new(&[serve(router).await]).and_then(|api| api.with_login("ADMIN", "x")).expect("built");
    assert!(api.list_workers(1).await.expect("logged in").is_empty());
    assert_eq!(logins.load(Ordering::Relaxed), 2);
}
