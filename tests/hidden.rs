//! Set-ups in which the layer does not see requests, or is not seen: each in a process of its own, as
//! filters of one subscriber concern all. What can be repaired is; of the rest a counter and one line tell.

#![allow(clippy::disallowed_methods, reason = "the variable names the case, and is no setting")]

use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::routing::get;
use tower::ServiceExt as _;
use tracing::Subscriber;
use tracing_activity::config::{Config, StoredAddress};
use tracing_activity::middleware::RequestSpanLayer;
use tracing_activity::sink::MemorySink;
use tracing_activity::{ActivityLayer, ShutdownGuard, Stats};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, Registry, reload};

const CASE: &str = "HIDDEN_CASE";
const DEADLINE: Duration = Duration::from_secs(20);

/// Requests of each case.
const COUNT: usize = 3;

/// A layer that believes loopback, and what it delivers.
fn layer() -> (ActivityLayer, ShutdownGuard, MemorySink) {
    let sink = MemorySink::new();
    let mut config = Config::default();
    config.http.trusted_proxies = "127.0.0.1".parse().unwrap();
    config.http.address = StoredAddress::Full;
    let (layer, guard) =
        tracing_activity::builder().config(config).sink(sink.clone()).build().unwrap();
    (layer, guard, sink)
}

/// Makes the requests under this subscriber; runs `between` after the first.
fn serve(subscriber: impl Subscriber + Send + Sync, between: impl FnOnce(), has_peer: bool) {
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let app =
        Router::new().route("/users/{id}", get(async || "ana")).layer(RequestSpanLayer::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut between = Some(between);
    for _ in 0..COUNT {
        let mut request = Request::builder()
            .uri("/users/7")
            .header("x-forwarded-for", "203.0.113.99")
            .body(Body::empty())
            .unwrap();
        if has_peer {
            let peer: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        let answer = runtime.block_on(app.clone().oneshot(request)).unwrap();
        let _ = runtime.block_on(axum::body::to_bytes(answer.into_body(), 99)).unwrap();
        if let Some(between) = between.take() {
            between();
        }
    }
}

/// Prints what became of the requests.
fn report(guard: ShutdownGuard, sink: &MemorySink) -> Stats {
    let report = guard.shutdown(DEADLINE);
    // The harness has begun a line.
    println!();
    for row in sink.activities() {
        let ip = row.ip.map(|ip| ip.to_canonical().to_string());
        println!("row {} {} {}", row.ekind, row.status, ip.unwrap_or_default());
    }
    println!("hidden {}", report.stats.hidden);
    report.stats
}

/// One case, in the process that [`run`] starts. Without a case it has nothing to do.
#[test]
fn case() {
    let Ok(case) = std::env::var(CASE) else { return };
    let (layer, guard, sink) = layer();
    let nothing = || ();
    match &*case {
        "targets" => {
            let filter: Targets = "app=debug,tower_http=debug".parse().unwrap();
            serve(Registry::default().with(layer).with(filter), nothing, true);
        }
        "targets inside" => {
            let filter: Targets = "app=debug,tower_http=debug".parse().unwrap();
            serve(Registry::default().with(filter).with(layer), nothing, true);
        }
        "warn" => serve(Registry::default().with(layer).with(LevelFilter::WARN), nothing, true),
        "error" => serve(Registry::default().with(layer).with(LevelFilter::ERROR), nothing, true),
        "of the layer" => {
            let filter: Targets = "app=debug".parse().unwrap();
            let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
            serve(Registry::default().with(layer.with_filter(filter)).with(log), nothing, true);
        }
        "let pass" => {
            let filter: Targets = "warn,tracing_activity=info".parse().unwrap();
            serve(Registry::default().with(layer).with(filter), nothing, true);
        }
        "switched off" => {
            guard.handle().set_enabled(false);
            serve(Registry::default().with(layer).with(LevelFilter::WARN), nothing, true);
        }
        "reload" => {
            let (layer, _handle) = reload::Layer::new(layer);
            serve(Registry::default().with(layer), nothing, true);
        }
        "reloaded" => {
            let (none, handle) = reload::Layer::new(None::<ActivityLayer>);
            let put = move || handle.reload(Some(layer)).unwrap();
            serve(Registry::default().with(none), put, true);
        }
        "two" => {
            let (other, other_guard, other_sink) = self::layer();
            serve(Registry::default().with(layer).with(other), nothing, true);
            println!("\nsecond");
            report(other_guard, &other_sink);
            println!("first");
        }
        "no peer" => serve(Registry::default().with(layer), nothing, false),
        "peer" => serve(Registry::default().with(layer), nothing, true),
        other => panic!("{other}"),
    }
    report(guard, &sink);
}

/// What a case printed: lines of ours on standard output and on standard error.
fn run(case: &str) -> (Vec<String>, Vec<String>) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "case", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .output()
        .unwrap();
    let lines = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut out, mut err) = (lines(&output.stdout), lines(&output.stderr));
    assert!(output.status.success(), "{case}: {out:#?} {err:#?}");
    out.retain(|line| ["row ", "hidden ", "first", "second"].iter().any(|it| line.starts_with(it)));
    err.retain(|line| line.starts_with("tracing-activity: "));
    (out, err)
}

/// A row that knows route, status and client.
const ROW: &str = "row GET /users/{id} 200 203.0.113.99";

#[test]
fn a_filter_that_hides_requests_is_told_once_and_counted() {
    for case in ["targets", "targets inside", "warn", "error", "of the layer"] {
        let (out, err) = run(case);
        assert_eq!(out, ["hidden 3"], "{case}");
        let [line] = &*err else { panic!("{case}: {err:#?}") };
        assert!(line.contains(".with_filter(") && line.contains("tracing_activity=info"), "{line}");
    }
}

#[test]
fn a_filter_that_lets_the_middleware_pass_is_no_trouble() {
    let (out, err) = run("let pass");
    assert_eq!(out, [ROW, ROW, ROW, "hidden 0"]);
    assert!(err.is_empty(), "{err:#?}");
}

#[test]
fn what_is_switched_off_is_not_hidden() {
    let (out, err) = run("switched off");
    assert_eq!((out, err), (vec!["hidden 0".to_owned()], Vec::new()));
}

#[test]
fn a_layer_inside_of_a_reload_layer_works() {
    assert_eq!(
        run("reload"),
        (vec![ROW.into(), ROW.into(), ROW.into(), "hidden 0".into()], vec![])
    );
}

#[test]
fn a_layer_that_is_put_into_a_reload_layer_later_works() {
    let (out, err) = run("reloaded");
    // The first request came before it; the middleware has no settings at the second yet.
    assert_eq!(out, ["row GET /users/{id} 200 127.0.0.1", ROW, "hidden 0"]);
    assert!(err.is_empty(), "{err:#?}");
}

#[test]
fn of_two_layers_the_first_works_and_the_second_says_that_it_does_not() {
    let (out, err) = run("two");
    assert_eq!(out, ["second", "hidden 3", "first", ROW, ROW, ROW, "hidden 0"]);
    let [line] = &*err else { panic!("{err:#?}") };
    assert!(line.contains("two activity layers"), "{line}");
}

#[test]
fn proxies_that_are_believed_by_no_peer_are_told_once() {
    let (out, err) = run("no peer");
    assert_eq!(
        out,
        ["row GET /users/{id} 200 "; COUNT].into_iter().chain(["hidden 0"]).collect::<Vec<_>>()
    );
    let [line] = &*err else { panic!("{err:#?}") };
    assert!(line.contains("into_make_service_with_connect_info"), "{line}");
    assert!(run("peer").1.is_empty());
}
