//! What a schema cannot say: addresses that parse, files that are there, names that fit together.

use std::{collections::HashSet, net::SocketAddr, path::Path};

use testrig_host::docker::registry_of;
use testrig_processors::{
    Official,
    official::{Deny, Switch},
    service_control::{PYTHON_LAUNCHER, PYTHON_LAUNCHER_STREAMING},
};
use testrig_sql::Address;

use super::{AcceleratorProvider, Config, Purpose, layers::Layers, model::Lane, nearest};

/// Names of all processors that exist in this build.
pub(crate) const KNOWN_PROCESSORS: [&str; 7] = [
    "RunLLMTest",
    "CollectLogs",
    "AggregateMetrics",
    "NotifyResult",
    "ServiceControl",
    PYTHON_LAUNCHER,
    PYTHON_LAUNCHER_STREAMING,
];

/// Completes the configuration and returns every mistake.
pub(crate) fn verify(config: &mut Config, layers: &Layers, purpose: Purpose) -> Vec<String> {
    let mut all = Vec::new();
    let mut say = |path: &str, text: String| match layers.origin(path) {
        Some(origin) => all.push(format!("{origin}: {text}")),
        None => all.push(text),
    };
    if config.lane.is_empty() {
        config.lane.push(Lane::default());
    }
    if purpose == Purpose::Agent {
        if config.powerjob.app.trim().is_empty() {
            say(
                "powerjob.app",
                "`powerjob.app` is missing: the name of an app that is registered in the PowerJob console (flag -a)"
                    .into(),
            );
        }
        if config.powerjob.servers.is_empty() {
            say(
                "powerjob.servers",
                "`powerjob.servers` is missing: web addresses of the servers, e.g. 10.0.0.1:7700 (flag -s)".into(),
            );
        }
    }
    for (i, server) in config.powerjob.servers.iter_mut().enumerate() {
        let bare = server.trim().trim_start_matches("http://").trim_end_matches('/');
        if server.trim().starts_with("https://") {
            say(
                "powerjob.servers",
                format!(
                    "`powerjob.servers` entry {}: `{server}` asks for TLS, which PowerJob's worker protocol does not have; accepted: host:port",
                    i + 1
                ),
            );
        } else if !host_port(bare) {
            say(
                "powerjob.servers",
                format!("`powerjob.servers` entry {}: `{server}` is not host:port, e.g. 10.0.0.1:7700", i + 1),
            );
        }
        *server = bare.to_owned();
    }
    if config.powerjob.result_limit == 0 {
        say("powerjob.result_limit", "`powerjob.result_limit` is 0; accepted: 1 or more characters".into());
    }
    for peer in &config.powerjob.peers {
        if !cidr(peer) {
            say(
                "powerjob.peers",
                format!("`powerjob.peers`: `{peer}` is not an address or a CIDR block, e.g. 10.0.0.0/24"),
            );
        }
    }
    lanes(config, &mut say);
    accelerators(config, &mut say);
    match config.admin.listen.parse::<SocketAddr>() {
        Err(_) => say(
            "admin.listen",
            format!("`admin.listen` is `{}`; accepted: address:port, e.g. 127.0.0.1:8780", config.admin.listen),
        ),
        Ok(address)
            if !address.ip().is_loopback() && config.admin.token_file.is_none() && purpose == Purpose::Agent =>
        {
            say(
                "admin.listen",
                format!(
                    "`admin.listen` is `{address}`, which others can reach: set `admin.token_file` to a file with a token, or listen on 127.0.0.1"
                ),
            );
        }
        Ok(_) => {}
    }
    for (key, file) in config
        .admin
        .token_file
        .iter()
        .map(|f| ("admin.token_file".to_owned(), f))
        .chain(config.powerjob.app_password_file.iter().map(|f| ("powerjob.app_password_file".to_owned(), f)))
        .chain(config.secrets.iter().map(|(k, f)| (format!("secrets.{k}"), f)))
        .chain(
            config
                .databases
                .iter()
                .filter_map(|(k, d)| Some((format!("databases.{k}.password_file"), d.password_file.as_ref()?))),
        )
        .chain(config.registries.iter().map(|(k, r)| (format!("registries.{k}.password_file"), &r.password_file)))
        .chain(
            config
                .object_stores
                .iter()
                .map(|(k, s)| (format!("object_stores.{k}.credentials_file"), &s.credentials_file)),
        )
    {
        if file.as_os_str().is_empty() {
            say(&key, format!("`{key}` is missing: a file that this user can read"));
        } else if let Err(e) = std::fs::File::open(file) {
            say(&key, format!("`{key}`: {} cannot be read: {e}", file.display()));
        }
    }
    for name in &config.processors.enabled {
        if !KNOWN_PROCESSORS.contains(&name.as_str()) {
            say("processors.enabled", unknown_processor("processors.enabled", name));
        }
    }
    for (key, db) in &config.databases {
        let key = format!("databases.{key}.url");
        match Address::parse(&db.url) {
            Err(error) => say(&key, format!("`{key}` is `{}`: {error}", shown_database(&db.url))),
            Ok(address) if address.has_password() => {
                say(
                    &key,
                    format!(
                        "`{key}` is {address}: a password does not belong into the URL, give it in `password_file`"
                    ),
                );
            }
            Ok(_) => {}
        }
    }
    if let Err(error) = Official::charset_of(&config.official.charset) {
        say("official.charset", format!("`official.charset`: {error}"));
    }
    for pattern in &config.official.sql_deny {
        if let Err(error) = Deny::parse(pattern) {
            say("official.sql_deny", format!("`official.sql_deny`: {error}"));
        }
    }
    for (key, store) in &config.object_stores {
        if !url::Url::parse(&store.endpoint).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host()) {
            say(
                &format!("object_stores.{key}.endpoint"),
                format!(
                    "`object_stores.{key}.endpoint` is `{}`; accepted: a URL such as http://minio:9000",
                    masked(&store.endpoint)
                ),
            );
        } else if masked(&store.endpoint) != store.endpoint {
            say(
                &format!("object_stores.{key}.endpoint"),
                format!(
                    "`object_stores.{key}.endpoint` is `{}`: keys do not belong into the URL, give them in `credentials_file`",
                    masked(&store.endpoint)
                ),
            );
        }
    }
    registries(config, &mut say);
    for root in config.paths.allowed_roots.iter().flatten() {
        if !Path::new(root.trim_end_matches(":ro").trim_end_matches(":rw")).is_absolute() {
            say(
                "paths.allowed_roots",
                format!("`paths.allowed_roots`: `{root}` is not an absolute path (`:ro` may stand behind it)"),
            );
        }
    }
    if !(config.docker.endpoint.starts_with("unix:///")
        || config.docker.endpoint.starts_with("tcp://")
        || config.docker.endpoint.starts_with("http://"))
    {
        say(
            "docker.endpoint",
            format!(
                "`docker.endpoint` is `{}`; accepted: unix:///var/run/docker.sock or tcp://host:port",
                masked(&config.docker.endpoint)
            ),
        );
    }
    if let Some(base) = &config.platform.base_url
        && !url::Url::parse(base).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
    {
        let text =
            format!("`platform.base_url` is `{}`; accepted: an address such as http://platform:8080", masked(base));
        say("platform.base_url", text);
    }
    all
}

