//! The layer's own counters over the wire, by the meter provider that `init` makes.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, NumberDataPoint};
use tracing_activity::Config;
use tracing_activity::config::{Secret, Temporality};

use crate::receiver::{Receiver, black_hole, refused};
use crate::support::{DEADLINE, config, exporting, installed, send};

/// A configuration that exports metrics alone, and seldom.
fn metering(endpoint: &str) -> Config {
    let mut config = config("all");
    config.otlp.metrics.enabled = true;
    config.otlp.metrics.target.endpoint = Some(endpoint.to_owned());
    config.otlp.metrics.interval = Duration::from_hours(1);
    config
}

/// The points of the metric with this name, and what a counter's tell.
fn points(
    export: &ExportMetricsServiceRequest,
    name: &str,
) -> (Vec<NumberDataPoint>, Option<AggregationTemporality>) {
    let scopes = export.resource_metrics.iter().flat_map(|it| &it.scope_metrics);
    let mut metrics = scopes.flat_map(|it| &it.metrics).filter(|it| it.name == name);
    let data = metrics.next().unwrap_or_else(|| panic!("{name} in {export:?}")).data.clone();
    assert!(metrics.next().is_none(), "{name} twice");
    match data.unwrap() {
        Data::Sum(sum) => {
            assert!(sum.is_monotonic);
            let temporality = sum.aggregation_temporality();
            (sum.data_points, Some(temporality))
        }
        Data::Gauge(gauge) => (gauge.data_points, None),
        other => panic!("{other:?}"),
    }
}

/// The number of the point with this `error.type`, or with no attribute.
pub(crate) fn number(export: &ExportMetricsServiceRequest, name: &str, error: Option<&str>) -> i64 {
    let is_it = |point: &&NumberDataPoint| {
        let of = point.attributes.iter().find(|it| it.key == "error.type");
        let of = of.and_then(|it| it.value.clone()?.value);
        of == error.map(|it| AnyValue::StringValue(it.to_owned()))
    };
    match points(export, name).0.iter().find(is_it).and_then(|it| it.value) {
        Some(Value::AsInt(number)) => number,
        other => panic!("{name} {error:?}: {other:?}"),
    }
}

#[test]
fn the_last_numbers_of_rows_and_spans_arrive_with_who_sent_them_when_all_is_over() {
    let receiver = Receiver::start();
    let mut config = metering(&receiver.metrics_endpoint());
    config.service = "shop".to_owned();
    config.otlp.metrics.target.headers = vec![("x-key".to_owned(), Secret::new("hunter2"))];
    config.otlp.metrics.target.gzip = true;
    config.otlp.enabled = true;
    config.otlp.target.endpoint = Some(receiver.endpoint());
    let (subscriber, guard, _sink) = installed(config);
    send(&subscriber, 5);
    assert!(guard.shutdown(DEADLINE).complete);

    let exports = receiver.metrics();
    let (headers, last) = exports.last().unwrap();
    assert_eq!(
        (&headers["x-key"], &headers["content-encoding"]),
        (&"hunter2".parse().unwrap(), &"gzip".parse().unwrap(),)
    );
    assert_eq!(number(last, "activity.created", None), 5);
    assert_eq!(number(last, "activity.exporter.activity.exported", None), 5);
    assert_eq!(number(last, "activity.exporter.activity.exported", Some("rejected")), 0);
    assert_eq!(number(last, "activity.exporter.span.exported", None), 15);
    assert_eq!(number(last, "activity.processor.queue.capacity", None), 65_536);
    let (_, temporality) = points(last, "activity.created");
    assert_eq!(temporality, Some(AggregationTemporality::Cumulative));
    let resource = last.resource_metrics[0].resource.clone().unwrap();
    let service = resource.attributes.iter().find(|it| it.key == "service.name").unwrap();
    let name = AnyValue::StringValue("shop".to_owned());
    assert_eq!(service.value.clone().unwrap().value, Some(name));
}

#[test]
fn the_numbers_arrive_every_interval_without_any_span() {
    let receiver = Receiver::start();
    let mut config = metering(&receiver.metrics_endpoint());
    config.otlp.metrics.interval = Duration::from_millis(20);
    config.otlp.metrics.temporality = Temporality::Delta;
    let (subscriber, guard, _sink) = installed(config);
    let end = Instant::now() + DEADLINE;
    for sent in 1..=3 {
        send(&subscriber, 1);
        let arrived = || {
            let exports = receiver.metrics();
            let of = exports.iter().map(|it| number(&it.1, "activity.created", None));
            of.sum::<i64>()
        };
        while arrived() < sent {
            assert!(Instant::now() < end, "{} of {sent}", arrived());
            std::thread::yield_now();
        }
        assert_eq!(arrived(), sent);
    }
    assert!(guard.handle().span_stats().is_none());
    assert!(receiver.spans().is_empty());
    assert!(guard.shutdown(DEADLINE).complete);
}

#[test]
fn no_metrics_are_exported_unless_they_are_asked_for() {
    let receiver = Receiver::start();
    let mut config = exporting(&receiver.endpoint());
    config.otlp.metrics.target.endpoint = Some(receiver.metrics_endpoint());
    let (subscriber, guard, _sink) = installed(config);
    send(&subscriber, 5);
    assert!(guard.shutdown(DEADLINE).complete);
    assert!(receiver.metrics().is_empty());
    assert_eq!(receiver.spans().len(), 15);
}

#[test]
fn an_endpoint_of_metrics_that_never_answers_does_not_hold_the_shutdown_or_the_rows() {
    let (_listener, hole) = black_hole();
    for endpoint in [hole, refused()] {
        let mut config = metering(&endpoint);
        config.otlp.metrics.target.timeout = Duration::from_mins(1);
        config.otlp.metrics.interval = Duration::from_millis(5);
        let (subscriber, guard, sink) = installed(config);
        send(&subscriber, 10);
        let start = Instant::now();
        assert!(guard.shutdown(Duration::from_secs(2)).complete, "rows were delivered");
        // Long before the export would have ended.
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(sink.activities().len(), 10);
    }
}

#[test]
fn a_header_of_metrics_that_cannot_be_sent_is_an_error() {
    let mut config = metering("http://localhost:4318/v1/metrics");
    config.otlp.metrics.target.headers = vec![("x key".to_owned(), Secret::new("hunter2"))];
    let error = tracing_activity::builder().config(config).subscriber().unwrap_err();
    assert!(error.is_config(), "{error}");
    assert!(error.to_string().contains("HEADERS: pair 1"), "{error}");
}

#[cfg(feature = "clickhouse")]
#[test]
fn what_was_counted_arrives_although_a_database_that_hangs_takes_all_the_time() {
    let receiver = Receiver::start();
    let (_listener, hole) = black_hole();
    let mut config = metering(&receiver.metrics_endpoint());
    config.database = hole.replace("/v1/traces", "/shop").parse().unwrap();
    let (subscriber, guard) = tracing_activity::builder().config(config).subscriber().unwrap();
    send(&subscriber, 5);
    assert!(!guard.shutdown(Duration::from_secs(2)).complete);
    let end = Instant::now() + DEADLINE;
    while receiver.metrics().is_empty() {
        assert!(Instant::now() < end, "nothing arrived");
        std::thread::yield_now();
    }
    let (_, first) = receiver.metrics().remove(0);
    assert_eq!(number(&first, "activity.created", None), 5);
}
