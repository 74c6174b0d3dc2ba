//! One running request: where its buffer rests, and what reaches it from elsewhere.
//!
//! A [`Root`] hangs as the only extension on the request's root span. The thread that is inside
//! the request holds the buffer; everyone else - another thread, a callback inside a callback, an
//! explicit parent - leaves an [`Op`], which is applied in order by whoever holds the buffer next.
//! Operations carry finished values: no code of the application runs under the lock.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::bridge::tell;
use super::buffer::{Buffer, Sealed};
use super::callsite::Callsite;
use super::fields::Fields;
use super::head::{Head, Told};
use super::names::{decide, leaves_out};
use super::outcome::{End, Signals};
use super::panics::Panic;
use super::patch::ActivityPatch;
use super::runtime;
use super::shared::Shared;
use super::sync::{AtomicBool, Mutex, MutexGuard};
use crate::model::{ActivityId, Timestamp};
use crate::pipeline::DropReason;
use crate::sampling::Decision;

/// What the registry keeps for the root span.
#[derive(Debug)]
pub(super) struct RootCell(pub(super) Arc<Root>);

impl Drop for RootCell {
    /// A registry that goes away drops its spans without closing them.
    fn drop(&mut self) {
        if self.0.span.load(Ordering::Acquire) != 0 {
            self.0.finish(self.0.shared.now(), End::Abandoned);
        }
    }
}

/// Something that happened to a request away from its buffer. Spans are named by the registry's
/// ids, which are unique among the open ones.
#[derive(Debug)]
pub(super) enum Op {
    Begin {
        id: u64,
        callsite: &'static Callsite,
        ancestors: Vec<u64>,
        time: u64,
        fields: Fields,
        signals: Signals,
    },
    Record {
        id: u64,
        fields: Fields,
        signals: Signals,
    },
    Event {
        callsite: &'static Callsite,
        recorded: bool,
        ancestors: Vec<u64>,
        time: u64,
        fields: Fields,
        signals: Signals,
    },
    Exit {
        id: u64,
        time: u64,
        panic: Option<Panic>,
    },
    Close {
        id: u64,
        time: u64,
    },
    Patch(Box<ActivityPatch>),
}

/// A running request. When it is over and nobody holds it any more, the same [`Root`] serves
/// another.
#[derive(Debug)]
pub(crate) struct Root {
    shared: Arc<Shared>,
    /// Operations or the end wait for the holder of the buffer.
    pending: AtomicBool,
    /// The request began while spans were not followed: no thread holds its buffer, and the registry
    /// alone tells what belongs to it.
    unfollowed: std::sync::atomic::AtomicBool,
    /// When the root span of such a request was last left; 0 until then.
    left: AtomicU64,
    /// What a middleware says of the head of the answer.
    pub(super) head: Told,
    /// The registry's id of the root span while that is open, else 0.
    span: AtomicU64,
    home: Mutex<Home>,
}

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Home {
    /// What is being recorded; `None` before the first request.
    request: Option<Request>,
    /// The buffer, unless a thread holds it.
    buffer: Option<Box<Buffer>>,
    ops: Vec<Op>,
    /// Memory of the fields and patches among them.
    op_bytes: usize,
    /// One was left out.
    overflowed: bool,
    /// When and how the request ended, where a thread still holds the buffer.
    end: Option<(u64, End)>,
    sealed: bool,
    /// A middleware will say when the request ends.
    in_charge: bool,
    /// The application ended the visit that the request is a part of.
    ends_visit: bool,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    callsite: &'static Callsite,
    id: ActivityId,
    when: Timestamp,
    started: u64,
    /// It was given up, and has a row that tells so; it may end all the same.
    given_up: bool,
}

impl Home {
    /// Whether a request was answered, and a span below its root outlived it: then something detached
    /// holds it, and it ended when it was left.
    fn is_over(&self, buffer: &Buffer) -> bool {
        let [root, below @ ..] = &*buffer.spans else { return false };
        !self.in_charge
            && buffer.signals.status() != 0
            && root.end != 0
            && below.iter().any(|span| span.open || span.end > root.end)
    }
}

