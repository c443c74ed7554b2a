//! URLs of databases, as JDBC drivers and other programs write them.

use std::path::Path;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::address::{AddressError, Engine, Place};

/// A URL taken apart.
pub(crate) struct Parsed {
    pub(crate) place: Place,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// In the order of the query.
    pub(crate) properties: Vec<(String, String)>,
}

pub(crate) fn parse(url: &str) -> Result<Parsed, AddressError> {
    let url = url.trim();
    let bare = url.strip_prefix("jdbc:").unwrap_or(url);
    let Some((scheme, rest)) = bare.split_once(':') else {
        return Err(AddressError("the database's URL has no scheme".to_owned()));
    };
    match scheme {
        "mysql" | "mariadb" => server(Engine::MySql, bare, 3306),
        "postgresql" | "postgres" => match rest.strip_prefix("//") {
            Some(_) => server(Engine::Postgres, bare, 5432),
            // jdbc:postgresql:db
            None => server(Engine::Postgres, &format!("{scheme}://localhost/{rest}"), 5432),
        },
        "sqlite" => sqlite(rest),
        other => Err(AddressError(format!("there is no driver for `{other}` databases in this agent"))),
    }
}

fn server(engine: Engine, text: &str, port: u16) -> Result<Parsed, AddressError> {
    let scheme = text.split(':').next().unwrap_or_default();
    // The cause could repeat a password.
    let url = Url::parse(text)
        .map_err(|_| AddressError(format!("what stands behind `{scheme}:` is no address of one server")))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if host.is_empty() || host.contains(',') {
        return Err(AddressError(format!("the `{scheme}` URL does not name one host")));
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let database = decoded(url.path().trim_start_matches('/'));
    let some = |text: &str| (!text.is_empty()).then(|| decoded(text));
    Ok(Parsed {
        place: Place::Server { engine, host: host.to_owned(), port: url.port().unwrap_or(port), database },
        user: some(url.username()),
        password: url.password().map(decoded),
        properties: url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
    })
}

fn sqlite(rest: &str) -> Result<Parsed, AddressError> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix("//").unwrap_or(path);
    let properties = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let place = match path {
        "" | ":memory:" => Place::Memory,
        path if Path::new(path).is_absolute() => Place::File(path.into()),
        path => return Err(AddressError(format!("the SQLite path `{path}` is not absolute"))),
    };
    Ok(Parsed { place, user: None, password: None, properties })
}

#[cfg(test)]
mod tests {
    use crate::{Address, Engine};

    #[test]
    fn jdbc_urls_are_read_with_their_properties() {
        let mysql = Address::parse(
            "jdbc:mysql://db.local:3307/powerjob?useUnicode=true&characterEncoding=UTF-8&useSSL=false&serverTimezone=Asia/Shanghai&user=u&password=p%26w",
        )
        .expect("valid");
        assert_eq!(mysql.to_string(), "`mysql://u@db.local:3307/powerjob`");
        assert_eq!(
            (mysql.engine(), mysql.host(), mysql.left_out()),
            (Engine::MySql, Some("db.local"), &["serverTimezone".to_owned()][..])
        );
        assert_eq!(mysql.password.as_deref(), Some("p&w"));
        let postgres =
            Address::parse("jdbc:postgresql://u:s%40c@[::1]/rig?currentSchema=a&sslmode=prefer").expect("valid");
        assert_eq!(postgres.to_string(), "`postgresql://u@::1:5432/rig`");
        assert_eq!((postgres.password.as_deref(), postgres.schema.as_deref()), (Some("s@c"), Some("a")));
        assert_eq!(
            Address::parse("jdbc:postgresql:rig").expect("valid").to_string(),
            "`postgresql://localhost:5432/rig`"
        );
        assert_eq!(Address::parse("jdbc:mariadb://h/d").expect("valid").to_string(), "`mysql://h:3306/d`");
    }

    #[test]
    fn sqlite_is_a_file_or_memory() {
        assert_eq!(Address::parse("jdbc:sqlite:/a/b.db").expect("valid").file(), Some(std::path::Path::new("/a/b.db")));
        assert_eq!(Address::parse("sqlite:///a/b.db").expect("valid").file(), Some(std::path::Path::new("/a/b.db")));
        assert_eq!(Address::parse("jdbc:sqlite::memory:").expect("valid").file(), None);
        assert!(Address::parse("jdbc:sqlite:b.db").expect_err("relative").to_string().contains("not absolute"));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_what_can_and_without_the_password() {
        for (url, text) in [
            ("jdbc:h2:mem:test", "no driver for `h2`"),
            ("jdbc:oracle:thin:@h:1521:x", "no driver for `oracle`"),
            ("jdbc:sqlserver://h;databaseName=x", "no driver for `sqlserver`"),
            ("jdbc:mysql:loadbalance://a,b/d", "mysql"),
            ("jdbc:mysql://u:s3cret@a:1,b:2/d", "mysql"),
            ("jdbc:mysql://u:s3cret@/d", "mysql"),
            ("nonsense", "no scheme"),
            ("jdbc:postgresql://h/d?sslmode=verify-full&password=s3cret", "asks for TLS"),
            ("jdbc:mysql://h/d?sslMode=REQUIRED", "asks for TLS"),
        ] {
            let error = Address::parse(url).expect_err(url).to_string();
            assert!(error.contains(text) && error.contains("accepted: jdbc:mysql://"), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn properties_of_the_job_are_taken_as_those_of_the_url() {
        let mut address = Address::parse("jdbc:mysql://h/d?connectTimeout=2000").expect("valid");
        assert_eq!(address.connect_limit.as_secs(), 2);
        address.set_property("user", "rig").expect("fits");
        address.set_property("rewriteBatchedStatements", "true").expect("let pass");
        assert_eq!(address.left_out(), ["rewriteBatchedStatements"]);
        assert!(address.set_property("connectTimeout", "soon").is_err());
        assert!(!format!("{address:?}").contains("pass"));
    }
}
