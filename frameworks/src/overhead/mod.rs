//! What the middleware and the layer cost an axum hello-world under load, beside their peers.
//!
//! Each peer serves in a process of its own, the load comes from another. All peers are up all the
//! time and take turns within a round; ratios are taken round by round, and their median is what is
//! told: a machine that is busy for a while is busy for all.

mod collect;
mod load;
mod process;
mod serve;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::marks::between;
use load::Load;
use process::{Service, this_program};

pub(crate) use collect::run as collect;
pub(crate) use load::run as load;
pub(crate) use serve::{Peer, run as serve};

const BEGIN: &str = "<!-- overhead:begin -->";
const END: &str = "<!-- overhead:end -->";

/// Measures what capture costs an axum hello-world under load
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table into docs/frameworks.md
    #[arg(long)]
    docs: bool,
    /// Rounds, in each of which every peer has its turn
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each turn
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Requests a second where nobody is to be overrun
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// Connections that are kept alive
    #[arg(long, default_value_t = 16)]
    connections: usize,
}

/// One turn of a peer.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Requests a second.
    throughput: f64,
    p50: f64,
    p99: f64,
    /// Processor time of a request in the whole process, in microseconds.
    processor: f64,
    /// Requests.
    asked: f64,
}

type Rounds = Vec<[Turn; Peer::ALL.len()]>;

/// All that was measured.
struct Run {
    rounds: Rounds,
    /// By peer: rows or spans that arrived, as a part of the requests.
    delivered: [Option<f64>; Peer::ALL.len()],
}

/// What of a turn is told.
type Measure = fn(&Turn) -> f64;

const MEASURES: [(&str, Measure); 4] = [
    ("requests_per_second", |it| it.throughput),
    ("p50_us", |it| it.p50),
    ("p99_us", |it| it.p99),
    ("processor_us", |it| it.processor),
];

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        args.seconds >= 0.1 && args.connections > 0 && args.rate >= 1.0,
        "a turn needs a tenth of a second, a connection, and a request a second"
    );
    if cfg!(debug_assertions) {
        eprintln!("this build is not optimised: its figures say little");
    }
    let full = measure(args, None)?;
    let paced = measure(args, Some(args.rate))?;
    let table = format!("{}\n{}", table(&full, args)?, paced_table(&paced, args)?);
    println!("{table}");
    if let Some(path) = &args.json {
        let mut all = figures(&full);
        all["paced"] = figures(&paced);
        std::fs::write(path, format!("{all}\n"))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if args.docs {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/frameworks.md");
        let text = std::fs::read_to_string(&path).context("docs/frameworks.md cannot be read")?;
        std::fs::write(&path, between(&text, BEGIN, END, &table)?)
            .context("docs/frameworks.md cannot be written")?;
    }
    Ok(())
}

/// All rounds, with so many requests a second or with as many as can be.
fn measure(args: &Args, rate: Option<f64>) -> Result<Run> {
    let collector = Service::start(&["collect"])?;
    let address = collector.address.to_string();
    let start = |peer: Peer| Service::start(&["serve", peer.name(), "--collector", &address]);
    let services = Peer::ALL.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    // What is asked to warm up, and for the length of the answer, is delivered like all else.
    let mut asked = [0.0; Peer::ALL.len()];
    for (service, asked) in services.iter().zip(&mut asked) {
        *asked += turn(service, args, rate)?.asked;
    }
    let mut rounds = Rounds::new();
    for round in 0..args.rounds as usize {
        let mut turns = [None; Peer::ALL.len()];
        // Nobody is always the first.
        for offset in 0..services.len() {
            let at = (round + offset) % services.len();
            let turn = turn(&services[at], args, rate)?;
            asked[at] += turn.asked;
            turns[at] = Some(turn);
        }
        rounds.push(turns.map(|it| it.expect("all had their turn")));
    }
    let mut delivered = [None; Peer::ALL.len()];
    for (peer, service) in Peer::ALL.into_iter().zip(services) {
        delivered[peer as usize] = last_number(peer.name(), &service.stop()?);
    }
    delivered[Peer::Otel as usize] = last_number("collector", &collector.stop()?);
    let share =
        |peer: Peer| delivered[peer as usize].map(|it: u64| it as f64 / asked[peer as usize]);
    Ok(Run { rounds, delivered: Peer::ALL.map(share) })
}

/// The number that a service says last, if it is one that says something; passes on the rest.
fn last_number(name: &str, says: &str) -> Option<u64> {
    let (rest, last) = says.rsplit_once('\n').unwrap_or(("", says));
    let number = last.trim().parse().ok();
    let rest = if number.is_some() { rest } else { says };
    if !rest.is_empty() {
        eprintln!("{name}: {rest}");
    }
    number
}

