//! [`Groups`]: which spans belong together, and those that wait for the decision about them.
//!
//! A group is what is decided at once: a request's root and all below it in this process, or a local
//! root outside of requests and all below. It is named by its root's own id, since one trace may have
//! several. A span joins the group of its parent when it starts.
//!
//! A group that is decided and has no open span is done. It is remembered for a while, so that a span
//! that starts below it later shares its fate; then the oldest are forgotten. A span that starts below
//! it opens it again: so what bounds open groups bounds these, too.
//!
//! Groups are spread over shards by their trace's id; nothing is called under a shard's lock but the
//! sampler.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::{SpanContext, SpanId, TraceId};
use opentelemetry_sdk::trace::SpanData;

use super::stats::{Tally, Why};
use crate::capture::bridge::Caller;
use crate::model;

/// A span of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    trace_id: TraceId,
    span_id: SpanId,
}

impl Key {
    pub(super) fn new(trace_id: TraceId, span_id: SpanId) -> Self {
        Self { trace_id, span_id }
    }

    pub(super) fn of(context: &SpanContext) -> Self {
        Self::new(context.trace_id(), context.span_id())
    }
}

/// What becomes of a group's spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They go on, with this threshold; without one where nobody knows the chance.
    Keep(Option<u64>),
    Drop,
}

/// The caps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) spans: usize,
    pub(super) groups: u64,
    pub(super) age: Duration,
}

/// Where a span starts.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) key: Key,
    /// The span around it, if that is of this process.
    pub(super) parent: Option<Key>,
    /// It stands for a request's root, and begins a group wherever it is.
    pub(super) is_request: bool,
    /// The caller's span, where there is one, and what the caller says.
    pub(super) caller: Option<(model::SpanId, Caller)>,
}

/// Spans to hand on, and with what threshold.
#[derive(Debug, Default)]
pub(super) struct Released {
    pub(super) spans: Vec<SpanData>,
    pub(super) threshold: Option<u64>,
}

impl Released {
    /// One more span of a decided group.
    fn pass(&mut self, span: SpanData, verdict: Verdict, tally: &Tally) {
        match verdict {
            Verdict::Keep(threshold) => {
                self.spans.push(span);
                self.threshold = threshold;
            }
            Verdict::Drop => tally.sampled_out(1),
        }
    }
}

const SHARDS: usize = 16;

/// Span ids that a shard remembers of groups that are done.
const REMEMBERED: usize = 4096;

#[derive(Debug)]
pub(super) struct Groups {
    shards: [Mutex<Shard>; SHARDS],
    limits: Limits,
    open: AtomicU64,
    held: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    groups: HashMap<u64, Group>,
    /// The group of each span.
    spans: HashMap<Key, u64>,
    /// Open spans that a cap left out: what is below them is left out by the same.
    refused: HashSet<Key>,
    /// Those that are done, in the order in which they came to be.
    done: BTreeMap<u64, u64>,
    /// Span ids in them.
    remembered: usize,
    next: u64,
    closed: bool,
}

#[derive(Debug)]
struct Group {
    root: Key,
    /// Of its root.
    caller: Option<(model::SpanId, Caller)>,
    spans: Vec<Key>,
    /// Spans that have not ended.
    open: u64,
    held: Vec<SpanData>,
    verdict: Option<Verdict>,
    /// When it was opened last.
    opened: Instant,
    /// Its place among those that are done.
    done: Option<u64>,
}

