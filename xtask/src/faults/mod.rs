//! `cargo xtask faults`: delivery to a real ClickHouse past everything that goes wrong on the way.
//!
//! Each scenario sends activities through a proxy that misbehaves, or to a server that was told to
//! refuse, and holds the counters to the tables: every activity has met one fate, what counts as stored
//! is there, and nothing is there twice.

mod host;
mod rules;
mod scenarios;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args as ClapArgs;
use serde::Serialize;

use self::host::Outcome;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Scenarios of delivery to ClickHouse
    #[arg(long)]
    delivery: bool,
    /// The few that a gate has time for, in less than a minute
    #[arg(long)]
    short: bool,
    /// Only scenarios whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report<'a> {
    profile: &'static str,
    ok: bool,
    seconds: f64,
    scenarios: &'a [Outcome],
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !args.delivery {
        bail!("nothing to do: say which faults, such as --delivery");
    }
    let start = Instant::now();
    embedded_clickhouse::fetch::ensure().context("the engine")?;
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(&**only));
    let scenarios: Vec<_> = scenarios::all(args.short)
        .into_iter()
        .filter(|it| (it.short || !args.short) && wanted(it.name))
        .collect();
    if scenarios.is_empty() {
        bail!("there is no such scenario");
    }
    let (total, mut outcomes) = (scenarios.len(), Vec::new());
    let shared = host::Site::start(embedded_clickhouse::Limits::default())?;
    for (at, scenario) in scenarios.into_iter().enumerate() {
        let outcome = host::run(scenario, &shared)?;
        println!("[{}/{total}] {outcome}", at + 1);
        outcomes.push(outcome);
    }
    let ok = outcomes.iter().all(|it| it.ok);
    let seconds = start.elapsed().as_secs_f64();
    if let Some(path) = &args.json {
        let profile = if args.short { "short" } else { "full" };
        let report = Report { profile, ok, seconds, scenarios: &outcomes };
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    println!("{total} scenarios in {seconds:.0} s");
    if !ok {
        let bad = outcomes.iter().filter(|it| !it.ok).map(|it| it.scenario).collect::<Vec<_>>();
        bail!("not as they should be: {}", bad.join(", "));
    }
    Ok(())
}
