//! What delivery costs: from a finished request's buffer to bytes at a socket, and to rows in a
//! real ClickHouse.
//!
//! `cargo bench --package benchmarks --bench pipeline` prints one JSON object on its last line.
//! After `--`: `--loopback` leaves the database out, `--requests N` changes how many are served.
//!
//! The measure is processor time of the worker's thread, which does everything after the queue:
//! it makes activities of buffers, batches, encodes, compresses, and writes to the socket.

mod drain;
mod meter;
mod traffic;

use std::thread;
use std::time::{Duration, Instant};

use tracing::Dispatch;
use tracing_activity::ShutdownGuard;
use tracing_activity::config::{ClickHouse, Config, Database, SamplingPolicy};
use tracing_activity::sink::{ClickHouseSink, Sink};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use self::drain::Drain;
use self::meter::{Metered, WorkerTime};

const LONG: Duration = Duration::from_mins(5);

/// Rows that wait at most: the request's thread is faster than the worker.
const WAITING: u64 = 10_000;

/// What a run came to, per activity.
struct Figures {
    activities: u64,
    client_ns: f64,
    wall_ns: f64,
}

impl Figures {
    fn per_second(&self) -> f64 {
        1e9 / self.client_ns
    }
}

/// Sends `requests` requests through a layer of its own to `sink`.
fn run(sink: impl Sink + 'static, prepares: bool, sample: &str, requests: u64) -> Figures {
    let time = WorkerTime::default();
    let mut config = Config::default();
    config.sample = sample.parse::<SamplingPolicy>().expect("a policy");
    config.service = "shop".to_owned();
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

fn clickhouse(url: &str) -> ClickHouse {
    match url.parse() {
        Ok(Database::ClickHouse(config)) => config,
        other => panic!("{url}: {other:?}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let requests = arguments
        .iter()
        .position(|it| it == "--requests")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(200_000);
    let drain = Drain::start().expect("a socket on loopback");
    let config = clickhouse(&format!("http://{}", drain.address));
    let mut json = Vec::new();
    for (name, sample) in [("", "all"), ("_sampled", "rate=0.01")] {
        meter::forget_peak();
        let before = drain.bytes();
        let sink = ClickHouseSink::new(&config, LONG);
        let figures = run(sink, false, sample, requests);
        let bytes = (drain.bytes() - before) as f64 / figures.activities as f64;
        json.push(format!("\"pipeline{name}_per_core_s\":{:.0}", figures.per_second()));
        json.push(format!("\"pipeline{name}_wire_bytes\":{bytes:.1}"));
        json.push(format!("\"pipeline{name}_wall_per_s\":{:.0}", 1e9 / figures.wall_ns));
        json.push(format!("\"pipeline{name}_peak_rss_bytes\":{}", meter::peak()));
    }
    println!("{{{}}}", json.join(","));
}
