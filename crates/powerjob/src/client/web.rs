//! GETs to the web port (7700): assert, acquire, hello; and which local address leads there.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};

use super::ServerAddress;

/// Longest wait for one answer of the web port.
const GET_TIMEOUT: Duration = Duration::from_millis(2500);

/// Keeps `.`, `-`, `_` and `:` as they are; they are safe in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b':');

/// Why one address gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WebError {
    /// Nobody answered; the next try may work.
    NoAnswer(String),
    /// The server answered and said no.
    Refused(String),
    /// What answered is not the web port of a PowerJob server.
    NotPowerJob(String),
}

impl WebError {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::NoAnswer(text) | Self::Refused(text) | Self::NotPowerJob(text) => text,
        }
    }
}

/// What `/server/hello` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) born_time: Option<i64>,
    pub(crate) server_time: Option<i64>,
}

/// The web port of one server.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    pub(crate) http: reqwest::Client,
}

impl Web {
    /// App name to app id.
    pub(crate) async fn assert(&self, server: &ServerAddress, app: &str) -> Result<i64, WebError> {
        let name = utf8_percent_encode(app, QUERY);
        let answer = self.get(server, &format!("/server/assert?appName={name}")).await?;
        let id = match &answer {
            Value::Object(info) => info.get("appId").and_then(number),
            other => number(other),
        };
        id.ok_or_else(|| WebError::NotPowerJob(format!("server {server} answered `{answer}` where an app id belongs")))
    }

    /// The transport address of the app's owner.
    pub(crate) async fn acquire(
        &self,
        server: &ServerAddress,
        app_id: i64,
        current: Option<&str>,
    ) -> Result<String, WebError> {
        let mut path = format!("/server/acquire?appId={app_id}&protocol=HTTP");
        if let Some(current) = current {
            path.push_str("&currentServer=");
            path.extend(utf8_percent_encode(current, QUERY));
        }
        match self.get(server, &path).await? {
            Value::String(address) if address.parse::<ServerAddress>().is_ok() => Ok(address),
            other => Err(WebError::NotPowerJob(format!(
                "server {server} answered `{other}` where the transport address ip:port of the owner belongs"
            ))),
        }
    }

    /// Birth and time of a server.
    pub(crate) async fn hello(&self, server: &ServerAddress) -> Result<Hello, WebError> {
        let data = self.get(server, "/server/hello").await?;
        Ok(Hello {
            born_time: data.get("serverInfo").and_then(|info| info.get("bornTime")).and_then(number),
            server_time: data.get("serverTimeTs").and_then(number),
        })
    }

    /// The `data` of a `{"success":true,"data":..}` answer.
    async fn get(&self, server: &ServerAddress, path: &str) -> Result<Value, WebError> {
        let request = self.http.get(format!("http://{server}{path}")).timeout(GET_TIMEOUT);
        let response = match request.send().await {
            Ok(response) => response,
            Err(e) if e.is_connect() || e.is_timeout() => {
                return Err(WebError::NoAnswer(format!("server {server} does not answer: {}", super::describe(e))));
            }
            Err(e) => {
                return Err(WebError::NotPowerJob(format!(
                    "{server} accepts connections but does not speak HTTP ({}); is that the AKKA port? Give the web port, \
                     usually 7700",
                    super::describe(e)
                )));
            }
        };
        let status = response.status();
        let body = super::body(response)
            .await
            .map_err(|why| WebError::NoAnswer(format!("server {server} broke off: {why}")))?;
        if status == reqwest::StatusCode::NOT_FOUND && self.is_transport_port(server).await {
            return Err(WebError::NotPowerJob(format!(
                "{server} is the transport port of a PowerJob server (usually 10010); give its web port, usually {}:7700",
                server.host()
            )));
        }
        let Ok(Value::Object(mut answer)) = serde_json::from_slice::<Value>(&body) else {
            let text: String = String::from_utf8_lossy(&body).chars().take(80).collect();
            if status.is_server_error() {
                return Err(WebError::NoAnswer(format!(
                    "{server} answered {status} `{}` to GET {}: the server, or a proxy before it, is not well or still \
                     starting; its own log says why",
                    text.trim(),
                    path.split('?').next().unwrap_or(path)
                )));
            }
            return Err(WebError::NotPowerJob(format!(
                "{server} is not the web port of a PowerJob server: it answered {status} `{}` to GET {}; give the web \
                 address of the server, usually port 7700",
                text.trim(),
                path.split('?').next().unwrap_or(path)
            )));
        };
        match answer.get("success") {
            Some(Value::Bool(true)) if status == reqwest::StatusCode::OK => {
                Ok(answer.remove("data").unwrap_or(Value::Null))
            }
            Some(Value::Bool(false)) => {
                let why = answer.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                Err(WebError::Refused(format!("server {server} refused: {why}")))
            }
            _ => Err(WebError::NotPowerJob(format!(
                "{server} is not the web port of a PowerJob server: it answered {status} without `success`"
            ))),
        }
    }

    /// The transport port knows this path, but only for POST; the web port does not know it at all.
    async fn is_transport_port(&self, server: &ServerAddress) -> bool {
        let request = self.http.get(format!("http://{server}/server/workerHeartbeat")).timeout(GET_TIMEOUT);
        request.send().await.is_ok_and(|r| r.status() == reqwest::StatusCode::METHOD_NOT_ALLOWED)
    }
}

fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// The local address of a connection to this server, if one comes up.
pub(crate) async fn local_address_towards(server: &ServerAddress) -> Option<Ipv4Addr> {
    let connecting = async { TcpStream::connect(resolve(server).await?).await.ok()?.local_addr().ok() };
    ipv4(tokio::time::timeout(super::CONNECT_TIMEOUT, connecting).await.ok()??)
}

/// The local address that the system would use towards this server; sends nothing.
pub(crate) async fn route_towards(server: &ServerAddress) -> Option<Ipv4Addr> {
    let target = resolve(server).await?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(target).ok()?;
    ipv4(socket.local_addr().ok()?)
}

/// IPv4 only: the other side calls back, and IPv6 cannot be written into a PowerJob address.
async fn resolve(server: &ServerAddress) -> Option<SocketAddr> {
    lookup_host((server.host(), server.port())).await.ok()?.find(SocketAddr::is_ipv4)
}

fn ipv4(address: SocketAddr) -> Option<Ipv4Addr> {
    match address {
        SocketAddr::V4(v4) if !v4.ip().is_unspecified() => Some(*v4.ip()),
        _ => None,
    }
}
