//! What delivery costs: from a finished request's buffer to bytes at a socket, and to rows in a
//! real ClickHouse.
//!
//! `cargo bench --package benchmarks --bench pipeline` prints one JSON object on its last line.
//! After `--`: `--requests N` changes how many are served, `--only TEXT` runs the cases whose name
//! contains it, such as `loopback`; `--only "=loopback pipeline"` the one of just this name.
//!
//! The measure is processor time of the worker's thread, which does everything after the queue:
//! it makes activities of buffers, batches, encodes, compresses, and writes to the socket.

mod database;
mod drain;
mod meter;
mod row_binary;
mod traffic;

use std::thread;
use std::time::{Duration, Instant};

use tracing::Dispatch;
use tracing_activity::ShutdownGuard;
use tracing_activity::config::{ClickHouse, Config, SamplingPolicy};
use tracing_activity::sink::{ClickHouseSink, Sink};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use self::database::{Databases, parsed};
use self::drain::Drain;
use self::meter::{Metered, WorkerTime};
use self::row_binary::RowBinarySink;

const LONG: Duration = Duration::from_mins(5);

/// Rows that wait at most: the request's thread is faster than the worker.
const WAITING: u64 = 10_000;

/// Parts of a run. The cheapest counts: what others do on the machine only adds.
const ROUNDS: u64 = 5;

/// What a run came to; times are for each activity.
struct Figures {
    activities: u64,
    client_ns: f64,
    wall_ns: f64,
}

/// How a batch is written.
#[derive(Clone, Copy)]
enum Format {
    /// As this crate does.
    Native,
    RowBinary,
}

impl Format {
    /// In the name of a figure; this crate's own is understood.
    fn suffix(self) -> &'static str {
        match self {
            Self::Native => "",
            Self::RowBinary => "_row_binary",
        }
    }

    fn sink(self, config: &ClickHouse) -> Box<dyn Sink> {
        match self {
            Self::Native => Box::new(ClickHouseSink::new(config, LONG)),
            Self::RowBinary => Box::new(RowBinarySink::new(config)),
        }
    }
}

/// Sends `requests` requests through a layer of its own to `sink`.
fn run(sink: Box<dyn Sink>, prepares: bool, sample: &str, requests: u64) -> Figures {
    let time = WorkerTime::default();
    let mut config = Config::default();
    config.sample = sample.parse::<SamplingPolicy>().expect("a policy");
    "shop".clone_into(&mut config.service);
    let sink = Metered::new(sink, prepares, &time);
    let built = tracing_activity::builder().config(config).sink(sink).build();
    let (layer, guard) = built.expect("a configuration in code");
    let dispatch = Dispatch::new(Registry::default().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        let round = requests / ROUNDS;
        // The first round warms up.
        serve(0..round, &guard);
        let (mut client, mut wall) = (f64::MAX, f64::MAX);
        for n in 1..=ROUNDS {
            let (before, start) = (time.nanos(), Instant::now());
            serve(n * round..(n + 1) * round, &guard);
            let per = |nanos: f64| nanos / round as f64;
            client = client.min(per((time.nanos() - before) as f64));
            wall = wall.min(per(start.elapsed().as_nanos() as f64));
        }
        let activities = (ROUNDS + 1) * round;
        let stats = guard.shutdown(LONG).stats;
        assert_eq!(stats.stored, activities, "{stats}");
        Figures { activities, client_ns: client, wall_ns: wall }
    })
}

fn serve(numbers: std::ops::Range<u64>, guard: &ShutdownGuard) {
    for n in numbers {
        while n.is_multiple_of(64) && guard.stats().queued > WAITING {
            thread::sleep(Duration::from_millis(1));
        }
        traffic::request(n);
    }
    assert!(guard.flush(LONG), "{}", guard.stats());
}

/// Which runs are asked for, and what they came to.
struct Report {
    requests: u64,
    only: Option<String>,
    json: Vec<String>,
}

impl Report {
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let value = |name: &str| {
            let at = arguments.iter().position(|it| it == name)?;
            arguments.get(at + 1).cloned()
        };
        let requests = value("--requests").and_then(|it| it.parse().ok()).unwrap_or(200_000);
        Self { requests, only: value("--only"), json: Vec::new() }
    }

    fn wants(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|only| match only.strip_prefix('=') {
            Some(name) => case == name,
            None => case.contains(only),
        })
    }

    fn add(&mut self, key: &str, figure: f64) {
        self.json.push(format!("\"{key}\":{figure:.2}"));
    }

    /// The worker's side alone: the database is a socket that is read.
    fn loopback(&mut self, format: Format, name: &str, sample: &str) {
        let name = format!("{name}{}", format.suffix());
        if !self.wants(&format!("loopback {name}")) {
            return;
        }
        let drain = Drain::start().expect("a socket on loopback");
        let config = parsed(&format!("http://{}", drain.address));
        meter::forget_peak();
        let figures = run(format.sink(&config), false, sample, self.requests);
        let bytes = drain.bytes() as f64 / figures.activities as f64;
        self.add(&format!("{name}_per_core_s"), 1e9 / figures.client_ns);
        self.add(&format!("{name}_wall_per_s"), 1e9 / figures.wall_ns);
        self.add(&format!("{name}_wire_bytes"), bytes);
        self.add(&format!("{name}_peak_rss_mib"), meter::peak() as f64 / f64::from(1 << 20));
    }

    /// To a real server.
    fn database(&mut self, databases: &Databases, format: Format, name: &str, sample: &str) {
        let key = format!("database_{name}{}", format.suffix());
        if !self.wants(&key) {
            return;
        }
        let config = databases.config(&key);
        databases.drop(&key);
        let figures = run(format.sink(&config), true, sample, self.requests);
        let rows = figures.activities as f64;
        assert_eq!(databases.most_spans(&key) as u64, 9, "a root and eight spans");
        self.add(&format!("{key}_client_us"), figures.client_ns / 1e3);
        self.add(&format!("{key}_server_us"), databases.share(&key).insert_us / rows);
        self.add(&format!("{key}_wall_per_s"), 1e9 / figures.wall_ns);
        databases.merge(&key);
        self.add(&format!("{key}_stored_bytes"), databases.share(&key).stored / rows);
        databases.drop(&key);
    }
}

const SAMPLES: [(&str, &str); 2] = [("pipeline", "all"), ("pipeline_sampled", "rate=0.01")];

fn main() {
    let mut report = Report::from_arguments();
    let formats = [Format::Native, Format::RowBinary];
    for format in formats {
        for (name, sample) in SAMPLES {
            report.loopback(format, name, sample);
        }
    }
    let is_local = |only: &String| only.trim_start_matches('=').starts_with("loopback");
    if !report.only.as_ref().is_some_and(is_local) {
        let databases = Databases::start();
        for format in formats {
            for (name, sample) in SAMPLES {
                report.database(&databases, format, name, sample);
            }
        }
    }
    println!("{{{}}}", report.json.join(","));
}
