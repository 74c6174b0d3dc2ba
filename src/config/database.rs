//! Where activities go, from one address: `ACTIVITY_DB`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, ParseError, Url};

use super::address::without_credentials;

/// A secret. `Debug` prints it as `***`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `secret`.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, to be sent and never printed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where activities go.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Database {
    /// Nowhere: nothing is captured.
    Off,
    /// Standard output, one JSON object a line.
    #[default]
    Stdout,
    /// A ClickHouse server over HTTP.
    ClickHouse(ClickHouse),
}

/// A ClickHouse server and how to speak to it.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct ClickHouse {
    /// Scheme, host and port, such as `http://127.0.0.1:8123`, and the path where it stands behind a
    /// reverse proxy: `https://proxy.example:443/clickhouse`.
    pub url: String,
    /// Database that holds the tables. Default: `activity`.
    pub database: String,
    /// User. Default: `default`. `ACTIVITY_USER`.
    pub user: String,
    /// Password, sent in a header. `ACTIVITY_PASSWORD`.
    pub password: Secret,
    /// Whether `init` applies the schema. Default: yes. `ACTIVITY_MIGRATE`.
    pub migrate: bool,
    /// Age at which rows of `activities` are deleted, in whole days; `None` keeps them.
    /// `ACTIVITY_RETENTION`.
    pub retention: Option<Duration>,
    /// The same of the rows of rollups. `ACTIVITY_ROLLUP_RETENTION`.
    pub rollup_retention: Option<Duration>,
    /// Whether a password may travel unencrypted to another host. Default: no.
    /// `ACTIVITY_INSECURE`.
    pub insecure: bool,
}

impl fmt::Debug for ClickHouse {
    /// Without the password, and without what an address given in code holds of credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouse")
            .field("url", &without_credentials(&self.url))
            .field("database", &self.database)
            .field("user", &self.user)
            .field("password", &self.password)
            .field("migrate", &self.migrate)
            .field("retention", &self.retention)
            .field("rollup_retention", &self.rollup_retention)
            .field("insecure", &self.insecure)
            .finish()
    }
}

impl ClickHouse {
    /// A hint where the port is by default that of ClickHouse's native protocol.
    pub(crate) fn hint(&self) -> Option<String> {
        let url = Url::parse(&self.url).ok()?;
        let (native, http) = match (url.port()?, url.scheme()) {
            (9000, _) => (9000, "8123"),
            (9440, _) => (9440, "8443, with https://"),
            _ => return None,
        };
        Some(format!(
            "ACTIVITY_DB: port {native} is by default that of ClickHouse's native protocol; rows are sent over HTTP, whose port is by default {http}"
        ))
    }

    /// Whether the address is on this machine, or encrypted: a password is safe on the way.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let Ok(url) = Url::parse(&self.url) else { return false };
        url.scheme() == "https"
            || match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(ip)) => ip.is_loopback(),
                Some(Host::Ipv6(ip)) => IpAddr::from(ip).to_canonical().is_loopback(),
                None => false,
            }
    }
}

const ACCEPTED: &str = "stdout, off, clickhouse://USER:PASSWORD@HOST:8123/DATABASE, or the same with http:// or https://";

/// What a user or a password is to be written with where an address could be read in two ways.
const AMBIGUOUS: &str = "an @ stands behind a /, ? or #: in a user, a password or a database, write @ as %40, / as %2F, ? as %3F, # as %23 and % as %25, or set ACTIVITY_USER and ACTIVITY_PASSWORD";

impl FromStr for Database {
    /// What is accepted; it never repeats the address, which may hold a password.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "off" => return Ok(Self::Off),
            "stdout" => return Ok(Self::Stdout),
            _ => {}
        }
        let problem = |problem: &str| format!("{problem}; expected {ACCEPTED}");
        parse_address(text.trim()).map(Self::ClickHouse).map_err(|it| problem(&it))
    }
}

