use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanKind, Status, TraceFlags, TraceState};
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

use super::*;

const LIMITS: Limits =
    Limits { bytes: 1 << 20, spans: 100, groups: 100, age: Duration::from_mins(10) };

struct Fixture {
    groups: Groups,
    tally: Tally,
}

fn key(trace: u128, span: u64) -> Key {
    Key::new(trace.into(), span.into())
}

impl Fixture {
    fn new() -> Self {
        Self { groups: Groups::new(LIMITS), tally: Tally::default() }
    }

    fn start(&self, key: Key, parent: Option<Key>) {
        let start = Start { key, parent, is_request: false, caller: None };
        self.groups.start(&start, &self.tally);
    }

    fn end(&self, key: Key, verdict: Verdict) -> usize {
        let context = SpanContext::new(
            key.trace_id,
            key.span_id,
            TraceFlags::default(),
            false,
            TraceState::NONE,
        );
        let now = std::time::SystemTime::now();
        let span = SpanData {
            span_context: context,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "span".into(),
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        };
        self.groups.end(span, &self.tally, |_, _| verdict).spans.len()
    }
}

#[test]
fn what_never_ends_is_given_up_with_its_age_and_counted() {
    let it = Fixture::new();
    it.start(key(1, 1), None);
    it.start(key(1, 2), Some(key(1, 1)));
    it.end(key(1, 2), Verdict::Keep(None));
    let now = Instant::now();
    it.groups.sweep(now + LIMITS.age / 2, &it.tally);
    assert_eq!(it.groups.gauges()[2], 1);
    it.groups.sweep(now + LIMITS.age + Duration::from_secs(1), &it.tally);
    assert_eq!(it.groups.gauges(), [0, 0, 0]);
    assert_eq!(it.tally.snapshot().dropped.age, 2);
    // It ends after all: it was counted.
    assert_eq!(it.end(key(1, 1), Verdict::Keep(None)), 0);
    assert_eq!(it.tally.snapshot().in_flight(), 0);
}

#[test]
fn what_is_too_old_makes_room_for_what_begins() {
    let it = Fixture::new();
    let start = |span, after| {
        let start = Start { key: key(16, span), parent: None, is_request: false, caller: None };
        it.groups.start_at(&start, &it.tally, || Instant::now() + after);
    };
    for span in 1..=100 {
        start(span, Duration::ZERO);
    }
    start(101, LIMITS.age / 2);
    assert_eq!((it.groups.gauges()[2], it.tally.snapshot().dropped.limit), (100, 1));
    start(102, LIMITS.age + Duration::from_secs(1));
    assert_eq!((it.groups.gauges()[2], it.tally.snapshot().dropped.age), (1, 100));
    assert_eq!(it.end(key(16, 102), Verdict::Keep(None)), 1);
}

#[test]
fn a_span_that_starts_late_shares_the_fate_of_its_trace_until_that_is_forgotten() {
    let it = Fixture::new();
    let run = |trace: u128| {
        it.start(key(trace, 1), None);
        it.end(key(trace, 1), Verdict::Keep(None))
    };
    assert_eq!(run(16), 1);
    it.start(key(16, 2), Some(key(16, 1)));
    assert_eq!(it.end(key(16, 2), Verdict::Drop), 1);
    // All of one shard.
    for trace in 2..=REMEMBERED as u128 + 2 {
        run(trace * 16);
    }
    it.start(key(16, 3), Some(key(16, 1)));
    assert_eq!(it.end(key(16, 3), Verdict::Drop), 0);
    assert_eq!(it.tally.snapshot().dropped.late, 1);
    let shard = it.groups.shard(16_u128.into());
    assert!(shard.spans.len() <= REMEMBERED + 1, "{}", shard.spans.len());
    assert_eq!(shard.spans.len(), shard.remembered);
}

#[test]
fn below_a_trace_that_is_over_as_many_spans_are_open_as_traces_may_be_and_no_longer() {
    let it = Fixture::new();
    for trace in 1..=200 {
        it.start(key(trace, 1), None);
        it.end(key(trace, 1), Verdict::Keep(None));
    }
    for trace in 1..=200 {
        it.start(key(trace, 2), Some(key(trace, 1)));
    }
    let dropped = it.tally.snapshot().dropped;
    assert_eq!((it.groups.gauges()[2], dropped.limit), (100, 100), "{dropped:?}");
    // One that ends shares the fate of its trace, and what is open is young again.
    assert_eq!(it.end(key(1, 2), Verdict::Drop), 1);
    it.groups.sweep(Instant::now() + LIMITS.age / 2, &it.tally);
    assert_eq!(it.groups.gauges()[2], 99);
    it.groups.sweep(Instant::now() + LIMITS.age + Duration::from_secs(1), &it.tally);
    assert_eq!((it.groups.gauges()[2], it.tally.snapshot().dropped.age), (0, 99));
    // What never ended is forgotten, the other traces are not.
    it.start(key(2, 3), Some(key(2, 1)));
    assert_eq!(it.tally.snapshot().dropped.late, 1);
    it.start(key(1, 3), Some(key(1, 1)));
    assert_eq!(it.end(key(1, 3), Verdict::Drop), 1);
}

#[test]
fn what_a_cap_left_out_is_remembered_while_it_is_open_within_a_bound() {
    let it = Fixture::new();
    for span in 0..100 {
        it.start(key(16, span + 1), None);
    }
    for span in 0..3 * REMEMBERED as u64 {
        let refused = key(16, 1000 + span);
        it.start(refused, None);
        assert!(it.groups.shard(16_u128.into()).refused.contains(&refused));
    }
    assert!(it.groups.shard(16_u128.into()).refused.len() <= REMEMBERED);
    let last = key(16, 999 + 3 * REMEMBERED as u64);
    assert_eq!(it.end(last, Verdict::Drop), 0);
    assert!(!it.groups.shard(16_u128.into()).refused.contains(&last));
}

#[test]
fn a_decision_about_a_span_inside_of_another_group_changes_nothing() {
    let it = Fixture::new();
    it.start(key(1, 1), None);
    it.start(key(1, 2), Some(key(1, 1)));
    assert!(it.groups.decided(key(1, 2), Verdict::Drop, &it.tally).spans.is_empty());
    it.end(key(1, 2), Verdict::Drop);
    assert_eq!(it.end(key(1, 1), Verdict::Keep(Some(0))), 2);
    // Nor does a second one about its root.
    assert!(it.groups.decided(key(1, 1), Verdict::Drop, &it.tally).spans.is_empty());
    assert_eq!(it.tally.snapshot().kept_traces, 1);
}
