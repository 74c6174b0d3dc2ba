//! The way through the registry, for what this thread's state does not tell: where a request begins
//! and ends, spans of other threads' requests, callbacks inside of callbacks.
//!
//! It walks from a span to the root whose cell tells its activity. If the activity's buffer is at
//! rest it is borrowed; else the operation is sent to its holder.

use std::sync::Arc;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::bridge::{link, link_entered};
use super::buffer::{Buffer, EventPlace};
use super::callsite::Role;
use super::evidence::Mark;
use super::fields::{Fields, Recorder};
use super::layer::{role_in, role_now};
use super::outcome::{Kind, Signals};
use super::panics;
use super::root::{Op, Root, RootCell};
use super::shared::Shared;
use super::thread::{Place, ThreadState, UNKNOWN, with_newest, with_thread};
use crate::config::Roots;

/// Ancestors looked at from a span towards its root. A guard held across an await can nest spans
/// without bound.
const MAX_WALK: usize = 128;

/// Finds a new span's activity through the registry.
#[cold]
pub(super) fn ask_for_span<S>(
    shared: &Arc<Shared>,
    attributes: &Attributes<'_>,
    id: &Id,
    role: Role,
    ctx: &Context<'_, S>,
) where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let role = role_now(shared, role);
    if !role.recorded && !role.root {
        return;
    }
    let Some(span) = ctx.span(id) else { return };
    let Some(parent) = span.parent() else {
        return begin_root_at(shared, attributes, &span, role);
    };
    let Some(root) = find_root(shared, &parent) else {
        return begin_root_at(shared, attributes, &span, role);
    };
    if !role.recorded {
        return;
    }
    let (id, callsite, time) = (id.into_u64(), role.callsite, shared.now());
    if let Some(mut buffer) = root.borrow() {
        let parent = nearest(&buffer, &parent);
        if let Some(index) = buffer.begin_span(id, callsite, parent, time) {
            buffer.record(index, |recorder| attributes.record(recorder));
        }
    } else {
        let (fields, signals) = detached(shared, role, |recorder| attributes.record(recorder));
        let ancestors = ancestors(&parent);
        root.send(Op::Begin { id, callsite, ancestors, time, fields, signals });
    }
}

/// Begins an activity, if this span outside of any is a request.
#[inline(never)]
pub(super) fn begin_root<S>(
    shared: &Arc<Shared>,
    attributes: &Attributes<'_>,
    id: &Id,
    role: Role,
    ctx: &Context<'_, S>,
) where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    if !role.root && !shared.mode.unfollowed {
        return;
    }
    let Some(span) = ctx.span(id) else { return };
    // What this thread entered before spans were followed, it does not know of: it may be inside of
    // a request.
    if shared.mode.unfollowed
        && span.parent().is_some_and(|parent| find_root(shared, &parent).is_some())
    {
        return ask_for_span(shared, attributes, id, role, ctx);
    }
    begin_root_at(shared, attributes, &span, role);
}

/// The same, where it is known that the span is outside of any activity.
#[inline]
fn begin_root_at<S>(
    shared: &Arc<Shared>,
    attributes: &Attributes<'_>,
    span: &SpanRef<'_, S>,
    role: Role,
) where
    S: for<'span> LookupSpan<'span>,
{
    if !role.root || !shared.is_enabled() {
        return;
    }
    if shared.is_second() {
        return shared.counters.count_hidden();
    }
    let id = span.id().into_u64();
    let any_parentless = shared.config.roots == Roots::All && span.parent().is_none();
    if role.callsite.mark == Mark::Plain && !any_parentless {
        return;
    }
    let mut buffer = shared.buffer();
    buffer.begin_span(id, role.callsite, 0, shared.now());
    buffer.record(0, |recorder| attributes.record(recorder));
    let (kind, mark) = (buffer.spans[0].kind, role.callsite.mark);
    let serves = kind.serves(mark)
        || any_parentless
        || mark == Mark::ByValue && kind == Kind::Unsaid && buffer.signals.serves;
    let mut extensions = span.extensions_mut();
    // A second activity layer in one registry has no business here.
    let taken = extensions.get_mut::<RootCell>().is_some();
    if !serves || taken || !shared.admit(buffer.spans[0].start) {
        return shared.recycle(buffer);
    }
    let root = shared.root(role.callsite, buffer);
    root.set_unfollowed(shared.remember_root(id));
    extensions.insert(RootCell(root));
}

