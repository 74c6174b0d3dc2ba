//! One HTTP request to the engine, over a plain socket.
//!
//! For the few questions asked here (is it up, what does a test table hold) a client library is
//! too much: one connection per request, HTTP/1.0 so that the body ends with the connection.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for a single read or write.
const PATIENCE: Duration = Duration::from_mins(1);

/// A response: status and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code; 200 is success.
    pub status: u16,
    /// The body, or the server's message when the status is not 200.
    pub body: String,
}

/// Sends `sql` to `address` (`host:port`) as `user`. `parameters` are query-string pairs, settings
/// of the query among them, and must need no escaping.
///
/// # Errors
///
/// When the connection fails or ends before the response is whole.
pub fn query(
    address: &str,
    user: &str,
    password: &str,
    parameters: &[(&str, &str)],
    sql: &str,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let request = format!(
        "POST /?{} HTTP/1.0\r\nHost: {address}\r\nX-ClickHouse-User: {user}\r\n\
         X-ClickHouse-Key: {password}\r\nContent-Length: {}\r\n\r\n{sql}",
        pairs.join("&"),
        sql.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the connection ended before the response was whole",
        )
    })
}

fn parse(bytes: &[u8]) -> Option<Response> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..split]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let body = &bytes[split + 4..];
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    if length.is_some_and(|length| length > body.len()) {
        return None;
    }
    Some(Response { status, body: String::from_utf8_lossy(body).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_its_status_and_body() {
        let response = parse(b"HTTP/1.0 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").unwrap();
        assert_eq!((response.status, response.body.as_str()), (403, "no"));
    }

    #[test]
    fn a_response_cut_short_is_none() {
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nno"), None);
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\nContent-"), None);
    }
}
