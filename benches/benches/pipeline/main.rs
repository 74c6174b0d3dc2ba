//! What delivery costs: from a finished request's buffer to bytes at a socket, and to rows in a
//! real ClickHouse.
//!
//! `cargo bench --package benchmarks --bench pipeline` prints one JSON object on its last line.
//! After `--`: `--requests N` changes how many are served, `--only TEXT` runs the cases whose name
//! contains it, such as `loopback`.
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
use tracing_activity::config::{Config, SamplingPolicy};
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

/// What a run came to, per activity.
struct Figures {
    activities: u64,
    client_ns: f64,
    wall_ns: f64,
}

/// Sends `requests` requests through a layer of its own to `sink`.
fn run(sink: impl Sink + 'static, prepares: bool, sample: &str, requests: u64) -> Figures {
    let time = WorkerTime::default();
    let mut config = Config::default();
    config.sample = sample.parse::<SamplingPolicy>().expect("a policy");
    "shop".clone_into(&mut config.service);
    let sink = Metered::new(sink, prepares, &time);
    let built = tracing_activity::builder().config(config).sink(sink).build();
    let (layer, guard) = built.expect("a configuration in code");
    let dispatch = Dispatch::new(Registry::default().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        let warm = requests / 10;
        serve(0..warm, &guard);
        let (before, start) = (time.nanos(), Instant::now());
        serve(warm..warm + requests, &guard);
        let (used, wall) = (time.nanos() - before, start.elapsed());
        let stats = guard.shutdown(LONG).stats;
        assert_eq!(stats.stored, warm + requests, "{stats}");
        let per = |nanos: f64| nanos / requests as f64;
        Figures {
            activities: warm + requests,
            client_ns: per(used as f64),
            wall_ns: per(wall.as_nanos() as f64),
        }
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
        self.only.as_ref().is_none_or(|only| case.contains(only))
    }

    fn add(&mut self, key: &str, figure: f64) {
        self.json.push(format!("\"{key}\":{figure:.2}"));
    }

    /// The worker's side alone: the database is a socket that is read.
    fn loopback(&mut self, name: &str, sample: &str) {
        if !self.wants(&format!("loopback {name}")) {
            return;
        }
        let drain = Drain::start().expect("a socket on loopback");
        let config = parsed(&format!("http://{}", drain.address));
        meter::forget_peak();
        let figures = run(ClickHouseSink::new(&config, LONG), false, sample, self.requests);
        let bytes = drain.bytes() as f64 / figures.activities as f64;
        self.add(&format!("{name}_per_core_s"), 1e9 / figures.client_ns);
        self.add(&format!("{name}_wall_per_s"), 1e9 / figures.wall_ns);
        self.add(&format!("{name}_wire_bytes"), bytes);
        self.add(&format!("{name}_peak_rss_mib"), meter::peak() as f64 / f64::from(1 << 20));
    }

    /// To a real server, in one format.
    fn format(&mut self, databases: &Databases, name: &str, format: &str, sample: &str) {
        let key = format!("{name}_{format}");
        if !self.wants(&format!("database {key}")) {
            return;
        }
        let config = databases.config(&key);
        databases.drop(&key);
        let figures = if format == "native" {
            run(ClickHouseSink::new(&config, LONG), true, sample, self.requests)
        } else {
            run(RowBinarySink::new(&config), true, sample, self.requests)
        };
        let rows = figures.activities as f64;
        let share = databases.share(&key);
        assert_eq!(databases.most_spans(&key) as u64, 9, "a root and eight spans");
        self.add(&format!("{key}_client_us"), figures.client_ns / 1e3);
        self.add(&format!("{key}_server_us"), share.insert_us / rows);
        self.add(&format!("{key}_wire_bytes"), share.received / rows);
        self.add(&format!("{key}_wall_per_s"), 1e9 / figures.wall_ns);
        databases.merge(&key);
        self.add(&format!("{key}_stored_bytes"), databases.share(&key).stored / rows);
        databases.drop(&key);
    }
}

fn main() {
    let mut report = Report::from_arguments();
    report.loopback("pipeline", "all");
    report.loopback("pipeline_sampled", "rate=0.01");
    if report.only.as_ref().is_none_or(|only| !only.starts_with("loopback")) {
        let databases = Databases::start();
        for format in ["row_binary", "native"] {
            report.format(&databases, "pipeline", format, "all");
            report.format(&databases, "pipeline_sampled", format, "rate=0.01");
        }
    }
    println!("{{{}}}", report.json.join(","));
}
