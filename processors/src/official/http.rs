//! `HttpProcessor`: one request, its answer as the result.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use powerjob_worker::{ProcessResult, Processor, TaskContext};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use super::{fields::Fields, outside, params};
use crate::{Environment, params::mask, related};

/// What is read of an answer; of the result text the worker keeps less.
const ANSWER_BYTES: usize = 1 << 20;
/// Seconds for the whole call.
const TIMEOUT: i64 = 60;

/// See the module.
pub(super) struct Http {
    env: Arc<Environment>,
}

impl Http {
    pub(super) fn new(env: Arc<Environment>) -> Self {
        Self { env }
    }
}

#[async_trait]
impl Processor for Http {
    async fn process(&self, ctx: TaskContext) -> ProcessResult {
        let text = params::of(&ctx);
        params::tell(&ctx, text);
        let call = match Call::read(text) {
            Ok(call) => call,
            Err(error) => {
                ctx.log.warn(&error);
                return ProcessResult::rejected(error);
            }
        };
        if let Err(denied) = self.env.allow_url(&call.url) {
            ctx.log.error(&denied);
            return ProcessResult::rejected(denied.to_string());
        }
        ctx.log.info(format!("{} {}", call.method, mask::url(&call.url)));
        tokio::select! {
            biased;
            reason = ctx.stop.raised() => related::ended(reason, "waiting for the answer"),
            answer = call.send(&self.env) => match answer {
                Ok(result) => result,
                Err(error) => {
                    ctx.log.error(&error);
                    ProcessResult::failed(error)
                }
            },
        }
    }
}

/// A request that can be sent.
#[derive(Debug)]
struct Call {
    url: String,
    method: Method,
    headers: HeaderMap,
    body: Option<String>,
    timeout: Duration,
}

impl Call {
    fn read(text: Option<&str>) -> Result<Self, String> {
        let wrong = |error: String| format!("the parameters of HttpProcessor: {error}");
        let Some(fields) = Fields::read(text).map_err(wrong)? else {
            return Err("httpParams is null, please check jobParam configuration.".to_owned());
        };
        let Some(mut url) = fields.some_text("url") else { return Err("url can't be empty!".to_owned()) };
        if !url.starts_with("http") {
            url = format!("http://{url}");
        }
        let asked = fields.some_text("method").map_or_else(|| "GET".to_owned(), |method| method.to_uppercase());
        let method = match asked.as_str() {
            "PUT" => Method::PUT,
            "POST" => Method::POST,
            "DELETE" => Method::DELETE,
            // As in Java: whatever else is asked for is a GET.
            _ => Method::GET,
        };
        let mut headers = headers(&fields).map_err(wrong)?;
        let body = (method != Method::GET).then(|| fields.some_text("body").unwrap_or_else(|| "{}".to_owned()));
        if let Some(body) = &body {
            let is_json = serde_json::from_str::<Value>(body).is_ok();
            let media = fields.some_text("mediaType").or_else(|| is_json.then(|| "application/json".to_owned()));
            let media = media.ok_or_else(|| wrong("the body is no JSON, so that `mediaType` must be given".into()))?;
            // What OkHttp adds to a type without a charset when the body is a text.
            let media = if media.contains("charset") { media } else { format!("{media}; charset=utf-8") };
            let media = HeaderValue::from_str(&media).map_err(|_| wrong("`mediaType` is no media type".into()))?;
            headers.insert(CONTENT_TYPE, media);
        }
        let timeout = fields.int("timeout").map_err(wrong)?.unwrap_or(TIMEOUT);
        if !(0..=86_400).contains(&timeout) {
            return Err(wrong(format!("`timeout` is {timeout}; accepted: 0 (no limit) to 86400 seconds")));
        }
        let timeout = Duration::from_secs(if timeout == 0 { u64::from(u32::MAX) } else { timeout.unsigned_abs() });
        Ok(Self { url, method, headers, body, timeout })
    }

    async fn send(self, env: &Arc<Environment>) -> Result<ProcessResult, String> {
        let client = outside::client(env, self.timeout, self.timeout)?;
        let mut request = client.request(self.method, &self.url).headers(self.headers);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| outside::cause(&error))?;
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (body, more) = outside::body(response, ANSWER_BYTES).await?;
        let cut = if more { "..." } else { "" };
        let text = format!("code:{status}, body:{}{cut}", outside::text(&body, kind.as_deref()));
        Ok(if status == 200 { ProcessResult::success(text) } else { ProcessResult::failed(text) })
    }
}