/// Records fields of a span whose buffer is not at hand.
#[inline(never)]
pub(super) fn record_elsewhere<S>(
    shared: &Shared,
    id: &Id,
    values: &Record<'_>,
    ctx: &Context<'_, S>,
) where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let raw = id.into_u64();
    let newest = with_newest(shared.layer, raw, |root| {
        record_in(root, raw, values, || Some(role_in(shared, root.callsite()?.metadata)));
    });
    if newest.is_some() {
        return;
    }
    let Some(span) = ctx.span(id) else { return };
    let role = || role_in(shared, span.metadata());
    let root = root_of(shared, &span)
        .or_else(|| if role().recorded { find_root(shared, &span) } else { None });
    if let Some(root) = root {
        record_in(&root, raw, values, || Some(role()));
    }
}

/// Records fields of a span of this activity.
fn record_in(root: &Root, id: u64, values: &Record<'_>, role: impl FnOnce() -> Option<Role>) {
    if let Some(mut buffer) = root.borrow() {
        if let Some(index) = buffer.find(id) {
            let had_status = buffer.signals.has_status();
            buffer.record(index, |recorder| values.record(recorder));
            buffer.note_status(had_status);
        }
    } else if let Some(role) = role() {
        let (fields, signals) = detached(root.shared(), role, |recorder| values.record(recorder));
        root.send(Op::Record { id, fields, signals });
    }
}

/// Records an event whose buffer is not at hand.
#[inline(never)]
pub(super) fn event_elsewhere<S>(
    shared: &Shared,
    event: &Event<'_>,
    role: Role,
    ctx: &Context<'_, S>,
) where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let parent = match event.parent() {
        Some(parent) => ctx.span(parent),
        None => ctx.lookup_current(),
    };
    let Some(parent) = parent else { return };
    let Some(root) = find_root(shared, &parent) else { return };
    let in_root = root_of(shared, &parent).is_some();
    let (callsite, recorded, time) = (role.callsite, role.recorded, shared.now());
    if let Some(mut buffer) = root.borrow() {
        let place = EventPlace { span: nearest(&buffer, &parent), in_root };
        buffer.event(callsite, recorded, place, time, |recorder| event.record(recorder));
    } else {
        let (fields, told) = detached(shared, role, |recorder| event.record(recorder));
        let signals = if in_root { told } else { Signals::default() };
        let ancestors = ancestors(&parent);
        root.send(Op::Event { callsite, recorded, ancestors, time, fields, signals });
    }
}

/// Enters a span that is not of the activity this thread is in.
#[inline(never)]
pub(super) fn enter_other<S>(shared: &Shared, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let raw = id.into_u64();
    let place = with_thread(|thread| {
        let place = match thread.newest(shared.layer, raw) {
            Some(root) => {
                let root = Arc::clone(root);
                place_in(thread, root, raw, |_| 0)
            }
            None => ctx.span(id).and_then(|span| place_entered(thread, shared, &span)),
        };
        thread.push(shared.layer, raw, place);
        place
    });
    if shared.bridge.is_some()
        && let Some(Some(place)) = place
    {
        link_entered(place);
    }
}

/// The place of a span that is not of the activity this thread is in. Its own activity becomes this
/// thread's.
fn place_entered<S>(
    thread: &mut ThreadState,
    shared: &Shared,
    span: &SpanRef<'_, S>,
) -> Option<Place>
where
    S: for<'span> LookupSpan<'span>,
{
    let id = span.id().into_u64();
    let root = if let Some(root) = root_of(shared, span) {
        root
    } else {
        let outer = span.parent()?.id().into_u64();
        let known = thread.place_of(shared.layer, id);
        // A span that is left out, inside of one that this thread is in; or one that only the holder
        // of the buffer knows.
        let inherited = || {
            let outer = thread.entered(shared.layer, outer);
            outer.map(|place| Place { own: place.index == UNKNOWN, ..place })
        };
        if let Some(place) = known.or_else(inherited) {
            return Some(place);
        }
        find_root(shared, span)?
    };
    place_in(thread, root, id, |buffer| nearest(buffer, span))
}

/// The place of a span in this activity, which becomes this thread's; `nearest` finds the recorded
/// span around one that is left out.
fn place_in(
    thread: &mut ThreadState,
    root: Arc<Root>,
    id: u64,
    nearest: impl FnOnce(&Buffer) -> u32,
) -> Option<Place> {
    if root.is_unfollowed() {
        return None;
    }
    panics::forget();
    let key = Arc::as_ptr(&root) as usize;
    let active = thread.attach(root);
    active.catch_up();
    let Some(buffer) = &active.buffer else {
        return Some(Place { key, index: UNKNOWN, own: true });
    };
    let own = buffer.find(id);
    let index = own.unwrap_or_else(|| nearest(buffer));
    Some(Place { key, index, own: own.is_some() })
}

