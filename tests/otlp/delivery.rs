//! The whole way over HTTP, and what is counted where it ends early.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tracing_activity::config::Secret;
use tracing_activity::otlp::SpanStats;
use tracing_activity::{Handle, ShutdownGuard};

use crate::receiver::{Receiver, black_hole, refused};
use crate::support::{DEADLINE, exporting, installed, send};

fn stats(handle: &Handle) -> SpanStats {
    handle.span_stats().unwrap()
}

#[test]
fn the_spans_of_every_row_arrive_over_http_with_who_sent_them() {
    let receiver = Receiver::start();
    let mut config = exporting(&receiver.endpoint());
    config.service = "shop".to_owned();
    config.site_version = tracing_activity::model::Timestamp::from_micros(1_700_000_000_000_000);
    config.otlp.target.headers = vec![("x-key".to_owned(), Secret::new("hunter2"))];
    config.otlp.resource = vec![
        ("service.name".to_owned(), "another".to_owned()),
        ("deployment.environment.name".to_owned(), "test".to_owned()),
    ];
    let (subscriber, guard, sink) = installed(config);
    send(&subscriber, 200);
    let handle = guard.handle();
    assert!(guard.flush(DEADLINE));
    assert_eq!(stats(&handle).exported, 600);
    assert!(guard.shutdown(DEADLINE).complete);

    let spans = receiver.spans();
    assert_eq!(spans.len(), 600);
    for row in sink.activities() {
        let trace_id = row.trace_id().to_bytes();
        assert_eq!(spans.iter().filter(|span| span.trace_id == trace_id).count(), 3);
    }
    let (headers, first) = receiver.requests().remove(0);
    assert_eq!(headers["x-key"], "hunter2");
    let resource = first.resource_spans[0].resource.clone().unwrap();
    let attribute = |key: &str| {
        let mut found = resource.attributes.iter().filter(|it| it.key == key);
        let value = found.next().unwrap().value.clone().unwrap().value.unwrap();
        assert!(found.next().is_none(), "{key} twice");
        let Value::StringValue(text) = value else { panic!("{value:?}") };
        text
    };
    assert_eq!(attribute("service.name"), "shop");
    assert_eq!(attribute("service.version"), "2023-11-14T22:13:20Z");
    assert_eq!(attribute("deployment.environment.name"), "test");
}

/// The headers of the first export of a configuration with these.
fn sent(gzip: bool, headers: &[(&str, &str)]) -> axum::http::HeaderMap {
    let receiver = Receiver::start();
    let mut config = exporting(&receiver.endpoint());
    config.otlp.target.gzip = gzip;
    let pairs = headers.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value)));
    config.otlp.target.headers = pairs.collect();
    let (subscriber, guard, _sink) = installed(config);
    send(&subscriber, 10);
    assert!(guard.shutdown(DEADLINE).complete);
    assert_eq!(receiver.spans().len(), 30);
    receiver.requests().remove(0).0
}

#[test]
fn headers_are_sent_as_they_were_configured() {
    let headers = sent(false, &[("X-Key", "100%25 of a%2Bb, c=d"), ("user-agent", "mine")]);
    assert_eq!(headers["x-key"], "100%25 of a%2Bb, c=d");
    assert_eq!(
        (&headers["user-agent"], headers.get("content-encoding")),
        (&"mine".parse().unwrap(), None)
    );
    let headers = sent(true, &[]);
    assert_eq!(headers["content-encoding"], "gzip");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("tracing-activity/"));
}

