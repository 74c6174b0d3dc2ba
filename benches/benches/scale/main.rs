//! How cost grows: with requests in flight, with requests that wait, with spans, with threads.
//!
//! `cargo bench --package benchmarks --bench scale` prints a table and, on its last line, one JSON
//! object. Processor time is the request's thread's, and net of the floor: a registry with a layer
//! that does nothing. The worker's time is whole: from the queue to a socket, every trace kept.

#[path = "../pipeline/drain.rs"]
mod drain;
mod live;
#[path = "../pipeline/meter.rs"]
mod meter;

use std::thread;
use std::time::Duration;

use benchmarks::{Peer, Session, Shape, ThreadTime};
use tracing::field::Empty;
use tracing::{Dispatch, Span, info, info_span};
use tracing_activity::config::{ClickHouse, Config, Database, SamplingPolicy};
use tracing_activity::sink::ClickHouseSink;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use self::drain::Drain;
use self::live::Live;
use self::meter::{Metered, WorkerTime};

#[global_allocator]
static ALLOCATOR: Live = Live;

const HOUR: Duration = Duration::from_hours(1);

/// Requests between which the worker catches up, as it does in a service.
const BURST: u64 = 64;

/// A request under way: everything has happened but its end.
fn open(n: u64) -> Span {
    let root = info_span!(
        "request",
        http.request.method = "GET",
        url.path = "/products/17",
        http.response.status_code = Empty
    );
    root.in_scope(|| {
        for i in 0..4_u64 {
            info_span!("child", i, text = "some text", n).in_scope(|| {
                info_span!("grandchild", i, text = "more text", flag = true).in_scope(|| ());
            });
        }
        info!(n, "event");
    });
    root
}

/// Bytes held for each of `requests` requests in flight.
fn in_flight(peer: Peer, requests: u64) -> f64 {
    let session = Session::new(peer);
    session.under(|| {
        let mut spans = Vec::with_capacity(requests as usize);
        spans.extend((0..BURST).map(open));
        spans.clear();
        session.settle();
        let before = live::bytes();
        spans.extend((0..requests).map(open));
        (live::bytes() - before) as f64 / requests as f64
    })
}

/// Bytes held for each of `requests` requests that wait for the worker.
fn queued(requests: u64) -> f64 {
    let mut config = Config::default();
    config.sample = SamplingPolicy::ALL;
    (config.pipeline.batch_rows, config.pipeline.batch_bytes) = (100_000, 32 << 20);
    (config.pipeline.queue_rows, config.pipeline.queue_bytes) = (1 << 20, 1 << 30);
    config.pipeline.batch_interval = HOUR;
    let sink = tracing_activity::sink::MemorySink::new();
    let built = tracing_activity::builder().config(config).sink(sink).build();
    let (layer, guard) = built.expect("a configuration in code");
    let dispatch = Dispatch::new(Registry::default().with(layer));
    tracing::dispatcher::with_default(&dispatch, || {
        drop(open(0));
        let before = live::bytes();
        for n in 0..requests {
            drop(open(n));
        }
        assert_eq!(guard.stats().queued, requests + 1);
        (live::bytes() - before) as f64 / requests as f64
    })
}

/// Nanoseconds of a request's thread for each request of this shape.
fn thread_time(session: &Session, shape: Shape, rounds: u64, burst: u64) -> f64 {
    let mut nanos = 0;
    for round in 0..rounds + 2 {
        session.settle();
        let start = session.under(|| {
            let start = ThreadTime::now();
            for n in 0..burst {
                session.request(shape, n);
            }
            start.elapsed()
        });
        // The first rounds warm up.
        nanos += if round < 2 { 0 } else { start.as_nanos() };
    }
    nanos as f64 / (rounds * burst) as f64
}

/// The same, net of the floor. The least of three: what others do on the machine only adds.
fn net_time(shape: Shape, rounds: u64, burst: u64) -> f64 {
    let least = |peer| {
        let session = Session::new(peer);
        (0..3).map(|_| thread_time(&session, shape, rounds, burst)).fold(f64::MAX, f64::min)
    };
    least(Peer::Activity) - least(Peer::Floor)
}

