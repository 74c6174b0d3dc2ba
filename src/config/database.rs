//! Where activities go, from one address: `ACTIVITY_DB`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use url::{Host, Url};

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
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClickHouse {
    /// Scheme, host and port, such as `http://127.0.0.1:8123`.
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

impl ClickHouse {
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

impl FromStr for Database {
    /// What is accepted; it never repeats the address, which may hold a password.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "off" => return Ok(Self::Off),
            "stdout" => return Ok(Self::Stdout),
            _ => {}
        }
        let expected = || format!("expected {ACCEPTED}");
        let mut text = text.trim().to_owned();
        if let Some(rest) = text.strip_prefix("clickhouse://") {
            text = format!("http://{rest}");
        }
        let url = Url::parse(&text).map_err(|error| format!("{error}; {}", expected()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(expected());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("an address takes no query or fragment; {}", expected()));
        }
        let decode = |part: &str| -> Result<String, String> {
            percent_decode(part)
                .ok_or_else(|| format!("user or password is not UTF-8; {}", expected()))
        };
        let database = match url.path().trim_matches('/') {
            "" => "activity".to_owned(),
            name => decode(name)?,
        };
        if !is_identifier(&database) {
            return Err(format!(
                "the database must be letters, digits and underscores; {}",
                expected()
            ));
        }
        let user = match url.username() {
            "" => "default".to_owned(),
            user => decode(user)?,
        };
        let password = Secret::new(decode(url.password().unwrap_or_default())?);
        let default_port = if url.scheme() == "https" { 8443 } else { 8123 };
        // `Url` hides a scheme's own default port, so 80 and 443 must be looked for in the text.
        let authority_end = text.find("://").map_or(0, |at| at + 3);
        let authority = text[authority_end..].split('/').next().unwrap_or_default();
        let explicit = authority.rsplit('@').next().is_some_and(|host| {
            host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        });
        let port = if explicit {
            url.port_or_known_default().unwrap_or(default_port)
        } else {
            default_port
        };
        let host = url.host_str().unwrap_or_default();
        Ok(Self::ClickHouse(ClickHouse {
            url: format!("{}://{host}:{port}", url.scheme()),
            database,
            user,
            password,
            migrate: true,
            retention: None,
            rollup_retention: None,
            insecure: false,
        }))
    }
}

/// Whether `name` can stand in SQL without quotes.
fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn percent_decode(text: &str) -> Option<String> {
    // A form's key decodes like a part of an address, but for `+`, which stands for itself here.
    let escaped = text.replace('+', "%2B");
    let (key, _) = url::form_urlencoded::parse(escaped.as_bytes()).next().unwrap_or_default();
    (!key.contains(char::REPLACEMENT_CHARACTER)).then(|| key.into_owned())
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
            "http://a:hunter2@h/x-y",
            "http://a:hunter2@h:99999/",
            "clickhouse://a:hunter2",
        ] {
            let error = text.parse::<Database>().unwrap_err();
            assert!(error.contains("stdout, off"), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let it = clickhouse("http://ana:hunter2@localhost/shop");
        assert!(!format!("{it:?}").contains("hunter2"));
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
