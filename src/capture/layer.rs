//! [`ActivityLayer`]: the callbacks, each as short as its fast path allows.

use std::sync::Arc;

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Dispatch, Event, Interest, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::buffer::EventPlace;
use super::callsite::Role;
use super::installed;
use super::panics;
use super::registry::{
    ask_for_span, begin_root, close_other, enter_other, event_elsewhere, exit_unfollowed,
    find_root, record_elsewhere,
};
use super::root::{Op, Root};
use super::shared::Shared;
use super::thread::{Active, Current, ThreadState, UNKNOWN, with_thread};
use crate::pipeline::silence;

/// The layer that turns requests into activities.
///
/// Add it to a `tracing-subscriber` [`Registry`](tracing_subscriber::Registry) as it is: it
/// chooses for itself what to record, and wrapping it in a per-layer filter would lose spans
/// whenever someone asks `enabled!`. Inside of an `Option` or a `Vec` it works, but is not told which
/// subscriber it is part of, and `tracing` then asks all layers at every span and event. Make one
/// with [`builder`](crate::builder).
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
    Role::new(metadata, &shared.config)
}

/// What is recorded now: less than the role says while spans are not collected.
#[inline]
fn is_recorded(shared: &Shared, role: Role) -> bool {
    role.recorded && (shared.mode.lean() == 0 || Role::matters_without_spans(role.callsite))
}

/// The role as it is now.
pub(super) fn role_now(shared: &Shared, role: Role) -> Role {
    Role { recorded: is_recorded(shared, role), ..role }
}

/// Does a callback on this thread's state alone. `false` when more is needed. Apart, so that where
/// spans are not followed nothing is paid for it.
#[inline(never)]
fn on_thread(layer: u32, f: impl FnOnce(&mut ThreadState, u32) -> bool) -> bool {
    with_thread(|thread| f(thread, layer)) == Some(true)
}

/// Runs a callback so that no panic of ours reaches the application. Apart from the question
/// whether to run it at all, whose answer is no for most spans of many programs.
#[inline(never)]
fn caught(shared: &Arc<Shared>, f: impl FnOnce(&Arc<Shared>)) {
    if panics::caught(|| f(shared)).is_none() {
        shared.panicked();
    }
}

/// The role of a callsite as it is now, from this thread's cache where the state is free.
pub(super) fn role_in(shared: &Shared, metadata: &'static Metadata<'static>) -> Role {
    let cached = with_thread(|thread| role_of(thread, shared, metadata));
    role_now(shared, cached.unwrap_or_else(|| new_role(shared, metadata)))
}

/// The role of a callsite while spans are collected.
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
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        silence::heed(subscriber);
        let Some(shared) = &self.shared else { return };
        if shared.bridge.is_some() {
            // A layer is part of one subscriber.
            let _ = shared.dispatch.set(subscriber.downgrade());
        }
        if !installed::install(subscriber, shared) {
            shared.yield_to_the_first();
        } else if !subscriber.downcast_ref::<Self>().is_some_and(|it| std::ptr::eq(it, self)) {
            installed::must_be_asked();
        }
    }

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
        if let Some(shared) = &self.shared
            && shared.mode.follows()
            && !on_thread(shared.layer, |thread, layer| thread.enter_newest(layer, id.into_u64()))
        {
            caught(shared, |shared| enter(shared, id, &ctx));
        }
    }

    fn on_exit(&self, id: &Id, ctx: Context<'_, S>) {
        self.guarded(
            |shared| shared.mode.follows() || shared.may_be_root(id.into_u64()),
            |shared| exit(shared, id, &ctx),
        );
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let Some(shared) = &self.shared else { return };
        // Where spans are not followed, children that are recorded for their annotations end with
        // the request.
        let more = if shared.mode.follows() {
            !on_thread(shared.layer, |thread, layer| thread.close_newest(layer, id.into_u64()))
        } else {
            shared.may_be_root(id.into_u64())
        };
        if more {
            caught(shared, |shared| close(shared, &id, &ctx));
        }
    }
}

/// The activity that the current span belongs to, found through the registry: where this thread's
/// state does not tell, because spans are not followed or a callback is under way.
pub(super) fn current_root() -> Option<Arc<Root>> {
    tracing::dispatcher::get_default(|dispatch| {
        with_shared(dispatch, |shared| {
            let registry = dispatch.downcast_ref::<Registry>()?;
            let current = dispatch.current_span();
            find_root(shared, &registry.span(current.id()?)?)
        })?
    })
}

/// Runs `f` on what the layer of this subscriber shares, where it has one.
#[inline]
fn with_shared<R>(dispatch: &Dispatch, f: impl FnOnce(&Arc<Shared>) -> R) -> Option<R> {
    let layer = dispatch.downcast_ref::<ActivityLayer>();
    match layer.and_then(|layer| layer.shared.as_ref()) {
        Some(shared) if !shared.is_second() => Some(f(shared)),
        _ => installed::of(dispatch).map(|shared| f(&shared)),
    }
}

/// The activity that `span` belongs to.
#[cfg(feature = "tower")]
pub(super) fn root_of_span(span: &tracing::Span) -> Option<Arc<Root>> {
    let root = span.with_subscriber(|(id, dispatch)| {
        let found = with_shared(dispatch, |shared| {
            find_root(shared, &dispatch.downcast_ref::<Registry>()?.span(id)?)
        });
        match found {
            Some(found) => found,
            None => root_of_unknown(id, dispatch),
        }
    });
    root.flatten()
}