/// Loads a service for a while.
fn turn(service: &Service, args: &Args, rate: Option<f64>) -> Result<Turn> {
    let before = service.processor_time();
    let output = this_program()?
        .args(["load", &service.address.to_string()])
        .args([args.connections.to_string(), args.seconds.to_string()])
        .args(rate.map(|rate| rate.to_string()))
        .output()
        .context("the load cannot be started")?;
    let after = service.processor_time();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the load failed: {errors}");
    let load: Load = serde_json::from_slice(&output.stdout).context("the load says nothing")?;
    let requests = load.requests as f64;
    let processor = match (before, after) {
        (Some(before), Some(after)) => (after - before) / requests,
        _ => f64::NAN,
    };
    // The first answer of each connection is not measured.
    let asked = requests + args.connections as f64;
    Ok(Turn { throughput: requests / load.seconds, p50: load.p50, p99: load.p99, processor, asked })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// The median over the rounds.
fn of(rounds: &Rounds, peer: Peer, measure: Measure) -> f64 {
    median(rounds.iter().map(|turns| measure(&turns[peer as usize])))
}

/// The median of the rounds' ratios.
fn ratio(rounds: &Rounds, peer: Peer, against: Peer, measure: Measure) -> f64 {
    let of_round = |turns: &[Turn; Peer::ALL.len()]| {
        measure(&turns[peer as usize]) / measure(&turns[against as usize])
    };
    median(rounds.iter().map(of_round))
}

fn figures(Run { rounds, delivered }: &Run) -> serde_json::Value {
    let mut peers = BTreeMap::new();
    let mut ratios = BTreeMap::new();
    for peer in Peer::ALL {
        let all = MEASURES.map(|(name, measure)| (name, Some(of(rounds, peer, measure))));
        let mut all = BTreeMap::from(all);
        all.insert("delivered", delivered[peer as usize]);
        peers.insert(peer.name(), all);
        if peer != Peer::Activity {
            let all = MEASURES
                .map(|(name, measure)| (name, ratio(rounds, Peer::Activity, peer, measure)));
            ratios.insert(format!("activity_vs_{}", peer.name()), BTreeMap::from(all));
        }
    }
    json!({ "machine": machine(), "rounds": rounds.len(), "peers": peers, "ratios": ratios })
}

/// The table, and where it was measured.
fn table(Run { rounds, delivered }: &Run, args: &Args) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "{}; {} rounds of {} s a peer, {} connections. Medians; ratios against `bare`, round by round.\n",
        machine(),
        rounds.len(),
        args.seconds,
        args.connections
    )?;
    writeln!(text, "| who watches | requests/s | p50 | p99 | processor time | delivered |")?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for peer in Peer::ALL {
        let cell = |measure: Measure, unit: &str| {
            let ratio = ratio(rounds, peer, Peer::Bare, measure);
            format!("{:.0}{unit} ({ratio:.2})", of(rounds, peer, measure))
        };
        let cells = [
            cell(MEASURES[0].1, ""),
            cell(MEASURES[1].1, " us"),
            cell(MEASURES[2].1, " us"),
            cell(MEASURES[3].1, " us"),
            delivered[peer as usize].map_or(String::new(), |it| format!("{:.1} %", it * 100.0)),
        ];
        writeln!(text, "| {} | {} |", peer.says(), cells.join(" | "))?;
    }
    writeln!(text, "\n`RequestSpanLayer` and the layer against the others:\n")?;
    writeln!(text, "| against | requests/s | p99 | processor time |\n|---|---|---|---|")?;
    for against in [Peer::Bare, Peer::TraceJson, Peer::Otel] {
        let ratio = |at: usize| ratio(rounds, Peer::Activity, against, MEASURES[at].1);
        let (throughput, p99, processor) = (ratio(0), ratio(2), ratio(3));
        let name = against.name();
        writeln!(text, "| `{name}` | {throughput:.2} | {p99:.2} | {processor:.2} |")?;
    }
    Ok(text)
}

/// The table where nobody is overrun.
fn paced_table(Run { rounds, delivered }: &Run, args: &Args) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "The same at {} requests a second:\n", args.rate)?;
    writeln!(text, "| who watches | p50 | p99 | processor time | delivered |")?;
    writeln!(text, "|---|---|---|---|---|")?;
    for peer in Peer::ALL {
        let cell = |(_, measure): (&str, Measure)| {
            let ratio = ratio(rounds, peer, Peer::Bare, measure);
            format!("{:.0} us ({ratio:.2})", of(rounds, peer, measure))
        };
        let [_, p50, p99, processor] = MEASURES.map(cell);
        let share = delivered[peer as usize];
        let share = share.map_or(String::new(), |it| format!("{:.1} %", it * 100.0));
        writeln!(text, "| {} | {p50} | {p99} | {processor} | {share} |", peer.says())?;
    }
    Ok(text)
}

/// The machine in words.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{model}, {cores} cores, {}", std::env::consts::OS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let turn =
            |throughput, processor| Turn { throughput, p50: 1.0, p99: 2.0, processor, asked: 1.0 };
        // The machine was busy in the second round, for all.
        let rounds = [1.0, 0.1, 1.0].map(|speed| {
            let of = |share: f64| turn(1000.0 * share * speed, 10.0 / share);
            [of(1.0), of(0.8), of(0.5), of(0.4)]
        });
        Run { rounds: rounds.to_vec(), delivered: [None, Some(1.0), None, Some(0.5)] }
    }

    #[test]
    fn ratios_are_those_of_the_rounds() {
        let figures = figures(&run());
        let near = |value: &serde_json::Value, expected: f64| {
            assert!((value.as_f64().unwrap() - expected).abs() < 1e-9, "{value}");
        };
        near(&figures["peers"]["bare"]["requests_per_second"], 1000.0);
        near(&figures["peers"]["otel"]["delivered"], 0.5);
        near(&figures["ratios"]["activity_vs_bare"]["requests_per_second"], 0.8);
        near(&figures["ratios"]["activity_vs_otel"]["requests_per_second"], 2.0);
        near(&figures["ratios"]["activity_vs_trace-json"]["processor_us"], 0.625);
    }

    #[test]
    fn the_last_word_of_a_service_is_what_it_delivered() {
        assert_eq!(last_number("it", "a warning\n17"), Some(17));
        assert_eq!(last_number("it", "17"), Some(17));
        assert_eq!(last_number("it", "a warning"), None);
        assert_eq!(last_number("it", ""), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < f64::EPSILON);
        assert!(median(std::iter::empty()).is_nan());
    }
}
