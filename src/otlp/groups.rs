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

/// How often a shard in which groups begin is looked through for old ones.
const SWEEP: Duration = Duration::from_secs(1);

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
    swept: Option<Instant>,
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
    ///
    /// Where a group begins, the old ones of its shard are given up first, now and then: while only
    /// jobs run, nobody else does it.
    pub(super) fn start(&self, start: &Start, tally: &Tally) {
        self.start_at(start, tally, Instant::now);
    }

    fn start_at(&self, start: &Start, tally: &Tally, now: impl Fn() -> Instant) {
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
                let now = now();
                if shard.swept.is_none_or(|it| now.saturating_duration_since(it) >= SWEEP) {
                    self.sweep_shard(shard, now, tally);
                }
                if !self.may_open() {
                    return shard.refuse(start.key, tally);
                }
                shard.begin(start, now)
            }
        };
        let Some(group) = shard.groups.get_mut(&number) else { return };
        let has_room = group.spans.len() < self.limits.spans;
        if !has_room || group.done.is_some() && !self.may_open() {
            return shard.refuse(start.key, tally);
        }
        if let Some(place) = group.done.take() {
            group.opened = now();
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
            self.sweep_shard(&mut shard, now, tally);
        }
    }

    fn sweep_shard(&self, shard: &mut Shard, now: Instant, tally: &Tally) {
        shard.swept = Some(now);
        let is_old = |group: &Group| {
            group.done.is_none() && now.saturating_duration_since(group.opened) > self.limits.age
        };
        let groups = shard.groups.iter().filter(|(_, group)| is_old(group));
        let old: Vec<u64> = groups.map(|(number, _)| *number).collect();
        for number in old {
            self.give_up(shard, number, Why::Age, tally);
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
    fn begin(&mut self, start: &Start, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        let group = Group {
            root: start.key,
            caller: start.caller,
            spans: Vec::new(),
            open: 0,
            held: Vec::new(),
            verdict: None,
            opened: now,
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
mod tests;
