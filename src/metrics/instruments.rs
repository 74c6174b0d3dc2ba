//! The metrics as instruments of OpenTelemetry.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use super::{Kind, Metric};
use crate::model::{Activity, Outcome};

/// Bounds that OpenTelemetry's conventions recommend, in seconds.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Makes observable instruments of `meter` for all metrics. They ask `metrics` for the numbers
/// whenever the meter's provider collects.
///
/// ```
/// # let (_layer, activities) = tracing_activity::builder()
/// #     .config(tracing_activity::Config::default())
/// #     .sink(tracing_activity::sink::MemorySink::new())
/// #     .build()?;
/// let handle = activities.handle();
/// let meter = opentelemetry::global::meter("tracing-activity");
/// tracing_activity::metrics::observe(&meter, move || handle.metrics());
/// # Ok::<(), tracing_activity::Error>(())
/// ```
pub fn observe(meter: &Meter, metrics: impl Fn() -> Vec<Metric> + Send + Sync + 'static) {
    let metrics = Arc::new(metrics);
    let by_name: BTreeMap<_, _> = metrics().into_iter().map(|it| (it.name, it)).collect();
    for Metric { name, kind, unit, help, .. } in by_name.into_values() {
        let metrics = Arc::clone(&metrics);
        let numbers = move |observe: &mut dyn FnMut(u64, &[KeyValue])| {
            for metric in metrics().into_iter().filter(|it| it.name == name) {
                let error = metric.error_type.map(|it| KeyValue::new("error.type", it));
                observe(metric.value, error.as_slice());
            }
        };
        // The provider keeps the callbacks; the handles of instruments are of no use.
        match kind {
            Kind::Counter => drop(
                meter
                    .u64_observable_counter(name)
                    .with_unit(unit)
                    .with_description(help)
                    .with_callback(move |it| numbers(&mut |value, with| it.observe(value, with)))
                    .build(),
            ),
            Kind::Gauge => drop(
                meter
                    .u64_observable_gauge(name)
                    .with_unit(unit)
                    .with_description(help)
                    .with_callback(move |it| numbers(&mut |value, with| it.observe(value, with)))
                    .build(),
            ),
        }
    }
}

/// The histogram `http.server.request.duration` of OpenTelemetry's conventions, of every request
/// whether its trace is kept or not; and `activity.http.server.response_start`, the time until the
/// answer began, of the requests of which it is known. The first is to the last byte of the answer,
/// and so of streams a long time. Both are in seconds.
///
/// ```
/// use tracing_activity::metrics::RequestDurations;
/// let durations = RequestDurations::new(&opentelemetry::global::meter("tracing-activity"));
/// let builder = tracing_activity::builder().log_allowed(move |activity| {
///     durations.record(activity);
///     true
/// });
/// ```
#[derive(Debug, Clone)]
pub struct RequestDurations {
    duration: Histogram<f64>,
    start: Histogram<f64>,
}

impl RequestDurations {
    /// The histograms of this meter.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let histogram = |name: &'static str, description: &'static str| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            histogram.with_description(description).with_boundaries(SECONDS.to_vec()).build()
        };
        Self {
            duration: histogram(
                "http.server.request.duration",
                "Duration of HTTP server requests.",
            ),
            start: histogram(
                "activity.http.server.response_start",
                "Time until the answers to HTTP server requests began.",
            ),
        }
    }

    /// Records a request. What has no HTTP method is none over HTTP. The route is its template, never
    /// the path.
    pub fn record(&self, activity: &Activity) {
        if activity.method.is_empty() {
            return;
        }
        let mut with = vec![KeyValue::new("http.request.method", activity.method.clone())];
        if !activity.route.is_empty() {
            with.push(KeyValue::new("http.route", activity.route.clone()));
        }
        if activity.status != 0 {
            with.push(KeyValue::new("http.response.status_code", i64::from(activity.status)));
        }
        if activity.outcome == Outcome::ServerFault {
            let class = match activity.error_kind.as_str() {
                "" => "_OTHER",
                class => class,
            };
            with.push(KeyValue::new("error.type", class.to_owned()));
        }
        self.duration.record(activity.duration as f64 / 1e6, &with);
        if activity.response_start > 0 {
            self.start.record(activity.response_start as f64 / 1e6, &with);
        }
    }
}
