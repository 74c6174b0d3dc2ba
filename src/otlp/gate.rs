//! [`Gate`]: the span processor that holds finished spans until their request is decided.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::{Span as _, SpanContext, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use tracing_core::Dispatch;
use tracing_core::span::Id;

use super::groups::{Groups, Key, Limits, Released, Start, Verdict};
use super::head::to_model;
use super::state::{Ot, with_threshold};
use super::stats::{SpanStats, Tally};
use crate::capture::bridge::{Bridge, Caller, Linked, Requests};
use crate::config::Config;
use crate::model::{Outcome, SpanId};
use crate::sampling::{Decision, Finished, Rate, randomness};

/// How much longer than a request a trace may stay undecided.
const GRACE: Duration = Duration::from_secs(10);

/// Wraps a span processor, and hands it the spans of the traces that are kept.
///
/// Register this and not the inner one: with two, each span is cloned. Made by
/// [`Link::gate`](super::Link::gate).
pub struct Gate {
    core: Arc<Core>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.core.stats()).finish()
    }
}

impl Gate {
    pub(super) fn new(core: Arc<Core>, inner: Box<dyn SpanProcessor>) -> Self {
        *core.pending() = Some(inner);
        Self { core }
    }
}

/// What the gate and the layer's bridge share.
pub(super) struct Core {
    pub(super) requests: Arc<Requests>,
    pub(super) tally: Arc<Tally>,
    groups: Groups,
    queue_spans: u64,
    parent_based: bool,
    /// The inner processor until its provider is built, and afterwards.
    pending: Mutex<Option<Box<dyn SpanProcessor>>>,
    inner: OnceLock<Box<dyn SpanProcessor>>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Core {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            requests: Arc::default(),
            tally: Arc::default(),
            groups: Groups::new(Limits {
                bytes: config.otlp.buffer_bytes as u64,
                spans: config.capture.max_spans,
                groups: config.capture.max_in_flight as u64,
                age: config.capture.max_lifetime.saturating_add(GRACE),
            }),
            queue_spans: config.otlp.queue_spans as u64,
            parent_based: config.otlp.head.parent_based,
            pending: Mutex::default(),
            inner: OnceLock::new(),
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Option<Box<dyn SpanProcessor>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> Option<&dyn SpanProcessor> {
        if let Some(inner) = self.inner.get() {
            return Some(&**inner);
        }
        let pending = self.pending().take()?;
        Some(&**self.inner.get_or_init(|| pending))
    }

    pub(super) fn stats(&self) -> SpanStats {
        let [held, held_bytes, open_traces] = self.groups.gauges();
        SpanStats { held, held_bytes, open_traces, ..self.tally.snapshot() }
    }

    /// Drops what is not decided; nothing comes after it.
    pub(super) fn close(&self) {
        self.groups.close(&self.tally);
    }

    fn release(&self, released: Released) {
        let Released { spans, threshold } = released;
        let Some(inner) = self.inner() else { return };
        for mut span in spans {
            if self.tally.admit(self.queue_spans) {
                mark(&mut span, threshold);
                // One that panics keeps none of the other spans from their end.
                self.requests.guarded(|| inner.on_end(span));
            }
        }
    }

    /// What a remote parent says.
    fn caller(&self, parent: &SpanContext) -> Caller {
        let ot = Ot::of(parent.trace_state());
        let random = ot.random_value.unwrap_or_else(|| randomness(to_model(parent.trace_id())));
        Caller {
            sampled: parent.is_sampled(),
            followed: self.parent_based,
            rate: ot.rate(random),
            random_value: ot.random_value,
        }
    }

    /// Decides about what ended outside of any request, as if it were one.
    fn decide(&self, root: &SpanData, caller: Option<Caller>) -> Verdict {
        let failed = matches!(root.status, Status::Error { .. });
        let finished = Finished {
            outcome: if failed { Outcome::ServerFault } else { Outcome::Success },
            duration: root.end_time.duration_since(root.start_time).unwrap_or_default(),
            trace_id: to_model(root.span_context.trace_id()),
            random_value: caller.and_then(|caller| caller.random_value),
            route: route(&root.attributes),
            ..Finished::default()
        };
        let decision = self.requests.decide(&finished);
        verdict(caller.map_or(decision, |caller| caller.settle(decision)))
    }
}

fn route(attributes: &[KeyValue]) -> &str {
    let route = attributes.iter().find(|it| it.key.as_str() == "http.route");
    match route.map(|it| &it.value) {
        Some(opentelemetry::Value::String(route)) => route.as_str(),
        _ => "",
    }
}

fn verdict(decision: Decision) -> Verdict {
    match decision {
        Decision::Keep { rate, .. } => Verdict::Keep(rate.map(Rate::threshold)),
        Decision::Drop => Verdict::Drop,
    }
}

/// Marks a span as kept: sampled, and with the threshold that it was kept by.
fn mark(span: &mut SpanData, threshold: Option<u64>) {
    let context = &span.span_context;
    span.span_context = SpanContext::new(
        context.trace_id(),
        context.span_id(),
        context.trace_flags().with_sampled(true),
        context.is_remote(),
        with_threshold(context.trace_state(), threshold),
    );
}

impl SpanProcessor for Gate {
    fn on_start(&self, span: &mut Span, around: &Context) {
        let core = &*self.core;
        let context = span.span_context();
        let parent = around.span().span_context().clone();
        let is_remote = parent.is_valid() && parent.is_remote();
        let caller = is_remote.then(|| core.caller(&parent));
        let is_request = core.requests.name_root(Linked {
            trace_id: to_model(context.trace_id()),
            span_id: SpanId::from_bytes(context.span_id().to_bytes()),
            parent_id: is_remote.then(|| SpanId::from_bytes(parent.span_id().to_bytes())),
            caller,
        });
        let start = Start {
            key: Key::of(context),
            parent: (parent.is_valid() && !is_remote).then(|| Key::of(&parent)),
            is_request,
            caller: caller.map(|caller| (SpanId::from_bytes(parent.span_id().to_bytes()), caller)),
        };
        core.groups.start(&start, &core.tally);
        if let Some(inner) = core.inner() {
            inner.on_start(span, around);
        }
    }

