//! The way to the server: one request and its answer, bounded in every direction.
//!
//! What an answer is worth shows in its status, its headers and the first lines of its body, so all
//! three are kept, and no more: of a body only so much is read as may be used, and the connection is
//! given up with the rest of it. hyper bounds the headers. The time is the caller's to bound.

use std::fmt::Write as _;
use std::ops::Deref;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::config::ClickHouse;

/// How much is read of an answer that only tells how it went.
const WORDS: usize = 16 << 10;
/// How much is read of an answer to a question.
const ROWS: usize = 8 << 20;
/// How much the headers of an answer may take.
const HEADERS: usize = 64 << 10;
/// Shorter than the 3 s after which an older server closes a connection that is not used.
const IDLE: std::time::Duration = std::time::Duration::from_secs(2);

const USER: HeaderName = HeaderName::from_static("x-clickhouse-user");
const KEY: HeaderName = HeaderName::from_static("x-clickhouse-key");
const CODE: HeaderName = HeaderName::from_static("x-clickhouse-exception-code");
const SUMMARY: HeaderName = HeaderName::from_static("x-clickhouse-summary");

#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

pub(super) type Result<T> = std::result::Result<T, Error>;

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug)]
pub(super) enum Error {
    /// The server, or somebody before it, answered with an error.
    BadResponse(Answer),
    /// The request cannot be formed.
    InvalidParams,
    /// This build cannot speak to such an address, or has no roots to trust.
    Unsupported(String),
    /// There was no connection, so nothing was sent.
    Connect(String),
    /// The connection failed after that: what was sent may have arrived.
    Network(String),
    TimedOut,
    /// The insert was answered as if it had succeeded, and whether it did cannot be found out.
    Unverified(String),
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The server's number of the error, from a header that proxies do not make up.
    code: Option<u32>,
    /// Rows that the server wrote by its own account, to views, too.
    written: Option<u64>,
    /// The beginning of the body.
    text: String,
}

impl Answer {
    /// The number of the server's error, if these are the server's words.
    pub(super) fn code(&self) -> Option<u32> {
        self.code.or_else(|| super::failure::code(&self.text))
    }

    /// Whether the number stands where only the server writes it.
    pub(super) fn is_the_servers(&self) -> bool {
        self.code.is_some() && self.code == super::failure::code(&self.text)
    }

    /// Whether by this answer `rows` rows are stored, as the server itself tells.
    pub(super) fn tells_of(&self, rows: usize) -> bool {
        let told = self.written.is_some_and(|written| written >= rows as u64);
        told && self.text.is_empty() && self.is_success()
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status) && self.code.is_none()
    }

    #[cfg(test)]
    pub(super) fn new(status: u16, text: &str) -> Self {
        Self { status, text: text.to_owned(), ..Self::default() }
    }
}

impl Deref for Answer {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// Speaks to one server as one user.
#[derive(Debug, Clone)]
pub(super) struct Client {
    hyper: std::result::Result<Hyper<Connector, Full<Bytes>>, String>,
    url: String,
    user: String,
    password: crate::config::Secret,
}

impl Client {
    pub(super) fn new(config: &ClickHouse) -> Self {
        let hyper = connector(&config.url).map(|connector| {
            Hyper::builder(TokioExecutor::new())
                .pool_idle_timeout(IDLE)
                .http1_max_buf_size(HEADERS)
                .build(connector)
        });
        Self {
            hyper,
            url: config.url.trim_end_matches('/').to_owned(),
            user: config.user.clone(),
            password: config.password.clone(),
        }
    }

    /// An insert of `body`, compressed blocks, whose statement is `sql`.
    pub(super) async fn insert<'a>(
        &self,
        sql: &'a str,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: Vec<u8>,
    ) -> Result<Answer> {
        let fixed = [("query", sql), ("decompress", "1")];
        let address = self.address(fixed.into_iter().chain(settings));
        self.send(&address, body.into(), WORDS).await
    }

