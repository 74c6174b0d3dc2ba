//! A real engine that stops answering under load, alone in its process so that memory can be read.

use std::time::{Duration, Instant};

use embedded_clickhouse::{Engine, Options, WRITER};
use tracing::info_span;
use tracing_activity::Config;
use tracing_subscriber::layer::SubscriberExt as _;

const THREADS: u64 = 8;
const REQUESTS: u64 = 20_000;
const QUEUE_BYTES: u64 = 32 << 20;
const DEADLINE: Duration = Duration::from_mins(1);

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Sends requests; the longest time one took.
fn run_requests() -> Duration {
    let mut longest = Duration::ZERO;
    for n in 0..REQUESTS {
        let start = Instant::now();
        let root =
            info_span!("request", http.request.method = "GET", http.response.status_code = 200, n);
        root.in_scope(|| {
            for child in 0..4 {
                info_span!("child", child).in_scope(|| ());
            }
        });
        drop(root);
        longest = longest.max(start.elapsed());
    }
    longest
}

#[test]
fn eight_threads_on_a_stalled_engine_never_wait_stay_bounded_and_are_counted_exactly() {
    embedded_clickhouse::fetch::ensure().unwrap();
    let options = Options::default();
    let password = options.writer_password.clone();
    let engine = Engine::start(options).unwrap();
    let config = Config::from_lookup(|name| {
        Ok(match name {
            "ACTIVITY_DB" => Some(format!("{}/stalled", engine.http_url())),
            "ACTIVITY_USER" => Some(WRITER.to_owned()),
            "ACTIVITY_PASSWORD" => Some(password.clone()),
            "ACTIVITY_SAMPLE" => Some("all".to_owned()),
            "ACTIVITY_QUEUE_BYTES" => Some("32MiB".to_owned()),
            "ACTIVITY_BATCH_BYTES" => Some("4MiB".to_owned()),
            "ACTIVITY_BATCH_INTERVAL" => Some("50ms".to_owned()),
            _ => None,
        })
    });
    let (layer, guard) = tracing_activity::builder().config(config.unwrap()).build().unwrap();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::Registry::default().with(layer));
    // Everything is set up before the engine stalls.
    tracing::dispatcher::with_default(&dispatch, || {
        info_span!("request", http.request.method = "GET", http.response.status_code = 200)
            .in_scope(|| ());
    });
    assert!(guard.flush(DEADLINE));
    assert_eq!(guard.stats().stored, 1);

    engine.freeze();
    let before = resident();
    let longest = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| tracing::dispatcher::with_default(&dispatch, run_requests)))
            .collect();
        threads.into_iter().map(|it| it.join().unwrap()).max().unwrap()
    });
    let grown = resident().saturating_sub(before);
    let stats = guard.stats();
    assert_eq!(stats.created, 1 + THREADS * REQUESTS);
    assert_eq!(stats.stored, 1, "{stats}");
    assert!(stats.dropped.total() > 0, "{stats}");
    // The queue, a batch on its way to becoming bytes, pooled buffers and the allocator's slack.
    assert!(grown < 3 * QUEUE_BYTES, "memory grew by {} MiB", grown >> 20);
    assert!(longest < Duration::from_secs(5), "a request took {longest:?}");

    engine.thaw();
    let stats = guard.shutdown(DEADLINE).stats;
    println!("memory +{} MiB, longest request {longest:?}, {stats}", grown >> 20);
    assert_eq!(stats.created, stats.stored + stats.failed + stats.dropped.total(), "{stats}");
    let rows = engine_rows(&engine, &password);
    assert_eq!(rows, stats.stored, "{stats}");
}

fn engine_rows(engine: &Engine, password: &str) -> u64 {
    let address = engine.http_url();
    let address = address.strip_prefix("http://").unwrap();
    let sql = "SELECT count() FROM stalled.activities";
    let answer = embedded_clickhouse::http::query(address, WRITER, password, &[], sql).unwrap();
    answer.body.trim().parse().unwrap()
}