    fn on_end(&self, span: SpanData) {
        let core = &*self.core;
        let released = core.groups.end(span, &core.tally, |root, caller| core.decide(root, caller));
        core.release(released);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.core.inner().map_or(Ok(()), SpanProcessor::force_flush)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.core.close();
        self.core.inner().map_or(Ok(()), |inner| inner.shutdown_with_timeout(timeout))
    }

    fn set_resource(&mut self, resource: &Resource) {
        let pending = self.core.pending().take();
        if let Some(mut inner) = pending {
            inner.set_resource(resource);
            // A second gate of one link has nothing to hand on to.
            let _ = self.core.inner.set(inner);
        }
    }
}

impl Bridge for Core {
    fn decided(&self, root: &Linked, decision: Decision) {
        let key = Key::new(
            opentelemetry::trace::TraceId::from_bytes(root.trace_id.to_bytes()),
            opentelemetry::trace::SpanId::from_bytes(root.span_id.to_bytes()),
        );
        let released = self.groups.decided(key, verdict(decision), &self.tally);
        self.release(released);
    }

    fn resolve(&self, id: &Id, subscriber: &Dispatch) -> Option<Linked> {
        let context = tracing_opentelemetry::get_otel_context(id, subscriber)?;
        let context = context.span().span_context().clone();
        context.is_valid().then(|| {
            let called_by = self.groups.caller(Key::of(&context));
            Linked {
                trace_id: to_model(context.trace_id()),
                span_id: SpanId::from_bytes(context.span_id().to_bytes()),
                parent_id: called_by.map(|(parent, _)| parent),
                caller: called_by.map(|(_, caller)| caller),
            }
        })
    }

    fn called_by(&self, span: &tracing::Span, traceparent: &str, tracestate: &str) {
        super::link::set_parent(span, traceparent, tracestate);
    }

    fn tick(&self) {
        self.groups.sweep(Instant::now(), &self.tally);
    }
}
