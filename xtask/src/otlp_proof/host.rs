//! What exporting costs the requests, and what an endpoint adds that is stopped or never answers.
//!
//! The requests wait for a database, as most do, and come at fixed times, far from what the machine can
//! do, so that none waits for another. Each round has a run that exports to the Collector, one to a port
//! where nobody listens, one to an endpoint that takes connections and never answers, and one that
//! exports nothing, each time in another order; the 99th percentiles of one round are compared, and the
//! median is taken over the rounds. A request's time is that from its call, and from the moment that
//! it was due, which a late wake-up of its thread is part of.

use std::net::TcpListener;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Result, ensure};
use embedded_clickhouse::Server;
use serde_json::{Value, json};

use super::traced::{self, Ran};
use super::{environment, set};

/// How long a run of a round lasts.
const SECONDS: u32 = 5;

/// Requests a second, and the threads that serve them.
const PACE: u32 = 800;
const THREADS: u32 = 8;

/// Microseconds that each of a request's queries waits, of which it has up to three.
const WAIT: u32 = 1_000;

/// Where the machine is shared, a smaller difference says nothing.
const GROSS: f64 = 1.5;

/// With fewer rounds one disturbance is the median.
const ENOUGH: usize = 5;

/// Where a run exports to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Live,
    /// Its connections are refused.
    Stopped,
    BlackHole,
    None,
}

const ENDPOINTS: [Endpoint; 4] =
    [Endpoint::Live, Endpoint::Stopped, Endpoint::BlackHole, Endpoint::None];

/// What is compared: of the first, to the second.
const COMPARED: [(&str, Endpoint, Endpoint); 5] = [
    ("stopped_to_export", Endpoint::Stopped, Endpoint::Live),
    ("black_hole_to_export", Endpoint::BlackHole, Endpoint::Live),
    ("stopped_to_none", Endpoint::Stopped, Endpoint::None),
    ("black_hole_to_none", Endpoint::BlackHole, Endpoint::None),
    ("export_to_none", Endpoint::Live, Endpoint::None),
];

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "export",
            Self::Stopped => "stopped",
            Self::BlackHole => "black_hole",
            Self::None => "none",
        }
    }
}

/// 99th percentiles of one round, in microseconds, in the order of [`ENDPOINTS`].
type Times = [u64; ENDPOINTS.len()];

