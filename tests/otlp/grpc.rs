//! The whole way over gRPC, to a service that decodes what it gets.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tracing_activity::Config;
use tracing_activity::config::{OtlpProtocol, Secret};

use crate::grpc_service::{METRICS, Service, TRACES};
use crate::support::{DEADLINE, exporting, installed, send};

fn over_grpc(service: &Service) -> Config {
    let mut config = exporting(&service.endpoint());
    config.otlp.target.protocol = OtlpProtocol::Grpc;
    config.otlp.target.timeout = Duration::from_secs(10);
    config
}

#[test]
fn the_spans_of_every_row_arrive_over_grpc_with_their_metadata() {
    for gzip in [false, true] {
        let service = Service::start();
        let mut config = over_grpc(&service);
        config.otlp.target.gzip = gzip;
        config.otlp.target.headers = vec![("X-Key".to_owned(), Secret::new("100%25 of a%2Bb"))];
        let (subscriber, guard, sink) = installed(config);
        send(&subscriber, 200);
        let handle = guard.handle();
        assert!(guard.flush(DEADLINE));
        assert_eq!(handle.span_stats().unwrap().exported, 600);
        assert!(guard.shutdown(DEADLINE).complete);

        let calls = service.calls::<ExportTraceServiceRequest>(TRACES);
        let (head, _) = &calls[0];
        assert_eq!(head.get_all("x-key").iter().collect::<Vec<_>>(), ["100%25 of a%2Bb"]);
        let encoding = head.get("grpc-encoding").map(|it| it.to_str().unwrap());
        assert_eq!(encoding, gzip.then_some("gzip"));
        let resources = calls.into_iter().flat_map(|(_, call)| call.resource_spans);
        let spans: Vec<_> =
            resources.flat_map(|it| it.scope_spans).flat_map(|it| it.spans).collect();
        assert_eq!(spans.len(), 600);
        for row in sink.activities() {
            let trace_id = row.trace_id().to_bytes();
            assert_eq!(spans.iter().filter(|span| span.trace_id == trace_id).count(), 3);
        }
    }
}

#[test]
fn the_last_numbers_arrive_over_grpc() {
    let service = Service::start();
    let mut config = over_grpc(&service);
    config.otlp.metrics.enabled = true;
    config.otlp.metrics.target.protocol = OtlpProtocol::Grpc;
    config.otlp.metrics.target.endpoint = Some(service.endpoint());
    config.otlp.metrics.target.headers = vec![("x-key".to_owned(), Secret::new("hunter2"))];
    let (subscriber, guard, _sink) = installed(config);
    send(&subscriber, 5);
    assert!(guard.shutdown(DEADLINE).complete);
    let calls = service.calls::<ExportMetricsServiceRequest>(METRICS);
    let (head, last) = calls.last().unwrap();
    assert_eq!(head["x-key"], "hunter2");
    assert_eq!(crate::meters::number(last, "activity.exporter.span.exported", None), 15);
}

/// Set in a process of this test alone.
const CHILD: &str = "ACTIVITY_TEST_OTLP_GRPC_CHILD";

#[test]
fn the_metadata_that_a_program_configured_are_not_changed_by_the_environment() {
    #[allow(clippy::disallowed_methods, reason = "a variable of this test")]
    if std::env::var_os(CHILD).is_some() {
        let service = Service::start();
        let mut config = over_grpc(&service);
        config.otlp.target.headers = vec![("x-key".to_owned(), Secret::new("mine"))];
        let (subscriber, guard, _sink) = installed(config);
        send(&subscriber, 1);
        assert!(guard.shutdown(DEADLINE).complete);
        let (head, _) = service.calls::<ExportTraceServiceRequest>(TRACES).remove(0);
        assert_eq!(head.get_all("x-key").iter().collect::<Vec<_>>(), ["mine"]);
        assert!(!head.contains_key("x-more"), "{head:?}");
        return;
    }
    let name = "grpc::the_metadata_that_a_program_configured_are_not_changed_by_the_environment";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, "1")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=theirs,x-more=1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && output.contains("1 passed"), "{output}");
}
