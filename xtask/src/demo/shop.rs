//! The shop as a process: built by cargo, started, and stopped as a deploy would stop it.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Builds the example; cargo's own progress goes to standard error.
pub(crate) fn build(workspace: &Path) -> Result<PathBuf> {
    let output = Command::new(env!("CARGO"))
        // Together with this package, so that what both depend on is built for both at once.
        .args(["build", "--package", "tracing-activity", "--package", "xtask"])
        .args(["--example", "shop"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(workspace)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("the shop does not build: cargo's words are above");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    messages.lines().find_map(executable).context("cargo built no shop")
}

/// The path in a message of cargo's that says the shop was built.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    (message["target"]["name"] == "shop").then(|| message["executable"].as_str())?.map(Into::into)
}

/// How a deploy differs from another.
pub(crate) struct Deploy<'a> {
    pub(crate) letter: &'static str,
    pub(crate) seed: u64,
    /// Where the rows go and as what.
    pub(crate) environment: &'a [(&'static str, String)],
    /// Where it is to write which code paths were taken, instead of delivering rows.
    pub(crate) shapes: Option<&'a Path>,
}

/// A running shop. Dropping it ends it at once, and should this process be killed, the end of its
/// standard input does.
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    child: Child,
    words: Words,
}

const START_PATIENCE: Duration = Duration::from_mins(1);
const STOP_PATIENCE: Duration = Duration::from_mins(1);

impl Shop {
    /// Starts `executable` on a free port and waits until it listens.
    pub(crate) fn start(executable: &Path, deploy: &Deploy<'_>) -> Result<Self> {
        let mut command = Command::new(executable);
        command
            .args(["--port", "0", "--until-stdin-ends", "--deploy", deploy.letter])
            .args(["--seed", &deploy.seed.to_string()])
            .args(deploy.shapes.iter().flat_map(|file| [OsStr::new("--shapes"), file.as_os_str()]))
            // What is meant for the engine is nothing the shop's layer knows.
            .env_remove(embedded_clickhouse::env::TEST_URL)
            .env_remove(embedded_clickhouse::env::ENGINE_DIR)
            .envs(deploy.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Ctrl-C is for the demo alone, which then stops the shop in good order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().context("the shop cannot be run")?;

        let mut words = Words::listen(child.stderr.take());
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    // Later lines are read too, or the shop would wait for room in the pipe.
                    sender.send(line).ok();
                }
            });
        }
        let failure = match lines.recv_timeout(START_PATIENCE) {
            Ok(line) => match listening(&line) {
                Some(address) => return Ok(Self { address, child, words }),
                None => format!("its first line is {line:?}"),
            },
            Err(RecvTimeoutError::Timeout) => {
                format!("it does not listen after {START_PATIENCE:?}")
            }
            Err(RecvTimeoutError::Disconnected) => "it ended".to_owned(),
        };
        child.kill().ok();
        child.wait().ok();
        bail!("the shop does not start: {failure}\n{}", words.last())
    }

    /// The last of what the shop wrote to standard error so far.
    pub(crate) fn words(&self) -> String {
        self.words.so_far()
    }

    /// Lets the shop finish what it is doing and flush; its last words hold its own count.
    pub(crate) fn stop(mut self) -> Result<String> {
        self.ask_to_stop();
        match wait(&mut self.child, STOP_PATIENCE) {
            Some(status) if status.success() => Ok(self.words.last()),
            Some(status) => bail!("the shop ended with {status}\n{}", self.words.last()),
            None => bail!("the shop did not stop within {STOP_PATIENCE:?} and was killed"),
        }
    }

    /// SIGTERM where there are signals, as a deploy does it, and the end of its input elsewhere.
    fn ask_to_stop(&mut self) {
        #[cfg(unix)]
        if rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )
        .is_ok()
        {
            return;
        }
        self.child.stdin = None;
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

fn listening(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening on http://")?.trim().parse().ok()
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// The last lines of a child's standard error.
struct Words {
    kept: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Words {
    const LINES: usize = 200;

    fn listen(stderr: Option<impl Read + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let listener = stderr.map(|stderr| {
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() == Self::LINES {
                        kept.pop_front();
                    }
                    kept.push_back(line);
                }
            })
        });
        Self { kept, listener }
    }

    fn so_far(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// The words of a child that has ended, to the last of them.
    fn last(&mut self) -> String {
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
        self.so_far()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_first_line() {
        let address = listening("listening on http://127.0.0.1:41234\n");
        assert_eq!(address, Some(([127, 0, 0, 1], 41234).into()));
        assert_eq!(listening("{\"when\":1}"), None);
    }

    #[test]
    fn the_executable_is_found_among_the_messages_of_cargo() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"shop","kind":["example"]},"executable":"/t/shop"}"#;
        assert_eq!(executable(message), Some("/t/shop".into()));
        assert_eq!(executable(r#"{"target":{"name":"axum"},"executable":null}"#), None);
        assert_eq!(executable("warning: something"), None);
    }
}