#[test]
fn a_header_that_cannot_be_sent_is_an_error_that_names_the_variable() {
    let mut config = exporting("http://localhost:4318/v1/traces");
    config.otlp.target.headers = vec![("x-key".to_owned(), Secret::new("hunter2\n"))];
    let error = tracing_activity::builder().config(config).subscriber().unwrap_err();
    assert!(error.is_config(), "{error}");
    let error = error.to_string();
    assert!(error.starts_with("OTEL_EXPORTER_OTLP_HEADERS: pair 1 "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

/// Set in a process of this test alone.
const CHILD: &str = "ACTIVITY_TEST_OTLP_CHILD";

#[test]
fn what_a_program_configured_is_not_changed_by_the_environment() {
    #[allow(clippy::disallowed_methods, reason = "a variable of this test")]
    if std::env::var_os(CHILD).is_some() {
        let headers = sent(false, &[("x-key", "mine")]);
        assert_eq!(headers["x-key"], "mine");
        let others = ["x-more", "content-encoding"];
        assert!(!others.iter().any(|it| headers.contains_key(*it)), "{headers:?}");
        return;
    }
    let name = "delivery::what_a_program_configured_is_not_changed_by_the_environment";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, "1")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=theirs,x-more=1")
        .env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && output.contains("1 passed"), "{output}");
}

#[test]
fn a_refused_port_is_a_counted_failure() {
    let (subscriber, guard, sink) = installed(exporting(&refused()));
    send(&subscriber, 10);
    let handle = guard.handle();
    guard.shutdown(DEADLINE);
    let stats = stats(&handle);
    assert_eq!((stats.exported, stats.failed, stats.in_flight()), (0, 30, 0), "{stats:?}");
    // Rows are not concerned.
    assert_eq!(sink.activities().len(), 10);
}

#[test]
fn a_flush_waits_longer_than_the_sdk_does() {
    let (open, opened) = mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let receiver = Receiver::answering(move |_| {
        let _ = opened.lock().unwrap().recv();
        Vec::new()
    });
    let mut config = exporting(&receiver.endpoint());
    config.otlp.target.timeout = Duration::from_mins(1);
    let (subscriber, guard, _sink) = installed(config);
    send(&subscriber, 10);
    let handle = guard.handle();
    let (tell, told) = mpsc::channel();
    let flushing = handle.clone();
    std::thread::spawn(move || tell.send(flushing.flush(DEADLINE)));
    // The SDK's own flush ends after five.
    assert!(told.recv_timeout(Duration::from_secs(6)).is_err(), "it gave up");
    drop(open);
    assert_eq!(told.recv_timeout(DEADLINE), Ok(true));
    assert_eq!(stats(&handle).exported, 30);
    assert!(guard.shutdown(DEADLINE).complete);
}

#[test]
fn a_flush_waits_for_what_ended_before_it_and_not_for_later_spans() {
    let (first, second) = (mpsc::channel::<()>(), mpsc::channel::<()>());
    let gates = Mutex::new([first.1, second.1]);
    let (arrive, arrived) = mpsc::channel();
    let receiver = Receiver::answering(move |number| {
        let _ = arrive.send(number);
        if let Some(gate) = gates.lock().unwrap().get(number) {
            let _ = gate.recv();
        }
        Vec::new()
    });
    let mut config = exporting(&receiver.endpoint());
    config.otlp.target.timeout = Duration::from_mins(1);
    // The flush alone exports.
    config.otlp.batch_interval = Duration::from_hours(1);
    let (subscriber, guard, _sink) = installed(config);
    send(&subscriber, 10);
    let handle = guard.handle();
    let flushing = std::thread::spawn(move || handle.flush(DEADLINE));
    assert_eq!(arrived.recv_timeout(DEADLINE), Ok(0));
    send(&subscriber, 10);
    drop(first.0);
    assert!(flushing.join().unwrap());
    drop(second.0);
    assert!(guard.shutdown(DEADLINE).complete);
    assert_eq!(receiver.spans().len(), 60);
}

#[test]
fn a_flush_that_nobody_answers_ends_with_its_deadline() {
    let (_listener, endpoint) = black_hole();
    let mut config = exporting(&endpoint);
    config.otlp.target.timeout = Duration::from_mins(1);
    let (subscriber, guard, _sink) = installed(config);
    send(&subscriber, 10);
    let start = Instant::now();
    assert!(!guard.flush(Duration::from_millis(300)));
    // Long before the export would have ended.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    guard.shutdown(Duration::ZERO);
}

#[test]
fn spans_that_the_endpoint_rejects_count_as_failed() {
    let receiver = Receiver::answering(|number| {
        let rejected_spans = [7, 0, 1_000][number];
        let error_message = "too old".to_owned();
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
        ExportTraceServiceResponse { partial_success }.encode_to_vec()
    });
    let mut config = exporting(&receiver.endpoint());
    config.otlp.batch_interval = Duration::from_hours(1);
    let (subscriber, guard, _sink) = installed(config);
    let handle = guard.handle();
    for expected in [(23, 7), (53, 7), (53, 37)] {
        send(&subscriber, 10);
        assert!(guard.flush(DEADLINE));
        let stats = stats(&handle);
        // It cannot reject more than it got.
        assert_eq!((stats.exported, stats.failed), expected, "{stats:?}");
        assert_eq!(stats.in_flight(), 0);
    }
    assert!(guard.shutdown(DEADLINE).complete);
}

/// Shuts down an export that never gets an answer; it must keep the deadline, and count every span.
fn shut_down_in_time(shutdown: impl FnOnce(ShutdownGuard, Duration) -> bool) {
    let (_listener, endpoint) = black_hole();
    let mut config = exporting(&endpoint);
    config.otlp.target.timeout = Duration::from_mins(1);
    let (subscriber, guard, sink) = installed(config);
    send(&subscriber, 100);
    let handle = guard.handle();
    let start = Instant::now();
    assert!(!shutdown(guard, Duration::from_secs(1)), "nothing was delivered");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let stats = stats(&handle);
    assert_eq!((stats.exported, stats.failed, stats.dropped.shutdown), (0, 0, 300), "{stats:?}");
    assert_eq!(stats.in_flight(), 0);
    assert_eq!(sink.activities().len(), 100);
}

#[test]
fn without_a_runtime_a_shutdown_keeps_its_deadline() {
    shut_down_in_time(|guard, deadline| guard.shutdown(deadline).complete);
}

#[test]
fn on_a_runtime_with_one_thread_a_shutdown_keeps_its_deadline() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    shut_down_in_time(|guard, deadline| {
        runtime.block_on(async { guard.shutdown(deadline).complete })
    });
}

