//! The seam for another tracing system whose spans stand beside ours: OpenTelemetry's.
//!
//! Both see the same `tracing` spans. The other system names its spans itself, and when it starts
//! the one that stands for a request's root it says so by [`Requests::name_root`]; from then on the
//! request's row carries that trace id, and the decision about the trace is told to the
//! [`Bridge`] under the root's name. Its span may begin without that, before the root was ever
//! entered: so the bridge is asked whenever a root is entered whose span is not known, and again
//! before the request is sealed. Else the next span that the other system starts at the root would
//! be taken for the root's own.
//!
//! What is called there may be the application's code: a processor or a sampler of its own. A panic
//! of it is counted, and the request has its row all the same.
//!
//! Nothing here knows OpenTelemetry's types.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use tracing_core::span::Id;
use tracing_core::{Dispatch, Metadata};

use super::callsite::Role;
use super::panics::caught;
use super::root::Root;
use super::shared::Shared;
use super::thread::{Active, Place, with_thread};
use crate::model::{ActivityId, SpanId, TraceId};
use crate::pipeline::Counters;
use crate::sampling::{Decision, Finished, Rate, Sampler};

/// The span of the other system that stands for a request's root.
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "`otlp` is the other system"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linked {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    /// The caller's span, where the request has one.
    pub(crate) parent_id: Option<SpanId>,
    /// What the caller says, where the request has one.
    pub(crate) caller: Option<Caller>,
}

/// What the caller of a request says of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// It keeps the trace.
    pub(crate) sampled: bool,
    /// Its word is to be followed.
    pub(crate) followed: bool,
    /// With what chance it keeps it, where it tells.
    pub(crate) rate: Option<Rate>,
    /// R, where it is not the trace id's.
    pub(crate) random_value: Option<u64>,
}

impl Linked {
    /// The trace id, where it is not that of the activity itself.
    pub(super) fn foreign_trace(&self, id: ActivityId) -> Option<TraceId> {
        (self.trace_id != id.to_trace_id()).then_some(self.trace_id)
    }
}

impl Caller {
    /// The decision about a trace, given what the caller decided.
    pub(crate) fn settle(&self, decision: Decision) -> Decision {
        if self.sampled && self.followed { decision.with_caller(self.rate) } else { decision }
    }
}

/// Another tracing system.
pub(crate) trait Bridge: fmt::Debug + Send + Sync {
    /// A request ended: this becomes of the trace below its root.
    fn decided(&self, root: &Linked, decision: Decision);

    /// The span that stands for the span with this id of `subscriber`.
    fn resolve(&self, id: &Id, subscriber: &Dispatch) -> Option<Linked>;

    /// The request of `span` came with these headers, and they are believed.
    #[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "the middleware calls it"))]
    fn called_by(&self, span: &tracing::Span, traceparent: &str, tracestate: &str);

    /// Called about twice a second while requests are under way, and then only.
    fn tick(&self);
}

/// The requests of one layer, as the other system sees them. Empty until the layer is made.
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "`otlp` is the other system"))]
#[derive(Debug, Default)]
pub(crate) struct Requests(OnceLock<Weak<Shared>>);

#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "`otlp` is the other system"))]
impl Requests {
    /// From now on these are the requests of this layer.
    pub(crate) fn attach(&self, shared: &Arc<Shared>) {
        // The first stays: a bridge belongs to one layer.
        let _ = self.0.set(Arc::downgrade(shared));
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.0.get()?.upgrade()
    }

    /// The activity whose root is the current span of this thread, if its span in the other system
    /// is not known yet.
    pub(crate) fn unnamed_root(&self) -> Option<ActivityId> {
        let layer = self.shared()?.layer;
        with_thread(|thread| {
            let buffer = thread.at_root(layer)?;
            buffer.linked.is_none().then_some(buffer.id)
        })?
    }

    /// Says which span stands for that root. `false` where there is none without.
    pub(crate) fn name_root(&self, linked: Linked) -> bool {
        let Some(shared) = self.shared() else { return false };
        let named = with_thread(|thread| {
            let buffer = thread.at_root(shared.layer)?;
            if buffer.linked.is_some() {
                return None;
            }
            buffer.linked = Some(linked);
            Some(())
        });
        named.flatten().is_some()
    }

    /// Runs code of the application; see [`guarded`].
    pub(crate) fn guarded(&self, code: impl FnOnce()) {
        if let Some(shared) = self.shared() {
            guarded(&shared.counters, code);
        } else {
            code();
        }
    }

    /// The sampler of now.
    pub(crate) fn sampler(&self) -> Option<Arc<Sampler>> {
        Some(Arc::clone(&self.shared()?.mode.current().sampler))
    }

    /// Decides about what ended outside of any request.
    pub(crate) fn decide(&self, finished: &Finished<'_>) -> Decision {
        let Some(shared) = self.shared() else { return Decision::Drop };
        let sampler = shared.mode.current().sampler;
        sampler.decide(finished, || shared.age(shared.now()))
    }

    /// Whether our layer records this span or event, or may take it for a request's.
    pub(crate) fn records(&self, metadata: &'static Metadata<'static>) -> bool {
        self.shared().is_some_and(|shared| {
            let role = Role::new(metadata, &shared.config);
            role.recorded || role.root
        })
    }
}

