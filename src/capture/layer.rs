//! [`ActivityLayer`]: the callbacks, each as short as its fast path allows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Interest, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Registry, SpanRef};

use super::buffer::Buffer;
use super::callsite::{Mark, Role};
use super::fields::{Fields, Recorder};
use super::outcome::Signals;
use super::panics;
use super::root::{Op, Root, RootCell};
use super::shared::Shared;
use super::thread::{Active, Current, Place, ThreadState, UNKNOWN, with_thread};
use crate::config::Roots;

/// Ancestors looked at from a span towards its root. A guard held across an await can nest spans
/// without bound.
const MAX_WALK: usize = 128;

/// The layer that turns requests into activities.
///
/// Add it to a `tracing-subscriber` [`Registry`](tracing_subscriber::Registry) as it is: it
/// chooses for itself what to record, and wrapping it in a per-layer filter would lose spans
/// whenever someone asks `enabled!`. Make one with [`builder`](crate::builder).
#[derive(Debug)]
pub struct ActivityLayer {
    /// `None` when switched off by configuration.
    shared: Option<Arc<Shared>>,
    /// No other layer wants the callsites that this one ignores.
    alone: bool,
}

impl ActivityLayer {
    pub(crate) fn new(shared: Option<Arc<Shared>>) -> Self {
        Self { shared, alone: false }
    }

    /// Lets the layer switch off the callsites that it ignores, for everyone.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Runs a callback, where `wanted` says that there is something to do.
    #[inline]
    fn guarded(&self, wanted: impl FnOnce(&Shared) -> bool, f: impl FnOnce(&Arc<Shared>)) {
        if let Some(shared) = &self.shared
            && wanted(shared)
        {
            caught(shared, f);
        }
    }

    fn wants(&self, metadata: &'static Metadata<'static>) -> bool {
        !self.alone || self.shared.as_ref().is_some_and(|shared| role_in(shared, metadata).wanted())
    }
}

#[cold]
#[inline(never)]
fn new_role(shared: &Shared, metadata: &'static Metadata<'static>) -> Role {
    Role::new(metadata, &shared.config, shared.traces)
}

/// Runs a callback so that no panic of ours reaches the application. Apart from the question
/// whether to run it at all, whose answer is no for most spans of many programs.
#[inline(never)]
fn caught(shared: &Arc<Shared>, f: impl FnOnce(&Arc<Shared>)) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(shared))) {
        // Dropping the payload could panic again.
        std::mem::forget(payload);
        shared.panicked();
    }
}

/// The role of a callsite, from this thread's cache where the state is free.
fn role_in(shared: &Shared, metadata: &'static Metadata<'static>) -> Role {
    let cached = with_thread(|thread| role_of(thread, shared, metadata));
    cached.unwrap_or_else(|| Role::new(metadata, &shared.config, shared.traces))
}

#[inline]
fn role_of(
    thread: &mut ThreadState,
    shared: &Shared,
    metadata: &'static Metadata<'static>,
) -> Role {
    thread.roles.get(metadata, shared.layer, || new_role(shared, metadata))
}

impl<S> Layer<S> for ActivityLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        self.guarded(
            |shared| !shared.ignores(attributes.metadata()),
            |shared| new_span(shared, attributes, id, &ctx),
        );
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        self.guarded(|_| true, |shared| record(shared, id, values, &ctx));
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        self.guarded(
            |shared| !shared.ignores(event.metadata()),
            |shared| on_event(shared, event, &ctx),
        );
    }

    fn on_enter(&self, id: &Id, ctx: Context<'_, S>) {
        self.guarded(|shared| shared.traces, |shared| enter(shared, id, &ctx));
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        self.guarded(
            |shared| shared.traces || shared.may_be_root(id.into_u64()),
            |shared| exit(shared, id, &ctx),
        );
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        // Without traces, children that are recorded for their annotations end with the request.
        self.guarded(
            |shared| shared.traces || shared.may_be_root(id.into_u64()),
            |shared| close(shared, &id, &ctx),
        );
    }
}

