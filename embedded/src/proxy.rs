//! A proxy that misbehaves on purpose, between a client and a real server.
//!
//! A [`Rule`] looks at each request and decides: pass it on, change it, answer in the server's place,
//! or pass it on and lie about what came of it. One request a connection, a thread each: it is made
//! for tests, and copes with what clients of ClickHouse send, a body with its length or in chunks.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// The largest body that is read.
const MOST: u64 = 256 << 20;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Such as `POST`.
    pub method: String,
    /// Path and query, as they were sent.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Request {
    /// Whether it is an insert into `activities`, whose statement stands in the address.
    #[must_use]
    pub fn is_insert(&self) -> bool {
        self.target.contains("query=INSERT+INTO")
    }

    /// The value of a parameter of the address, as it was sent.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(it, _)| *it == name).map(|(_, value)| value)
    }

    /// The same request with another parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.target = format!("{}&{name}={value}", self.target);
        self
    }

    /// The same request without the parameters that `keep` does not want.
    #[must_use]
    pub fn keeping(mut self, keep: impl Fn(&str) -> bool) -> Self {
        if let Some((path, query)) = self.target.split_once('?') {
            let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
            let kept: Vec<&str> = query.split('&').filter(|pair| keep(&name(pair))).collect();
            self.target = format!("{path}?{}", kept.join("&"));
        }
        self
    }
}

/// An answer that is made up.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers beside the body's length.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// How often the body is sent.
    pub times: u64,
    /// How long to wait before each of them.
    pub pause: Duration,
}

impl Reply {
    /// An answer with a body.
    #[must_use]
    pub fn new(status: u16, body: &str) -> Self {
        Self { status, body: body.as_bytes().to_vec(), times: 1, ..Self::default() }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Action {
    /// It goes to the server, and the answer comes back.
    Pass,
    /// So does this one in its place.
    Change(Request),
    /// The server does not see it.
    Answer(Reply),
    /// The server answers, and this is what comes back.
    Lie(Reply),
    /// The server does not see it, and there is no answer.
    Cut,
    /// The server answers, and nothing comes back.
    PassAndCut,
}

/// Decides about requests.
pub type Rule = dyn Fn(&Request) -> Action + Send + Sync;

/// A running proxy. Dropping it ends it.
pub struct Proxy {
    address: SocketAddr,
    inserts: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on loopback, before the server at `upstream` (`host:port`).
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub fn start(
        upstream: &str,
        rule: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (inserts, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let shared: (Arc<Rule>, Arc<str>) = (Arc::new(rule), upstream.into());
        let proxy = Self { address, inserts: Arc::clone(&inserts), ended: Arc::clone(&ended) };
        thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                let ((rule, upstream), inserts) = (shared.clone(), Arc::clone(&inserts));
                // A client that goes away ends its own request.
                thread::spawn(move || serve(&client, &upstream, &*rule, &inserts).ok());
            }
        });
        Ok(proxy)
    }

    /// `http://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many inserts came.
    #[must_use]
    pub fn inserts(&self) -> u64 {
        self.inserts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // It waits for the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(client: &TcpStream, upstream: &str, rule: &Rule, inserts: &AtomicU64) -> io::Result<()> {
    client.set_nodelay(true)?;
    let Some(request) = read(client)? else { return Ok(()) };
    if request.is_insert() {
        inserts.fetch_add(1, Ordering::SeqCst);
    }
    match rule(&request) {
        Action::Pass => pass(client, upstream, &request),
        Action::Change(request) => pass(client, upstream, &request),
        Action::Answer(reply) => answer(client, &reply),
        Action::Lie(reply) => {
            ask(upstream, &request)?;
            answer(client, &reply)
        }
        Action::Cut => Ok(()),
        Action::PassAndCut => ask(upstream, &request).map(drop),
    }?;
    client.shutdown(Shutdown::Both)
}

fn read(client: &TcpStream) -> io::Result<Option<Request>> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        ..Request::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| request.headers.iter().find(|(it, _)| it == name).map(|(_, it)| it);
    if header("transfer-encoding").is_some() {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0).min(MOST);
            (&mut reader).take(size).read_to_end(&mut body)?;
            reader.read_line(&mut line)?;
            if size == 0 {
                break;
            }
        }
        request.body = body;
    } else if let Some(length) = header("content-length").and_then(|it| it.parse::<u64>().ok()) {
        let mut body = Vec::new();
        (&mut reader).take(length.min(MOST)).read_to_end(&mut body)?;
        request.body = body;
    }
    Ok(Some(request))
}

fn ask(upstream: &str, request: &Request) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(upstream)?;
    server.set_nodelay(true)?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    let own = ["connection", "content-length", "transfer-encoding"];
    for (name, value) in request.headers.iter().filter(|(name, _)| !own.contains(&&**name)) {
        head += &[name, ": ", value, "\r\n"].concat();
    }
    let length = request.body.len().to_string();
    head += &["content-length: ", &length, "\r\nconnection: close\r\n\r\n"].concat();
    server.write_all(head.as_bytes())?;
    server.write_all(&request.body)?;
    let mut bytes = Vec::new();
    server.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn pass(mut client: &TcpStream, upstream: &str, request: &Request) -> io::Result<()> {
    client.write_all(&ask(upstream, request)?)
}

fn answer(mut client: &TcpStream, reply: &Reply) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &[name, ": ", value, "\r\n"].concat();
    }
    let length = reply.body.len() as u64 * reply.times;
    head += &["content-length: ", &length.to_string(), "\r\n\r\n"].concat();
    client.write_all(head.as_bytes())?;
    for _ in 0..reply.times {
        if !reply.pause.is_zero() {
            thread::sleep(reply.pause);
        }
        client.write_all(&reply.body)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_changed_by_its_parameters() {
        let it =
            Request { target: "/?query=INSERT+INTO+x&a=1&b=2".to_owned(), ..Request::default() };
        assert!(it.is_insert());
        assert_eq!((it.parameter("b"), it.parameter("c")), (Some("2"), None));
        let it = it.keeping(|name| name != "a").with("c", "3");
        assert_eq!(it.target, "/?query=INSERT+INTO+x&b=2&c=3");
    }

    #[test]
    fn an_answer_is_made_up_and_the_server_is_not_asked() {
        let proxy =
            Proxy::start("127.0.0.1:1", |_| Action::Answer(Reply::new(413, "too large"))).unwrap();
        let address = proxy.url();
        let address = address.strip_prefix("http://").unwrap();
        let answer = crate::http::query(address, "me", "secret", &[], "SELECT 1").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (413, "too large"));
    }
}
