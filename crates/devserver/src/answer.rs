//! Requests and answers of the web port: form fields, JSON bodies, and the envelope in which nearly every failure is HTTP 200.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::java;
use crate::thrown::Thrown;

/// What a handler gives back.
pub(crate) type Answer = Result<Value, Thrown>;

/// The envelope around an outcome.
pub(crate) fn envelope(answer: Answer) -> Response {
    let body = match answer {
        Ok(data) => json!({"success": true, "data": data, "message": null}),
        Err(Thrown(message)) => json!({"success": false, "data": null, "message": message}),
    };
    json_response(StatusCode::OK, &body)
}

/// Fields of the query string and of a form body.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// A whole number; an empty field is none.
    pub(crate) fn long(&self, name: &str) -> Result<Option<i64>, Thrown> {
        match self.text(name) {
            None => Ok(None),
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => text.trim().parse().map(Some).map_err(|_| {
                Thrown(format!(
                    "MethodArgumentTypeMismatchException: Failed to convert value of type 'java.lang.String' to required type \
                     'java.lang.Long'; nested exception is java.lang.NumberFormatException: For input string: \"{text}\""
                ))
            }),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let mut fields = decoded(request.uri().query().unwrap_or_default().as_bytes());
        if content_type(&request).starts_with("application/x-www-form-urlencoded") {
            let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
            fields.extend(decoded(&body));
        }
        Ok(Self(fields))
    }
}

/// A JSON body.
pub(crate) struct JsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let kind = content_type(&request);
        if !kind.starts_with("application/json") {
            let shown =
                if kind == "application/x-www-form-urlencoded" { format!("{kind};charset=UTF-8") } else { kind };
            let text = format!("HttpMediaTypeNotSupportedException: Content type '{shown}' not supported");
            return Err(envelope(Err(Thrown(text))));
        }
        let body = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        serde_json::from_slice(&body).map(Self).map_err(|error| envelope(Err(Thrown::unreadable(error))))
    }
}

/// Spring's page for a path that does not exist.
pub(crate) async fn not_found(request: Request) -> Response {
    let body =
        json!({"timestamp": java::iso(java::now()), "status": 404, "error": "Not Found", "path": request.uri().path()});
    json_response(StatusCode::NOT_FOUND, &body)
}

pub(crate) async fn wrong_method(request: Request) -> Response {
    let method = request.method();
    envelope(Err(Thrown(format!("HttpRequestMethodNotSupportedException: Request method '{method}' not supported"))))
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn content_type(request: &Request) -> String {
    request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn decoded(text: &[u8]) -> Vec<(String, String)> {
    url::form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}