/// From when requests are timed.
type Moment = (&'static str, fn(&Round) -> Times);

const MOMENTS: [Moment; 2] =
    [("its call", |round| round.called), ("when it was due", |round| round.due)];

#[derive(Debug, Default, Clone, Copy)]
struct Round {
    called: Times,
    due: Times,
}

/// What the rounds showed.
#[derive(Debug, Default)]
pub(super) struct Host {
    rounds: Vec<Round>,
    optimised: bool,
    lost: u64,
    uncounted: u64,
    longest_shutdown_ms: u64,
    late_shutdowns: u64,
    /// The machine's load before and after.
    load: [Option<f64>; 2],
}

impl Host {
    pub(super) fn run(
        binary: &Path,
        optimised: bool,
        rounds: u32,
        server: &Server,
        live: &str,
    ) -> Result<Self> {
        // Takes connections and never answers, as long as it lives.
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let black_hole = format!("http://{}", listener.local_addr()?);
        // A port of the machine that was free a moment ago.
        let stopped = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let stopped = format!("http://{stopped}");
        let mut host = Self { optimised, ..Self::default() };
        host.load[0] = load();
        for nth in 0..rounds as usize {
            let mut round = Round::default();
            for turn in 0..ENDPOINTS.len() {
                let at = (nth + turn) % ENDPOINTS.len();
                let endpoint = match ENDPOINTS[at] {
                    Endpoint::Live => Some(live),
                    Endpoint::Stopped => Some(stopped.as_str()),
                    Endpoint::BlackHole => Some(black_hole.as_str()),
                    Endpoint::None => None,
                };
                let ran = serve(binary, server, endpoint)?;
                round.called[at] = ran.number("/p99_us")?;
                round.due[at] = ran.number("/due_p99_us")?;
                if matches!(ENDPOINTS[at], Endpoint::Stopped | Endpoint::BlackHole) {
                    host.count(&ran)?;
                }
            }
            host.rounds.push(round);
        }
        host.load[1] = load();
        Ok(host)
    }

    /// Every span of a run is lost, and counted.
    fn count(&mut self, ran: &Ran) -> Result<()> {
        let ledger = ran.ledger()?;
        ensure!(ledger.exported == 0, "nobody was there who could take spans: {ran:?}");
        self.lost += ledger.dropped + ledger.failed;
        self.uncounted += ledger.made.abs_diff(ledger.dropped + ledger.failed + ledger.sampled_out);
        self.longest_shutdown_ms = self.longest_shutdown_ms.max(ran.number("/shutdown_ms")?);
        self.late_shutdowns += u64::from(!ran.ended_in_time()?);
        Ok(())
    }

    fn ratios(&self, of: Endpoint, to: Endpoint, times: fn(&Round) -> Times) -> Spread {
        let share = |round: &Round| {
            let times = times(round);
            times[of as usize] as f64 / times[to as usize].max(1) as f64
        };
        Spread::of(self.rounds.iter().map(share).collect())
    }

    fn p99(&self, of: Endpoint) -> Spread {
        Spread::of(self.rounds.iter().map(|round| round.called[of as usize] as f64).collect())
    }

    pub(super) fn tell(&self) {
        println!(
            "p99 of a request at {PACE} a second, {}, median of {} rounds:",
            if self.optimised { "optimised" } else { "not optimised" },
            self.rounds.len(),
        );
        for endpoint in ENDPOINTS {
            println!("  {:<12}{:>8.0} us", endpoint.name(), self.p99(endpoint).median);
        }
        for (what, times) in MOMENTS {
            println!("  from {what}:");
            for (name, of, to) in COMPARED {
                println!("    {name:<22}{}", self.ratios(of, to, times));
            }
        }
        println!(
            "  {} spans lost and counted, {} not counted, shutdown within {} ms",
            self.lost, self.uncounted, self.longest_shutdown_ms
        );
    }

    pub(super) fn figures(&self) -> Value {
        let ratios = |times: fn(&Round) -> Times| -> Value {
            COMPARED
                .iter()
                .map(|(name, of, to)| ((*name).to_owned(), self.ratios(*of, *to, times).figures()))
                .collect()
        };
        let p99: Value =
            ENDPOINTS.iter().map(|it| (it.name().to_owned(), self.p99(*it).figures())).collect();
        json!({
            "rounds": self.rounds.len(),
            "requests_per_second": PACE,
            "seconds": SECONDS,
            "optimised": self.optimised,
            "cpus": available_parallelism().map_or(0, usize::from),
            "load": self.load,
            "p99_ratio": self.ratios(Endpoint::BlackHole, Endpoint::Live, |it| it.called).median,
            "stopped_p99_ratio":
                self.ratios(Endpoint::Stopped, Endpoint::Live, |it| it.called).median,
            "from_call": ratios(|round| round.called),
            "from_due": ratios(|round| round.due),
            "p99_us": p99,
            "p99_us_of_rounds": self.rounds.iter().map(|round| round.called).collect::<Vec<_>>(),
            "lost": self.lost,
            "uncounted": self.uncounted,
            "shutdown_ms": self.longest_shutdown_ms,
        })
    }

    pub(super) fn problem(&self) -> Option<String> {
        let ratio = |of| self.ratios(of, Endpoint::Live, |it| it.called).median;
        let slowed = [Endpoint::Stopped, Endpoint::BlackHole]
            .into_iter()
            .find(|of| self.rounds.len() >= ENOUGH && ratio(*of) > GROSS);
        if self.uncounted > 0 {
            Some(format!("{} spans that nobody took were not counted", self.uncounted))
        } else if self.late_shutdowns > 0 {
            Some(format!(
                "{} of {} shutdowns without an endpoint that answers were late: {} ms",
                self.late_shutdowns,
                2 * self.rounds.len(),
                self.longest_shutdown_ms
            ))
        } else {
            let times = |of: Endpoint| {
                format!(
                    "an endpoint that is {} makes the p99 of requests {:.2} times as long",
                    of.name(),
                    ratio(of)
                )
            };
            slowed.map(times)
        }
    }
}

fn serve(binary: &Path, server: &Server, endpoint: Option<&str>) -> Result<Ran> {
    let mut environment = environment(server, "host", endpoint.unwrap_or_default());
    // Everything is exported, into a queue that is full for most of the time where nobody answers.
    set(&mut environment, "ACTIVITY_SAMPLE", "all");
    set(&mut environment, "OTEL_BSP_MAX_QUEUE_SIZE", "1024");
    if endpoint.is_none() {
        set(&mut environment, "OTEL_TRACES_EXPORTER", "none");
    }
    let plan = [
        ("requests", SECONDS * PACE),
        ("threads", THREADS),
        ("pace", PACE),
        ("wait", WAIT),
        ("patience", 1),
    ];
    traced::run(binary, &plan, &environment)
}

/// The load of the last minute, where the system tells it.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Values of rounds.
#[derive(Debug, Clone, Copy)]
struct Spread {
    least: f64,
    /// A quarter is below it.
    lower: f64,
    median: f64,
    /// A quarter is above it.
    upper: f64,
    most: f64,
}

impl Spread {
    /// 1 where there are no values.
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| {
            let place = values.len().saturating_sub(1) as f64 * part;
            let value = |place: f64| values.get(place as usize).copied().unwrap_or(1.0);
            let (below, above) = (value(place.floor()), value(place.ceil()));
            below + (above - below) * place.fract()
        };
        Self { least: at(0.0), lower: at(0.25), median: at(0.5), upper: at(0.75), most: at(1.0) }
    }

    fn figures(self) -> Value {
        json!({
            "least": self.least,
            "lower_quartile": self.lower,
            "median": self.median,
            "upper_quartile": self.upper,
            "most": self.most,
        })
    }
}

