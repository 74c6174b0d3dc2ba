//! A client that sends one request per connection and sees every byte of the answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Sends a request and leaves the answer unread.
pub(crate) fn send(address: SocketAddr, method: &str, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: shop\r\nuser-agent: test/1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Sends a request and reads the whole answer; gives the status, 0 when there was none.
pub(crate) fn request(address: SocketAddr, method: &str, target: &str) -> u16 {
    let mut answer = Vec::new();
    let _ = send(address, method, target).read_to_end(&mut answer);
    let head = String::from_utf8_lossy(&answer);
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}
