//! `cargo xtask bench`: what capture costs beside its peers, in one table.
//!
//! Allocations and instructions are exact and gate; processor time is measured in rounds, every
//! peer once a round, and the ratios are taken round by round, so that a machine which is busy for
//! a while is busy for all. The bars are stated here and nowhere else.

mod measure;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use measure::{Allocations, Instructions, Times};

/// Measures what capture costs, beside its peers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only what is exact: allocations and instructions; fails above the bars
    #[arg(long)]
    gates: bool,
    /// Rounds of measuring time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// A figure, what it must not exceed (or, for a rate, must reach), and what it says.
struct Figure {
    key: &'static str,
    value: f64,
    bar: Bar,
    says: &'static str,
}

#[derive(Clone, Copy)]
enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    fn holds(&self) -> bool {
        match self.bar {
            Bar::AtMost(bar) => self.value <= bar,
            Bar::AtLeast(bar) => self.value >= bar,
        }
    }

    fn line(&self) -> String {
        let bar = match self.bar {
            Bar::AtMost(bar) => format!("<= {bar}"),
            Bar::AtLeast(bar) => format!(">= {bar}"),
        };
        let verdict = if self.holds() { "" } else { " (missed)" };
        format!("| {:<24} | {:>10.3} | {bar:>10} | {}{verdict} |", self.key, self.value, self.says)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let allocations = Allocations::measure()?;
    let instructions = Instructions::measure()?;
    let mut figures = exact(&allocations, &instructions)?;
    if !args.gates {
        let times = Times::measure(args.rounds)?;
        figures.extend(timed(&times)?);
        figures.push(decision()?);
        figures.push(pipeline()?);
        print_peers(&allocations, &instructions, &times);
    }
    println!("\n| figure | measured | bar | what it is |\n|---|---|---|---|");
    for figure in &figures {
        println!("{}", figure.line());
    }
    if let Some(path) = &args.json {
        let pairs = figures.iter().map(|it| (it.key.to_owned(), json!(it.value)));
        let object = Value::Object(pairs.collect::<Map<_, _>>());
        std::fs::write(path, format!("{object}\n"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let missed: Vec<&str> = figures.iter().filter(|it| !it.holds()).map(|it| it.key).collect();
    if args.gates && !missed.is_empty() {
        bail!("above the bar: {}", missed.join(", "));
    }
    Ok(())
}

/// The figures that are the same on every run.
fn exact(allocations: &Allocations, instructions: &Instructions) -> Result<Vec<Figure>> {
    let at_most = |key, value, bar, says| Figure { key, value, bar: Bar::AtMost(bar), says };
    Ok(vec![
        at_most(
            "instructions_vs_floor",
            instructions.ratio("activity", "floor")?,
            2.0,
            "instructions, against a layer that does nothing",
        ),
        at_most(
            "root_only_instructions",
            instructions.ratio("root_only", "floor")?,
            1.5,
            "the same, where no trace can be kept",
        ),
        at_most(
            "allocations_per_request",
            allocations.per_request,
            2.0,
            "allocations of a request with 8 children",
        ),
        at_most("allocations_per_child", allocations.per_child, 0.0, "of one more child"),
    ])
}

/// The figures of processor time.
fn timed(times: &Times) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (key, peer, against, bar, says) in [
        (
            "cpu_vs_otel",
            "activity",
            "otel",
            0.25,
            "time, against tracing-opentelemetry and a batch",
        ),
        ("cpu_vs_fastrace", "activity", "fastrace", 0.75, "against fastrace with dynamic values"),
        ("root_only_vs_floor", "root_only", "floor", 1.5, "where no trace can be kept"),
        ("stacked_vs_otel", "stacked", "otel", 1.2, "both layers, against OpenTelemetry alone"),
        ("stalled_ratio", "stalled", "activity", 1.2, "the sink stalled, against itself"),
    ] {
        let value = times.ratio(peer, against)?;
        figures.push(Figure { key, value, bar: Bar::AtMost(bar), says });
    }
    Ok(figures)
}

fn decision() -> Result<Figure> {
    Ok(Figure {
        key: "decision_ns",
        value: measure::decision()?,
        bar: Bar::AtMost(100.0),
        says: "time to decide about a trace, by a policy of twenty rules",
    })
}

fn pipeline() -> Result<Figure> {
    Ok(Figure {
        key: "pipeline_per_core_s",
        value: measure::pipeline()?,
        bar: Bar::AtLeast(100_000.0),
        says: "activities with 9 spans per second of the worker's processor time",
    })
}

fn print_peers(allocations: &Allocations, instructions: &Instructions, times: &Times) {
    println!("\n| subscriber | ns a request | instructions | allocations |\n|---|---|---|---|");
    for (peer, nanos) in times.best() {
        let of = |map: &std::collections::BTreeMap<String, f64>| {
            map.get(&peer).map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"))
        };
        println!(
            "| {peer:<10} | {nanos:>8.0} | {:>8} | {:>6} |",
            of(&instructions.per_request),
            of(&allocations.peers)
        );
    }
}
