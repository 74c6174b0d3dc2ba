//! The record of one running request: spans, events and fields, appended as they happen.
//!
//! A buffer is owned by exactly one party at a time - the thread inside the request, the root
//! span's cell, the queue, the pool - so nothing in it is locked. It is reused: after growing to
//! the size of a usual request it allocates nothing.

use std::collections::HashMap;
use std::sync::Arc;

use super::bridge::Linked;
use super::callsite::Callsite;
use super::fields::{EVENT, FieldLimits, FieldRecord, Fields, Recorder};
use super::head::Head;
use super::mode::{Current, Epoch};
use super::outcome::{Kind, Signals, Verdict};
use super::panics::Panic;
use super::patch::ActivityPatch;
use super::shared::Shared;
use crate::config::MAX_DEPTH;
use crate::model::{ActivityId, Timestamp};
use crate::sampling::Decision;

/// How many of the newest spans are looked through before the map of older ones.
const RECENT: usize = 32;

/// Events at level ERROR that are kept beyond the cap.
const ERROR_RESERVE: usize = 16;

/// Memory that a pooled buffer keeps for each of its lists.
const POOLED_BYTES: usize = 16 << 10;

#[derive(Debug, Clone)]
pub(super) struct SpanRec {
    /// The registry's id, which is reused after the span closes.
    pub(super) id: u64,
    pub(super) callsite: &'static Callsite,
    pub(super) parent: u32,
    pub(super) depth: u32,
    /// In ticks of the clock.
    pub(super) start: u64,
    /// The last exit; 0 until then.
    pub(super) end: u64,
    /// How many spans had begun at the last exit; all of them until then.
    pub(super) ended: u32,
    pub(super) open: bool,
    pub(super) panicked: bool,
    /// An event at level ERROR happened in it, recorded or beyond a cap.
    pub(super) failed: bool,
    /// What its `otel.kind` said last, recorded or beyond a cap.
    pub(super) kind: Kind,
}

