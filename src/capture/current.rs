//! Reaching the current activity from the application's code.

use std::sync::Arc;
#[cfg(feature = "tower")]
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "tower")]
use std::time::Duration;

#[cfg(feature = "tower")]
pub(crate) use super::bodies::{Captured, CapturedBody};
#[cfg(feature = "tower")]
use super::bridge::Bridge;
use super::bridge::link_current;
#[cfg(feature = "tower")]
use super::buffer::Buffer;
use super::layer::current_root;
#[cfg(feature = "tower")]
use super::layer::{current_shared, root_of_span};
#[cfg(feature = "axum")]
pub(crate) use super::names::is_public_route;
#[cfg(feature = "tower")]
pub(crate) use super::outcome::Breakage;
use super::outcome::End;
#[cfg(feature = "tower")]
use super::panics;
use super::patch::ActivityPatch;
use super::root::{Op, Root};
#[cfg(feature = "tower")]
pub(crate) use super::runtime::{is_ending_for, is_in_task};
#[cfg(feature = "tower")]
use super::shared::Shared;
use super::thread::{Active, with_thread};
#[cfg(feature = "tower")]
use crate::config::{BodyCapture, HttpConfig};
use crate::model::ActivityId;
#[cfg(feature = "tower")]
use crate::model::{SpanId, Timestamp};
#[cfg(feature = "tower")]
use crate::redact::Redactor;
#[cfg(feature = "tower")]
use crate::visits::{Mark, Visits};

/// The target of the middleware's spans. Their fields are the request's, whatever span of another
/// stands around them.
pub(crate) const REQUEST_TARGET: &str = "tracing_activity::request";

/// Patches that found no activity.
static OUTSIDE: AtomicU64 = AtomicU64::new(0);

/// How often [`with_activity`] was called outside of any activity, in this process.
pub(crate) fn outside() -> u64 {
    OUTSIDE.load(Ordering::Relaxed)
}