impl Root {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let home = Home {
            request: None,
            buffer: None,
            ops: Vec::new(),
            op_bytes: 0,
            overflowed: false,
            end: None,
            sealed: true,
            in_charge: false,
            ends_visit: false,
        };
        Self {
            shared,
            pending: AtomicBool::new(false),
            unfollowed: false.into(),
            left: AtomicU64::new(0),
            head: Told::default(),
            span: AtomicU64::new(0),
            home: Mutex::new(home),
        }
    }

    /// Takes a request that begins.
    #[inline]
    pub(super) fn begin(&self, callsite: &'static Callsite, buffer: Box<Buffer>) {
        let mut home = self.home();
        let (id, when, started) = (buffer.id, buffer.when, buffer.spans[0].start);
        self.span.store(buffer.spans[0].id, Ordering::Release);
        home.request = Some(Request { callsite, id, when, started, given_up: false });
        home.buffer = Some(buffer);
        home.ops.clear();
        (home.op_bytes, home.overflowed) = (0, false);
        home.end = None;
        home.sealed = false;
        (home.in_charge, home.ends_visit) = (false, false);
        self.left.store(0, Ordering::Relaxed);
        self.head.forget();
        self.pending.store(false, Ordering::Release);
    }

    pub(super) fn set_unfollowed(&self, unfollowed: bool) {
        self.unfollowed.store(unfollowed, Ordering::Relaxed);
    }

    pub(super) fn is_unfollowed(&self) -> bool {
        self.unfollowed.load(Ordering::Relaxed)
    }

    /// The root span of a request that is not followed was left. Only its last time counts, which
    /// needs neither the buffer nor the lock.
    pub(super) fn leave(&self, time: u64) {
        self.left.store(time, Ordering::Release);
    }

    /// Whether the open span with this id is its root span.
    #[inline]
    pub(super) fn is_of(&self, layer: u32, id: u64) -> bool {
        self.span.load(Ordering::Acquire) == id && self.shared.layer == layer
    }

    pub(super) fn layer(&self) -> u32 {
        self.shared.layer
    }

    /// The callsite of the root span.
    pub(super) fn callsite(&self) -> Option<&'static Callsite> {
        self.home().request.map(|request| request.callsite)
    }

    pub(super) fn id(&self) -> ActivityId {
        self.home().request.map_or_else(ActivityId::default, |request| request.id)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn home(&self) -> MutexGuard<'_, Home> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The buffer for a moment, unless someone holds it or the activity is over.
    pub(super) fn borrow(&self) -> Option<Borrowed<'_>> {
        let buffer = self.check_out()?;
        Some(Borrowed { root: self, buffer: Some(buffer) })
    }

    /// Takes the buffer, unless another thread holds it or the activity is over.
    pub(super) fn check_out(&self) -> Option<Box<Buffer>> {
        self.home().buffer.take()
    }

    /// Applies to a buffer in hand what happened elsewhere meanwhile. If that ended the request,
    /// the buffer is sealed and no longer in hand.
    #[inline]
    pub(super) fn catch_up(&self, held: &mut Option<Box<Buffer>>) {
        if self.is_pending() {
            self.catch_up_now(held);
        }
    }

    /// Whether something happened elsewhere that the holder of the buffer has yet to apply.
    #[inline]
    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    #[cold]
    fn catch_up_now(&self, held: &mut Option<Box<Buffer>>) {
        if let Some(buffer) = held.take() {
            *held = self.settle(buffer).map(|(_, buffer)| buffer);
        }
    }

    /// Gives the buffer back.
    pub(super) fn check_in(&self, buffer: Box<Buffer>) {
        if let Some((mut home, buffer)) = self.settle(buffer) {
            home.buffer = Some(buffer);
        }
    }

    /// Applies the operations that wait; seals the buffer if the request is over.
    fn settle(&self, mut buffer: Box<Buffer>) -> Option<(MutexGuard<'_, Home>, Box<Buffer>)> {
        let mut home = self.home();
        self.pending.store(false, Ordering::Relaxed);
        if home.sealed {
            // It was given up for good in the meantime.
            drop(home);
            self.shared.recycle(buffer);
            return None;
        }
        if !home.ops.is_empty() {
            for op in home.ops.drain(..) {
                buffer.apply(op);
            }
            home.op_bytes = 0;
        }
        buffer.truncated |= home.overflowed;
        let Some((time, end)) = home.end else { return Some((home, buffer)) };
        home.sealed = true;
        let request = home.request;
        drop(home);
        self.seal(request, buffer, time, end);
        None
    }

    /// Something happened away from the buffer.
    pub(super) fn send(&self, op: Op) {
        let mut home = self.home();
        if home.sealed || home.end.is_some() {
            if matches!(op, Op::Begin { .. }) {
                self.shared.counters.count_late_span();
            }
            return;
        }
        if let Some(buffer) = &mut home.buffer {
            buffer.apply(op);
        } else if home.op_bytes > self.max_op_bytes() || home.ops.len() >= self.max_ops(&op) {
            home.overflowed = true;
        } else {
            home.op_bytes += op.bytes();
            home.ops.push(op);
            self.pending.store(true, Ordering::Release);
        }
    }

    /// Operations that may wait: those of every span, and the events. What ends a span has a
    /// reserve, lest it stay open.
    fn max_ops(&self, op: &Op) -> usize {
        let config = &self.shared.config;
        let begun = config.max_spans.saturating_mul(2).saturating_add(config.max_events);
        match op {
            Op::Exit { .. } | Op::Close { .. } | Op::Record { .. } => begun.saturating_mul(4),
            _ => begun.saturating_add(64),
        }
    }

    /// Memory that operations may hold while they wait: the fields of a row, and a patch.
    fn max_op_bytes(&self) -> usize {
        self.shared.limits.row_bytes.saturating_mul(2)
    }

    /// The root span closed: the request ended when it was last left, if it ever was entered.
    pub(super) fn close(&self) {
        self.span.store(0, Ordering::Release);
        let left = self.left.load(Ordering::Acquire);
        self.end(End::Closed, |shared, buffer| {
            match buffer.map_or(0, |buffer| buffer.spans[0].end.max(left)) {
                0 => shared.now(),
                left => left,
            }
        });
    }

    /// Whether this is a request over HTTP or RPC of whose end nobody has taken charge before. Who
    /// answers a request inside of a job does not end the job.
    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "the middleware does"))]
    pub(super) fn take_charge(&self) -> bool {
        let mut home = self.home();
        let is_call = home.request.is_some_and(|request| request.callsite.is_call);
        is_call && !home.sealed && !std::mem::replace(&mut home.in_charge, true)
    }

    /// Whether a middleware has said that it will tell when the request ends.
    #[cfg(feature = "tower")]
    pub(super) fn is_in_charge(&self) -> bool {
        self.home().in_charge
    }

    /// A thread is inside of the request although its buffer is at rest: it is not over.
    pub(super) fn entered(&self) {
        self.home().in_charge = true;
    }

    /// The visit ends with this request: the answer's cookies tell it to the browser.
    pub(super) fn end_visit(&self) {
        self.home().ends_visit = true;
    }

    #[cfg(feature = "tower")]
    pub(super) fn ends_visit(&self) -> bool {
        self.home().ends_visit
    }

    /// The request is over.
    pub(super) fn finish(&self, now: u64, end: End) {
        self.end(end, |_, _| now);
    }

    /// Gives the request up if it has been running for at least this long, in nanoseconds: what is
    /// known of it becomes a row now. It goes on, and its end becomes another, unless this is the
    /// `last` that is delivered.
    ///
    /// Nobody is waited for. Where a thread is inside of the request, and may be so for good, the
    /// row tells of it what is known without the buffer in that thread's hands.
    pub(super) fn abandon(&self, now: u64, age: u64, last: bool) {
        let mut home = self.home();
        let Some(request) = home.request else { return };
        if home.sealed || self.shared.nanos(request.started, now) < age {
            return;
        }
        let goes_on = !last && (request.given_up || self.shared.goes_on());
        let known = home.buffer.take();
        if request.given_up {
            if last {
                home.sealed = true;
                drop(home);
                if let Some(buffer) = known {
                    self.shared.recycle(buffer);
                }
            } else {
                home.buffer = known;
            }
            return;
        }
        let time = home.end.map_or(now, |(time, _)| time);
        let row = match known {
            Some(buffer) if home.is_over(&buffer) => {
                home.sealed = true;
                drop(home);
                if goes_on {
                    self.shared.went_on();
                }
                return self.seal(Some(request), buffer, time, End::Closed);
            }
            Some(buffer) => {
                home.buffer = goes_on.then(|| buffer.copy());
                buffer
            }
            None => {
                self.shared.outline(request.id, request.when, request.callsite, request.started)
            }
        };
        home.sealed = !goes_on;
        home.request = Some(Request { given_up: true, ..request });
        if home.buffer.is_none() {
            self.pending.store(true, Ordering::Release);
        }
        drop(home);
        self.seal(Some(request), row, time, End::Abandoned);
    }

    /// For how long the request has been running, in nanoseconds.
    #[cfg(feature = "tower")]
    pub(super) fn age(&self) -> u64 {
        let request = self.home().request;
        request.map_or(0, |request| self.shared.nanos(request.started, self.shared.now()))
    }

    fn end(&self, end: End, time: impl FnOnce(&Shared, Option<&Buffer>) -> u64) {
        self.end_in(self.home(), end, time);
    }

    /// Who comes first decides; a thread that holds the buffer seals it when it next looks.
    fn end_in(
        &self,
        mut home: MutexGuard<'_, Home>,
        end: End,
        time: impl FnOnce(&Shared, Option<&Buffer>) -> u64,
    ) {
        if home.sealed || home.end.is_some() {
            return;
        }
        let time = time(&self.shared, home.buffer.as_deref());
        if let Some(buffer) = home.buffer.take() {
            let end =
                if end == End::Abandoned && home.is_over(&buffer) { End::Closed } else { end };
            home.sealed = true;
            let request = home.request;
            drop(home);
            self.seal(request, buffer, time, end);
        } else {
            home.end = Some((time, end));
            self.pending.store(true, Ordering::Release);
        }
    }

    /// Judges the finished request, decides about its trace and hands it over.
    fn seal(&self, request: Option<Request>, mut buffer: Box<Buffer>, now: u64, end: End) {
        let shared = &self.shared;
        let Some(Request { callsite, id, given_up: late_end, .. }) = request else { return };
        if late_end {
            shared.went_on();
        } else {
            shared.ended();
        }
        let root = &mut buffer.spans[0];
        root.end = root.end.max(self.left.load(Ordering::Acquire));
        let (failed, outcome) = match &buffer.patch {
            patch if patch.touched => {
                (patch.error.is_some() || patch.error_kind.is_some(), patch.outcome)
            }
            _ => (false, None),
        };
        buffer.signals.error_event |= failed || buffer.signals.said_error;
        let mut verdict = buffer.signals.judge(callsite, end);
        if verdict.is_cancelled() && runtime::is_ending() {
            verdict = buffer.signals.judge(callsite, End::Abandoned);
        }
        if late_end {
            if buffer.repeats && verdict.is_untold() || shared.queue.is_closed() {
                // Its row told as much already, or nothing can be told any more.
                return shared.recycle(buffer);
            }
            shared.counters.count_late_end();
        }
        let given_up = verdict.is_cancelled().then(|| left_at(&buffer, shared.now()));
        let root = &mut buffer.spans[0];
        if let Some(time) = given_up {
            root.end = time;
        } else if root.end == 0 || end != End::Closed {
            root.end = now;
        }
        let (start, finished) = (root.start, root.end);
        let duration = shared.nanos(start, finished);
        let head = Head::of(&self.head, &buffer, callsite, (end, &verdict), duration);
        if end.is_explicit() {
            // What began after the end was said belongs to nobody's request.
            while buffer.spans.last().is_some_and(|span| span.start > finished) {
                buffer.spans.pop();
                shared.counters.count_late_span();
            }
            if buffer.request as usize >= buffer.spans.len() {
                buffer.request = 0;
            }
        }
        for span in &mut buffer.spans {
            if span.end == 0 {
                span.end = finished.max(span.start);
            }
        }
        buffer.truncated |= buffer.fields.truncated;
        if let Some(outcome) = outcome.or(buffer.signals.said) {
            verdict.outcome = outcome;
        }
        if let Some(linked) = &buffer.linked {
            let parent = linked.parent_id.or(buffer.signals.remote_parent);
            buffer.signals.remote_trace = linked.foreign_trace(id);
            buffer.signals.remote_parent = parent;
        }
        let trace_id = buffer.signals.remote_trace.unwrap_or(id.to_trace_id());
        let collected = buffer.epoch.collects() && buffer.epoch == shared.mode.epoch();
        shared.mode.refresh(&mut buffer.current);
        let decided = if collected {
            decide(&buffer, verdict.outcome, (duration, head), trace_id, now)
        } else {
            let drops = buffer.current.sampler.drops_rows();
            (!(drops && leaves_out(&buffer, verdict.outcome))).then_some(Decision::Drop)
        };
        let mut decision = decided.unwrap_or(Decision::Drop);
        if let Some(linked) = &buffer.linked {
            // What was decided when the request was given up holds for the other system's spans.
            decision = if buffer.repeats {
                Decision::Drop
            } else {
                tell(shared, linked, decision, collected)
            };
        }
        // Where the caller keeps the trace, the row stays: kept traces and kept rows are the same.
        if decided.is_none() && decision == Decision::Drop {
            shared.counters.count_dropped(DropReason::Rule);
            return shared.recycle(buffer);
        }
        buffer.sealed = Some(Sealed { verdict, decision, duration, head, collected, late_end });
        if buffer.truncated {
            shared.counters.count_truncated();
        }
        if let Err((reason, seed)) = shared.queue.push(buffer) {
            shared.count_dropped(reason);
            seed.discard();
        }
    }
}