impl SpanRec {
    /// Class of the error that arose in it, empty when none did.
    pub(super) fn error(&self) -> &'static str {
        match self {
            Self { panicked: true, .. } => "panic",
            Self { failed: true, .. } => "error",
            _ => "",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct EventRec {
    pub(super) callsite: &'static Callsite,
    pub(super) span: u32,
    pub(super) time: u64,
}

/// Where an event happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventPlace {
    /// Index of the nearest recorded span.
    pub(super) span: u32,
    /// The span it happens in is the root, and not one below it that is left out.
    pub(super) in_root: bool,
}

/// What is known of an activity when it is sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sealed {
    pub(super) verdict: Verdict,
    pub(super) decision: Decision,
    /// Nanoseconds from the root's start to the activity's end.
    pub(super) duration: u64,
    pub(super) head: Head,
    /// Spans were collected from beginning to end.
    pub(super) collected: bool,
    /// The request had been given up, and has a row that tells so.
    pub(super) late_end: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Buffer {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ActivityId,
    pub(super) when: Timestamp,
    pub(super) spans: Vec<SpanRec>,
    pub(super) events: Vec<EventRec>,
    pub(super) fields: Fields,
    pub(super) signals: Signals,
    pub(super) patch: ActivityPatch,
    pub(super) dropped_spans: u32,
    pub(super) truncated: bool,
    pub(super) sealed: Option<Sealed>,
    pub(super) panic_message: Option<Box<str>>,
    /// The epoch that the request began in.
    pub(super) epoch: Epoch,
    /// The sampler as of the last request.
    pub(super) current: Current,
    /// The span of the other tracing system that stands for the root, once it is known.
    pub(super) linked: Option<Linked>,
    /// Index of the middleware's span, where it is not the root itself; else 0.
    pub(super) request: u32,
    /// When a framework told of the head of the answer, in ticks of the clock.
    pub(super) head: Option<u64>,
    /// A copy of this was sealed when the request was given up.
    pub(super) repeats: bool,
    /// The caps, at hand.
    limits: FieldLimits,
    max_spans: usize,
    max_depth: usize,
    /// Open spans older than the newest [`RECENT`].
    older: HashMap<u64, u32>,
}

impl Buffer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            limits: shared.limits,
            max_spans: shared.config.max_spans,
            max_depth: shared.config.max_depth.min(MAX_DEPTH),
            epoch: shared.mode.epoch(),
            current: shared.mode.current(),
            shared,
            id: ActivityId::default(),
            when: Timestamp::default(),
            spans: Vec::new(),
            events: Vec::new(),
            fields: Fields::default(),
            signals: Signals::default(),
            patch: ActivityPatch::default(),
            dropped_spans: 0,
            truncated: false,
            sealed: None,
            panic_message: None,
            linked: None,
            request: 0,
            head: None,
            repeats: false,
            older: HashMap::new(),
        }
    }

    /// Makes the buffer the record of a new request: whatever it recorded is forgotten.
    ///
    /// The thread that begins the request does this, and not the one that was done with the last:
    /// what that one wrote, this one would have to wait for.
    pub(super) fn begin(&mut self, id: ActivityId, when: Timestamp) {
        (self.id, self.when) = (id, when);
        self.epoch = self.shared.mode.epoch();
        self.spans.clear();
        self.events.clear();
        self.fields.clear();
        if !self.older.is_empty() {
            self.older.clear();
        }
        self.signals = Signals::default();
        self.dropped_spans = 0;
        self.truncated = false;
        self.sealed = None;
        self.linked = None;
        self.request = 0;
        self.head = None;
        self.repeats = false;
    }

    /// What the request goes on with while this, as it is now, becomes the row of one given up.
    #[cold]
    pub(super) fn copy(&self) -> Box<Self> {
        Box::new(Self { repeats: true, ..self.clone() })
    }

    /// Gives back what a usual request does not need. Of a usual one it writes nothing: its memory
    /// need not travel between processors.
    pub(super) fn shrink(&mut self) {
        let (spans, events) =
            (POOLED_BYTES / size_of::<SpanRec>(), POOLED_BYTES / size_of::<EventRec>());
        if self.spans.capacity() > spans {
            self.spans.clear();
            self.spans.shrink_to(spans);
        }
        if self.events.capacity() > events {
            self.events.clear();
            self.events.shrink_to(events);
        }
        self.fields.shrink(POOLED_BYTES);
        if self.older.capacity() > 2 * RECENT {
            self.older.clear();
            self.older.shrink_to(RECENT);
        }
        if self.patch.touched {
            self.patch = ActivityPatch::default();
        }
        if self.panic_message.is_some() {
            self.panic_message = None;
        }
    }

    /// Memory held, patch included.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.spans.capacity() * size_of::<SpanRec>()
            + self.events.capacity() * size_of::<EventRec>()
            + self.older.capacity() * size_of::<(u64, u32)>()
            + self.fields.bytes()
            + self.patch.bytes()
    }

    /// The index of the open span with this id.
    #[inline]
    pub(super) fn find(&self, id: u64) -> Option<u32> {
        self.find_newest(id).or_else(|| self.find_older(id))
    }

    /// The same, if it is the newest span or the one around that: spans mostly close from the
    /// inside out.
    #[inline]
    pub(super) fn find_newest(&self, id: u64) -> Option<u32> {
        let last = self.spans.last()?;
        if last.id == id && last.open {
            return Some(self.spans.len() as u32 - 1);
        }
        let outer = self.spans.get(last.parent as usize)?;
        (outer.id == id && outer.open).then_some(last.parent)
    }

    /// Closes a span below the root, if it is one of the newest, was entered and left, and nothing
    /// else has to be done. `false` when it was not.
    #[inline]
    pub(super) fn close_newest(&mut self, id: u64) -> bool {
        if !self.older.is_empty() {
            return false;
        }
        let Some(index) = self.find_newest(id).filter(|index| *index != 0) else { return false };
        match self.spans.get_mut(index as usize) {
            Some(span) if span.end != 0 => {
                span.open = false;
                true
            }
            _ => false,
        }
    }

    #[inline(never)]
    fn find_older(&self, id: u64) -> Option<u32> {
        let newest_first = self.spans.iter().enumerate().rev().take(RECENT);
        for (index, span) in newest_first {
            if span.id == id && span.open {
                return Some(index as u32);
            }
        }
        if self.older.is_empty() { None } else { self.older.get(&id).copied() }
    }

    /// Appends a span; `None` when a cap leaves it out.
    #[allow(clippy::inline_always, reason = "30 instructions a span: it is the hottest call")]
    #[inline(always)]
    pub(super) fn begin_span(
        &mut self,
        id: u64,
        callsite: &'static Callsite,
        parent: u32,
        now: u64,
    ) -> Option<u32> {
        let index = self.spans.len();
        let depth = self.spans.get(parent as usize).map_or(0, |parent| parent.depth + 1);
        if index >= self.max_spans || depth as usize > self.max_depth {
            self.dropped_spans = self.dropped_spans.saturating_add(1);
            self.truncated = true;
            return None;
        }
        if let Some(aged) = index.checked_sub(RECENT)
            && self.spans[aged].open
        {
            self.older.insert(self.spans[aged].id, aged as u32);
        }
        self.spans.push(SpanRec {
            id,
            callsite,
            parent,
            depth,
            start: now,
            end: 0,
            ended: u32::MAX,
            open: true,
            panicked: false,
            failed: false,
            kind: Kind::Unsaid,
        });
        Some(index as u32)
    }

    /// The middleware's outermost span tells about the request as the root does, where that is of a
    /// request: a job may ask a service of its own process, too.
    pub(super) fn note_request(&mut self, index: u32, callsite: &Callsite) {
        let is_first = self.request == 0
            && !self.spans[0].callsite.told_by_middleware
            && self.spans[0].callsite.is_call;
        if callsite.told_by_middleware && is_first {
            self.request = index;
        }
    }

    /// Whether the span at `index` tells how the request itself went.
    #[inline]
    pub(super) fn is_request(&self, index: u32) -> bool {
        index == 0 || index == self.request
    }

    /// A span was left.
    #[inline]
    pub(super) fn exit(&mut self, index: u32, now: u64, panic: Option<Panic>) {
        let begun = self.spans.len() as u32;
        let Some(span) = self.spans.get_mut(index as usize) else { return };
        (span.end, span.ended) = (now, begun);
        if let Some(panic) = panic {
            span.panicked = true;
            self.note_panic(index, panic);
        }
    }

    /// The row tells the panic that the request was left by; until one is known, the newest: those
    /// before it were survived.
    #[cold]
    #[inline(never)]
    fn note_panic(&mut self, index: u32, panic: Panic) {
        if !self.signals.panicked || self.panic_message.is_none() {
            self.panic_message = panic.message.or(self.panic_message.take());
        }
        self.signals.panicked |= self.is_request(index);
    }

    /// A span was closed. One that was never entered ends now.
    #[inline]
    pub(super) fn close(&mut self, index: u32, now: impl FnOnce() -> u64) {
        let begun = self.spans.len() as u32;
        let Some(span) = self.spans.get_mut(index as usize) else { return };
        span.open = false;
        if span.end == 0 {
            (span.end, span.ended) = (now(), begun);
        }
        if !self.older.is_empty() {
            self.older.remove(&span.id);
        }
    }

    /// An event that the filter lets pass happened in the span at `index`. Its error counts even if
    /// a cap leaves the event out: caps count repetitions, and those do not show in the fingerprint.
    fn note_error(&mut self, index: u32, callsite: &Callsite) {
        if callsite.is_error
            && let Some(span) = self.spans.get_mut(index as usize)
        {
            span.failed = true;
        }
    }

    /// Whether an event may be recorded, errors included in the reserve.
    fn has_room_for_event(&mut self, callsite: &Callsite) -> bool {
        let cap = self.shared.config.max_events;
        let is_error = callsite.is_error;
        let room =
            self.events.len() < if is_error { cap.saturating_add(ERROR_RESERVE) } else { cap };
        self.truncated |= !room;
        room
    }

    /// An event in the span at `place`. Its status is the request's when its framework tells it in
    /// the root span itself: a client's event, inside of a span of its own, tells another's.
    pub(super) fn event(
        &mut self,
        callsite: &'static Callsite,
        recorded: bool,
        place: EventPlace,
        now: u64,
        record: impl FnOnce(&mut Recorder<'_>),
    ) {
        self.signals.error_event |= callsite.is_error;
        let tells_status = callsite.tells_status && place.in_root;
        if tells_status {
            self.note_answered(callsite, now);
        }
        if recorded {
            self.note_error(place.span, callsite);
        }
        let kept = recorded && self.has_room_for_event(callsite);
        if !kept && !tells_status {
            return;
        }
        let owner = EVENT | self.events.len() as u32;
        let signals = tells_status.then_some(&mut self.signals);
        let (limits, own) = (&self.limits, true);
        if kept {
            self.events.push(EventRec { callsite, span: place.span, time: now });
            let fields = &mut self.fields;
            record(&mut Recorder { fields, owner, limits, callsite, signals, own });
        } else {
            // Only the status matters: the fields go to a list that is dropped.
            let fields = &mut Fields::default();
            record(&mut Recorder { fields, owner, limits, callsite, signals, own });
        }
    }

    /// An event whose fields are recorded already.
    pub(super) fn append_event(
        &mut self,
        callsite: &'static Callsite,
        recorded: bool,
        span: u32,
        time: u64,
        fields: &Fields,
    ) {
        self.signals.error_event |= callsite.is_error;
        if recorded {
            self.note_error(span, callsite);
        }
        if recorded && self.has_room_for_event(callsite) {
            let limits = self.limits;
            self.fields.append(fields, EVENT | self.events.len() as u32, &limits);
            self.events.push(EventRec { callsite, span, time });
        }
    }

    /// The name of a recorded field.
    pub(super) fn name_of(&self, record: &FieldRecord) -> &'static str {
        self.callsite_of(record).map_or("", |callsite| record.name(callsite))
    }

    /// The callsite of the span or event that a recorded field belongs to.
    pub(super) fn callsite_of(&self, record: &FieldRecord) -> Option<&'static Callsite> {
        let owner = (record.owner & !EVENT) as usize;
        if record.owner & EVENT == 0 {
            self.spans.get(owner).map(|span| span.callsite)
        } else {
            self.events.get(owner).map(|event| event.callsite)
        }
    }

    /// Records fields of the span at `index`.
    #[allow(clippy::inline_always, reason = "as `begin_span`")]
    #[inline(always)]
    pub(super) fn record(&mut self, index: u32, record: impl FnOnce(&mut Recorder<'_>)) {
        let Some(span) = self.spans.get(index as usize) else { return };
        let callsite = span.callsite;
        if index == 0 || callsite.speaks {
            return self.record_spoken(index, callsite, record);
        }
        record(&mut Recorder {
            fields: &mut self.fields,
            owner: index,
            limits: &self.limits,
            callsite,
            own: false,
            signals: None,
        });
    }

    /// The same for a span whose fields may say something of the request or of its own kind.
    #[inline(never)]
    fn record_spoken(
        &mut self,
        index: u32,
        callsite: &'static Callsite,
        record: impl FnOnce(&mut Recorder<'_>),
    ) {
        if index != 0 {
            self.note_request(index, callsite);
        }
        let own = self.is_request(index);
        self.signals.kind = None;
        record(&mut Recorder {
            fields: &mut self.fields,
            owner: index,
            limits: &self.limits,
            callsite,
            own,
            signals: Some(&mut self.signals),
        });
        self.note_kind(index, self.signals.kind);
    }

    /// The kind of the span at `index` is this, where one was said.
    pub(super) fn note_kind(&mut self, index: u32, kind: Option<Kind>) {
        if let Some(kind) = kind
            && let Some(span) = self.spans.get_mut(index as usize)
        {
            span.kind = kind;
        }
    }
}
