//! Exporting under a global subscriber that records everything: it must not see itself.

use std::time::{Duration, Instant};

use tracing::info_span;
use tracing_activity::Config;
use tracing_activity::config::{Roots, SamplingPolicy};
use tracing_activity::sink::MemorySink;

#[allow(dead_code, reason = "the other ends are for other tests")]
#[path = "otlp/receiver.rs"]
mod receiver;

#[cfg(feature = "otlp-grpc")]
#[allow(dead_code, reason = "what arrives is for other tests")]
#[path = "otlp/grpc_service.rs"]
mod grpc_service;

const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn at_the_level_of_traces_exporting_makes_no_spans_and_no_activities() {
    let receiver = receiver::Receiver::start();
    let mut config = Config::default();
    config.sample = SamplingPolicy::ALL;
    config.capture.filter = "trace".parse().unwrap();
    // Any span without a parent would be an activity.
    config.capture.roots = Roots::All;
    config.pipeline.batch_interval = Duration::from_millis(1);
    config.otlp.enabled = true;
    config.otlp.target.endpoint = Some(receiver.endpoint());
    config.otlp.batch_interval = Duration::from_millis(5);
    config.otlp.queue_spans = 1 << 20;
    config.otlp.metrics.enabled = true;
    config.otlp.metrics.target.endpoint = Some(receiver.metrics_endpoint());
    config.otlp.metrics.interval = Duration::from_millis(5);
    // Its client makes spans, that of HTTP does not.
    #[cfg(feature = "otlp-grpc")]
    let service = grpc_service::Service::start();
    #[cfg(feature = "otlp-grpc")]
    {
        config.otlp.metrics.target.endpoint = Some(service.endpoint());
        config.otlp.metrics.target.protocol = tracing_activity::config::OtlpProtocol::Grpc;
    }
    let sink = MemorySink::new();
    let activities =
        tracing_activity::builder().config(config).sink(sink.clone()).install().unwrap();
    let handle = activities.handle();
    let end = Instant::now() + DEADLINE;
    let mut requests = 0;
    let metrics = || {
        #[cfg(feature = "otlp-grpc")]
        return service.count();
        #[cfg(not(feature = "otlp-grpc"))]
        receiver.metrics().len()
    };
    while handle.span_stats().unwrap().exports < 50 || metrics() < 50 {
        assert!(Instant::now() < end, "{:?}", handle.span_stats());
        for _ in 0..20 {
            info_span!("request", http.request.method = "GET")
                .in_scope(|| info_span!("child").in_scope(|| ()));
            requests += 1;
        }
        std::thread::yield_now();
    }
    assert!(activities.shutdown(DEADLINE).complete);
    assert_eq!(sink.activities().len(), requests);
    let spans = receiver.spans();
    assert!(spans.iter().all(|span| ["request", "child"].contains(&span.name.as_str())));
    assert_eq!(spans.len(), 2 * requests);
    let stats = handle.span_stats().unwrap();
    assert_eq!(stats.started, 2 * requests as u64, "{stats:?}");
}
