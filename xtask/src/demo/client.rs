//! A client of the shop: one connection, a cookie, and manners or none.
//!
//! Invariant: [`Client::call`] returns `Ok` only when the shop's handler surely ran, so that the
//! requests sent can be compared with the rows stored to the last one. For a polite client the
//! answer is the proof. One that leaves needs another: the answer's first bytes, or the interim
//! `100 Continue`, which the server sends when the handler begins to read the body.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, REFERER, SET_COOKIE, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::plan::Visit;
use super::step::Call;

/// How long somebody waits who will leave. What is left takes nine times as long at least.
const PATIENCE: Duration = Duration::from_millis(100);

pub(crate) struct Client {
    shop: SocketAddr,
    agent: &'static str,
    referer: Option<&'static str>,
    connection: Option<SendRequest<Full<Bytes>>>,
    cookie: Option<String>,
    location: Option<String>,
}

/// A request as its client knows it, for whoever compares it with the row.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Seen {
    method: &'static str,
    path: String,
    referer: &'static str,
    agent: &'static str,
    /// The body sent: JSON, or what was meant to be.
    body: String,
    /// The number of the session in the cookie, that of this answer included.
    session: String,
    /// 0 when nothing was answered.
    status: u16,
    /// The JSON answered, if it was that.
    answer: Value,
    /// The client went away before the end.
    left: bool,
    /// Microseconds since 1970.
    began: u64,
    /// Microseconds until the answer was read, or the client had gone.
    took: u64,
}

impl Client {
    pub(crate) fn new(shop: SocketAddr, visit: &Visit) -> Self {
        Self {
            shop,
            agent: visit.agent,
            referer: visit.referer,
            connection: None,
            cookie: None,
            location: None,
        }
    }

    /// Makes one request, which the shop surely saw when this is `Ok`.
    pub(crate) async fn call(&mut self, call: &Call) -> Result<Seen> {
        let (method, path, body) = match call {
            Call::Get(path) | Call::GetBroken(path) => ("GET", path.clone(), String::new()),
            Call::LeaveReading(path) => ("GET", (*path).to_owned(), String::new()),
            Call::Post { path, json } => ("POST", path.clone(), json.clone()),
            Call::LeaveWaiting { path, json } => ("POST", (*path).to_owned(), json.clone()),
            // Nothing was bought: then the list of orders is looked for, which is not there.
            Call::Follow => {
                let path = self.location.take().unwrap_or_else(|| "/orders/0".to_owned());
                ("GET", path, String::new())
            }
        };
        let mut seen = Seen { method, path, body, agent: self.agent, ..Seen::default() };
        seen.began = micros_since_1970();
        let clock = Instant::now();
        match call {
            Call::GetBroken(_) => self.ask_what_breaks(&mut seen).await,
            Call::LeaveWaiting { .. } => self.leave_waiting(&mut seen).await,
            Call::LeaveReading(_) => self.leave_reading(&mut seen).await,
            Call::Get(_) | Call::Post { .. } | Call::Follow => self.ask(&mut seen).await,
        }
        .with_context(|| format!("{call:?}"))?;
        seen.took = clock.elapsed().as_micros() as u64;
        let cookie = self.cookie.as_deref().filter(|_| !seen.left);
        let session = cookie.and_then(|cookie| cookie.strip_prefix("session="));
        seen.session = session.and_then(|it| it.split('.').next()).unwrap_or_default().to_owned();
        Ok(seen)
    }

    async fn ask(&mut self, seen: &mut Seen) -> Result<()> {
        let response = self.send(seen).await??;
        self.learn(&response);
        read(response, seen).await
    }

    /// A request that the server answers by hanging up. The connection was there and took the
    /// request, and a handler that never ran would not have panicked.
    async fn ask_what_breaks(&mut self, seen: &mut Seen) -> Result<()> {
        let sent = self.send(seen).await?;
        self.connection = None;
        match sent {
            Ok(response) => read(response, seen).await,
            Err(_) => Ok(()),
        }
    }

