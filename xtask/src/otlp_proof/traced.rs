//! The example `traced` as a process: built by cargo, run, and its word on what became of all.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Builds the example; cargo's own progress goes to standard error.
pub(super) fn build() -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let output = Command::new(env!("CARGO"))
        .args(["build", "--package", "tracing-activity", "--example", "traced"])
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

impl Ran {
    /// The number at this place.
    pub(super) fn number(&self, pointer: &str) -> Result<u64> {
        let found = self.0.pointer(pointer).and_then(Value::as_u64);
        found.with_context(|| format!("no number at {pointer} in {}", self.0))
    }
}

/// Lets it serve so many requests on so many threads, each waiting so many microseconds for its
/// database.
pub(super) fn run(
    binary: &Path,
    requests: u32,
    threads: u32,
    wait: u32,
    environment: &[(&'static str, String)],
) -> Result<Ran> {
    let output = Command::new(binary)
        .args([requests, threads, wait].map(|it| it.to_string()))
        .env_remove(embedded_clickhouse::env::TEST_URL)
        .env_remove(embedded_clickhouse::env::ENGINE_DIR)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .context("the example cannot be run")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the example failed: {words}");
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    let ran = serde_json::from_str(last).with_context(|| format!("it said {last:?}: {words}"))?;
    Ok(Ran(ran))
}
