//! A process that forks: what the child captures has no thread that delivers it.
//!
//! Alone in its file: forking copies one thread, and other tests' threads may hold locks then.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fork::Fork;
use tracing::info_span;
use tracing_activity::sink::MemorySink;
use tracing_activity::{Config, Handle, Stats};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

/// Much less than a shutdown waits for a worker that is not there.
const SOON: Duration = Duration::from_secs(2);

fn request() {
    info_span!("request", "http.request.method" = "GET", "http.response.status_code" = 200)
        .in_scope(|| ());
}

fn config() -> Config {
    let mut config = Config::default();
    config.pipeline.batch_interval = Duration::from_millis(1);
    config
}

/// One test at a time: a fork takes over what other threads have locked.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `check` in a fork; whether it held.
fn holds_in_fork(check: impl FnOnce() -> Result<(), String>) -> bool {
    match fork::fork().expect("this process can fork") {
        Fork::Parent(child) => fork::waitpid(child).is_ok_and(|status| status == 0),
        Fork::Child => {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
            let result = result.unwrap_or_else(|_| Err("it panicked".to_owned()));
            if let Err(error) = &result {
                eprintln!("in the child: {error}");
            }
            // Not through the harness, which is the parent's.
            std::process::exit(i32::from(result.is_err()));
        }
    }
}

fn ensure(holds: bool, what: &str, stats: &Stats) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{what}: {stats}")) }
}

fn sums(stats: &Stats) -> bool {
    stats.created == stats.stored + stats.failed + stats.dropped.total() + stats.in_flight()
}

/// Makes requests until the fork is noticed.
fn until_noticed(handle: &Handle) -> Result<(), String> {
    let end = Instant::now() + SOON;
    let before = handle.stats().created;
    loop {
        request();
        if Instant::now() > end {
            return Ok(());
        }
        if handle.stats().dropped.forked > 1 && handle.stats().created > before + 2 {
            return Ok(());
        }
    }
}

#[test]
fn the_requests_of_a_fork_are_counted_and_its_shutdown_waits_for_nobody() {
    let _alone = alone();
    let sink = MemorySink::new();
    let (layer, guard) =
        tracing_activity::builder().config(config()).sink(sink.clone()).build().unwrap();
    let dispatch = tracing::Dispatch::new(Registry::default().with(layer));
    let _default = tracing::dispatcher::set_default(&dispatch);
    request();
    assert!(guard.flush(Duration::from_secs(20)));
    let open = info_span!("request", "http.request.method" = "GET");
    let (handle, in_child) = (guard.handle(), sink.clone());
    let mut guard = Some(guard);
    let holds = holds_in_fork(|| {
        let begin = Instant::now();
        until_noticed(&handle)?;
        drop(open.clone());
        let stats = handle.stats();
        ensure(stats.dropped.forked > 1 && sums(&stats), "counted by their reason", &stats)?;
        ensure(!handle.flush(SOON * 10), "nothing was delivered", &stats)?;
        ensure(handle.prepared(SOON * 10).is_none(), "nothing answers", &stats)?;
        let report = guard.take().unwrap().shutdown(SOON * 10);
        let stats = report.stats;
        ensure(!report.complete && stats.in_flight() == 0, "the report", &stats)?;
        ensure(sums(&stats), "all have a fate", &stats)?;
        ensure(begin.elapsed() < SOON * 2, "it waited", &stats)?;
        ensure(in_child.activities().len() == 1, "nothing was delivered", &stats)
    });
    assert!(holds, "what the child says is on standard error");
    // The parent is none the worse for it.
    drop(open);
    request();
    let report = guard.take().unwrap().shutdown(Duration::from_secs(20));
    assert!(report.complete && report.stats.dropped.total() == 0, "{}", report.stats);
    assert_eq!(sink.activities().len(), 3);
}

#[test]
fn dropping_the_guard_in_a_fork_does_not_wait_and_a_layer_made_there_works() {
    let _alone = alone();
    let sink = MemorySink::new();
    let (layer, guard) = tracing_activity::builder().config(config()).sink(sink).build().unwrap();
    let dispatch = tracing::Dispatch::new(Registry::default().with(layer));
    let mut guard = Some(guard);
    let holds = holds_in_fork(|| {
        let begin = Instant::now();
        tracing::dispatcher::with_default(&dispatch, request);
        drop(guard.take());
        let own = MemorySink::new();
        let (layer, guard) =
            tracing_activity::builder().config(config()).sink(own.clone()).build().unwrap();
        let dispatch = tracing::Dispatch::new(Registry::default().with(layer));
        tracing::dispatcher::with_default(&dispatch, request);
        let report = guard.shutdown(Duration::from_secs(20));
        ensure(report.complete && own.activities().len() == 1, "its own layer", &report.stats)?;
        ensure(begin.elapsed() < SOON, "it waited", &report.stats)
    });
    assert!(holds, "what the child says is on standard error");
    let report = guard.take().unwrap().shutdown(Duration::from_secs(20));
    assert!(report.complete && report.stats.created == 0, "{}", report.stats);
}

#[test]
fn a_fork_that_only_serves_notices_it() {
    let _alone = alone();
    let sink = MemorySink::new();
    let (layer, guard) = tracing_activity::builder().config(config()).sink(sink).build().unwrap();
    let dispatch = tracing::Dispatch::new(Registry::default().with(layer));
    assert!(holds_in_fork(|| {
        let begin = Instant::now();
        tracing::dispatcher::with_default(&dispatch, || {
            while begin.elapsed() < Duration::from_millis(100) {
                request();
            }
        });
        // It ends without a shutdown.
        Ok(())
    }));
    assert!(guard.shutdown(Duration::from_secs(20)).complete);
}

#[test]
fn a_fork_says_once_that_nothing_delivers_there_and_what_to_do() {
    let tests = std::env::current_exe().unwrap();
    for name in [
        "the_requests_of_a_fork_are_counted_and_its_shutdown_waits_for_nobody",
        "a_fork_that_only_serves_notices_it",
    ] {
        let test = ["--exact", name, "--nocapture"];
        let output = Command::new(&tests).args(test).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = said.lines().filter(|it| it.starts_with("tracing-activity:")).collect();
        let [line] = &*lines else { panic!("{name}: {lines:?}") };
        assert!(line.contains("call tracing_activity::init in the child"), "{line}");
    }
}
