//! GETs to the web port (7700): assert, acquire, hello; and which local address leads there.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::net::{TcpStream, lookup_host};

use super::{Reading, ServerAddress};

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) born_time: Option<i64>,
    pub(crate) clock: Option<Reading>,
    pub(crate) is: Identity,
}

/// The HTTP transport addresses (its own and the one for others) that a server tells of itself. Empty: it does not tell any,
/// because its default protocol is another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity(Vec<String>);

impl Identity {
    fn of(hello: &Value) -> Self {
        let Some(told) = hello.get("defaultAddress") else { return Self::default() };
        if told.get("protocol").and_then(Value::as_str) != Some("HTTP") {
            return Self::default();
        }
        let addresses = ["externalAddress", "address"].iter().filter_map(|key| told.get(key)?.as_str());
        Self(addresses.map(str::to_owned).collect())
    }

    /// Whether it is the server with this transport address; `None` = it cannot be told.
    pub(crate) fn is_at(&self, transport: &str) -> Option<bool> {
        (!self.0.is_empty()).then(|| self.0.iter().any(|address| address == transport))
    }

    /// Its transport address, for people.
    pub(crate) fn shown(&self) -> &str {
        self.0.first().map_or("unknown", String::as_str)
    }
}

impl Hello {
    fn read(data: &Value, sent: Instant) -> Self {
        Self {
            born_time: data.get("serverInfo").and_then(|info| info.get("bornTime")).and_then(number),
            clock: data.get("serverTimeTs").and_then(number).map(|time| Reading::half_way(sent, time)),
            is: Identity::of(data),
        }
    }
}

/// The workers of an app in the memory of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) workers: Vec<ListedWorker>,
    /// The server's clock, epoch ms.
    pub(crate) time: Option<i64>,
    pub(crate) is: Identity,
}

/// A worker as a server has it in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedWorker {
    /// The address that it told in its heartbeats.
    pub(crate) address: String,
    /// The time that its last heartbeat carried, epoch ms.
    pub(crate) last_active: i64,
    /// Whether that heartbeat carried the overload flag.
    pub(crate) overload: bool,
}

impl Listed {
    fn read(data: &Value, app_id: i64) -> Option<Self> {
        let apps = data.get("appId2ClusterInfo")?;
        let workers = apps.get(app_id.to_string()).and_then(|app| app.get("allWorkers")).and_then(Value::as_object);
        let listed = |(address, worker): (&String, &Value)| ListedWorker {
            address: worker.get("address").and_then(Value::as_str).unwrap_or(address).to_owned(),
            last_active: worker.get("lastActiveTime").and_then(number).unwrap_or(0),
            overload: worker.get("overloading").and_then(Value::as_bool).unwrap_or(false),
        };
        Some(Self {
            workers: workers.into_iter().flatten().map(listed).collect(),
            time: data.get("serverTimeTs").and_then(number),
            is: Identity::of(data),
        })
    }
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
        let (answer, _) = self.get(server, &format!("/server/assert?appName={name}")).await?;
        app_id_in(&answer).ok_or_else(|| {
            WebError::NotPowerJob(format!("server {server} answered `{answer}` where an app id belongs"))
        })
    }

    /// The transport address of the app's owner, and what the asked server's clock said.
    pub(crate) async fn acquire(
        &self,
        server: &ServerAddress,
        app_id: i64,
        current: Option<&str>,
    ) -> Result<(String, Option<Reading>), WebError> {
        let mut path = format!("/server/acquire?appId={app_id}&protocol=HTTP");
        if let Some(current) = current {
            path.push_str("&currentServer=");
            path.extend(utf8_percent_encode(current, QUERY));
        }
        match self.get(server, &path).await? {
            (Value::String(address), clock) if address.parse::<ServerAddress>().is_ok() => Ok((address, clock)),
            (other, _) => Err(WebError::NotPowerJob(format!(
                "server {server} answered `{other}` where the transport address ip:port of the owner belongs"
            ))),
        }
    }

    /// Birth and time of a server.
    pub(crate) async fn hello(&self, server: &ServerAddress) -> Result<Hello, WebError> {
        let sent = Instant::now();
        let (data, date) = self.get(server, "/server/hello").await?;
        let mut hello = Hello::read(&data, sent);
        hello.clock = hello.clock.or(date);
        Ok(hello)
    }

    /// Whether this server can connect to an address: it writes `ping` there and wants `pong`. Servers from 4.3.7 on can
    /// be asked.
    pub(crate) async fn reaches(&self, server: &ServerAddress, host: &str, port: u16) -> Result<bool, WebError> {
        let host = utf8_percent_encode(host, QUERY);
        let path = format!("/server/checkConnectivity?targetIp={host}&targetPort={port}");
        match self.get(server, &path).await?.0 {
            Value::Bool(reaches) => Ok(reaches),
            other => Err(WebError::NotPowerJob(format!("server {server} answered `{other}` where yes or no belongs"))),
        }
    }

    /// The workers of an app that this very server has had a heartbeat from. Needs no login.
    pub(crate) async fn workers(&self, server: &ServerAddress, app_id: i64) -> Result<Listed, WebError> {
        let (data, _) = self.get(server, "/server/hello?debug=true").await?;
        Listed::read(&data, app_id).ok_or_else(|| {
            WebError::NotPowerJob(format!("server {server} tells no workers in /server/hello?debug=true"))
        })
    }

    /// The `data` of a `{"success":true,"data":..}` answer, and the clock that its `Date` shows.
    async fn get(&self, server: &ServerAddress, path: &str) -> Result<(Value, Option<Reading>), WebError> {
        let sent = Instant::now();
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
        let date = Reading::of_date(sent, response.headers());
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
                Ok((answer.remove("data").unwrap_or(Value::Null), date))
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

/// What `/server/assert` answers: the id, or from 5.0 on an object with it.
fn app_id_in(answer: &Value) -> Option<i64> {
    match answer {
        Value::Object(info) => info.get("appId").and_then(number),
        other => number(other),
    }
}

/// Reads a body as every answer of the web port, as far as it goes.
pub(crate) fn read_as_any_answer(body: &[u8]) {
    let Ok(Value::Object(mut answer)) = serde_json::from_slice::<Value>(body) else { return };
    let data = answer.remove("data").unwrap_or(Value::Null);
    let app = app_id_in(&data).unwrap_or(1);
    if let Value::String(address) = &data
        && let Ok(address) = address.parse::<ServerAddress>()
    {
        // What is read is written so that it is read again.
        debug_assert_eq!(address.to_string().parse::<ServerAddress>().as_ref(), Ok(&address));
    }
    let hello = Hello::read(&data, Instant::now());
    if let Some(clock) = hello.clock {
        clock.now_ms();
    }
    if let Some(listed) = Listed::read(&data, app) {
        listed.is.is_at(listed.workers.first().map_or("", |worker| &worker.address));
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