/// `headers`: a name may stand twice with the ones that the client sets itself.
fn headers(fields: &Fields) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let given = match fields.get("headers") {
        None => return Ok(headers),
        Some(Value::Object(given)) => given,
        Some(other) => return Err(format!("`headers` is {other}; accepted: an object of texts")),
    };
    for (name, value) in given {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        // The value may be a secret.
        let bad = || format!("`headers.{name}` is no HTTP header");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        headers.append(name, HeaderValue::from_str(&value).map_err(|_| bad())?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Bytes,
        http::{HeaderMap as Got, Method as Verb, StatusCode, Uri},
        response::{IntoResponse, Redirect},
        routing::any,
    };
    use powerjob_worker::StopReason;
    use serde_json::json;

    use super::*;
    use crate::task_rig::Rig;

    async fn answer(verb: Verb, uri: Uri, headers: Got, body: Bytes) -> axum::response::Response {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        match uri.path() {
            "/gbk" => ([("content-type", "text/plain; charset=GBK")], &b"\xc4\xe3\xba\xc3"[..]).into_response(),
            "/slow" => std::future::pending().await,
            "/created" => (StatusCode::CREATED, "made").into_response(),
            "/away" => Redirect::temporary("/echo?moved=1").into_response(),
            "/outside" => Redirect::temporary("http://127.0.0.2:1/x").into_response(),
            _ => format!(
                "{verb} {uri} type={} x={} {}",
                header("content-type"),
                header("x-a"),
                String::from_utf8_lossy(&body)
            )
            .into_response(),
        }
    }

    async fn server() -> String {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("listener");
        let address = listener.local_addr().expect("address").to_string();
        let app = Router::new().fallback(any(answer));
        tokio::spawn(async move { axum::serve(listener, app).await.expect("served") });
        address
    }

    async fn run(rig: &Rig, change: impl FnOnce(&mut Environment), params: &str) -> ProcessResult {
        let mut env = rig.environment();
        change(&mut env);
        let mut ctx = rig.task(1, &Value::Null, &Value::Null);
        (ctx.job_params, ctx.instance_params) = (Some(params.to_owned()), None);
        Http::new(Arc::new(env)).process(ctx).await
    }

    #[tokio::test]
    async fn requests_are_sent_as_java_sends_them() {
        let (rig, at) = (Rig::new(), server().await);
        for (params, wanted) in [
            (format!("{{url:'{at}/echo?a=1'}}"), "code:200, body:GET /echo?a=1 type=- x=- "),
            (format!("{{url:'{at}/echo',method:'patch',body:'x'}}"), "code:200, body:GET /echo type=- x=- "),
            (
                format!("{{'url':'http://{at}/echo','method':'post','headers':{{'X-A':'b'}},}}"),
                "code:200, body:POST /echo type=application/json; charset=utf-8 x=b {}",
            ),
            (
                format!("{{url:'{at}/echo',method:'PUT',body:{{'a':1}}}}"),
                r#"code:200, body:PUT /echo type=application/json; charset=utf-8 x=- {"a":1}"#,
            ),
            (
                format!("{{url:'{at}/echo',method:'DELETE',body:'a=b',media_type:'text/plain'}}"),
                "code:200, body:DELETE /echo type=text/plain; charset=utf-8 x=- a=b",
            ),
            (format!("{{url:'{at}/gbk'}}"), "code:200, body:你好"),
            (format!("{{url:'{at}/away'}}"), "code:200, body:GET /echo?moved=1 type=- x=- "),
        ] {
            assert_eq!(run(&rig, |_| {}, &params).await, ProcessResult::success(wanted), "{params}");
        }
        let result = run(&rig, |_| {}, &format!("{{url:'{at}/created'}}")).await;
        assert_eq!(result, ProcessResult::failed("code:201, body:made"), "only 200 is a success");
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_told() {
        let (rig, at) = (Rig::new(), server().await);
        for (params, wanted) in [
            (String::new(), "httpParams is null, please check jobParam configuration."),
            ("{}".to_owned(), "url can't be empty!"),
            (format!("{{url:'{at}',method:'POST',body:'a=b'}}"), "`mediaType` must be given"),
            (format!("{{url:'{at}',timeout:'soon'}}"), "`timeout`"),
            (format!("{{url:'{at}',headers:{{'a b':'c'}}}}"), "`headers.a b`"),
            ("{url:".to_owned(), "line 1 column"),
            (format!("{{url:'{at}/slow',timeout:1}}"), "no answer in time"),
            ("{url:'127.0.0.1:1'}".to_owned(), "no connection"),
        ] {
            let result = run(&rig, |_| {}, &params).await;
            assert!(!result.success && result.message.contains(wanted), "{params}: {result:?}");
        }
        let only = |env: &mut Environment| env.allowed_hosts = Some(vec!["127.0.0.1".into()]);
        for params in ["{url:'127.0.0.2:1'}".to_owned(), format!("{{url:'{at}/outside'}}")] {
            let result = run(&rig, only, &params).await;
            assert!(!result.success && result.message.contains("[outbound] allowed_hosts"), "{params}: {result:?}");
        }
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait_and_secrets_stay_out_of_the_log() {
        let (rig, at) = (Rig::new(), server().await);
        let mut ctx = rig.task(7, &Value::Null, &Value::Null);
        let params = json!({"url": format!("{at}/slow?token=s3cret"), "headers": {"Authorization": "Bearer s3cret"}});
        (ctx.job_params, ctx.instance_params) = (Some(params.to_string()), None);
        ctx.stop.raise(StopReason::TimedOut);
        let result = Http::new(Arc::new(rig.environment())).process(ctx.clone()).await;
        assert!(!result.success && result.message.contains("time limit"), "{result:?}");
        assert!(!rig.log(&ctx).contains("s3cret"), "{}", rig.log(&ctx));
    }
}