fn registries(config: &Config, say: &mut impl FnMut(&str, String)) {
    for (name, value) in
        [("pull_silence_seconds", config.docker.pull_silence_seconds), ("pull_tries", config.docker.pull_tries.into())]
    {
        if value == 0 {
            say(&format!("docker.{name}"), format!("`docker.{name}` is 0; accepted: 1 or more"));
        }
    }
    let mut known = HashSet::new();
    for (key, registry) in &config.registries {
        let path = |field: &str| format!("registries.{key}.{field}");
        let address = registry.address.as_str();
        if address.is_empty() || registry_of(&format!("{address}/x")) != address {
            say(
                &path("address"),
                format!(
                    "`{}` is `{}`; accepted: the registry as image names have it, e.g. registry.local:5000, or docker.io",
                    path("address"),
                    masked(address)
                ),
            );
        } else if !known.insert(address.to_ascii_lowercase()) {
            say(
                &path("address"),
                format!("`{}`: another registry has the address `{address}` as well", path("address")),
            );
        }
        if registry.user.is_empty() {
            say(&path("user"), format!("`{}` is missing: the user that logs in at `{address}`", path("user")));
        }
    }
}

/// The kind of a database's URL, which may hold a password anywhere behind it.
fn shown_database(url: &str) -> String {
    let rest = url.strip_prefix("jdbc:").unwrap_or(url);
    match rest.split_once(':') {
        Some((scheme, _)) => format!("{}{scheme}:..", if rest.len() < url.len() { "jdbc:" } else { "" }),
        None => url.to_owned(),
    }
}

/// A URL without the user and password that may stand in it.
fn masked(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://***@{rest}"),
        None => url.to_owned(),
    }
}

