//! Addresses, requests and the answer envelope `{"success", "data", "message", "code"}`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::OpenApiError;
use super::auth::{Auth, Credentials};

/// What a server address may look like; for messages of whoever reads addresses from users.
pub const SERVERS_HINT: &str = "host:port, http://host:port or https://host:port of the server's web port";

/// A client. Cheap to clone; clones share the addresses, the last good one and the tokens.
#[derive(Clone, Debug)]
pub struct OpenApi {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    http: reqwest::Client,
    servers: Vec<String>,
    last_good: AtomicUsize,
    timeout: Duration,
    pub(super) auth: Auth,
}

/// One call, before it is sent.
#[derive(Clone, Debug)]
pub struct ApiCall {
    method: reqwest::Method,
    path: String,
    query: Vec<(String, String)>,
    body: Body,
    once: bool,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Form(Vec<(String, String)>),
    Json(Value),
}

/// A whole answer, for those who must see more than its data.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Address that answered.
    pub server: String,
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body as text.
    pub body: String,
}

impl ApiCall {
    /// A GET.
    pub fn get(path: &str) -> Self {
        Self::new(reqwest::Method::GET, path, Body::None)
    }

    /// A POST with form fields; the content type is exactly `application/x-www-form-urlencoded` (with a charset behind it,
    /// 5.1.1 loses the fields).
    pub fn form<V: ToString>(path: &str, fields: &[(&str, V)]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
        Self::new(reqwest::Method::POST, path, Body::Form(fields))
    }

    /// A POST with a JSON body.
    pub fn json(path: &str, body: Value) -> Self {
        Self::new(reqwest::Method::POST, path, Body::Json(body))
    }

    /// Adds a query parameter.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers give numbers and texts alike")]
    pub fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a form field, if there is a value.
    #[must_use]
    pub fn field(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let (Body::Form(fields), Some(value)) = (&mut self.body, value) {
            fields.push((name.to_owned(), value.to_string()));
        }
        self
    }

    /// Marks a call that must not happen twice.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn new(method: reqwest::Method, path: &str, body: Body) -> Self {
        Self { method, path: path.to_owned(), query: Vec::new(), body, once: false }
    }
}

impl OpenApi {
    /// A client for these addresses, tried in this order.
    ///
    /// # Errors
    /// [`OpenApiError::Config`] for an empty list or an address that is none.
    pub fn new<S: AsRef<str>>(servers: &[S]) -> Result<Self, OpenApiError> {
        Self::build(servers, Duration::from_secs(5), Credentials::default())
    }

    /// The same client with another limit for one whole call at one address (default 5 s).
    ///
    /// # Errors
    /// [`OpenApiError::Config`] when the HTTP client cannot be built.
    pub fn with_timeout(&self, timeout: Duration) -> Result<Self, OpenApiError> {
        Self::build(&self.inner.servers, timeout, self.inner.auth.credentials().clone())
    }

    /// The same client that proves to `/openApi/*` with tokens which app it is (`oms.auth.openapi.enable=true` on 5.x).
    ///
    /// # Errors
    /// [`OpenApiError::Config`] when the HTTP client cannot be built.
    pub fn with_app_token(&self, app: &str, password: &str) -> Result<Self, OpenApiError> {
        let credentials =
            Credentials { app: Some((app.to_owned(), password.to_owned())), ..self.inner.auth.credentials().clone() };
        Self::build(&self.inner.servers, self.inner.timeout, credentials)
    }

    /// The same client with a console account, which console pages of 5.x need.
    ///
    /// # Errors
    /// [`OpenApiError::Config`] when the HTTP client cannot be built.
    pub fn with_login(&self, user: &str, password: &str) -> Result<Self, OpenApiError> {
        let credentials = Credentials {
            login: Some((user.to_owned(), password.to_owned())),
            ..self.inner.auth.credentials().clone()
        };
        Self::build(&self.inner.servers, self.inner.timeout, credentials)
    }

    /// The base URLs, in the order in which they are tried.
    pub fn servers(&self) -> &[String] {
        &self.inner.servers
    }

    /// The base URL that answered last (the first one before any answer).
    pub fn last_good(&self) -> &str {
        &self.inner.servers[self.inner.last_good.load(Ordering::Relaxed)]
    }

    /// Makes a call and reads `data` of its answer.
    ///
    /// # Errors
    /// All kinds of [`OpenApiError`] except `Config`.
    pub async fn call<T: DeserializeOwned>(&self, call: ApiCall) -> Result<T, OpenApiError> {
        let path = call.path.clone();
        let answer = self.exchange(&call).await?;
        let data = Self::unwrap(&answer, &path)?;
        serde_json::from_value(data).map_err(|error| OpenApiError::Unexpected {
            server: answer.server,
            path,
            status: answer.status,
            detail: format!("its data cannot be read: {error}"),
        })
    }

    /// Makes a call with whatever credentials its path needs and gives back the whole answer.
    ///
    /// # Errors
    /// [`OpenApiError::NoServer`] and [`OpenApiError::Unanswered`]; what authentication itself meets.
    pub async fn exchange(&self, call: &ApiCall) -> Result<RawAnswer, OpenApiError> {
        let answer = self.send(call, self.headers_for(&call.path, false).await?).await?;
        if self.needs_new_token(&call.path, &answer) {
            return self.send(call, self.headers_for(&call.path, true).await?).await;
        }
        Ok(answer)
    }