/// The activity that the current span belongs to, found through the registry: where this thread's
/// state does not tell, because spans are not followed or a callback is under way.
pub(super) fn current_root() -> Option<Arc<Root>> {
    tracing::dispatcher::get_default(|dispatch| {
        let shared = dispatch.downcast_ref::<ActivityLayer>()?.shared.as_ref()?;
        let registry = dispatch.downcast_ref::<Registry>()?;
        let current = dispatch.current_span();
        find_root(shared, &registry.span(current.id()?)?)
    })
}

/// How a span or event is placed.
enum Placed {
    /// It was dealt with.
    Done,
    /// It belongs to no activity.
    Outside(Role),
    /// The registry must be asked.
    Ask(Role),
}

fn new_span<S>(shared: &Arc<Shared>, attributes: &Attributes<'_>, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let metadata = attributes.metadata();
    let placed = with_thread(|thread| {
        let role = role_of(thread, shared, metadata);
        place_span(thread, shared, attributes, id, role)
    });
    match placed.unwrap_or_else(|| Placed::Ask(role_in(shared, metadata))) {
        Placed::Done => {}
        Placed::Outside(role) => begin_root(shared, attributes, id, role, ctx),
        Placed::Ask(role) => ask_for_span(shared, attributes, id, role, ctx),
    }
}

/// Records a new span in the buffer at hand, if it belongs there.
#[inline]
fn place_span(
    thread: &mut ThreadState,
    shared: &Shared,
    attributes: &Attributes<'_>,
    id: &Id,
    role: Role,
) -> Placed {
    if !role.recorded && !role.root {
        shared.ignore(role.callsite.metadata);
        return Placed::Done;
    }
    if !shared.traces {
        return Placed::Ask(role);
    }
    let place = if attributes.is_contextual() {
        match thread.current(shared.layer) {
            Current::Inside(place) => place,
            Current::Outside => return Placed::Outside(role),
        }
    } else if let Some(parent) = attributes.parent() {
        match thread.place_of(shared.layer, parent.into_u64()) {
            Some(place) => place,
            None => return Placed::Ask(role),
        }
    } else {
        return Placed::Outside(role);
    };
    let Some(Active { buffer: Some(buffer), .. }) = thread.active(place.key) else {
        return Placed::Ask(role);
    };
    if place.index == UNKNOWN {
        return Placed::Ask(role);
    }
    if role.recorded
        && let Some(index) =
            buffer.begin_span(id.into_u64(), role.callsite, place.index, shared.now())
    {
        buffer.record(index, |recorder| attributes.record(recorder));
    }
    Placed::Done
}

/// Finds a new span's activity through the registry.
#[cold]
fn ask_for_span<S>(
    shared: &Arc<Shared>,
    attributes: &Attributes<'_>,
    id: &Id,
    role: Role,
    ctx: &Context<'_, S>,
) where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    if !role.recorded && !role.root {
        return;
    }
    let Some(parent) = ctx.span(id).and_then(|span| span.parent()) else {
        return begin_root(shared, attributes, id, role, ctx);
    };
    let Some(root) = find_root(shared, &parent) else {
        return begin_root(shared, attributes, id, role, ctx);
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
        let (fields, _) = detached(shared, role, |recorder| attributes.record(recorder));
        root.send(Op::Begin { id, callsite, ancestors: ancestors(&parent), time, fields });
    }
}

