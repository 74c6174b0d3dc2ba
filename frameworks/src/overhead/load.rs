//! The load: connections that are kept alive, each of which asks again as soon as it has its
//! answer, or at a pace, in a process of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: hello\r\nuser-agent: load/1\r\n\r\n";

/// What a round of load saw.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Requests that were answered.
    pub(crate) requests: u64,
    /// Seconds that it took.
    pub(crate) seconds: f64,
    /// Microseconds that half of the requests did not exceed.
    pub(crate) p50: f64,
    /// Microseconds that 99 of 100 requests did not exceed.
    pub(crate) p99: f64,
}

/// Asks for `seconds` on so many connections, `rate` times a second if it is given, and prints what
/// it saw.
pub(crate) fn run(
    address: SocketAddr,
    connections: usize,
    seconds: f64,
    rate: Option<f64>,
) -> Result<()> {
    let pause = rate.map(|rate| Duration::from_secs_f64(connections as f64 / rate));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let load = runtime.block_on(async {
        let begin = Instant::now();
        let end = begin + Duration::from_secs_f64(seconds);
        let clients: Vec<_> =
            (0..connections).map(|_| tokio::spawn(client(address, end, pause))).collect();
        let mut times = Vec::new();
        for client in clients {
            times.extend(client.await??);
        }
        let took = begin.elapsed();
        times.sort_unstable();
        anyhow::Ok(Load {
            requests: times.len() as u64,
            seconds: took.as_secs_f64(),
            p50: quantile(&times, 0.5)?,
            p99: quantile(&times, 0.99)?,
        })
    })?;
    println!("{}", serde_json::to_string(&load)?);
    Ok(())
}

/// Asks until `end`; the nanoseconds that each answer took.
async fn client(address: SocketAddr, end: Instant, pause: Option<Duration>) -> Result<Vec<u64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(REQUEST).await?;
    // All answers are of the same length: but for the time, whose length does not change.
    let mut answer = vec![0; length_of_first(&mut stream).await?];
    let mut times = Vec::new();
    let mut ticks = pause.map(tokio::time::interval);
    while Instant::now() < end {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let begin = Instant::now();
        stream.write_all(REQUEST).await?;
        stream.read_exact(&mut answer).await?;
        times.push(begin.elapsed().as_nanos() as u64);
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "an answer is none");
    }
    Ok(times)
}

/// Reads the first answer.
async fn length_of_first(stream: &mut TcpStream) -> Result<usize> {
    let mut seen = Vec::new();
    loop {
        ensure!(stream.read_buf(&mut seen).await? > 0, "the service closed the connection");
        let text = String::from_utf8_lossy(&seen);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("an answer tells no length")?.parse()?;
        if body.len() == length {
            return Ok(seen.len());
        }
    }
}

/// The value that this part of the sorted times does not exceed, in microseconds.
fn quantile(sorted: &[u64], part: f64) -> Result<f64> {
    let last = sorted.len().checked_sub(1).context("no request was answered")?;
    let at = (sorted.len() as f64 * part).ceil() as usize;
    Ok(sorted[at.saturating_sub(1).min(last)] as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let times: Vec<u64> = (1..=200).map(|it| it * 1000).collect();
        assert!((quantile(&times, 0.5).unwrap() - 100.0).abs() < f64::EPSILON);
        assert!((quantile(&times, 0.99).unwrap() - 198.0).abs() < f64::EPSILON);
        assert!((quantile(&times[..1], 0.99).unwrap() - 1.0).abs() < f64::EPSILON);
        assert!(quantile(&[], 0.5).is_err());
    }
}