impl Groups {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            shards: Default::default(),
            limits,
            open: AtomicU64::new(0),
            held: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn shard(&self, trace_id: TraceId) -> MutexGuard<'_, Shard> {
        // The low bits are random, of whomever the id is.
        let at = usize::from(trace_id.to_bytes()[15]) % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A span starts.
    pub(super) fn start(&self, start: &Start, tally: &Tally) {
        tally.started();
        let shard = &mut *self.shard(start.key.trace_id);
        if shard.closed {
            return tally.dropped(Why::Shutdown, 1);
        }
        let parent = start.parent.filter(|_| !start.is_request);
        let number = match parent.map(|parent| shard.spans.get(&parent).copied()) {
            Some(Some(number)) => number,
            Some(None) if !parent.is_some_and(|it| shard.refused.contains(&it)) => {
                return tally.dropped(Why::Late, 1);
            }
            Some(None) => return shard.refuse(start.key, tally),
            None => {
                if !self.may_open() {
                    return shard.refuse(start.key, tally);
                }
                shard.begin(start)
            }
        };
        let Some(group) = shard.groups.get_mut(&number) else { return };
        let has_room = group.spans.len() < self.limits.spans;
        if !has_room || group.done.is_some() && !self.may_open() {
            return shard.refuse(start.key, tally);
        }
        if let Some(place) = group.done.take() {
            group.opened = Instant::now();
            shard.remembered -= group.spans.len();
            shard.done.remove(&place);
        }
        group.spans.push(start.key);
        group.open += 1;
        shard.spans.insert(start.key, number);
    }

    /// Counts one more open group, where there may be one.
    fn may_open(&self) -> bool {
        let may = self.open.fetch_add(1, Ordering::Relaxed) < self.limits.groups;
        if !may {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        may
    }

    /// A span ended. `decide` is asked about a root outside of requests, with what its caller says.
    pub(super) fn end(
        &self,
        span: SpanData,
        tally: &Tally,
        decide: impl FnOnce(&SpanData, Option<Caller>) -> Verdict,
    ) -> Released {
        let key = Key::of(&span.span_context);
        let mut shard = self.shard(key.trace_id);
        // One that was left out when it started has been counted.
        let Some(number) = shard.spans.get(&key).copied() else {
            shard.refused.remove(&key);
            return Released::default();
        };
        let Some(group) = shard.groups.get_mut(&number) else { return Released::default() };
        group.open = group.open.saturating_sub(1);
        if group.verdict.is_none() && group.root == key {
            let verdict = decide(&span, group.caller.map(|(_, caller)| caller));
            let mut released = self.settle(group, verdict, tally);
            released.pass(span, verdict, tally);
            self.finish_if_over(&mut shard, number);
            return released;
        }
        let mut released = Released::default();
        match group.verdict {
            Some(verdict) => released.pass(span, verdict, tally),
            None => self.hold(group, span, tally),
        }
        self.finish_if_over(&mut shard, number);
        released
    }

    /// The request below this root is over.
    pub(super) fn decided(&self, root: Key, verdict: Verdict, tally: &Tally) -> Released {
        let mut shard = self.shard(root.trace_id);
        let Some(number) = shard.spans.get(&root).copied() else { return Released::default() };
        let Some(group) = shard.groups.get_mut(&number) else { return Released::default() };
        // One within another's group shares that one's fate.
        if group.root != root || group.verdict.is_some() {
            return Released::default();
        }
        let released = self.settle(group, verdict, tally);
        self.finish_if_over(&mut shard, number);
        released
    }

    /// Who called the group with this root, and what the caller says.
    pub(super) fn caller(&self, root: Key) -> Option<(model::SpanId, Caller)> {
        let shard = self.shard(root.trace_id);
        shard.groups.get(shard.spans.get(&root)?)?.caller
    }

    /// Decides a group, and takes out what waited.
    fn settle(&self, group: &mut Group, verdict: Verdict, tally: &Tally) -> Released {
        group.verdict = Some(verdict);
        let spans = self.unhold(group);
        match verdict {
            Verdict::Keep(threshold) => {
                tally.kept();
                Released { spans, threshold }
            }
            Verdict::Drop => {
                tally.sampled_out(spans.len() as u64);
                Released::default()
            }
        }
    }

    fn hold(&self, group: &mut Group, span: SpanData, tally: &Tally) {
        let bytes = memory(&span);
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limits.bytes {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return tally.dropped(Why::Limit, 1);
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        group.held.push(span);
    }

    fn unhold(&self, group: &mut Group) -> Vec<SpanData> {
        let spans = std::mem::take(&mut group.held);
        let bytes: u64 = spans.iter().map(memory).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.held.fetch_sub(spans.len() as u64, Ordering::Relaxed);
        spans
    }

    fn finish_if_over(&self, shard: &mut Shard, number: u64) {
        let Some(group) = shard.groups.get_mut(&number) else { return };
        if group.open > 0 || group.verdict.is_none() || group.done.is_some() {
            return;
        }
        group.done = Some(shard.next);
        shard.remembered += group.spans.len();
        shard.done.insert(shard.next, number);
        shard.next += 1;
        self.open.fetch_sub(1, Ordering::Relaxed);
        while shard.remembered > REMEMBERED {
            let Some((_, oldest)) = shard.done.pop_first() else { break };
            let Some(group) = shard.forget(oldest) else { break };
            shard.remembered -= group.spans.len();
        }
    }

    /// Gives up the groups that have not come to an end for too long.
    pub(super) fn sweep(&self, now: Instant, tally: &Tally) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let is_old = |group: &Group| {
                group.done.is_none()
                    && now.saturating_duration_since(group.opened) > self.limits.age
            };
            let groups = shard.groups.iter().filter(|(_, group)| is_old(group));
            let old: Vec<u64> = groups.map(|(number, _)| *number).collect();
            for number in old {
                self.give_up(&mut shard, number, Why::Age, tally);
            }
        }
    }