/// When a request that closed without an answer was given up: dropped as it waited, some time behind
/// the last exit of its span. What was inside of it was dropped with it, which its spans show; else
/// the close, which is now, is the best there is. The first of them counts, since what was spawned may
/// live on; where that ended before, it is taken for what was dropped, and the time is too early.
#[cold]
fn left_at(buffer: &Buffer, closed: u64) -> u64 {
    let last_exit = buffer.spans[0].end;
    let later = buffer.spans[1..].iter().map(|span| span.end).filter(|end| *end > last_exit);
    later.min().unwrap_or(closed)
}

/// A buffer that goes back when this is dropped.
pub(super) struct Borrowed<'a> {
    root: &'a Root,
    /// Present until the drop.
    buffer: Option<Box<Buffer>>,
}

impl Deref for Borrowed<'_> {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        self.buffer.as_ref().expect("present until the drop")
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Buffer {
        self.buffer.as_mut().expect("present until the drop")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.root.check_in(buffer);
        }
    }
}

impl Drop for Root {
    /// Nobody can end it any more.
    fn drop(&mut self) {
        let now = self.shared.now();
        self.finish(now, End::Abandoned);
    }
}

impl Op {
    /// Memory held beside the operation itself.
    fn bytes(&self) -> usize {
        match self {
            Self::Begin { fields, ancestors, .. } | Self::Event { fields, ancestors, .. } => {
                fields.bytes() + ancestors.capacity() * size_of::<u64>()
            }
            Self::Record { fields, .. } => fields.bytes(),
            Self::Patch(patch) => patch.bytes(),
            Self::Exit { .. } | Self::Close { .. } => 0,
        }
    }
}