fn lanes(config: &Config, say: &mut impl FnMut(&str, String)) {
    let (mut names, mut listens) = (HashSet::new(), HashSet::new());
    let official = super::official_names(config);
    for (i, lane) in config.lane.iter().enumerate() {
        let key = |field: &str| format!("lane.{i}.{field}");
        if !names.insert(&lane.name) {
            say(&key("name"), format!("`lane.{i}.name`: another lane is called `{}` as well", lane.name));
        }
        match lane.listen.parse::<SocketAddr>() {
            Err(_) => say(
                &key("listen"),
                format!("`lane.{i}.listen` is `{}`; accepted: address:port, e.g. 0.0.0.0:27777", lane.listen),
            ),
            Ok(a) if a.is_ipv6() => say(
                &key("listen"),
                format!("`lane.{i}.listen` is `{a}`: PowerJob splits addresses at the colon, IPv6 does not work"),
            ),
            Ok(a) if a.port() != 0 && !listens.insert(a.port()) => {
                say(&key("listen"), format!("`lane.{i}.listen`: another lane has port {} as well", a.port()));
            }
            Ok(_) => {}
        }
        if let Some(advertise) = lane.advertise.as_deref().filter(|a| !host_port(a)) {
            say(
                &key("advertise"),
                format!("`lane.{i}.advertise` is `{advertise}`; accepted: host:port that the servers can reach"),
            );
        }
        for (field, names) in
            [("prefer_interfaces", &lane.prefer_interfaces), ("ignore_interfaces", &lane.ignore_interfaces)]
        {
            for name in names.iter().filter(|n| n.trim().is_empty() || n.contains(['/', ' ', ':'])) {
                say(
                    &key(field),
                    format!(
                        "`lane.{i}.{field}` has `{name}`; accepted: names of interfaces, e.g. eth1, `*` for any text: docker*"
                    ),
                );
            }
        }
        if lane.slots == 0 {
            say(&key("slots"), format!("`lane.{i}.slots` is 0; accepted: 1 or more"));
        }
        if lane.smallest_lease == 0 {
            say(&key("smallest_lease"), format!("`lane.{i}.smallest_lease` is 0; accepted: 1 or more"));
        }
        if lane.accelerators && config.accelerators.provider == AcceleratorProvider::None {
            say(
                &key("accelerators"),
                format!("`lane.{i}.accelerators` needs accelerators, but `accelerators.provider` is `none`"),
            );
        }
        for name in lane.processors.iter().flatten() {
            if !config.processors.enabled.contains(name) && !official.contains(&name.as_str()) {
                let off = Switch::ALL.into_iter().find(|switch| switch.class() == name);
                let text = if let Some(switch) = off {
                    format!(
                        "`lane.{i}.processors`: `{name}` is not enabled; add \"{}\" to `official.enable`",
                        switch.key()
                    )
                } else if KNOWN_PROCESSORS.contains(&name.as_str()) {
                    format!("`lane.{i}.processors`: `{name}` is not in `processors.enabled`")
                } else {
                    unknown_processor(&format!("lane.{i}.processors"), name)
                };
                say(&key("processors"), text);
            }
        }
    }
}

fn accelerators(config: &Config, say: &mut impl FnMut(&str, String)) {
    let found = &config.accelerators;
    if found.provider == AcceleratorProvider::Declared && found.card.is_empty() {
        let text = "`accelerators.provider` is `declared`, but no card is: add [[accelerators.card]] with `kind` and `memory_mib`";
        say("accelerators.provider", text.into());
    }
    if !matches!(found.provider, AcceleratorProvider::Declared | AcceleratorProvider::Auto) && !found.card.is_empty() {
        let text = "`accelerators.card` is used by the providers `declared` and `auto` only; remove the cards or change `accelerators.provider`";
        say("accelerators.card", text.into());
    }
    let mut names = HashSet::new();
    for (i, card) in found.card.iter().enumerate() {
        let key = |field: &str| format!("accelerators.card.{i}.{field}");
        if card.kind.trim().is_empty() {
            say(&key("kind"), format!("`{}` is missing: the type of the card, e.g. \"NVIDIA H200\"", key("kind")));
        }
        if card.uuid.as_ref().is_some_and(|uuid| uuid.trim().is_empty() || !names.insert(uuid)) {
            say(&key("uuid"), format!("`{}`: accepted: an id that no other card has", key("uuid")));
        }
        if let Some(bad) = card.devices.iter().find(|device| !device.split(':').all(|path| path.starts_with("/dev/"))) {
            say(
                &key("devices"),
                format!(
                    "`{}`: `{bad}`; accepted: /dev/x, or /dev/x:/dev/y with the container's path behind the colon",
                    key("devices")
                ),
            );
        }
    }
    for (key, file) in [("library", &found.library), ("npu_smi", &found.npu_smi), ("health_map", &found.health_map)] {
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            say(&format!("accelerators.{key}"), format!("`accelerators.{key}`: there is no file {}", file.display()));
        }
    }
    if found.look_seconds == Some(0) {
        say("accelerators.look_seconds", "`accelerators.look_seconds` is 0; accepted: 1 or more".into());
    }
}

fn unknown_processor(key: &str, name: &str) -> String {
    let hint = nearest(name, &KNOWN_PROCESSORS)
        .map_or_else(|| format!("known: {}", KNOWN_PROCESSORS.join(", ")), |n| format!("did you mean `{n}`?"));
    format!("`{key}`: unknown processor `{name}`; {hint}")
}

fn host_port(text: &str) -> bool {
    text.split_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

fn cidr(text: &str) -> bool {
    let (ip, bits) = text.split_once('/').unwrap_or((text, "0"));
    ip.parse::<std::net::IpAddr>()
        .is_ok_and(|ip| bits.parse::<u8>().is_ok_and(|b| b <= if ip.is_ipv4() { 32 } else { 128 }))
}