/// The activity of a span that has just begun, where its subscriber tells of no layer. The layer was
/// put into a `reload::Layer` that runs already; from now on it is known.
#[cfg(feature = "tower")]
#[cold]
#[inline(never)]
fn root_of_unknown(id: &Id, dispatch: &Dispatch) -> Option<Arc<Root>> {
    let root = with_thread(|thread| thread.newest_of_any(id.into_u64())).flatten()?;
    installed::must_be_asked();
    installed::install(dispatch, root.shared());
    Some(root)
}

/// What the layer of the current subscriber shares, where it has one.
#[cfg(feature = "tower")]
pub(super) fn current_shared() -> Option<Arc<Shared>> {
    tracing::dispatcher::get_default(|dispatch| with_shared(dispatch, Arc::clone))
}

/// How a span or event is placed.
enum Placed {
    /// It was dealt with.
    Done,
    /// It belongs to no activity that is followed.
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
    if !shared.mode.follows() {
        return place_unfollowed(shared, role);
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
    if is_recorded(shared, role)
        && let Some(index) =
            buffer.begin_span(id.into_u64(), role.callsite, place.index, shared.now())
    {
        buffer.record(index, |recorder| attributes.record(recorder));
    }
    Placed::Done
}

/// A span where spans are not followed: it matters if it may be a root, or says something.
#[inline(never)]
fn place_unfollowed(shared: &Shared, role: Role) -> Placed {
    let role = role_now(shared, role);
    if role.recorded || role.root {
        return Placed::Ask(role);
    }
    shared.ignore(role.callsite.metadata);
    Placed::Done
}

fn record<S>(shared: &Arc<Shared>, id: &Id, values: &Record<'_>, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let done = with_thread(|thread| {
        let Some((active, index)) = thread.find(shared.layer, id.into_u64()) else { return false };
        let Some(buffer) = &mut active.buffer else { return false };
        let had_status = buffer.signals.has_status();
        buffer.record(index, |recorder| values.record(recorder));
        buffer.note_status(had_status);
        true
    });
    if done != Some(true) {
        record_elsewhere(shared, id, values, ctx);
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
    let role = match placed {
        Placed::Ask(role) => role,
        Placed::Outside(role) if shared.mode.unfollowed => role,
        Placed::Outside(_) | Placed::Done => return,
    };
    let role = role_now(shared, role);
    if !is_relevant(event, role) {
        return;
    }
    event_elsewhere(shared, event, role, ctx);
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
    if !shared.mode.follows() {
        if !is_recorded(shared, role) && !role.callsite.tells_status {
            shared.ignore(role.callsite.metadata);
            return Placed::Done;
        }
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
            let place = EventPlace { span: place.index, in_root: place.own && place.index == 0 };
            buffer.event(role.callsite, is_recorded(shared, role), place, now, |recorder| {
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

fn exit<S>(shared: &Arc<Shared>, id: &Id, ctx: &Context<'_, S>)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let raw = id.into_u64();
    if shared.mode.unfollowed && exit_unfollowed(shared, id, ctx) {
        return;
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::capture::Parts;
    use crate::config::Config;
    use crate::pipeline::{Counters, Queue};

    fn shared() -> Arc<Shared> {
        let config = Config::default();
        let queue = Arc::new(Queue::new(&config.pipeline));
        Shared::new(&config, Parts::default(), queue, Arc::new(Counters::new()))
    }

    /// A defect of a callback.
    fn breaks(shared: &Arc<Shared>) {
        caught(shared, |_| std::panic::resume_unwind(Box::new(())));
    }

    #[test]
    fn after_some_panics_of_its_own_the_layer_stops_until_it_is_switched_on_again() {
        let shared = shared();
        let layer = ActivityLayer::new(Some(Arc::clone(&shared)));
        let created = || shared.counters.snapshot(0).created;
        tracing::subscriber::with_default(Registry::default().with(layer), || {
            let request = || drop(tracing::info_span!("request", http.request.method = "GET"));
            for _ in 0..15 {
                breaks(&shared);
            }
            request();
            assert_eq!(created(), 1);
            for _ in 0..100 {
                breaks(&shared);
            }
            request();
            assert_eq!(created(), 1, "it stopped");
            shared.set_enabled(true);
            breaks(&shared);
            request();
            assert_eq!(created(), 2);
        });
        assert_eq!(shared.counters.snapshot(0).panics, 116);
    }

    #[test]
    fn that_it_stopped_is_said_once_with_what_to_do() {
        let name = "after_some_panics_of_its_own_the_layer_stops_until_it_is_switched_on_again";
        let name = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
        let tests = std::env::current_exe().unwrap();
        let output = Command::new(tests).args(["--exact", &name]).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = said.lines().filter(|it| it.starts_with("tracing-activity:")).collect();
        let [line] = &*lines else { panic!("{lines:?}") };
        assert!(line.contains("capturing stopped after 16 panics"), "{line}");
        assert!(line.contains("Handle::set_enabled(true)"), "{line}");
    }
}
