//! A client of the shop: one connection, a cookie, and manners or none.
//!
//! Invariant: [`Client::call`] returns `Ok` only when the shop's handler surely ran, so that the
//! requests sent can be compared with the rows stored to the last one. For a polite client the
//! answer is the proof. One that leaves needs another: the answer's first bytes, or the interim
//! `100 Continue`, which the server sends when the handler begins to read the body.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, LOCATION, REFERER, SET_COOKIE, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::plan::Visit;
use super::step::Call;

pub(crate) struct Client {
    shop: SocketAddr,
    agent: &'static str,
    referer: Option<&'static str>,
    connection: Option<SendRequest<Full<Bytes>>>,
    cookie: Option<String>,
    location: Option<String>,
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
    pub(crate) async fn call(&mut self, call: &Call) -> Result<()> {
        match call {
            Call::Get(path) => self.ask(Method::GET, path, "").await,
            Call::Post { path, json } => self.ask(Method::POST, path, json).await,
            Call::Follow => {
                // Nothing was bought: then the list of orders is looked for, which is not there.
                let path = self.location.take().unwrap_or_else(|| "/orders/0".to_owned());
                self.ask(Method::GET, &path, "").await
            }
            Call::GetBroken(path) => self.ask_what_breaks(path).await,
            Call::LeaveWaiting { path, json } => self.leave_waiting(path, json).await,
            Call::LeaveReading(path) => self.leave_reading(path).await,
        }
        .with_context(|| format!("{call:?}"))
    }

    async fn ask(&mut self, method: Method, path: &str, json: &str) -> Result<()> {
        let response = self.send(method, path, json).await??;
        self.learn(&response);
        response.into_body().collect().await.context("the answer was cut short")?;
        Ok(())
    }

    /// A request that the server answers by hanging up. The connection was there and took the
    /// request, and a handler that never ran would not have panicked.
    async fn ask_what_breaks(&mut self, path: &str) -> Result<()> {
        let sent = self.send(Method::GET, path, "").await?;
        self.connection = None;
        if let Ok(response) = sent {
            response.into_body().collect().await.context("the answer was cut short")?;
        }
        Ok(())
    }

    /// The outer result says whether the request was written, the inner what came of it.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        json: &str,
    ) -> Result<Result<Response<Incoming>, hyper::Error>> {
        let mut request = self.request(method, path, json)?;
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

    fn request(&mut self, method: Method, path: &str, json: &str) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.shop.to_string())
            .header(USER_AGENT, self.agent);
        if let Some(referer) = self.referer.take() {
            request = request.header(REFERER, referer);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(COOKIE, cookie);
        }
        if !json.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        Ok(request.body(Full::new(Bytes::copy_from_slice(json.as_bytes())))?)
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

    /// Sends the body once the handler asks for it, and leaves while it works.
    async fn leave_waiting(&self, path: &str, json: &str) -> Result<()> {
        let mut stream = TcpStream::connect(self.shop).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nexpect: 100-continue\r\n\r\n",
            self.shop,
            self.agent,
            json.len(),
        );
        stream.write_all(head.as_bytes()).await?;
        read_until(&mut stream, |seen| seen.ends_with(b"100 Continue\r\n\r\n")).await?;
        stream.write_all(json.as_bytes()).await?;
        stream.shutdown().await?;
        Ok(())
    }

    /// Reads some of the body and leaves.
    async fn leave_reading(&self, path: &str) -> Result<()> {
        let mut stream = TcpStream::connect(self.shop).await?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: {}\r\n\r\n",
            self.shop, self.agent
        );
        stream.write_all(head.as_bytes()).await?;
        // About a third of what would come.
        read_until(&mut stream, |seen| seen.len() > 500).await
    }
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

/// Reads until it was `enough`.
async fn read_until(stream: &mut TcpStream, enough: impl Fn(&[u8]) -> bool) -> Result<()> {
    let mut seen = Vec::new();
    while !enough(&seen) {
        if stream.read_buf(&mut seen).await? == 0 {
            let seen = String::from_utf8_lossy(&seen);
            return Err(anyhow!("the shop hung up after {seen:?}"));
        }
    }
    Ok(())
}
