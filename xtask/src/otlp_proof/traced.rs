//! The example `traced` as a process: built by cargo, run, and its word on what became of all.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

/// Builds the example; cargo's own progress goes to standard error.
pub(super) fn build(optimised: bool) -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "tracing-activity", "--example", "traced"])
        // The features that the tests of gRPC are built with, so that it is built once.
        .args(["--features", "otlp-grpc,otlp-tls"])
        .args(optimised.then_some("--release"))
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(workspace)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be run")?;
    ensure!(output.status.success(), "the example does not build: cargo's words are above");
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "traced")
            .then(|| message["executable"].as_str())?
            .map(Into::into)
    });
    built.context("cargo built no example")
}

/// What a run said at its end.
#[derive(Debug)]
pub(super) struct Ran(Value);

/// What became of the spans.
#[derive(Debug, Serialize)]
pub(super) struct Ledger {
    /// Spans that the service itself made.
    pub(super) made: u64,
    pub(super) started: u64,
    pub(super) exported: u64,
    pub(super) failed: u64,
    pub(super) sampled_out: u64,
    pub(super) dropped: u64,
    pub(super) in_flight: u64,
}

impl Ledger {
    /// Whether every span that was made met one fate.
    pub(super) fn is_balanced(&self) -> bool {
        let met = self.exported + self.failed + self.sampled_out + self.dropped;
        self.made == self.started && self.started == met && self.in_flight == 0
    }
}

impl Ran {
    /// The number at this place.
    pub(super) fn number(&self, pointer: &str) -> Result<u64> {
        let found = self.0.pointer(pointer).and_then(Value::as_u64);
        found.with_context(|| format!("no number at {pointer} in {}", self.0))
    }

    /// How long the requests went on.
    pub(super) fn seconds(&self) -> Result<f64> {
        self.0["seconds"].as_f64().with_context(|| format!("no seconds in {}", self.0))
    }

    pub(super) fn ledger(&self) -> Result<Ledger> {
        Ok(Ledger {
            made: self.number("/made")?,
            started: self.number("/spans/started")?,
            exported: self.number("/spans/exported")?,
            failed: self.number("/spans/failed")?,
            sampled_out: self.number("/spans/sampled_out")?,
            dropped: self.number("/spans/dropped")?,
            in_flight: self.number("/spans/in_flight")?,
        })
    }

    /// Whether the shutdown kept its deadline, but for what a busy machine adds.
    pub(super) fn ended_in_time(&self) -> Result<bool> {
        Ok(self.number("/shutdown_ms")? <= self.number("/deadline_ms")? + 1_000)
    }
}

/// A service that runs. Dropping it kills it.
pub(super) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts it with these of its arguments.
pub(super) fn start(
    binary: &Path,
    plan: &[(&str, u32)],
    environment: &[(&'static str, String)],
) -> Result<Running> {
    let child = Command::new(binary)
        .args(plan.iter().map(|(name, number)| format!("{name}={number}")))
        .env_remove(embedded_clickhouse::env::TEST_URL)
        .env_remove(embedded_clickhouse::env::ENGINE_DIR)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What it has to say about lost spans is for whoever looks on.
        .stderr(Stdio::inherit())
        .spawn()
        .context("the example cannot be run")?;
    Ok(Running(child))
}

impl Running {
    /// Waits for its end, and for what it says then.
    pub(super) fn wait(mut self) -> Result<Ran> {
        let mut said = String::new();
        self.0.stdout.take().context("no output")?.read_to_string(&mut said)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the example ended with {status}: its words are above");
        let last = said.lines().last().unwrap_or_default();
        Ok(Ran(serde_json::from_str(last).with_context(|| format!("it said {last:?}"))?))
    }
}

/// Runs it to its end.
pub(super) fn run(
    binary: &Path,
    plan: &[(&str, u32)],
    environment: &[(&'static str, String)],
) -> Result<Ran> {
    start(binary, plan, environment)?.wait()
}
