//! A running Collector.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::settings::{Ports, Settings};
use super::{build, plain};

/// How long a Collector may take until it is healthy.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// How long it may take to end when asked.
const STOP_PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// Somebody else may take a port between the choice and the start.
const ATTEMPTS: usize = 5;

/// A Collector that was healthy when it was started. Dropping it kills it.
pub(crate) struct Collector {
    settings: Settings,
    ports: Ports,
    binary: PathBuf,
    child: Option<Child>,
}

/// Lets the Collector read `file` as it would to run it.
///
/// # Errors
/// With its words, when it refuses.
pub(super) fn validate(binary: &Path, file: &Path) -> Result<()> {
    let output = Command::new(binary)
        .arg("validate")
        .arg("--config")
        .arg(file)
        .output()
        .with_context(|| format!("running {}", binary.display()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} is refused: {}", file.display(), words.trim());
    Ok(())
}

impl Collector {
    /// Starts one on free ports and waits until it is healthy; it is built first, if need be.
    ///
    /// # Errors
    /// With the last of its log, when it ends or is not healthy within a minute.
    pub(crate) fn start(settings: &Settings) -> Result<Self> {
        let binary = build::ensure()?;
        fs::create_dir_all(&settings.folder)
            .with_context(|| format!("making {}", settings.folder.display()))?;
        for attempt in 1.. {
            let ports = Ports::free()?;
            let mut collector =
                Self { settings: settings.clone(), ports, binary: binary.clone(), child: None };
            match collector.restart() {
                Ok(()) => return Ok(collector),
                Err(error)
                    if attempt < ATTEMPTS
                        && error.to_string().contains("address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Starts it again, killed or not, with the same ports and the same queue.
    ///
    /// # Errors
    /// Those of [`Collector::start`].
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill();
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let before = log.metadata()?.len();
        let mut command = self.command(&log)?;
        let child =
            command.spawn().with_context(|| format!("running {}", self.binary.display()))?;
        self.child = Some(child);
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if self.is_healthy() {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                self.child = None;
                bail!("the Collector ended with {status}: {}", self.words(before));
            }
            if Instant::now() >= deadline {
                self.kill();
                bail!(
                    "the Collector is not healthy after {START_PATIENCE:?}: {}",
                    self.words(before)
                );
            }
            thread::sleep(LOOK);
        }
    }

    /// Ends it by SIGKILL, as a crash would. Its queue stays.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Ends it by SIGTERM, as a deploy does, and waits.
    ///
    /// # Errors
    /// When it ends with an error, or has to be killed after a minute.
    pub(crate) fn stop(mut self) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        #[cfg(unix)]
        rustix::process::kill_process(
            rustix::process::Pid::from_child(child),
            rustix::process::Signal::TERM,
        )?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                self.child = None;
                ensure!(status.success(), "the Collector ended with {status}: {}", self.words(0));
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        bail!(
            "the Collector did not stop within {STOP_PATIENCE:?} and was killed: {}",
            self.words(0)
        )
    }

    /// Where OTLP goes over HTTP: `http://127.0.0.1:PORT`, to which a sender adds `/v1/traces`.
    pub(crate) fn otlp_http(&self) -> String {
        format!("http://{}", address(self.ports.http))
    }

    /// Where OTLP goes over gRPC.
    pub(crate) fn otlp_grpc(&self) -> String {
        format!("http://{}", address(self.ports.grpc))
    }

    /// Where statsd's datagrams go.
    pub(crate) fn statsd(&self) -> SocketAddr {
        address(self.ports.statsd)
    }

    /// Its own figures, in Prometheus's text format.
    pub(crate) fn telemetry(&self) -> Result<String> {
        let (status, body) = plain::get(address(self.ports.telemetry), "/metrics")?;
        ensure!(status == 200, "the Collector's figures: {status} {body}");
        Ok(body)
    }

    /// Waits until nothing is in its queue any more, by its own figures.
    ///
    /// # Errors
    /// When something still waits after `patience`.
    pub(crate) fn wait_until_empty(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let figures = self.telemetry()?;
            let sizes: Vec<&str> = figures
                .lines()
                .filter(|line| line.starts_with("otelcol_exporter_queue_size{"))
                .filter_map(|line| line.rsplit(' ').next())
                .collect();
            ensure!(!sizes.is_empty(), "no size of the queue among its figures: {figures}");
            if sizes.iter().all(|&size| size == "0") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the queue still holds {sizes:?}");
            thread::sleep(LOOK);
        }
    }

    pub(crate) fn telemetry_url(&self) -> String {
        format!("http://{}/metrics", address(self.ports.telemetry))
    }

    /// What it wrote, of every start.
    pub(crate) fn log(&self) -> PathBuf {
        self.settings.folder.join("collector.log")
    }

    pub(super) fn http_address(&self) -> SocketAddr {
        address(self.ports.http)
    }

    fn is_healthy(&self) -> bool {
        matches!(plain::get(address(self.ports.health), "/"), Ok((200, _)))
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    fn command(&self, log: &File) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(self.settings.configuration.file())
            .envs(self.settings.variables(&self.ports))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        // It stays in the group of this process: Ctrl-C ends it, too, and leaves no orphan.
        Ok(command)
    }

    /// The last lines of the log after its first `before` bytes.
    fn words(&self, before: u64) -> String {
        const LINES: usize = 8;
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(text.get(before as usize..).unwrap_or_default());
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