impl Buffer {
    /// Applies an operation from elsewhere.
    fn apply(&mut self, op: Op) {
        let limits = self.shared.limits;
        match op {
            Op::Begin { id, callsite, ancestors, time, fields, signals } => {
                let parent = self.nearest(&ancestors);
                let index = self.begin_span(id, callsite, parent, time);
                if let Some(index) = index {
                    self.note_request(index, callsite);
                }
                self.merge_signals(index, &signals);
                if let Some(index) = index {
                    self.note_kind(index, signals.kind);
                    self.fields.append(&fields, index, &limits);
                }
            }
            Op::Record { id, fields, signals } => {
                let Some(index) = self.find(id) else { return };
                self.fields.append(&fields, index, &limits);
                let had_status = self.signals.has_status();
                self.merge_signals(Some(index), &signals);
                self.note_status(had_status);
                self.note_kind(index, signals.kind);
            }
            Op::Event { callsite, recorded, ancestors, time, fields, signals } => {
                let span = self.nearest(&ancestors);
                self.signals.merge(&signals);
                if signals.is_answered() {
                    self.note_answered(callsite, time);
                }
                self.append_event(callsite, recorded, span, time, &fields);
            }
            Op::Exit { id, time, panic } => {
                if let Some(index) = self.find(id) {
                    self.exit(index, time, panic);
                }
            }
            Op::Close { id, time } => {
                if let Some(index) = self.find(id) {
                    self.close(index, || time);
                }
            }
            Op::Patch(patch) => self.patch.merge(*patch, &limits),
        }
    }

    /// Takes over the signals of a span: all of those that tell of the request itself.
    fn merge_signals(&mut self, index: Option<u32>, signals: &Signals) {
        if index.is_some_and(|index| self.is_request(index)) {
            self.signals.merge(signals);
        } else {
            self.signals.merge_said(signals);
        }
    }

    /// The index of the first of these spans that is recorded, else of the root.
    pub(super) fn nearest(&self, ancestors: &[u64]) -> u32 {
        ancestors.iter().find_map(|id| self.find(*id)).unwrap_or(0)
    }
}

/// Run by `RUSTFLAGS="--cfg shuttle" cargo test --lib handoff`.
#[cfg(all(test, shuttle))]
#[path = "root_tests.rs"]
mod handoff;