    /// Takes `data` out of the envelope.
    pub(super) fn unwrap(answer: &RawAnswer, path: &str) -> Result<Value, OpenApiError> {
        let unexpected = |detail: String| OpenApiError::Unexpected {
            server: answer.server.clone(),
            path: path.to_owned(),
            status: answer.status,
            detail,
        };
        if answer.status != 200 {
            return Err(unexpected(excerpt(&answer.body)));
        }
        let mut body: Value = serde_json::from_str(&answer.body).map_err(|_| unexpected(excerpt(&answer.body)))?;
        match body.get("success").and_then(Value::as_bool) {
            Some(true) => Ok(body.get_mut("data").map_or(Value::Null, Value::take)),
            Some(false) => Err(OpenApiError::Refused {
                server: answer.server.clone(),
                path: path.to_owned(),
                message: body.get("message").and_then(Value::as_str).unwrap_or("no message given").to_owned(),
                code: body.get("code").and_then(Value::as_str).map(str::to_owned),
            }),
            None => Err(unexpected(excerpt(&answer.body))),
        }
    }

    /// Sends without looking at credentials or the envelope: the last good address first, then the others in order.
    pub(super) async fn send(&self, call: &ApiCall, headers: HeaderMap) -> Result<RawAnswer, OpenApiError> {
        let inner = &self.inner;
        let first = inner.last_good.load(Ordering::Relaxed);
        let others = (0..inner.servers.len()).filter(|index| *index != first);
        let mut tried = Vec::new();
        for index in std::iter::once(first).chain(others) {
            let server = &inner.servers[index];
            match self.send_to(server, call, headers.clone()).await {
                Ok(answer) => {
                    inner.last_good.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if call.once && !error.is_connect() => {
                    return Err(OpenApiError::Unanswered {
                        server: server.clone(),
                        path: call.path.clone(),
                        detail: root_cause(&error),
                    });
                }
                Err(error) => tried.push((server.clone(), root_cause(&error))),
            }
        }
        Err(OpenApiError::NoServer { path: call.path.clone(), tried })
    }

    async fn send_to(&self, server: &str, call: &ApiCall, headers: HeaderMap) -> reqwest::Result<RawAnswer> {
        let mut request =
            self.inner.http.request(call.method.clone(), format!("{server}{}", call.path)).headers(headers);
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        let request = match &call.body {
            Body::None => request,
            Body::Form(fields) => request.form(fields),
            Body::Json(value) => request.json(value),
        };
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(RawAnswer { server: server.to_owned(), status, headers, body: response.text().await? })
    }

    fn build<S: AsRef<str>>(servers: &[S], timeout: Duration, credentials: Credentials) -> Result<Self, OpenApiError> {
        let servers = servers.iter().map(|server| base_url(server.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(OpenApiError::Config(format!(
                "no PowerJob server given; wanted is at least one {SERVERS_HINT}"
            )));
        }
        // Whoever comes first chooses the process' provider; a second choice is refused, which is fine: there is one only.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(timeout.min(Duration::from_secs(3)))
            .timeout(timeout)
            .pool_idle_timeout(Duration::from_secs(20))
            .no_proxy()
            .build()
            .map_err(|error| OpenApiError::Config(format!("cannot build the HTTP client: {}", root_cause(&error))))?;
        let inner = Inner { http, servers, last_good: AtomicUsize::new(0), timeout, auth: Auth::new(credentials) };
        Ok(Self { inner: Arc::new(inner) })
    }
}

/// `headers[name] = value`; a value that no header can hold is left out, and the server then says what it misses.
pub(super) fn set_header(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn base_url(text: &str) -> Result<String, OpenApiError> {
    let text = text.trim();
    let wrong = || {
        OpenApiError::Config(format!("{text:?} is not the address of a PowerJob server; accepted is {SERVERS_HINT}"))
    };
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let parsed = reqwest::Url::parse(&url).map_err(|_| wrong())?;
    if !matches!(parsed.scheme(), "http" | "https")
        || parsed.host_str().is_none_or(str::is_empty)
        || parsed.query().is_some()
    {
        return Err(wrong());
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn excerpt(body: &str) -> String {
    let short: String = body.trim().chars().take(200).collect();
    if short.is_empty() { "an empty body".to_owned() } else { short }
}

fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_a_scheme() {
        assert_eq!(base_url(" 10.0.0.1:7700/ ").expect("accepted"), "http://10.0.0.1:7700");
        assert_eq!(base_url("https://pj.local/prefix/").expect("accepted"), "https://pj.local/prefix");
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_accepted() {
        for wrong in ["", "ftp://a:1", "http://", "a b:1"] {
            let message = base_url(wrong).expect_err("refused").to_string();
            assert!(message.contains("host:port"), "{message}");
        }
        assert!(OpenApi::new::<&str>(&[]).expect_err("refused").to_string().contains("at least one"));
    }
}