/// Begins an activity, if this span outside of any is a request.
#[inline(never)]
fn begin_root<S>(
    shared: &Arc<Shared>,
    attributes: &Attributes<'_>,
    id: &Id,
    role: Role,
    ctx: &Context<'_, S>,
) where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    if !role.root || !shared.is_enabled() {
        return;
    }
    let Some(span) = ctx.span(id) else { return };
    let any_parentless = shared.config.roots == Roots::All && span.parent().is_none();
    if role.callsite.mark == Mark::Plain && !any_parentless {
        return;
    }
    let mut buffer = shared.buffer();
    buffer.begin_span(id.into_u64(), role.callsite, 0, shared.now());
    buffer.record(0, |recorder| attributes.record(recorder));
    let serves = buffer.signals.serves(role.callsite.mark) || any_parentless;
    let mut extensions = span.extensions_mut();
    // A second activity layer in one registry has no business here.
    let taken = extensions.get_mut::<RootCell>().is_some();
    if !serves || taken || !shared.admit() {
        return shared.recycle(buffer);
    }
    let root = shared.root(role.callsite, buffer);
    shared.remember_root(id.into_u64());
    extensions.insert(RootCell(root));
}

fn record<S>(shared: &Arc<Shared>, id: &Id, values: &Record<'_>, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let done = with_thread(|thread| {
        let Some((active, index)) = thread.find(shared.layer, id.into_u64()) else { return false };
        let Some(buffer) = &mut active.buffer else { return false };
        buffer.record(index, |recorder| values.record(recorder));
        true
    });
    if done == Some(true) {
        return;
    }
    let Some(span) = ctx.span(id) else { return };
    let Some(root) = root_of(shared, &span).or_else(|| {
        let role = role_in(shared, span.metadata());
        if role.recorded { find_root(shared, &span) } else { None }
    }) else {
        return;
    };
    if let Some(mut buffer) = root.borrow() {
        if let Some(index) = buffer.find(id.into_u64()) {
            buffer.record(index, |recorder| values.record(recorder));
        }
    } else {
        let role = role_in(shared, span.metadata());
        let (fields, signals) = detached(shared, role, |recorder| values.record(recorder));
        root.send(Op::Record { id: id.into_u64(), fields, signals });
    }
}

fn on_event<S>(shared: &Arc<Shared>, event: &Event<'_>, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let metadata = event.metadata();
    let placed = with_thread(|thread| {
        let role = role_of(thread, shared, metadata);
        place_event(thread, shared, event, role)
    });
    let placed = placed.unwrap_or_else(|| Placed::Ask(role_in(shared, metadata)));
    let Placed::Ask(role) = placed else { return };
    if !is_relevant(event, role) {
        return;
    }
    event_elsewhere(shared, event, role, ctx);
}

/// Records an event whose buffer is not at hand.
#[inline(never)]
fn event_elsewhere<S>(shared: &Shared, event: &Event<'_>, role: Role, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let parent = match event.parent() {
        Some(parent) => ctx.span(parent),
        None => ctx.lookup_current(),
    };
    let Some(parent) = parent else { return };
    let Some(root) = find_root(shared, &parent) else { return };
    let (callsite, recorded, time) = (role.callsite, role.recorded, shared.now());
    if let Some(mut buffer) = root.borrow() {
        let span = nearest(&buffer, &parent);
        buffer.event(callsite, recorded, span, time, |recorder| event.record(recorder));
    } else {
        let (fields, signals) = detached(shared, role, |recorder| event.record(recorder));
        let ancestors = ancestors(&parent);
        root.send(Op::Event { callsite, recorded, ancestors, time, fields, signals });
    }
}

fn is_relevant(event: &Event<'_>, role: Role) -> bool {
    (role.recorded || role.callsite.tells_status) && !event.is_root()
}

/// Records an event in the buffer at hand, if it belongs there.
#[inline]
fn place_event(thread: &mut ThreadState, shared: &Shared, event: &Event<'_>, role: Role) -> Placed {
    if !is_relevant(event, role) {
        if !event.is_root() {
            shared.ignore(role.callsite.metadata);
        }
        return Placed::Done;
    }
    if !shared.traces {
        return Placed::Ask(role);
    }
    let place = match event.parent() {
        None => match thread.current(shared.layer) {
            Current::Inside(place) => place,
            Current::Outside => return Placed::Outside(role),
        },
        Some(parent) => match thread.place_of(shared.layer, parent.into_u64()) {
            Some(place) => place,
            None => return Placed::Ask(role),
        },
    };
    match thread.active(place.key) {
        Some(Active { buffer: Some(buffer), .. }) if place.index != UNKNOWN => {
            let now = shared.now();
            buffer.event(role.callsite, role.recorded, place.index, now, |recorder| {
                event.record(recorder);
            });
            Placed::Done
        }
        _ => Placed::Ask(role),
    }
}