    /// A question, whose every `?` stands for a text to be bound.
    pub(super) fn query(&self, sql: &str) -> Query<'_> {
        Query { client: self, sql: sql.to_owned(), settings: &[] }
    }

    /// A statement as it stands.
    pub(super) fn query_raw(&self, sql: &str) -> Query<'_> {
        self.query(sql)
    }

    fn address<'a>(&self, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(pairs);
        format!("{}/?{}", self.url, query.finish())
    }

    async fn send(&self, address: &str, body: Bytes, most: usize) -> Result<Answer> {
        let hyper = self.hyper.as_ref().map_err(|why| Error::Unsupported(why.clone()))?;
        let header = |text: &str| HeaderValue::from_str(text).map_err(|_| Error::InvalidParams);
        let mut password = header(self.password.expose())?;
        password.set_sensitive(true);
        let request = Request::builder()
            .method(Method::POST)
            .uri(address)
            .header(USER, header(&self.user)?)
            .header(KEY, password)
            .header(USER_AGENT, concat!("tracing-activity/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(Full::new(body))
            .map_err(|_| Error::InvalidParams)?;
        let response = hyper.request(request).await.map_err(|error| {
            let why = innermost(&error);
            if error.is_connect() { Error::Connect(why) } else { Error::Network(why) }
        })?;
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        let mut failed = None;
        while bytes.len() < most {
            match body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    bytes.extend_from_slice(&data[..data.len().min(most - bytes.len())]);
                }
                Some(Err(error)) => {
                    failed = Some(Error::Network(innermost(&error)));
                    break;
                }
                None => break,
            }
        }
        let answer = read(parts.status, &parts.headers, &bytes);
        match failed {
            // An error that is cut short is one all the same.
            Some(error) if answer.is_success() && answer.code().is_none() => Err(error),
            _ => Ok(answer),
        }
    }
}

fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let summary: Option<Json> = text(SUMMARY).and_then(|it| serde_json::from_str(it).ok());
    let written = summary.as_ref().and_then(|it| it.get("written_rows"));
    let written = written.and_then(|it| it.as_u64().or_else(|| it.as_str()?.parse().ok()));
    Answer {
        status: status.as_u16(),
        code: text(CODE).and_then(|it| it.trim().parse().ok()).filter(|code| *code != 0),
        written,
        text: String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// A question or a statement.
pub(super) struct Query<'a> {
    client: &'a Client,
    sql: String,
    settings: &'a [(&'a str, &'a str)],
}

impl<'a> Query<'a> {
    /// Puts `text` in the place of the first `?`.
    pub(super) fn bind(mut self, text: &str) -> Self {
        if let Some(at) = self.sql.find('?') {
            let mut quoted = String::from("'");
            for c in text.chars() {
                if matches!(c, '\'' | '\\') {
                    quoted.push('\\');
                }
                quoted.push(c);
            }
            quoted.push('\'');
            self.sql.replace_range(at..=at, &quoted);
        }
        self
    }

    /// Asks under `settings`.
    pub(super) fn with_settings(mut self, settings: &'a [(&'a str, &'a str)]) -> Self {
        self.settings = settings;
        self
    }

    /// Runs it and does without an answer.
    pub(super) async fn execute(self) -> Result<()> {
        self.answer(WORDS).await.map(drop)
    }

    /// All rows.
    pub(super) async fn fetch_all<T: DeserializeOwned>(mut self) -> Result<Vec<T>> {
        // In the text and not as a parameter: there are proxies that take those away.
        self.sql.push_str(" FORMAT JSONCompactEachRow");
        let answer = self.answer(ROWS).await?;
        let rows: Option<Vec<T>> = answer.lines().map(row).collect();
        rows.ok_or(Error::BadResponse(answer))
    }

    /// The only row.
    pub(super) async fn fetch_one<T: DeserializeOwned>(self) -> Result<T> {
        let mut rows = self.fetch_all().await?;
        rows.pop().ok_or_else(|| Error::BadResponse(Answer { status: 200, ..Answer::default() }))
    }

    async fn answer(self, most: usize) -> Result<Answer> {
        let fixed = [("wait_end_of_query", "1"), ("output_format_json_quote_64bit_integers", "0")];
        let pairs = fixed.into_iter().chain(self.settings.iter().copied());
        let address = self.client.address(pairs);
        let answer = self.client.send(&address, self.sql.into_bytes().into(), most).await?;
        // Also behind a status that tells otherwise.
        if answer.is_success() && answer.code().is_none() {
            Ok(answer)
        } else {
            Err(Error::BadResponse(answer))
        }
    }
}