    /// Nothing starts or ends here any more.
    pub(super) fn close(&self, tally: &Tally) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.closed = true;
            let all: Vec<u64> = shard.groups.keys().copied().collect();
            for number in all {
                self.give_up(&mut shard, number, Why::Shutdown, tally);
            }
            *shard = Shard { closed: true, ..Shard::default() };
        }
    }

    fn give_up(&self, shard: &mut Shard, number: u64, why: Why, tally: &Tally) {
        let Some(mut group) = shard.forget(number) else { return };
        let held = self.unhold(&mut group).len() as u64;
        tally.dropped(why, held + group.open);
        if group.done.is_none() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Spans held, their bytes, and groups that are not done.
    pub(super) fn gauges(&self) -> [u64; 3] {
        [&self.held, &self.bytes, &self.open].map(|gauge| gauge.load(Ordering::Relaxed))
    }
}

impl Shard {
    fn begin(&mut self, start: &Start) -> u64 {
        let number = self.next;
        self.next += 1;
        let group = Group {
            root: start.key,
            caller: start.caller,
            spans: Vec::new(),
            open: 0,
            held: Vec::new(),
            verdict: None,
            opened: Instant::now(),
            done: None,
        };
        self.groups.insert(number, group);
        number
    }

    /// Leaves out a span that a cap has no room for.
    fn refuse(&mut self, key: Key, tally: &Tally) {
        // As many are open only where most never end: what is below them is called late, then.
        if self.refused.len() >= REMEMBERED {
            self.refused.clear();
        }
        self.refused.insert(key);
        tally.dropped(Why::Limit, 1);
    }

    fn forget(&mut self, number: u64) -> Option<Group> {
        let group = self.groups.remove(&number)?;
        for span in &group.spans {
            // Its id may have been given again: the newer one stays.
            if self.spans.get(span) == Some(&number) {
                self.spans.remove(span);
            }
        }
        Some(group)
    }
}

/// The memory of a value beyond its own size, about.
fn beyond(value: &opentelemetry::Value) -> usize {
    use opentelemetry::{Array, Value};
    match value {
        Value::String(text) => text.as_str().len(),
        Value::Array(Array::Bool(items)) => size_of_val(items.as_slice()),
        Value::Array(Array::I64(items)) => size_of_val(items.as_slice()),
        Value::Array(Array::F64(items)) => size_of_val(items.as_slice()),
        Value::Array(Array::String(items)) => {
            items.iter().map(|it| size_of_val(it) + it.as_str().len()).sum()
        }
        _ => 0,
    }
}

/// The memory of a span, about.
fn memory(span: &SpanData) -> u64 {
    let of = |attributes: &[opentelemetry::KeyValue]| {
        let texts: usize = attributes.iter().map(|it| beyond(&it.value)).sum();
        size_of_val(attributes) + texts
    };
    let events = span.events.iter().map(|it| size_of_val(it) + of(&it.attributes));
    let links = span.links.iter().map(|it| size_of_val(it) + of(&it.attributes));
    let more: usize = events.chain(links).sum();
    (size_of::<SpanData>() + span.name.len() + of(&span.attributes) + more) as u64
}

#[cfg(test)]
mod tests {
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
}
