//! The processes of a measurement: services that say their address and stop when they are told to.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};

/// A service in a process of its own. It dies with its holder.
pub(super) struct Service {
    child: Child,
    pub(super) address: SocketAddr,
    /// What it says besides, so that it never waits for a reader.
    rest: Option<JoinHandle<String>>,
}

impl Service {
    /// Starts this program with these words.
    pub(super) fn start(words: &[&str]) -> Result<Self> {
        let mut child = this_program()?
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", words.join(" ")))?;
        let stderr = child.stderr.take().context("its standard error is not there")?;
        let mut reader = BufReader::new(stderr);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Ok(address) = line.trim().parse() else {
            let mut rest = String::new();
            let _ = reader.read_to_string(&mut rest);
            anyhow::bail!("{} did not start: {line}{rest}", words.join(" "));
        };
        let rest = std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = reader.read_to_string(&mut rest);
            rest
        });
        Ok(Self { child, address, rest: Some(rest) })
    }

    /// Processor time of all its threads since it began, in microseconds, where the system tells.
    pub(super) fn processor_time(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        ticks(&stat).map(|ticks| ticks as f64 * MICROS_PER_TICK)
    }

    /// Stops it; what it says at its end.
    pub(super) fn stop(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        let rest = self.rest.take().and_then(|rest| rest.join().ok()).unwrap_or_default();
        ensure!(status.success(), "a service ended by {status}: {rest}");
        Ok(rest.trim().to_owned())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Linux counts processor time for users in hundredths of a second.
const MICROS_PER_TICK: f64 = 10_000.0;

/// User and system time of a process by its line in `/proc`. The program's name, in parentheses, may
/// hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// This program, to be run again.
pub(super) fn this_program() -> Result<Command> {
    let path = std::env::current_exe().context("this program cannot be found")?;
    Ok(Command::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 9 0 0 0 120 34 0 0 20 0 3 0 99 1 2";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(ticks("7 (x"), None);
        assert_eq!(ticks("7 (x) S 1"), None);
    }
}
