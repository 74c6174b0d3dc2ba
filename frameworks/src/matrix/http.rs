//! The client over HTTP: version 1.1 byte by byte, version 2 by hyper.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::Behaviour;
use super::observe::{Answer, DEADLINE, hanging, wait_for_hanging};

/// How long the client waits that leaves.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// A request over HTTP/1.1, on a connection of its own.
pub(super) fn one(address: SocketAddr, behaviour: Behaviour) -> Result<Answer> {
    let (path, _) = behaviour.target();
    let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    sent(address, behaviour, request.as_bytes(), status_of)
}

/// Sends these bytes, and reads the answer or leaves. `status_of` reads what came.
pub(super) fn sent(
    address: SocketAddr,
    behaviour: Behaviour,
    request: &[u8],
    status_of: fn(&[u8]) -> u16,
) -> Result<Answer> {
    let (begin, before) = (Instant::now(), hanging());
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request)?;
    if behaviour == Behaviour::Leaves {
        wait_for_hanging(before)?;
        std::thread::sleep(PATIENCE);
        stream.shutdown(Shutdown::Both)?;
        return Ok(Answer { status: 0, took: begin.elapsed() });
    }
    let mut answer = Vec::new();
    if behaviour == Behaviour::LeavesMidway {
        while !String::from_utf8_lossy(&answer).contains("part ") {
            let mut bytes = [0; 256];
            let count = stream.read(&mut bytes)?;
            ensure!(count > 0, "the answer ended before its first part");
            answer.extend(&bytes[..count]);
        }
        stream.shutdown(Shutdown::Both)?;
    }
    // A server that fails may reset the connection.
    let _ = stream.read_to_end(&mut answer);
    let took = begin.elapsed();
    Ok(Answer { status: status_of(&answer), took })
}

/// The status of an answer; 0 where there is none.
fn status_of(answer: &[u8]) -> u16 {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = String::from_utf8_lossy(line).split(' ').nth(1).map(str::to_owned);
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// A request over HTTP/2, on a connection of its own.
pub(super) fn two(address: SocketAddr, behaviour: Behaviour) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (path, _) = behaviour.target();
        let (begin, before) = (Instant::now(), hanging());
        let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await?);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = handshake.await.context("no HTTP/2")?;
        tokio::spawn(connection);
        let request =
            http::Request::get(format!("http://shop{path}")).body(Empty::<Bytes>::new())?;
        let request = tokio::spawn(sender.send_request(request));
        if behaviour == Behaviour::Leaves {
            tokio::task::spawn_blocking(move || wait_for_hanging(before)).await??;
            tokio::time::sleep(PATIENCE).await;
            let took = begin.elapsed();
            request.abort();
            return Ok(Answer { status: 0, took });
        }
        let status = match request.await? {
            Ok(response) => {
                let status = response.status().as_u16();
                let mut body = response.into_body();
                if behaviour == Behaviour::LeavesMidway {
                    body.frame().await.context("no first part")??;
                } else {
                    body.collect().await?;
                }
                status
            }
            // The stream was reset before there was an answer.
            Err(_) => 0,
        };
        Ok(Answer { status, took: begin.elapsed() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_and_nothing_is_no_status() {
        assert_eq!(status_of(b"HTTP/1.1 404 Not Found\r\nx: y\r\n\r\n"), 404);
        assert_eq!(status_of(b"HTTP/1.1 200\r\n\r\n"), 200);
        assert_eq!(status_of(b""), 0);
        assert_eq!(status_of(b"nonsense"), 0);
    }
}