#[test]
fn on_a_runtime_with_many_threads_a_shutdown_keeps_its_deadline() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    shut_down_in_time(|guard, deadline| {
        runtime.block_on(async move {
            tokio::spawn(async move { guard.shutdown(deadline).complete }).await.unwrap()
        })
    });
}

#[test]
fn on_a_runtime_with_one_thread_everything_is_delivered_by_a_shutdown() {
    let receiver = Receiver::start();
    let (subscriber, guard, _sink) = installed(exporting(&receiver.endpoint()));
    send(&subscriber, 100);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert!(runtime.block_on(async { guard.shutdown(DEADLINE) }).complete);
    assert_eq!(receiver.spans().len(), 300);
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped_and_counted() {
    let (_listener, endpoint) = black_hole();
    let mut config = exporting(&endpoint);
    config.otlp.target.timeout = Duration::from_mins(1);
    config.otlp.queue_spans = 64;
    let (subscriber, guard, _sink) = installed(config);
    send(&subscriber, 100);
    let handle = guard.handle();
    let before = stats(&handle);
    assert_eq!((before.waiting, before.dropped.queue_full), (64, 236), "{before:?}");
    guard.shutdown(Duration::from_millis(100));
    let after = stats(&handle);
    assert_eq!((after.dropped.shutdown, after.in_flight()), (64, 0), "{after:?}");
}

#[test]
fn nothing_is_exported_unless_it_is_asked_for() {
    let receiver = Receiver::start();
    let mut config = exporting(&receiver.endpoint());
    config.otlp.enabled = false;
    let (subscriber, guard, sink) = installed(config);
    send(&subscriber, 10);
    assert!(guard.handle().span_stats().is_none());
    assert!(guard.shutdown(DEADLINE).complete);
    assert_eq!((sink.activities().len(), receiver.spans().len()), (10, 0));
}

#[cfg(not(feature = "otlp-grpc"))]
#[test]
fn a_protocol_that_this_build_lacks_is_an_error_that_names_the_feature() {
    let mut config = exporting("http://localhost:4317");
    config.otlp.target.protocol = tracing_activity::config::OtlpProtocol::Grpc;
    let error = tracing_activity::builder().config(config).subscriber().unwrap_err();
    assert!(error.is_config(), "{error}");
    assert!(error.to_string().contains("otlp-grpc"), "{error}");
}

#[cfg(feature = "otlp-grpc")]
#[test]
fn over_grpc_a_refused_port_is_a_counted_failure_and_a_black_hole_holds_nobody() {
    for (endpoint, failed) in [(refused(), 30), (black_hole().1, 30)] {
        let mut config = exporting(endpoint.trim_end_matches("/v1/traces"));
        config.otlp.target.protocol = tracing_activity::config::OtlpProtocol::Grpc;
        let (subscriber, guard, _sink) = installed(config);
        send(&subscriber, 10);
        let handle = guard.handle();
        guard.shutdown(DEADLINE);
        let stats = stats(&handle);
        assert_eq!((stats.exported, stats.failed, stats.in_flight()), (0, failed, 0), "{stats:?}");
    }
}