impl std::fmt::Display for Spread {
    /// `1.02 (0.97 to 1.08, all 0.61 to 2.00)`: median, half of the rounds, all rounds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { least, lower, median, upper, most } = self;
        write!(f, "{median:.3} ({lower:.2} to {upper:.2}, all {least:.2} to {most:.2})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(p99: &[Times]) -> Host {
        let rounds = p99.iter().map(|called| Round { called: *called, due: *called }).collect();
        Host { rounds, ..Host::default() }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_and_not_of_their_times() {
        // A slow round is slow for all of its runs.
        let host = host(&[[100, 1, 110, 90], [1000, 1, 1000, 1000], [200, 1, 180, 200]]);
        let ratio = host.ratios(Endpoint::BlackHole, Endpoint::Live, |it| it.called);
        assert!((ratio.median - 1.0).abs() < 1e-9, "{ratio}");
        assert!((ratio.least - 0.9).abs() < 1e-9 && (ratio.most - 1.1).abs() < 1e-9, "{ratio}");
        let even = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert!((even.median - 2.5).abs() < 1e-9, "{even}");
    }

    #[test]
    fn a_gross_ratio_is_a_problem_where_there_are_rounds_enough() {
        assert_eq!(host(&[[100, 140, 140, 100]; ENOUGH]).problem(), None);
        let problem = host(&[[100, 100, 160, 100]; ENOUGH]).problem().unwrap();
        assert!(problem.contains("black_hole") && problem.contains("1.60 times"), "{problem}");
        let problem = host(&[[100, 170, 100, 100]; ENOUGH]).problem().unwrap();
        assert!(problem.contains("stopped") && problem.contains("1.70 times"), "{problem}");
        assert_eq!(host(&[[100, 160, 160, 100]; ENOUGH - 1]).problem(), None);
    }

    #[test]
    fn spans_that_are_not_counted_and_late_shutdowns_are_problems() {
        let problem = Host { uncounted: 3, ..Host::default() }.problem().unwrap();
        assert!(problem.contains("3 spans"), "{problem}");
        let late = Host { late_shutdowns: 1, longest_shutdown_ms: 9_000, ..Host::default() };
        assert!(late.problem().unwrap().contains("9000 ms"));
    }
}
