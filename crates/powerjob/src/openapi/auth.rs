//! App tokens of `/openApi/*` and the console login of 5.x servers. 4.3.9 has neither; that is found out once.

use md5::{Digest, Md5};
use parking_lot::Mutex;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::json;

use super::client::{ApiCall, OpenApi, RawAnswer, set_header};
use super::error::OpenApiError;

#[derive(Clone, Default)]
pub(super) struct Credentials {
    /// App name and password.
    pub(super) app: Option<(String, String)>,
    /// Console account and password.
    pub(super) login: Option<(String, String)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let app = self.app.as_ref().map(|(name, _)| name);
        let login = self.login.as_ref().map(|(name, _)| name);
        f.debug_struct("Credentials").field("app", &app).field("login", &login).finish_non_exhaustive()
    }
}

/// What is known of a token.
#[derive(Clone, Default)]
enum Token {
    #[default]
    Unknown,
    /// The server has no such thing (4.3.9).
    NotUsed,
    Held {
        app_id: i64,
        text: String,
    },
}

#[derive(Default)]
pub(super) struct Auth {
    credentials: Credentials,
    app: Mutex<Token>,
    login: Mutex<Token>,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.credentials.fmt(f)
    }
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, ..Self::default() }
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppToken {
    app_id: i64,
    token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    jwt_token: String,
}

fn is_open_api(path: &str) -> bool {
    path.starts_with("/openApi/") && !matches!(path, "/openApi/assert" | "/openApi/authApp")
}

/// Pages that never want a login.
fn is_public(path: &str) -> bool {
    path.starts_with("/server/") || path.starts_with("/openApi/") || path.starts_with("/auth/")
}

impl OpenApi {
    /// The header fields a path needs; `renew` fetches the token anew.
    pub(super) async fn headers_for(&self, path: &str, renew: bool) -> Result<HeaderMap, OpenApiError> {
        let mut headers = HeaderMap::new();
        let auth = &self.inner.auth;
        if is_open_api(path)
            && let Some((app, password)) = &auth.credentials.app
            && let Token::Held { app_id, text } = self.app_token(app, password, renew).await?
        {
            set_header(&mut headers, "x-powerjob-app-id", &app_id.to_string());
            set_header(&mut headers, "x-powerjob-access-token", &text);
        } else if !is_public(path)
            && let Some((user, password)) = &auth.credentials.login
            && let Token::Held { text, .. } = self.login_token(user, password, renew).await?
        {
            set_header(&mut headers, "powerjwt", &text);
        }
        Ok(headers)
    }

    /// True when the answer shows that the token it was asked with is not (or no longer) good, and another can be had.
    pub(super) fn needs_new_token(&self, path: &str, answer: &RawAnswer) -> bool {
        let auth = &self.inner.auth;
        if is_open_api(path) && matches!(*auth.app.lock(), Token::Held { .. }) {
            let passed = answer.headers.get("x-powerjob-auth-passed").and_then(|value| value.to_str().ok());
            return passed != Some("true");
        }
        if !is_public(path) && matches!(*auth.login.lock(), Token::Held { .. }) {
            return ["\"-100\"", "\"-101\"", "\"-102\"", "\"-401\""]
                .iter()
                .any(|code| answer.body.contains(&format!("\"code\":{code}")));
        }
        false
    }

    async fn app_token(&self, app: &str, password: &str, renew: bool) -> Result<Token, OpenApiError> {
        let known = self.inner.auth.app.lock().clone();
        if !matches!(known, Token::Unknown) && !renew {
            return Ok(known);
        }
        let encrypted = hex(&Md5::digest(password.as_bytes()));
        let body = json!({"appName": app, "encryptedPassword": encrypted, "encryptType": "md5", "extra": {}});
        let token = match self.public::<AppToken>(ApiCall::json("/openApi/authApp", body)).await {
            Ok(token) => Token::Held { app_id: token.app_id, text: token.token },
            Err(error) if error.is_missing_path() => Token::NotUsed,
            Err(error) => return Err(error),
        };
        *self.inner.auth.app.lock() = token.clone();
        Ok(token)
    }

    async fn login_token(&self, user: &str, password: &str, renew: bool) -> Result<Token, OpenApiError> {
        let known = self.inner.auth.login.lock().clone();
        if !matches!(known, Token::Unknown) && !renew {
            return Ok(known);
        }
        let origin = json!({"username": user, "password": password, "encryption": "none"}).to_string();
        let body = json!({"loginType": "PWJB", "originParams": origin});
        let token = match self.public::<LoggedIn>(ApiCall::json("/auth/thirdPartyLoginDirect", body)).await {
            Ok(login) => Token::Held { app_id: 0, text: login.jwt_token },
            Err(error) if error.is_missing_path() => Token::NotUsed,
            Err(error) => return Err(error),
        };
        *self.inner.auth.login.lock() = token.clone();
        Ok(token)
    }

    async fn public<T: serde::de::DeserializeOwned>(&self, call: ApiCall) -> Result<T, OpenApiError> {
        let path = call.path().to_owned();
        let answer = self.send(&call, HeaderMap::new()).await?;
        let data = Self::unwrap(&answer, &path)?;
        serde_json::from_value(data).map_err(|error| OpenApiError::Unexpected {
            server: answer.server,
            path,
            status: answer.status,
            detail: format!("its data cannot be read: {error}"),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_never_show_in_debug_output() {
        let credentials =
            Credentials { app: Some(("a".into(), "secret1".into())), login: Some(("u".into(), "secret2".into())) };
        let text = format!("{:?}", Auth::new(credentials));
        assert!(text.contains("\"a\"") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn only_calls_behind_the_token_filter_carry_the_token() {
        assert!(is_open_api("/openApi/runJob"));
        assert!(!is_open_api("/openApi/authApp"));
        assert!(!is_open_api("/instance/log"));
        assert!(is_public("/server/hello"));
        assert!(!is_public("/system/listWorker"));
    }
}
