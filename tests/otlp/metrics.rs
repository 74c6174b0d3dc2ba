//! The counters as OpenTelemetry's instruments, by the real SDK.

use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use tracing_activity::metrics::{RequestDurations, observe};
use tracing_activity::model::{Activity, Outcome};

use crate::support::{DEADLINE, Fixture, config, request};

/// What the provider exports: name, attributes as `key=value`, and the number or the count.
fn collected(
    exporter: &InMemoryMetricExporter,
    provider: &SdkMeterProvider,
) -> Vec<(String, String, u64)> {
    provider.force_flush().unwrap();
    let exports = exporter.get_finished_metrics().unwrap();
    let last = exports.last().unwrap();
    let metrics =
        last.scope_metrics().flat_map(opentelemetry_sdk::metrics::data::ScopeMetrics::metrics);
    let mut all = Vec::new();
    for metric in metrics {
        let mut add = |mut attributes: Vec<String>, value: u64| {
            attributes.sort();
            all.push((metric.name().to_owned(), attributes.join(","), value));
        };
        match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                for point in sum.data_points() {
                    add(point.attributes().map(text).collect(), point.value());
                }
            }
            AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
                for point in gauge.data_points() {
                    add(point.attributes().map(text).collect(), point.value());
                }
            }
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                for point in histogram.data_points() {
                    add(point.attributes().map(text).collect(), point.count());
                }
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

fn text(attribute: &opentelemetry::KeyValue) -> String {
    format!("{}={}", attribute.key, attribute.value)
}

fn provider(exporter: &InMemoryMetricExporter) -> SdkMeterProvider {
    let reader =
        PeriodicReader::builder(exporter.clone()).with_interval(Duration::from_hours(1)).build();
    SdkMeterProvider::builder().with_reader(reader).build()
}

#[test]
fn the_counters_of_rows_and_spans_are_instruments() {
    let fixture = Fixture::new(config("all"));
    let exporter = InMemoryMetricExporter::default();
    let provider = provider(&exporter);
    let handle = fixture.guard.handle();
    observe(&provider.meter("test"), move || handle.metrics());
    fixture.run(|| {
        for _ in 0..5 {
            request("a", 200).in_scope(|| tracing::info_span!("child").in_scope(|| ()));
        }
    });
    assert!(fixture.guard.flush(DEADLINE));
    let all = collected(&exporter, &provider);
    let value = |name: &str, attributes: &str| {
        let found = all.iter().find(|it| it.0 == name && it.1 == attributes);
        found.unwrap_or_else(|| panic!("{name} {attributes} in {all:?}")).2
    };
    assert_eq!(value("activity.created", ""), 5);
    assert_eq!(value("activity.exporter.activity.exported", ""), 5);
    assert_eq!(value("activity.exporter.activity.exported", "error.type=rejected"), 0);
    assert_eq!(value("activity.exporter.span.exported", ""), 10);
    assert_eq!(value("activity.processor.span.processed", "error.type=queue_full"), 0);
    assert_eq!(value("activity.processor.queue.capacity", ""), 65_536);
}

#[test]
fn the_duration_of_every_request_is_recorded_by_its_route() {
    let exporter = InMemoryMetricExporter::default();
    let provider = provider(&exporter);
    let durations = RequestDurations::new(&provider.meter("test"));
    let get = Activity {
        method: "GET".to_owned(),
        route: "/users/{id}".to_owned(),
        url: "/users/7".to_owned(),
        status: 200,
        duration: 7_000,
        ..Activity::default()
    };
    durations.record(&get);
    durations.record(&get);
    let failed = Outcome::ServerFault;
    durations.record(&Activity { status: 500, outcome: failed, ..get.clone() });
    // A job is no request over HTTP.
    durations.record(&Activity { method: String::new(), ..get });
    let mut all = collected(&exporter, &provider);
    all.sort();
    let counts: Vec<u64> = all.iter().map(|it| it.2).collect();
    assert_eq!(counts.iter().sum::<u64>(), 3, "{all:?}");
    let fine = "http.request.method=GET,http.response.status_code=200,http.route=/users/{id}";
    assert!(
        all.iter().any(|it| it.0 == "http.server.request.duration" && it.1 == fine && it.2 == 2),
        "{all:?}"
    );
    assert!(all.iter().any(|it| it.1.starts_with("error.type=_OTHER,")), "{all:?}");
}

#[test]
fn when_answers_began_is_recorded_where_it_is_known() {
    let exporter = InMemoryMetricExporter::default();
    let provider = provider(&exporter);
    let durations = RequestDurations::new(&provider.meter("test"));
    for response_start in [0, 900, 7_000] {
        let method = "GET".to_owned();
        durations.record(&Activity {
            method,
            duration: 7_000,
            response_start,
            ..Activity::default()
        });
    }
    let mut all = collected(&exporter, &provider);
    all.sort();
    let counts: Vec<_> = all.iter().map(|it| (&*it.0, it.2)).collect();
    let expected =
        [("activity.http.server.response_start", 2), ("http.server.request.duration", 3)];
    assert_eq!(counts, expected, "{all:?}");
}