/// Runs code of the application, whose panic is counted and goes no further.
pub(super) fn guarded<T>(counters: &Counters, code: impl FnOnce() -> T) -> Option<T> {
    let result = caught(code);
    if result.is_none() {
        counters.count_panic();
    }
    result
}

/// Tells the bridge what becomes of a trace. Where its spans were collected, the caller's word
/// counts, too.
#[cold]
#[inline(never)]
pub(super) fn tell(
    shared: &Shared,
    linked: &Linked,
    decision: Decision,
    collected: bool,
) -> Decision {
    let decision = match &linked.caller {
        Some(caller) if collected => caller.settle(decision),
        _ => decision,
    };
    if let Some(bridge) = &shared.bridge {
        guarded(&shared.counters, || bridge.decided(linked, decision));
    }
    decision
}

/// Finds out which span stands for a root that is about to close, if that is not known.
#[inline(never)]
pub(super) fn link(shared: &Shared, root: &Root, id: &Id) {
    // Without the buffer nothing can be noted; its holder was inside the span.
    if root.borrow().is_none_or(|buffer| buffer.linked.is_some()) {
        return;
    }
    let linked = resolve(shared, id);
    if let (Some(linked), Some(mut buffer)) = (linked, root.borrow()) {
        buffer.linked.get_or_insert(linked);
    }
}

/// Finds out which span stands for the root of a request that this thread has come to be inside of.
#[cold]
#[inline(never)]
pub(super) fn link_entered(place: Place) {
    let unlinked = with_thread(|thread| {
        let active = thread.active(place.key)?;
        let is_unlinked = active.buffer.as_ref()?.linked.is_none();
        is_unlinked.then(|| Arc::clone(&active.root))
    });
    if let Some(Some(root)) = unlinked {
        link_current(&root);
    }
}

/// The same for a request that is about to be finished, whose buffer this thread may hold.
#[inline(never)]
pub(super) fn link_current(root: &Arc<Root>) {
    let shared = root.shared();
    let key = Arc::as_ptr(root) as usize;
    let held = with_thread(|thread| match thread.active(key) {
        Some(Active { buffer: Some(buffer), .. }) => {
            Some((buffer.linked.is_none(), buffer.spans[0].id))
        }
        _ => None,
    });
    let known = held
        .flatten()
        .or_else(|| root.borrow().map(|buffer| (buffer.linked.is_none(), buffer.spans[0].id)));
    let Some((true, id)) = known else { return };
    let Some(linked) = resolve(shared, &Id::from_u64(id)) else { return };
    let noted = with_thread(|thread| match thread.active(key) {
        Some(Active { buffer: Some(buffer), .. }) => {
            buffer.linked.get_or_insert(linked);
            true
        }
        _ => false,
    });
    if noted != Some(true)
        && let Some(mut buffer) = root.borrow()
    {
        buffer.linked.get_or_insert(linked);
    }
}

fn resolve(shared: &Shared, id: &Id) -> Option<Linked> {
    let subscriber = shared.dispatch.get()?.upgrade()?;
    let bridge = shared.bridge.as_ref()?;
    guarded(&shared.counters, || bridge.resolve(id, &subscriber)).flatten()
}

#[cfg(test)]
mod tests {
    use tracing::info_span;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::capture::{ActivityLayer, CurrentActivity, Parts};
    use crate::config::{Config, SamplingPolicy};
    use crate::pipeline::Queue;

    /// Panics when it is asked, or when it is told.
    #[derive(Debug)]
    struct Broken {
        knows: bool,
    }

    impl Bridge for Broken {
        fn decided(&self, _: &Linked, _: Decision) {
            panic!("told");
        }

        fn resolve(&self, _: &Id, _: &Dispatch) -> Option<Linked> {
            assert!(self.knows, "asked");
            let (trace_id, span_id) = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([7; 8]));
            Some(Linked { trace_id, span_id, parent_id: None, caller: None })
        }

        fn called_by(&self, _: &tracing::Span, _: &str, _: &str) {}

        fn tick(&self) {}
    }

    #[test]
    fn a_panic_behind_the_bridge_is_counted_and_the_request_has_its_row() {
        for knows in [false, true] {
            let config = Config { sample: SamplingPolicy::ALL, ..Config::default() };
            let counters = Arc::new(Counters::new());
            let queue = Arc::new(Queue::new(&config.pipeline));
            let parts = Parts { bridge: Some(Arc::new(Broken { knows })), ..Parts::default() };
            let shared = Shared::new(&config, parts, Arc::clone(&queue), Arc::clone(&counters));
            let layer = ActivityLayer::new(Some(shared));
            let subscriber = Dispatch::new(tracing_subscriber::registry().with(layer));
            tracing::dispatcher::with_default(&subscriber, || {
                let request = || info_span!("request", http.request.method = "GET");
                request().in_scope(|| info_span!("step").in_scope(|| ()));
                // The application says when it is over: no callback of the layer stands around it.
                request().in_scope(|| CurrentActivity::get().expect("a request").finish());
            });
            for _ in 0..2 {
                let (_, seed) = queue.pop().expect("each has its row");
                let row = seed.into_activity().expect("nothing filters");
                assert!(row.trace.is_some(), "the policy keeps it");
            }
            // It is asked when a request is entered, and again at its end where it did not know.
            assert_eq!(counters.snapshot(0).panics, if knows { 2 } else { 4 });
        }
    }
}
