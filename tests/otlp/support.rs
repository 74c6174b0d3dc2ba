//! A subscriber whose requests become rows and spans, both in memory.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, SdkTracer, SdkTracerProvider, SimpleSpanProcessor, SpanData,
    SpanProcessor,
};
use tracing::{Dispatch, Span, info_span};
use tracing_activity::Config;
use tracing_activity::ShutdownGuard;
use tracing_activity::middleware::RequestSpanLayer;
use tracing_activity::model::Activity;
use tracing_activity::otlp::{Link, SpanStats};
use tracing_activity::sink::MemorySink;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// Long enough for anything that is going to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A configuration with this sampling policy that delivers at once and believes every caller.
pub(crate) fn config(policy: &str) -> Config {
    let mut config = Config::default();
    config.sample = policy.parse().unwrap();
    config.pipeline.batch_interval = Duration::from_millis(1);
    config.http.traceparent = tracing_activity::config::TraceparentTrust::Always;
    config
}

/// A provider whose spans are decided about by this link before `inner` has them.
pub(crate) fn provider(link: &Link, inner: impl SpanProcessor + 'static) -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_span_processor(link.gate(inner))
        .with_sampler(link.sampler())
        .with_id_generator(link.id_generator())
        .build()
}

pub(crate) struct Fixture {
    pub(crate) dispatch: Dispatch,
    pub(crate) link: Link,
    pub(crate) tracer: SdkTracer,
    pub(crate) guard: ShutdownGuard,
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
    sink: MemorySink,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) rows: Vec<Activity>,
    pub(crate) spans: Vec<SpanData>,
    pub(crate) stats: SpanStats,
}

impl Fixture {
    pub(crate) fn new(config: Config) -> Self {
        let link = Link::new(&config);
        let exporter = InMemorySpanExporter::default();
        // This processor hands on nothing that is not marked as sampled.
        let inner = SimpleSpanProcessor::new(link.counted(exporter.clone()));
        let provider = provider(&link, inner);
        let tracer = provider.tracer("test");
        let sink = MemorySink::new();
        let builder = tracing_activity::builder().config(config).sink(sink.clone()).link(&link);
        let (layer, guard) = builder.build().unwrap();
        let spans = tracing_opentelemetry::layer().with_tracer(tracer.clone());
        let dispatch = Dispatch::new(
            tracing_subscriber::registry().with(layer).with(spans.with_filter(link.filter())),
        );
        Self { dispatch, link, tracer, guard, provider, exporter, sink }
    }

    /// Runs `f` under the subscriber.
    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        tracing::dispatcher::with_default(&self.dispatch, f)
    }

    /// What was exported so far.
    pub(crate) fn exported(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }

    /// Ends the activities, then the provider.
    pub(crate) fn shut_down(self) {
        self.guard.shutdown(DEADLINE);
        self.provider.shutdown().unwrap();
    }

    /// Ends everything. No span may be left.
    pub(crate) fn finish(self) -> Outcome {
        let report = self.guard.shutdown(DEADLINE);
        assert!(report.complete, "{}", report.stats);
        let before = self.link.stats();
        assert_eq!((before.held, before.held_bytes, before.open_traces), (0, 0, 0), "{before:?}");
        // The in-memory exporter forgets what it has when it is shut down.
        let spans = self.exporter.get_finished_spans().unwrap();
        self.provider.shutdown().unwrap();
        let stats = self.link.stats();
        assert_eq!(stats.in_flight(), 0, "{stats:?}");
        Outcome { rows: self.sink.activities(), spans, stats }
    }
}

impl Outcome {
    /// The spans of the trace of this row.
    pub(crate) fn spans_of(&self, row: &Activity) -> Vec<&SpanData> {
        let id = row.trace_id().to_bytes();
        self.spans.iter().filter(|span| span.span_context.trace_id().to_bytes() == id).collect()
    }

    /// The row with this title.
    pub(crate) fn row(&self, title: &str) -> &Activity {
        self.rows.iter().find(|row| row.title == title).expect(title)
    }
}

/// The `th` of a span's trace state.
pub(crate) fn threshold(span: &SpanData) -> Option<&str> {
    let ot = span.span_context.trace_state().get("ot")?;
    ot.split(';').find_map(|entry| entry.strip_prefix("th:"))
}

/// A request's root span.
pub(crate) fn request(title: &str, status: u16) -> Span {
    tracing::info_span!(
        "request",
        http.request.method = "GET",
        http.response.status_code = status,
        activity.title = title
    )
}

/// A request that was called with these headers, through the middleware; `handler` runs inside.
pub(crate) fn called(
    fixture: &Fixture,
    title: &str,
    headers: &[(&str, &str)],
    handler: impl FnOnce() + Send + 'static,
) {
    use tower::{Layer as _, Service as _};
    let mut handler = Some(handler);
    let title = title.to_owned();
    let service = tower::service_fn(move |_: http::Request<()>| {
        tracing_activity::with_activity(|a| a.title(title.clone()));
        if let Some(handler) = handler.take() {
            handler();
        }
        async { Ok::<_, std::convert::Infallible>(http::Response::new(String::new())) }
    });
    let mut request = http::Request::builder().uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).unwrap();
    fixture.run(|| {
        let answer = RequestSpanLayer::new().layer(service).call(request);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = runtime.block_on(answer).unwrap();
        let body = runtime.block_on(http_body_util::BodyExt::collect(answer.into_body())).unwrap();
        drop(body);
    });
}

/// A configuration that keeps and exports everything to this address.
pub(crate) fn exporting(endpoint: &str) -> Config {
    let mut config = config("all");
    config.otlp.enabled = true;
    config.otlp.target.endpoint = Some(endpoint.to_owned());
    config.otlp.batch_interval = Duration::from_millis(20);
    config.otlp.target.timeout = Duration::from_millis(500);
    config
}

/// What `init` would install for this configuration.
pub(crate) fn installed(config: Config) -> (Dispatch, ShutdownGuard, MemorySink) {
    let sink = MemorySink::new();
    let builder = tracing_activity::builder().config(config).sink(sink.clone());
    let (subscriber, guard) = builder.subscriber().unwrap();
    (subscriber, guard, sink)
}

/// Requests with two children each: three spans.
pub(crate) fn send(subscriber: &Dispatch, requests: usize) {
    tracing::dispatcher::with_default(subscriber, || {
        for _ in 0..requests {
            request("a", 200).in_scope(|| {
                info_span!("child").in_scope(|| info_span!("leaf").in_scope(|| ()));
            });
        }
    });
}
