//! Which database a job means.

use testrig_sql::Address;

use crate::{Access, Environment, official::fields::Fields, params::nearest};

/// Where the address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::official) enum Source {
    /// `jdbcUrl` and whatever else the parameters hold.
    Dynamic,
    /// `dataSourceName`: a key of `[databases]`.
    Spring,
}

impl Source {
    /// The processor's name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dynamic => "DynamicDatasourceSqlProcessor",
            Self::Spring => "SpringDatasourceSqlProcessor",
        }
    }

    /// The database.
    pub(super) fn address(self, fields: &Fields, env: &Environment) -> Result<Address, String> {
        match self {
            Self::Dynamic => dynamic(fields, env),
            Self::Spring => configured(fields, env),
        }
    }
}

fn dynamic(fields: &Fields, env: &Environment) -> Result<Address, String> {
    let url = fields.some_text("jdbcUrl");
    let url = url.ok_or("jdbcUrl can't be empty in DynamicDatasourceSqlProcessor!")?;
    let told = |error: testrig_sql::AddressError| format!("`jdbcUrl`: {error}");
    let mut address = Address::parse(&url).map_err(told)?;
    for (name, _) in fields.all() {
        if !is_own(name)
            && let Some(value) = fields.text(name)
        {
            address.set_property(name, &value).map_err(told)?;
        }
    }
    if let Some(file) = address.file() {
        let file = env.allow_path(file, Access::Write).map_err(|denied| format!("`jdbcUrl`: {denied}"))?;
        return Ok(address.at(file));
    }
    if let Some(host) = address.host() {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        env.allow_url(&format!("db://{host}/")).map_err(|denied| format!("`jdbcUrl`: {denied}"))?;
    }
    Ok(address)
}

/// Keys that are the processor's and no connection properties.
fn is_own(name: &str) -> bool {
    const OWN: [&str; 5] = ["sql", "jdbcurl", "datasourcename", "timeout", "showresult"];
    OWN.contains(&name.replace(['_', '-'], "").to_lowercase().as_str())
}

fn configured(fields: &Fields, env: &Environment) -> Result<Address, String> {
    let name = fields.some_text("dataSourceName").unwrap_or_else(|| "default".to_owned());
    let Some(database) = env.databases.get(&name) else {
        let known: Vec<&str> = env.databases.keys().map(String::as_str).collect();
        let hint =
            nearest(&name, known.iter().copied()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(format!(
            "can't find data source with name {name}: `[databases.{name}]` is not in the agent's configuration, which has {}{hint}",
            known.join(", ")
        ));
    };
    let told = |error: testrig_sql::AddressError| format!("`[databases.{name}]` of the agent's configuration: {error}");
    let mut address = Address::parse(&database.url).map_err(told)?;
    for (property, value) in [("user", &database.user), ("password", &database.password)] {
        if let Some(value) = value {
            address.set_property(property, value).map_err(told)?;
        }
    }
    if let Some(dir) = address.file().and_then(|file| file.parent()) {
        std::fs::create_dir_all(dir).map_err(|error| format!("failed to create the folder of {address}: {error}"))?;
    }
    Ok(address)
}