    /// The outer result says whether the request was written, the inner what came of it.
    async fn send(&mut self, seen: &mut Seen) -> Result<Result<Response<Incoming>, hyper::Error>> {
        let mut request = self.request(seen)?;
        for _ in 0..3 {
            let connection = match &mut self.connection {
                Some(connection) if !connection.is_closed() => connection,
                absent => absent.insert(connect(self.shop).await?),
            };
            if connection.ready().await.is_err() {
                self.connection = None;
                continue;
            }
            match connection.try_send_request(request).await {
                Ok(response) => return Ok(Ok(response)),
                Err(mut error) => match error.take_message() {
                    // Not a byte was written: the connection had ended meanwhile.
                    Some(unsent) => request = unsent,
                    None => return Ok(Err(error.into_error())),
                },
            }
            self.connection = None;
        }
        bail!("the shop at {} takes no request", self.shop)
    }

    fn request(&mut self, seen: &mut Seen) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(Method::from_bytes(seen.method.as_bytes())?)
            .uri(&seen.path)
            .header(HOST, self.shop.to_string())
            .header(USER_AGENT, self.agent);
        if let Some(referer) = self.referer.take() {
            request = request.header(REFERER, referer);
            seen.referer = referer;
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        if !seen.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        Ok(request.body(Full::new(Bytes::copy_from_slice(seen.body.as_bytes())))?)
    }

    /// Keeps the cookie and the place the answer points to.
    fn learn(&mut self, response: &Response<Incoming>) {
        let header = |name| response.headers().get(name)?.to_str().ok();
        if let Some(cookie) = header(SET_COOKIE).and_then(|it| it.split(';').next()) {
            self.cookie = Some(cookie.to_owned());
        }
        if let Some(location) = header(LOCATION) {
            self.location = Some(location.to_owned());
        }
    }

    /// Sends the body once the handler asks for it, and leaves while it works: out of patience.
    async fn leave_waiting(&self, seen: &mut Seen) -> Result<()> {
        let Seen { path, body, .. } = &*seen;
        let mut stream = TcpStream::connect(self.shop).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nexpect: 100-continue\r\n\r\n",
            self.shop,
            self.agent,
            body.len(),
        );
        stream.write_all(head.as_bytes()).await?;
        read_until(&mut stream, |seen| seen.ends_with(b"100 Continue\r\n\r\n")).await?;
        stream.write_all(body.as_bytes()).await?;
        sleep(PATIENCE).await;
        stream.shutdown().await?;
        seen.left = true;
        Ok(())
    }

    /// Reads some of the body and leaves.
    async fn leave_reading(&self, seen: &mut Seen) -> Result<()> {
        let mut stream = TcpStream::connect(self.shop).await?;
        let head = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: {}\r\n\r\n",
            seen.path, self.shop, self.agent
        );
        stream.write_all(head.as_bytes()).await?;
        seen.left = true;
        // About a third of what would come.
        let head = read_until(&mut stream, |seen| seen.len() > 500).await?;
        seen.status = status(&head).context("the answer begins with no status")?;
        Ok(())
    }
}

/// Reads the answer to its end.
async fn read(response: Response<Incoming>, seen: &mut Seen) -> Result<()> {
    seen.status = response.status().as_u16();
    let body = response.into_body().collect().await.context("the answer was cut short")?;
    seen.answer = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    Ok(())
}

fn micros_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

async fn connect(shop: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(shop)
        .await
        .with_context(|| format!("the shop at {shop} takes no connection"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // How a connection ends is told to the request that was on it.
        connection.await.ok();
    });
    Ok(sender)
}

/// The status in the first line of an answer.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

/// Reads until it was `enough`; what was read.
async fn read_until(stream: &mut TcpStream, enough: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
    let mut seen = Vec::new();
    while !enough(&seen) {
        if stream.read_buf(&mut seen).await? == 0 {
            let seen = String::from_utf8_lossy(&seen);
            return Err(anyhow!("the shop hung up after {seen:?}"));
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\n\r\n1,x"), Some(200));
        assert_eq!(status(b"200"), None);
        assert_eq!(status(b""), None);
    }
}