/// A row from its line: of several cells in order, or of one.
fn row<T: DeserializeOwned>(line: &str) -> Option<T> {
    let cells: Vec<Json> = serde_json::from_str(line).ok()?;
    let Ok([cell]) = <[Json; 1]>::try_from(cells.clone()) else {
        return serde_json::from_value(Json::Array(cells)).ok();
    };
    // Older servers write large numbers as texts, unless a setting is in force.
    let number = cell.as_str().and_then(|text| text.parse::<u64>().ok()).map(Json::from);
    serde_json::from_value(cell)
        .ok()
        .or_else(|| serde_json::from_value(number?).ok())
        .or_else(|| serde_json::from_value(Json::Array(cells)).ok())
}

/// The way to this address, with TLS where it asks for it and nowhere else: the system's certificates
/// are read for `https://` alone, since an image built from scratch has none.
#[cfg(feature = "tls")]
fn connector(url: &str) -> std::result::Result<Connector, String> {
    use hyper_rustls::ConfigBuilderExt as _;
    use rustls::{ClientConfig, RootCertStore, crypto::ring};

    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let config = if is_encrypted(url) {
        config.with_native_roots().map_err(|error| {
            format!("the system's certificates cannot be read, which https:// needs: {error}; install them (the package ca-certificates), or name their file in SSL_CERT_FILE")
        })?
    } else {
        config.with_root_certificates(RootCertStore::empty())
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    Ok(hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.with_no_client_auth())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

#[cfg(not(feature = "tls"))]
fn connector(url: &str) -> std::result::Result<Connector, String> {
    if is_encrypted(url) {
        return Err(
            "this build has no TLS for https://; add the feature: tracing-activity = { features = [\"tls\"] }"
                .to_owned(),
        );
    }
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    Ok(tcp)
}

/// What is wrong with this address, as far as it can be told without connecting: in what `init` says of
/// `ACTIVITY_DB`.
pub(crate) fn problem_of(url: &str) -> Option<String> {
    connector(url).err()
}

fn is_encrypted(url: &str) -> bool {
    url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

/// What the causes come down to: hyper's own message says only what it was doing.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let mut text = String::new();
    let _ = write!(text, "{cause}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        read(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn only_the_servers_own_account_tells_that_rows_are_stored() {
        let summary = ("x-clickhouse-summary", r#"{"written_rows":"10","read_rows":"10"}"#);
        assert!(answer(200, &[summary], "").tells_of(10));
        assert!(answer(200, &[summary], "").tells_of(4));
        assert!(!answer(200, &[summary], "").tells_of(11));
        assert!(!answer(200, &[summary], "Code: 241. DB::Exception: no memory").tells_of(10));
        assert!(!answer(200, &[summary], "<html>").tells_of(10));
        assert!(!answer(500, &[summary], "").tells_of(10));
        assert!(!answer(302, &[summary], "").tells_of(10));
        let code = ("x-clickhouse-exception-code", "241");
        assert!(!answer(200, &[summary, code], "").tells_of(10));
        assert!(!answer(200, &[], "").tells_of(1));
        assert!(!answer(200, &[("x-clickhouse-summary", "{")], "").tells_of(1));
        let number = ("x-clickhouse-summary", r#"{"written_rows":10}"#);
        assert!(answer(200, &[number], "").tells_of(10));
    }

    #[test]
    fn the_header_tells_the_number_where_the_text_does_not() {
        let it = answer(500, &[("x-clickhouse-exception-code", "241")], "<html>");
        assert_eq!((it.code(), it.is_the_servers()), (Some(241), false));
        let it = answer(500, &[], "Code: 60. DB::Exception: no table");
        assert_eq!((it.code(), it.is_the_servers()), (Some(60), false));
        let header = ("x-clickhouse-exception-code", "60");
        assert!(answer(404, &[header], "Code: 60. DB::Exception: no table").is_the_servers());
    }

    #[test]
    fn a_row_is_read_from_its_cells() {
        assert_eq!(row::<u64>("[5]"), Some(5));
        assert_eq!(row::<u64>("[\"5\"]"), Some(5));
        assert_eq!(row::<String>("[\"5\"]").as_deref(), Some("5"));
        assert_eq!(row::<(String,)>("[\"5\"]"), Some(("5".to_owned(),)));
        let two = row::<(String, String)>("[\"a\",\"b\"]");
        assert_eq!(two, Some(("a".to_owned(), "b".to_owned())));
        assert_eq!(row::<u64>("<html>"), None);
    }
}