/// Adds to the activity of the request that the current span belongs to.
///
/// It works from any function under the request's span, and from spawned tasks that carry the
/// span (`.instrument(Span::current())`). Outside of a request it does nothing but count: `patch`
/// is not called. If it panics, the panic goes to the caller and the activity stays as it was.
///
/// ```
/// use tracing_activity::with_activity;
/// with_activity(|a| a.event("login").user("u17").data("method", "password"));
/// ```
pub fn with_activity(patch: impl FnOnce(ActivityPatch) -> ActivityPatch) {
    match CurrentActivity::get() {
        Some(current) => current.patch(patch),
        None => {
            OUTSIDE.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A handle to a running activity, to add to it or finish it from elsewhere.
///
/// ```
/// use tracing_activity::CurrentActivity;
/// if let Some(activity) = CurrentActivity::get() {
///     println!("support id: {}", activity.id());
/// }
/// ```
#[derive(Debug, Clone)]
pub struct CurrentActivity {
    root: Arc<Root>,
}

impl CurrentActivity {
    /// The activity that the current span belongs to.
    #[must_use]
    pub fn get() -> Option<Self> {
        let root = with_thread(|thread| thread.innermost().map(|active| Arc::clone(&active.root)));
        root.flatten().or_else(current_root).map(|root| Self { root })
    }

    /// The activity's identity: what to print on an error page.
    #[must_use]
    pub fn id(&self) -> ActivityId {
        self.root.id()
    }

    /// Adds to the activity. After its end this does nothing.
    pub fn patch(&self, patch: impl FnOnce(ActivityPatch) -> ActivityPatch) {
        // The application's code runs before anything of ours is touched.
        let patch = patch(ActivityPatch::default());
        if patch.ends_visit {
            self.root.end_visit();
        }
        let mut patch = Some(patch);
        let key = Arc::as_ptr(&self.root) as usize;
        with_thread(|thread| {
            if let Some(Active { buffer: Some(buffer), .. }) = thread.active(key)
                && let Some(patch) = patch.take()
            {
                let limits = buffer.shared.limits;
                buffer.patch.merge(patch, &limits);
            }
        });
        if let Some(mut patch) = patch {
            patch.limit(&self.root.shared().limits);
            self.root.send(Op::Patch(Box::new(patch)));
        }
    }

    /// Ends the activity now, whatever still holds its span. Spans that begin later are counted
    /// and left out.
    pub fn finish(self) {
        self.end(End::Finished);
    }

    fn end(&self, end: End) {
        if self.root.shared().bridge.is_some() {
            link_current(&self.root);
        }
        self.root.finish(self.root.shared().now(), end);
        // If this thread holds the buffer, it is sealed here and now.
        let key = Arc::as_ptr(&self.root) as usize;
        with_thread(|thread| thread.active(key).map(|_| ()));
    }
}

/// The end of a request in its holder's hand: the middleware's, which sees the answer leave.
#[cfg(feature = "tower")]
#[derive(Debug)]
pub(crate) struct InCharge(CurrentActivity);

#[cfg(feature = "tower")]
impl CurrentActivity {
    /// What is to be captured of bodies and headers.
    pub(crate) fn capture(&self) -> &BodyCapture {
        &self.root.shared().http.capture
    }

    /// What follows visits, where that is asked for.
    pub(crate) fn visits(&self) -> Option<&Visits> {
        self.root.shared().visits.as_ref()
    }

    /// Tells what is known of the visit.
    pub(crate) fn visited(&self, mark: Mark) {
        self.patch(|patch| patch.visit(mark));
    }

    /// When the request arrived, unless it is being looked at elsewhere.
    pub(crate) fn when(&self) -> Option<Timestamp> {
        self.with_buffer(|buffer| buffer.when)
    }

    /// The user that the application named, and whether it ended the visit.
    pub(crate) fn said_of_visit(&self) -> (Option<String>, bool) {
        let user = self.with_buffer(|buffer| {
            let actor = buffer.patch.actor.as_ref()?;
            actor.0.is_empty().then(|| actor.1.clone())
        });
        (user.flatten(), self.root.ends_visit())
    }

    /// The head of the answer is there.
    pub(crate) fn answers(&self) {
        self.root.head.is_there(self.root.shared().now());
    }

    /// The answer is a stream: how long it goes on says nothing of the service.
    pub(crate) fn streams(&self) {
        self.root.head.streams();
    }

    /// The caller's span.
    pub(crate) fn joins(&self, parent: SpanId) {
        self.with_buffer(|buffer| buffer.signals.remote_parent = Some(parent));
    }

    /// Looks at what is recorded, unless another thread does.
    fn with_buffer<R>(&self, look: impl FnOnce(&mut Buffer) -> R) -> Option<R> {
        let mut look = Some(look);
        let key = Arc::as_ptr(&self.root) as usize;
        let held = with_thread(|thread| {
            let buffer = thread.active(key)?.buffer.as_deref_mut()?;
            Some(look.take()?(buffer))
        });
        held.flatten().or_else(|| Some(look?(&mut *self.root.borrow()?)))
    }

    /// Adds what was captured.
    pub(crate) fn captured(&self, captured: Captured) {
        self.patch(|patch| patch.captured(captured));
    }
}

#[cfg(feature = "tower")]
impl InCharge {
    /// Takes charge of the activity that `span` belongs to, unless there is none or another has
    /// it: then the span is a part of that other's request.
    pub(crate) fn of(span: &tracing::Span) -> Option<Self> {
        let root = root_of_span(span)?;
        root.take_charge().then(|| Self(CurrentActivity { root }))
    }

    pub(crate) fn activity(&self) -> &CurrentActivity {
        &self.0
    }

    /// Tells the request from all others under way.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.0.root) as usize
    }

    /// The answer is out, and its status said.
    pub(crate) fn finished(self) {
        self.0.end(End::Finished);
    }

    /// The client went away before it had the whole answer.
    pub(crate) fn disconnected(self) {
        self.0.end(End::Disconnected);
    }

    /// Nobody goes on with it: the runtime is shutting down.
    pub(crate) fn abandoned(self) {
        self.0.end(End::Abandoned);
    }

    /// The call was dropped before its answer: by its client or by a limit of the server.
    pub(crate) fn cancelled(self) {
        self.0.end(End::Cancelled);
    }

    /// For how long the request has been running.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.root.age())
    }

    /// The service failed.
    pub(crate) fn broken(self, breakage: Breakage) {
        self.0.end(End::Broken(breakage));
    }
}

/// Runs code of the application that the middleware calls. Its panic is counted and goes no further:
/// `None`.
#[cfg(feature = "tower")]
pub(crate) fn guarded<T>(code: impl FnOnce() -> T) -> Option<T> {
    let result = panics::caught(code);
    if result.is_none()
        && let Some(shared) = current_shared()
    {
        shared.counters.count_panic();
    }
    result
}

/// The activity layer that listens to this thread, as far as it concerns a middleware.
#[cfg(feature = "tower")]
#[derive(Debug)]
pub(crate) struct Listener(Option<Arc<Shared>>);

#[cfg(feature = "tower")]
impl Listener {
    /// The layer of the current subscriber. Where it has none, the defaults hold.
    pub(crate) fn current() -> Self {
        Self(current_shared())
    }

    pub(crate) fn http(&self) -> &HttpConfig {
        static DEFAULT: LazyLock<HttpConfig> = LazyLock::new(HttpConfig::default);
        self.0.as_ref().map_or_else(|| &*DEFAULT, |shared| &shared.http)
    }

    /// A request begins that nothing will tell of: a filter hides its span from every layer.
    #[cold]
    pub(crate) fn hidden(&self) {
        if let Some(shared) = &self.0 {
            shared.hidden();
        }
    }

    /// The layer has no activity for this span, which it should have seen.
    #[cold]
    pub(crate) fn missed(&self, span: &tracing::Span) {
        if let Some(shared) = &self.0
            && !shared.is_full()
            && root_of_span(span).is_none()
        {
            shared.hidden();
        }
    }

    /// Whether the peer of a request is known, where proxies are to be believed.
    pub(crate) fn met_peer(&self, is_known: bool) {
        if let Some(shared) = &self.0 {
            shared.met_peer(is_known);
        }
    }

    /// Whether the current span is of a request that has nothing to do with one that begins now, while
    /// this thread does the work of the request with the key `serving`, or of none: somebody held a span's
    /// guard across an `.await`, and the thread went on without them.
    ///
    /// A request of which a middleware is in charge is being worked on only while that polls it. With
    /// another, such as a job that asks a service of its own process, the thread is inside of its root
    /// span, which a guard that was left behind mostly is not of.
    pub(crate) fn is_left_behind(&self, serving: usize) -> bool {
        let Some(shared) = &self.0 else { return false };
        let other = if shared.mode.unfollowed {
            let key = |root: &Arc<Root>| Arc::as_ptr(root) as usize;
            current_root().filter(|root| key(root) != serving).map(|root| (root, true))
        } else {
            with_thread(|thread| thread.other_than(shared.layer, serving)).flatten()
        };
        other.is_some_and(|(root, is_inside)| root.is_in_charge() || !is_inside)
    }

    /// Tells the other tracing system, where there is one, who called.
    pub(crate) fn called_by(&self, span: &tracing::Span, traceparent: &str, tracestate: &str) {
        if let Some(bridge) = self.bridge() {
            bridge.called_by(span, traceparent, tracestate);
        }
    }

    /// Whether another tracing system wants to know who called.
    pub(crate) fn has_bridge(&self) -> bool {
        self.bridge().is_some()
    }

    fn bridge(&self) -> Option<&Arc<dyn Bridge>> {
        self.0.as_ref()?.bridge.as_ref()
    }

    pub(crate) fn redactor(&self) -> &Redactor {
        static DEFAULT: LazyLock<Redactor> = LazyLock::new(Redactor::default);
        self.0.as_ref().map_or_else(|| &*DEFAULT, |shared| &shared.redactor)
    }
}