/// Leaves a root whose spans are not followed. Tells whether there is nothing else to do.
#[inline(never)]
pub(super) fn exit_unfollowed<S>(shared: &Shared, id: &Id, ctx: &Context<'_, S>) -> bool
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let (raw, follows) = (id.into_u64(), shared.mode.follows());
    if follows && !shared.may_be_root(raw) {
        return false;
    }
    if with_newest(shared.layer, raw, |root| leave(shared, root, raw, follows)) == Some(true) {
        return true;
    }
    let Some(span) = ctx.span(id) else { return !follows };
    let extensions = span.extensions();
    let root = extensions.get::<RootCell>().map(|cell| &cell.0);
    let root = root.filter(|root| root.layer() == shared.layer);
    root.is_some_and(|root| leave(shared, root, raw, follows)) || !follows
}

/// Leaves this root, if its spans are not followed. Tells whether they are not.
fn leave(shared: &Shared, root: &Root, id: u64, follows: bool) -> bool {
    if !root.is_unfollowed() {
        return false;
    }
    if follows {
        with_thread(|thread| thread.pop(shared.layer, id));
    }
    match (shared.now(), panics::current()) {
        (time, None) => root.leave(time),
        (time, panic) => root.send(Op::Exit { id, time, panic }),
    }
    true
}

/// Closes a root, or a span whose buffer is not at hand.
#[inline(never)]
pub(super) fn close_other<S>(shared: &Arc<Shared>, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let raw = id.into_u64();
    // The registry drops the cell of this one with the span.
    if with_newest(shared.layer, raw, |root| close_root(shared, root, id)).is_some() {
        return;
    }
    let Some(span) = ctx.span(id) else { return };
    let cell = span.extensions_mut().remove::<RootCell>();
    if let Some(cell) = cell {
        close_root(shared, &cell.0, id);
        let root = Arc::clone(&cell.0);
        drop(cell);
        shared.retire(root);
    } else if role_in(shared, span.metadata()).recorded
        && let Some(root) = find_root(shared, &span)
    {
        root.send(Op::Close { id: raw, time: shared.now() });
    }
}

/// The root span of this activity closes.
fn close_root(shared: &Shared, root: &Root, id: &Id) {
    if root.is_unfollowed() {
        shared.forget_root(id.into_u64());
    }
    if shared.bridge.is_some() {
        link(shared, root, id);
    }
    root.close();
}

/// The activity whose root `span` itself is.
fn root_of<S>(shared: &Shared, span: &SpanRef<'_, S>) -> Option<Arc<Root>>
where
    S: for<'span> LookupSpan<'span>,
{
    let extensions = span.extensions();
    let root = &extensions.get::<RootCell>()?.0;
    (root.layer() == shared.layer).then(|| Arc::clone(root))
}

/// Walks from `span` to the root of its activity.
pub(super) fn find_root<S>(shared: &Shared, span: &SpanRef<'_, S>) -> Option<Arc<Root>>
where
    S: for<'span> LookupSpan<'span>,
{
    if let Some(root) = root_of(shared, span) {
        return Some(root);
    }
    span.scope().skip(1).take(MAX_WALK).find_map(|span| root_of(shared, &span))
}

/// The index of the nearest recorded span from `span` towards the root.
fn nearest<S>(buffer: &Buffer, span: &SpanRef<'_, S>) -> u32
where
    S: for<'span> LookupSpan<'span>,
{
    let mut scope = span.scope().take(MAX_WALK);
    scope.find_map(|span| buffer.find(span.id().into_u64())).unwrap_or(0)
}

/// The ids from `span` towards the root.
fn ancestors<S>(span: &SpanRef<'_, S>) -> Vec<u64>
where
    S: for<'span> LookupSpan<'span>,
{
    span.scope().take(MAX_WALK).map(|span| span.id().into_u64()).collect()
}

/// Records fields into lists of their own, to be merged later.
fn detached(
    shared: &Shared,
    role: Role,
    record: impl FnOnce(&mut Recorder<'_>),
) -> (Fields, Signals) {
    let (mut fields, mut signals) = (Fields::default(), Signals::default());
    let is_event = role.callsite.metadata.is_event();
    record(&mut Recorder {
        fields: &mut fields,
        owner: 0,
        limits: &shared.limits,
        callsite: role.callsite,
        signals: (!is_event || role.callsite.tells_status).then_some(&mut signals),
        own: true,
    });
    (fields, signals)
}