/// Reads an address. User and password are taken out before anything else looks at it: what they hold
/// is theirs, but for an `@` that could as well be theirs as not.
fn parse_address(text: &str) -> Result<ClickHouse, String> {
    if text.chars().any(char::is_control) {
        // Parsers of addresses drop some of them in silence.
        return Err("an address takes no control characters, such as a tab or a line's end".into());
    }
    let (scheme, rest) = text.split_once("://").ok_or("it is no address")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "clickhouse" | "http" => "http",
        "https" => "https",
        _ => return Err("the address has another scheme".into()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if path.contains('@') {
        return Err(AMBIGUOUS.into());
    }
    let (credentials, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let user = match decoded(user, "the user")? {
        user if user.is_empty() => "default".to_owned(),
        user => user,
    };
    let password = Secret::new(decoded(password, "the password")?);
    if host.is_empty() || host.starts_with(':') {
        return Err("the address has no host".into());
    }
    if path.contains(['?', '#']) {
        return Err("an address takes no query or fragment: the database stands behind the host, other settings are variables".into());
    }
    if host.contains('\\') {
        return Err("the host is no host".into());
    }
    // The path apart: a database may be anything, `..` included.
    let url = Url::parse(&format!("{scheme}://{host}")).map_err(|error| match error {
        ParseError::InvalidPort => {
            "the port is none: expected a number from 1 to 65535, and an IPv6 address in brackets, as in [::1]:8123".to_owned()
        }
        error => format!("the host is none: {error}"),
    })?;
    // The port is looked for in the text, as `Url` hides a scheme's own, such as 80.
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port == Some(0) {
        return Err("the port is 0: expected a number from 1 to 65535".into());
    }
    let port = port.unwrap_or(if scheme == "https" { 8443 } else { 8123 });
    // What stands before the database is the place of ClickHouse behind a reverse proxy.
    let path = path.trim_matches('/');
    let (prefix, database) = path.rsplit_once('/').unwrap_or(("", path));
    let database = match decoded(database, "the database")? {
        name if name.is_empty() => "activity".to_owned(),
        // Braces stand for other things in the SQL of the tables.
        name if name.contains(|c: char| c.is_control() || matches!(c, '{' | '}')) => {
            return Err("the database's name holds control characters or braces".into());
        }
        name => name,
    };
    let slash = if prefix.is_empty() { "" } else { "/" };
    Ok(ClickHouse {
        url: format!("{scheme}://{}:{port}{slash}{prefix}", url.host_str().unwrap_or_default()),
        database,
        user,
        password,
        migrate: true,
        retention: None,
        rollup_retention: None,
        insecure: false,
    })
}

/// A part of an address, its percent escapes undone. A `%` that begins none stands for itself.
fn decoded(text: &str, part: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| format!("{part} is not UTF-8 once it is decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clickhouse(text: &str) -> ClickHouse {
        match text.parse().unwrap() {
            Database::ClickHouse(it) => it,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_gives_url_database_user_and_password() {
        let it = clickhouse("clickhouse://ana:p%40s+s%3A@db.example/shop");
        assert_eq!((it.url.as_str(), it.database.as_str()), ("http://db.example:8123", "shop"));
        assert_eq!((it.user.as_str(), it.password.expose()), ("ana", "p@s+s:"));
        let it = clickhouse("https://db.example");
        assert_eq!(
            (it.url.as_str(), it.database.as_str(), it.user.as_str()),
            ("https://db.example:8443", "activity", "default")
        );
        assert_eq!(clickhouse("http://db.example:80").url, "http://db.example:80");
        assert_eq!(clickhouse("http://[::1]:9/x").url, "http://[::1]:9");
    }

    #[test]
    fn an_address_without_sense_is_refused_without_repeating_it() {
        for text in [
            "",
            "postgres://a:hunter2@h/x",
            "http://",
            "http://a:hunter2@h/x?y=1",
            "http://a:hunter2@h:99999/",
            "http://a:hunter2@h:-1/",
            "http://a:hunter2@h:0/x",
            "http://a:hunter2@::1/x",
            "http://a:hunter2@[::1/x",
            "http://a:hunter2@:8123/x",
            "http://a:hunter2@/x",
            "http:a:hunter2@h/x",
            "clickhouse://a:hunter2",
            "clickhouse:///d",
            "clickhouse:///hunter2@d",
            "clickhouse://",
            "http://a:hunter2@h/x#y",
            "http://a:hunter2@h/?user=a&password=hunter2",
            "http://a:%ffhunter2@h/x",
            "http://a:hunter2@h/%ff",
            "http://a:hunter2@h/a%0Ab",
            "http://a:hunter2@h/{cluster}",
            "http://a:hunter2@h/%7Bx%7D",
            "http://a:hunt\ter2@h/x",
            "http://a:hunt/er2@h/x",
            "http://a:1/hunter2@h/x",
            "http://a:hunt?er2@h/x",
            "http://a:hunt#er2@h/x",
            "http://a:hunter2@h/b@c",
            "http://a:hunter2@ho\\st/b",
            "http://a:hunter2@h o/b",
        ] {
            let error = text.parse::<Database>().unwrap_err();
            assert!(error.contains("stdout, off"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn user_and_password_are_theirs_to_the_letter() {
        for (written, password) in [
            ("p+q&r=s", "p+q&r=s"),
            ("p%2Bq%26r%3Ds", "p+q&r=s"),
            ("100%", "100%"),
            ("%zz%2", "%zz%2"),
            ("50%25x", "50%x"),
            ("a@b@c", "a@b@c"),
            ("a:b::", "a:b::"),
            ("a%2Fb%3Fc%23d%40e%5C", "a/b?c#d@e\\"),
            ("a\\b|c^d`e{f}g\"h<i>'j", "a\\b|c^d`e{f}g\"h<i>'j"),
            ("two words", "two words"),
            ("two%20words", "two words"),
            ("gr\u{fc}n\u{1f511}", "gr\u{fc}n\u{1f511}"),
            ("gr%C3%BCn", "gr\u{fc}n"),
            ("%EF%BF%BD", "\u{fffd}"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            for scheme in ["clickhouse", "http", "https", "HTTPS", "ClickHouse"] {
                let it = clickhouse(&format!("{scheme}://ana:{written}@db.example:1/shop"));
                assert_eq!(it.password.expose(), password, "{written}");
                assert_eq!((it.user.as_str(), it.database.as_str()), ("ana", "shop"), "{written}");
                assert!(it.url.ends_with("://db.example:1"), "{written}: {}", it.url);
            }
        }
        for (written, user) in
            [("ana", "ana"), ("a%3Ana", "a:na"), ("a+na", "a+na"), ("", "default")]
        {
            let it = clickhouse(&format!("http://{written}@h"));
            assert_eq!((it.user.as_str(), it.password.expose()), (user, ""), "{written}");
        }
        assert_eq!(clickhouse("http://:hunter2@h").user, "default");
    }

    #[test]
    fn what_stands_before_the_database_is_the_place_behind_a_proxy() {
        for (text, url, database) in [
            ("https://h/clickhouse/shop", "https://h:8443/clickhouse", "shop"),
            ("https://h/clickhouse/shop/", "https://h:8443/clickhouse", "shop"),
            ("https://h:443/a/b%20c/shop", "https://h:443/a/b%20c", "shop"),
            ("http://h/shop", "http://h:8123", "shop"),
            ("http://h/shop/", "http://h:8123", "shop"),
            ("http://h//shop", "http://h:8123", "shop"),
            ("http://h/", "http://h:8123", "activity"),
            ("http://h", "http://h:8123", "activity"),
            ("http://h/my-shop", "http://h:8123", "my-shop"),
            ("http://h/2024", "http://h:8123", "2024"),
            ("http://h/a.b", "http://h:8123", "a.b"),
            ("http://h/a%2Fb", "http://h:8123", "a/b"),
            ("http://h/a`b", "http://h:8123", "a`b"),
            ("http://h/l%C3%A4den", "http://h:8123", "l\u{e4}den"),
            ("http://h/a+b%20c", "http://h:8123", "a+b c"),
            ("http://h/p/..", "http://h:8123/p", ".."),
            ("http://[2001:DB8::1]/x", "http://[2001:db8::1]:8123", "x"),
            ("http://u@[::1]:9/x", "http://[::1]:9", "x"),
            ("http://h:/x", "http://h:8123", "x"),
            ("HTTP://DB.Example/x", "http://db.example:8123", "x"),
        ] {
            let it = clickhouse(text);
            assert_eq!((it.url.as_str(), it.database.as_str()), (url, database), "{text}");
        }
    }

    #[test]
    fn the_port_of_the_native_protocol_gets_a_hint() {
        assert!(clickhouse("clickhouse://h:9000/d").hint().unwrap().contains("8123"));
        assert!(clickhouse("https://h:9440/d").hint().unwrap().contains("8443"));
        assert_eq!(clickhouse("clickhouse://h:8123/d").hint(), None);
        assert_eq!(clickhouse("clickhouse://h/d").hint(), None);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let mut it = clickhouse("http://ana:hunt%40er2@localhost/shop");
        "http://ana:hunt%40er2@localhost".clone_into(&mut it.url);
        let shown = format!("{it:?} {:?}", Database::ClickHouse(it.clone()));
        assert!(!shown.contains("hunt") && shown.contains("localhost"), "{shown}");
    }

    #[test]
    fn loopback_and_tls_are_private() {
        for text in ["http://localhost", "http://127.0.0.9", "http://[::1]", "https://db.example"] {
            assert!(clickhouse(text).is_private(), "{text}");
        }
        for text in ["http://db.example", "http://10.0.0.1", "http://localhost.example"] {
            assert!(!clickhouse(text).is_private(), "{text}");
        }
    }
}
