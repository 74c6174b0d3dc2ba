//! Running the benchmarks of the member `benchmarks`, and reading what they print.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// Requests in one sample, as `benches/requests.rs` and `benches/instructions.rs` have it.
const BURST: f64 = 64.0;
const COUNTED: f64 = 100.0;

/// The version of the runner must be the one of the library.
const RUNNER: &str = "0.20.0";

/// Runs one benchmark; what it prints to standard output.
fn bench(name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(["bench", "--quiet", "--package", "benchmarks", "--bench", name, "--"])
        .args(args)
        .current_dir(workspace()?)
        .stderr(Stdio::piped())
        .output()
        .context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("the benchmark {name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn workspace() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")
}

/// The last line of the output that is a JSON object.
fn last_object(output: &str) -> Result<Value> {
    let mut lines = output.lines().rev().filter(|line| line.starts_with('{'));
    let line = lines.next().context("the benchmark printed no figures")?;
    serde_json::from_str(line).context("the benchmark's figures are no JSON")
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("the benchmark did not tell {key}"))
}

/// Allocations of the request's thread.
pub(super) struct Allocations {
    pub(super) per_request: f64,
    pub(super) per_child: f64,
    pub(super) peers: BTreeMap<String, f64>,
}

impl Allocations {
    pub(super) fn measure() -> Result<Self> {
        eprintln!("counting allocations");
        let figures = last_object(&bench("allocations", &[])?)?;
        let peers = figures["peers"].as_object().context("the benchmark told no peers")?;
        Ok(Self {
            per_request: number(&figures, "allocations_per_request")?,
            per_child: number(&figures, "allocations_per_child")?,
            peers: peers.iter().filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect(),
        })
    }
}

/// Instructions of the request's thread.
pub(super) struct Instructions {
    pub(super) per_request: BTreeMap<String, f64>,
}

impl Instructions {
    pub(super) fn measure() -> Result<Self> {
        require_runner()?;
        eprintln!("counting instructions under callgrind");
        let output = bench("instructions", &["--output-format=json"])?;
        let mut per_request = BTreeMap::new();
        for line in output.lines().filter(|line| line.starts_with('{')) {
            let summary: Value = serde_json::from_str(line)?;
            let id = summary["id"].as_str().context("a count without a name")?;
            let parts = summary["profiles"][0]["data"]["parts"].as_array();
            let parts = parts.context("a count without parts")?;
            // The request's thread is the first; the worker's are not the request's cost.
            let count = &parts.first().context("an empty count")?["metrics"]["Ir"]["values"]["new"];
            let count = count.as_f64().context("a count that is no number")?;
            per_request.insert(id.to_owned(), count / COUNTED);
        }
        Ok(Self { per_request })
    }

    pub(super) fn ratio(&self, peer: &str, against: &str) -> Result<f64> {
        let get = |name: &str| self.per_request.get(name).with_context(|| format!("no {name}"));
        Ok(get(peer)? / get(against)?)
    }
}

/// Callgrind and its runner.
fn require_runner() -> Result<()> {
    let answers = |program: &str| {
        let status = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !answers("valgrind") {
        bail!("instructions are counted with valgrind; install it from your system's packages");
    }
    if !answers("gungraun-runner") {
        bail!(
            "instructions are counted by gungraun-runner; install it with `cargo install --locked gungraun-runner --version {RUNNER}`"
        );
    }
    Ok(())
}

/// Processor time of the request's thread, in rounds.
pub(super) struct Times {
    /// By peer, nanoseconds a request, one figure a round.
    rounds: BTreeMap<String, Vec<f64>>,
}

impl Times {
    pub(super) fn measure(rounds: u32) -> Result<Self> {
        let style = ProgressStyle::with_template("measuring time {bar:30} {pos}/{len} rounds")?;
        let progress = ProgressBar::new(rounds.into()).with_style(style);
        let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for _ in 0..rounds {
            let args = ["--warm-up-time", "0.3", "--measurement-time", "1", "--noplot", "^usual/"];
            bench("requests", &args)?;
            for entry in fs::read_dir(results()?)? {
                let folder = entry?.path();
                let file = folder.join("new/estimates.json");
                let Ok(text) = fs::read_to_string(&file) else { continue };
                let estimates: Value = serde_json::from_str(&text)?;
                let nanos = number(&estimates["median"], "point_estimate")? / BURST;
                let peer = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                all.entry(peer).or_default().push(nanos);
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(Self { rounds: all })
    }

    /// The median over the rounds of one peer's time against another's.
    pub(super) fn ratio(&self, peer: &str, against: &str) -> Result<f64> {
        let get = |name: &str| self.rounds.get(name).with_context(|| format!("no {name}"));
        let pairs = get(peer)?.iter().zip(get(against)?);
        let mut ratios: Vec<f64> = pairs.map(|(a, b)| a / b).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().context("no round was measured")
    }

    /// The best round of every peer, the fastest first.
    pub(super) fn best(&self) -> Vec<(String, f64)> {
        let best = |rounds: &Vec<f64>| rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let mut all: Vec<_> =
            self.rounds.iter().map(|(peer, rounds)| (peer.clone(), best(rounds))).collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        all
    }
}

/// Where criterion leaves its estimates of the group `usual`.
fn results() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let target = exe.ancestors().nth(2).context("no target folder")?;
    Ok(target.join("criterion/usual"))
}

/// Nanoseconds of the tail decision, by a policy of twenty rules.
pub(super) fn decision() -> Result<f64> {
    eprintln!("measuring the sampling decision");
    number(&last_object(&bench("decision", &[])?)?, "decision_ns")
}

/// Activities per second of the worker's processor time.
pub(super) fn pipeline() -> Result<f64> {
    eprintln!("measuring the pipeline");
    number(&last_object(&bench("pipeline", &[])?)?, "pipeline_per_core_s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() {
        let rounds = BTreeMap::from([
            ("a".to_owned(), vec![1.0, 10.0, 2.0]),
            ("b".to_owned(), vec![2.0, 20.0, 2.0]),
        ]);
        let times = Times { rounds };
        assert!((times.ratio("a", "b").unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(times.best(), [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
        assert!(times.ratio("a", "c").is_err());
    }

    #[test]
    fn the_figures_are_the_last_object_printed() {
        let output = "{\"a\":1}\nnoise\n{\"a\":2}\ndone\n";
        assert!((number(&last_object(output).unwrap(), "a").unwrap() - 2.0).abs() < 1e-9);
        assert!(last_object("nothing").is_err());
    }
}
