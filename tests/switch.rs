//! The sampling policy changes under the global subscriber, where the layer alone decides which
//! callsites are on: those that were off must come back. One process, one test.

use std::time::Duration;

use tracing::{info, info_span};
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::model::Activity;
use tracing_activity::sink::MemorySink;

const LONG: Duration = Duration::from_secs(20);

fn serve() {
    info_span!("request", http.request.method = "GET", http.response.status_code = 200)
        .in_scope(|| info_span!("child").in_scope(|| info!("event")));
}

#[test]
fn callsites_that_were_off_are_on_as_soon_as_a_trace_can_be_kept() {
    let sink = MemorySink::new();
    let mut config = Config::default();
    config.sample = SamplingPolicy::OFF;
    let activities =
        tracing_activity::builder().config(config).sink(sink.clone()).install().unwrap();
    for policy in [SamplingPolicy::OFF, SamplingPolicy::ALL, SamplingPolicy::OFF] {
        activities.set_sampling(policy);
        serve();
    }
    assert!(activities.flush(LONG));
    let spans = |row: &Activity| row.trace.as_ref().map(|it| (it.spans.len(), it.events.len()));
    let seen: Vec<_> = sink.activities().iter().map(spans).collect();
    assert_eq!(seen, [None, Some((2, 1)), None]);
    assert!(info_span!("child").is_disabled(), "what is not recorded costs nothing");
    assert!(activities.shutdown(LONG).complete);
}
