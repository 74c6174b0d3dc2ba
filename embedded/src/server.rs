//! The server the tests and the demo talk to, wherever it comes from.
//!
//! [`connect_or_start`] takes the first that is to be had:
//! 1. the server `ACTIVITY_TEST_CLICKHOUSE_URL` names; nothing is started;
//! 2. a `clickhouse` binary on the `PATH`, run as `clickhouse local`. Best effort: a binary that
//!    does not open its listeners in that mode is passed over with a note;
//! 3. the library in the cache folder, fetched first when it is not there.
//!
//! A `Server` may live in a static, which is never dropped: the engine stops all the same when
//! the process ends, because its standard input ends.

use std::fmt;

use crate::engine::{self, Engine, Options};
use crate::error::Error;
use crate::program::Program;
use crate::{READER, WRITER, env, fetch};

const EXPECTED_URL: &str = "http://user:password@host:port";

/// A ClickHouse server, and who to be there.
pub struct Server {
    /// `http://host:port`, without a user.
    pub url: String,
    /// The user that writes.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The user that reads; on a server of your own, the one that writes.
    pub reader: String,
    /// Its password.
    pub reader_password: String,
    /// The engine behind it; `None` when the server was running already.
    pub engine: Option<Engine>,
}

impl Server {
    /// Starts an engine, a temporary one unless the options say otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`Engine::start`].
    pub fn start(options: Options) -> Result<Self, Error> {
        let (password, reader_password) =
            (options.writer_password.clone(), options.reader_password.clone());
        let engine = Engine::start(options)?;
        Ok(Self {
            url: engine.http_url(),
            user: WRITER.to_owned(),
            password,
            reader: READER.to_owned(),
            reader_password,
            engine: Some(engine),
        })
    }

    /// Runs one query as the writer; the body of the answer.
    ///
    /// # Errors
    ///
    /// When the connection fails, and with the server's message when it refuses the query.
    pub fn query(&self, sql: &str) -> Result<String, Error> {
        engine::ask(self.address(), &self.user, &self.password, sql)
    }

    /// Runs one query as the reader; the body of the answer.
    ///
    /// # Errors
    ///
    /// Those of [`Server::query`].
    pub fn query_as_reader(&self, sql: &str) -> Result<String, Error> {
        engine::ask(self.address(), &self.reader, &self.reader_password, sql)
    }

    fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap_or(&self.url)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("reader", &self.reader)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// The server to use on this machine; see the [module](self) for the order.
///
/// # Errors
///
/// When the variable is malformed, the engine cannot be fetched, or it does not start.
pub fn connect_or_start() -> Result<Server, Error> {
    if let Some(url) = env::text(env::TEST_URL) {
        return from_url(&url);
    }
    if let Some(clickhouse) = env::on_path("clickhouse") {
        let options =
            Options { program: Program::Clickhouse(clickhouse.clone()), ..Options::default() };
        match Server::start(options) {
            Ok(server) => return Ok(server),
            Err(error) => eprintln!("passing over {}: {error}", clickhouse.display()),
        }
    }
    fetch::ensure()?;
    Server::start(Options::default())
}

/// Reads `http://user:password@host:port`.
fn from_url(url: &str) -> Result<Server, Error> {
    // The value may hold a password, so the message does not repeat it.
    let malformed = || Error::Variable {
        name: env::TEST_URL,
        value: "malformed".to_owned(),
        expected: EXPECTED_URL,
    };
    let rest = url.strip_prefix("http://").ok_or_else(malformed)?;
    let (credentials, host) = rest.rsplit_once('@').unwrap_or(("default", rest));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let host = host.trim_end_matches('/');
    let port = host.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if !matches!(port, Some(Ok(_))) || host.contains('/') {
        return Err(malformed());
    }
    let user = unescape(user).ok_or_else(malformed)?;
    let password = unescape(password).ok_or_else(malformed)?;
    Ok(Server {
        url: format!("http://{host}"),
        reader: user.clone(),
        reader_password: password.clone(),
        user,
        password,
        engine: None,
    })
}

/// Undoes percent encoding.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_server_and_the_user() {
        let server = from_url("http://me:p%40ss:w@localhost:8123/").unwrap();
        assert_eq!(server.url, "http://localhost:8123");
        assert_eq!((server.user.as_str(), server.password.as_str()), ("me", "p@ss:w"));
        assert_eq!(server.reader, "me");
        let server = from_url("http://localhost:8123").unwrap();
        assert_eq!((server.user.as_str(), server.password.as_str()), ("default", ""));
    }

    #[test]
    fn a_malformed_url_is_refused_without_its_password() {
        for url in [
            "localhost:8123",
            "http://a:secret@host",
            "http://a:%zz@host:1",
            "http://a:secret@host:1/x",
        ] {
            let error = from_url(url).unwrap_err().to_string();
            assert!(error.starts_with("ACTIVITY_TEST_CLICKHOUSE_URL"), "{error}");
            assert!(error.contains(EXPECTED_URL), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
