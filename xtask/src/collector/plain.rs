//! One HTTP request over a plain socket: health, the Collector's own figures, OTLP as JSON.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for the connection, and for a single read or write.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks for `path`; status and body.
pub(super) fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"), PATIENCE)
}

/// Sends JSON to `path` and waits for `patience` at most; status and body.
pub(super) fn post(
    address: SocketAddr,
    path: &str,
    json: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        json.len()
    );
    exchange(address, &(head + json), patience)
}

fn exchange(address: SocketAddr, request: &str, patience: Duration) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| {
        io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the answer")
    })?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no answer of HTTP: {head}")))?;
    Ok((status, body.to_owned()))
}