/// What the worker does for each request of this shape.
struct Work {
    nanos: f64,
    /// On the wire.
    bytes: f64,
}

fn work(shape: Shape, rounds: u64, burst: u64) -> Work {
    let drain = Drain::start().expect("a socket on loopback");
    let time = WorkerTime::default();
    let mut config = Config::default();
    config.sample = SamplingPolicy::ALL;
    config.pipeline.batch_interval = HOUR;
    let sink = ClickHouseSink::new(&clickhouse(&format!("http://{}", drain.address)), HOUR);
    let sink = Metered::new(Box::new(sink), false, &time);
    let built = tracing_activity::builder().config(config).sink(sink).build();
    let (layer, guard) = built.expect("a configuration in code");
    let dispatch = Dispatch::new(Registry::default().with(layer));
    let mut before = (0, 0);
    for round in 0..=rounds {
        // The first round warms up.
        before = if round == 1 { (time.nanos(), drain.bytes()) } else { before };
        tracing::dispatcher::with_default(&dispatch, || (0..burst).for_each(|n| shape.run(n)));
        assert!(guard.flush(HOUR));
    }
    let requests = (rounds * burst) as f64;
    Work {
        nanos: (time.nanos() - before.0) as f64 / requests,
        bytes: (drain.bytes() - before.1) as f64 / requests,
    }
}

/// Nanoseconds of a request's thread for each request, on this many threads at once, net.
fn with_threads(threads: u64) -> f64 {
    let of = |peer| {
        let session = Session::new(peer);
        let least = || {
            let total: f64 = thread::scope(|scope| {
                let running: Vec<_> = (0..threads)
                    .map(|_| scope.spawn(|| thread_time(&session, Shape::Usual, 200, BURST)))
                    .collect();
                running.into_iter().map(|it| it.join().expect("no panic")).sum()
            });
            total / threads as f64
        };
        (0..3).map(|_| least()).fold(f64::MAX, f64::min)
    };
    of(Peer::Activity) - of(Peer::Floor)
}

fn clickhouse(url: &str) -> ClickHouse {
    match url.parse() {
        Ok(Database::ClickHouse(config)) => config,
        other => panic!("{url}: {other:?}"),
    }
}

fn main() {
    meter::forget_peak();
    let mut json = Vec::new();
    let mut add = |key: String, unit: &str, figure: f64| {
        println!("{key:<36}{figure:>12.1}  {unit}");
        json.push(format!("\"{key}\":{figure:.1}"));
    };
    for requests in [1_000, 10_000] {
        let floor = in_flight(Peer::Floor, requests);
        let all = in_flight(Peer::Activity, requests);
        add(format!("in_flight_bytes_{requests}"), "bytes a request", all - floor);
        add(format!("in_flight_bytes_{requests}_floor"), "bytes a request", floor);
    }
    add("queued_bytes".to_owned(), "bytes an activity", queued(5_000));
    for (spans, rounds, burst) in [(1, 1000, 64), (10, 500, 64), (100, 100, 32), (1000, 40, 10)] {
        let shape = Shape::Children(spans - 1);
        let net = net_time(shape, rounds, burst);
        let worker = work(shape, rounds, burst);
        add(format!("request_ns_{spans}_spans"), "ns a request", net);
        add(format!("request_ns_per_span_of_{spans}"), "ns a span", net / f64::from(spans));
        add(format!("worker_ns_{spans}_spans"), "ns a request", worker.nanos);
        add(format!("worker_ns_per_span_of_{spans}"), "ns a span", worker.nanos / f64::from(spans));
        add(format!("wire_bytes_{spans}_spans"), "bytes a request", worker.bytes);
    }
    for threads in [1, 2, 4, 8, 16] {
        add(format!("request_ns_{threads}_threads"), "ns a request", with_threads(threads));
    }
    add("peak_rss_mib".to_owned(), "MiB", meter::peak() as f64 / f64::from(1 << 20));
    println!("{{{}}}", json.join(","));
}