fn enter<S>(shared: &Arc<Shared>, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let raw = id.into_u64();
    if with_thread(|thread| thread.enter(shared.layer, raw)) == Some(false) {
        enter_other(shared, id, ctx);
    }
}

/// Enters a span that is not of the activity this thread is in.
#[inline(never)]
fn enter_other<S>(shared: &Shared, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    with_thread(|thread| {
        let place = ctx.span(id).and_then(|span| place_entered(thread, shared, &span));
        thread.push(shared.layer, id.into_u64(), place);
    });
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
    let key = Arc::as_ptr(&root) as usize;
    let active = thread.attach(root);
    active.catch_up();
    let Some(buffer) = &active.buffer else {
        return Some(Place { key, index: UNKNOWN, own: true });
    };
    let own = buffer.find(id);
    let index = own.unwrap_or_else(|| nearest(buffer, span));
    Some(Place { key, index, own: own.is_some() })
}

fn exit<S>(shared: &Arc<Shared>, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let raw = id.into_u64();
    if !shared.traces {
        return exit_root(shared, id, ctx);
    }
    let left = with_thread(|thread| {
        let place = thread.pop(shared.layer, raw)?;
        let position = thread.position(place.key)?;
        let active = &mut thread.actives[position];
        active.catch_up();
        if place.own {
            let (time, panic) = (shared.now(), panics::current());
            match &mut active.buffer {
                Some(buffer) if place.index != UNKNOWN => buffer.exit(place.index, time, panic),
                _ => active.root.send(Op::Exit { id: raw, time, panic }),
            }
        }
        active.entries = active.entries.saturating_sub(1);
        (active.entries == 0).then(|| thread.actives.remove(position))
    });
    // Giving the buffer back may seal the activity: not while this thread's state is borrowed.
    drop(left);
}

/// Leaves a root where spans are not followed.
#[inline(never)]
fn exit_root<S>(shared: &Shared, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    if let Some(root) = ctx.span(id).and_then(|span| root_of(shared, &span)) {
        root.send(Op::Exit { id: id.into_u64(), time: shared.now(), panic: panics::current() });
    }
}

fn close<S>(shared: &Arc<Shared>, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let raw = id.into_u64();
    let done = with_thread(|thread| match thread.find(shared.layer, raw) {
        Some((Active { buffer: Some(buffer), .. }, index)) if index != 0 => {
            buffer.close(index, || shared.now());
            true
        }
        _ => false,
    });
    if done != Some(true) {
        close_other(shared, id, ctx);
    }
}

/// Closes a root, or a span whose buffer is not at hand.
#[inline(never)]
fn close_other<S>(shared: &Arc<Shared>, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let Some(span) = ctx.span(id) else { return };
    let cell = span.extensions_mut().remove::<RootCell>();
    if let Some(RootCell(root)) = cell {
        shared.forget_root(id.into_u64());
        root.close();
        shared.retire(root);
    } else if role_in(shared, span.metadata()).recorded
        && let Some(root) = find_root(shared, &span)
    {
        root.send(Op::Close { id: id.into_u64(), time: shared.now() });
    }
}

/// The activity whose root `span` itself is.
fn root_of<S>(shared: &Shared, span: &SpanRef<'_, S>) -> Option<Arc<Root>>
where
    S: for<'span> LookupSpan<'span>,
{
    let extensions = span.extensions();
    let RootCell(root) = extensions.get::<RootCell>()?;
    (root.layer() == shared.layer).then(|| Arc::clone(root))
}

/// Walks from `span` to the root of its activity.
fn find_root<S>(shared: &Shared, span: &SpanRef<'_, S>) -> Option<Arc<Root>>
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
    });
    (fields, signals)
}
