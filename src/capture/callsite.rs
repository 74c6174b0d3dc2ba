//! What a callsite means to us, found out once per callsite and thread.
//!
//! A callsite's metadata never changes, so everything that can be read from it - is it a request,
//! does it carry a status, is it worth recording - is worked out at its first use and cached by
//! the address of its [`Metadata`]. The hot path compares two integers.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing_core::{Level, Metadata};

use super::current::REQUEST_TARGET;
use super::evidence::{self, Mark};
use crate::config::{CaptureConfig, Roots, filter_is_exporter};
use crate::redact::Nature;

/// A field whose value matters when the request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    None,
    /// A response status; of several the highest rank wins.
    Status(u8),
    GrpcStatus,
    OtelStatus,
    OtelKind,
    /// Its value tells whether the span serves.
    Serving,
    TraceId,
    /// `activity.outcome`: what the application says of the outcome, on whatever span.
    SaidOutcome,
    /// `activity.error` or `activity.error_kind`, likewise.
    SaidError,
    /// A failure classification, as tower-http's event `response failed` carries.
    Failure,
}

/// The facts about a callsite.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub(super) struct Callsite {
    pub(super) metadata: &'static Metadata<'static>,
    pub(super) mark: Mark,
    /// It has `activity.*` fields: recorded whatever the filter says.
    pub(super) annotates: bool,
    /// At level ERROR.
    pub(super) is_error: bool,
    /// An event by which a framework tells the status of the response.
    pub(super) tells_status: bool,
    /// An event by which a framework tells that the head of the answer is there.
    pub(super) tells_head: bool,
    /// The span of a framework that ends with the head of the answer, before its body.
    pub(super) ends_with_head: bool,
    /// By index of the field; empty when no field is a signal.
    signals: Box<[Signal]>,
    /// Names of the fields by index.
    names: Box<[&'static str]>,
    /// By index of the field; empty when all are plain.
    natures: Box<[Nature]>,
    /// The span of the middleware: what it tells is the request's even below another's span.
    pub(super) told_by_middleware: bool,
    /// The span of a request over HTTP or RPC, by its fields: not of a job, nor of a message.
    pub(super) is_call: bool,
    /// It has `activity.*` fields or is the middleware's: below the root, too, it may say something
    /// of the request. Or it has `otel.kind`, by which it says something of itself.
    pub(super) speaks: bool,
    /// Whether any request of this root callsite ever came to a status.
    pub(super) status_seen: AtomicBool,
    exporter: bool,
}

impl Callsite {
    #[inline]
    pub(super) fn signal(&self, field: usize) -> Signal {
        self.signals.get(field).copied().unwrap_or(Signal::None)
    }

    #[inline]
    pub(super) fn nature(&self, field: usize) -> Nature {
        self.natures.get(field).copied().unwrap_or(Nature::Plain)
    }

    pub(super) fn field_names(&self) -> &[&'static str] {
        &self.names
    }

    pub(super) fn field_name(&self, field: usize) -> &'static str {
        self.names.get(field).copied().unwrap_or_default()
    }

    fn new(metadata: &'static Metadata<'static>) -> Self {
        let names = || metadata.fields().iter().map(|field| field.name());
        let has = |wanted: &str| names().any(|name| name == wanted);
        let told_by_middleware = metadata.is_span() && metadata.target() == REQUEST_TARGET;
        let annotates = names().any(|name| name.starts_with("activity."));
        let mark = if metadata.is_span() { evidence::mark(metadata) } else { Mark::Plain };
        let is_message = names().any(|name| name.starts_with("messaging."));
        let is_request = metadata.is_span()
            && (evidence::is_http(metadata) || names().any(|name| name.starts_with("rpc.")));
        let tells_status = metadata.is_event()
            && tells_status(metadata.target())
            && (has("status") || has("classification"));
        let signals: Box<[Signal]> = names()
            .map(|name| match name {
                "http.response.status_code" => Signal::Status(3),
                "http.status_code" => Signal::Status(2),
                "status" if is_request || tells_status => Signal::Status(1),
                "rpc.grpc.status_code" => Signal::GrpcStatus,
                "otel.status_code" => Signal::OtelStatus,
                "otel.kind" => Signal::OtelKind,
                "uri" if mark == Mark::ByValue => Signal::Serving,
                _ if mark == Mark::ByValue && evidence::is_operation(name) => Signal::Serving,
                "trace_id" if mark != Mark::Plain => Signal::TraceId,
                "classification" if tells_status => Signal::Failure,
                "activity.outcome" => Signal::SaidOutcome,
                "activity.error" | "activity.error_kind" => Signal::SaidError,
                _ => Signal::None,
            })
            .collect();
        let silent = signals.iter().all(|signal| *signal == Signal::None);
        Self {
            metadata,
            mark,
            annotates,
            is_error: *metadata.level() == Level::ERROR,
            tells_status,
            tells_head: tells_status && tells_head(metadata.target()),
            ends_with_head: metadata.is_span() && ends_with_head(metadata.target()),
            signals: if silent { Box::default() } else { signals },
            names: names().collect(),
            natures: if names().all(|name| Nature::of(name) == Nature::Plain) {
                Box::default()
            } else {
                names().map(Nature::of).collect()
            },
            told_by_middleware,
            is_call: is_request && !is_message,
            speaks: annotates || told_by_middleware || has("otel.kind"),
            status_seen: AtomicBool::new(false),
            exporter: filter_is_exporter(metadata.target()),
        }
    }
}

/// Targets of the frameworks that tell the status in an event.
fn tells_status(target: &str) -> bool {
    let krate = target.split("::").next().unwrap_or(target);
    matches!(krate, "tower_http" | "warp" | "poem") || krate.starts_with("salvo")
}

/// Whether the event in which this target tells the status comes with the head. tower-http's other two
/// come when the answer fails, and when its body ends.
fn tells_head(target: &str) -> bool {
    !target.starts_with("tower_http::") || target.ends_with("::on_response")
}

/// Targets whose spans of requests end with the head of the answer: of warp, poem and salvo, and those
/// of axum-tracing-opentelemetry and tonic-tracing-opentelemetry.
fn ends_with_head(target: &str) -> bool {
    let krate = target.split("::").next().unwrap_or(target);
    matches!(krate, "warp" | "poem") || krate.starts_with("salvo") || target == "otel::tracing"
}

/// A callsite as one layer sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Role {
    pub(super) callsite: &'static Callsite,
    /// Recorded as a child span or event of an activity.
    pub(super) recorded: bool,
    /// May begin an activity.
    pub(super) root: bool,
}

impl Role {
    /// The role of a callsite for a layer that has this configuration and collects spans.
    pub(super) fn new(metadata: &'static Metadata<'static>, config: &CaptureConfig) -> Self {
        let callsite = interned(metadata);
        let allowed = config.filter.allows(metadata);
        let marked = match config.roots {
            Roots::Request => callsite.mark != Mark::Plain,
            Roots::Middleware => callsite.told_by_middleware || callsite.annotates,
            Roots::All => callsite.mark != Mark::Plain || allowed,
        };
        let root = metadata.is_span() && !callsite.exporter && marked;
        let needed = callsite.annotates && !callsite.exporter || callsite.told_by_middleware;
        Self { callsite, recorded: allowed || needed, root }
    }

    /// Whether what is recorded is recorded while spans are not collected, too.
    #[cold]
    #[inline(never)]
    pub(super) fn matters_without_spans(callsite: &Callsite) -> bool {
        // Errors fill the column `error`.
        callsite.annotates
            || callsite.told_by_middleware
            || callsite.is_error && callsite.metadata.is_event()
    }

    /// Whether anything would be missed if this callsite did not exist.
    pub(super) fn wanted(&self) -> bool {
        self.recorded || self.root || self.callsite.tells_status
    }
}

/// Entries of the cache: a program has a few hundred callsites in use.
const CACHE: usize = 256;

/// The roles that a thread met: a direct-mapped cache by the address of the metadata.
#[derive(Debug)]
pub(super) struct Roles {
    /// Empty until the first use.
    entries: Vec<Option<Cached>>,
}

#[derive(Debug, Clone, Copy)]
struct Cached {
    address: usize,
    layer: u32,
    role: Role,
}

impl Roles {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The role of `metadata` for the layer `layer`, made by `make` at the first use.
    #[inline]
    pub(super) fn get(
        &mut self,
        metadata: &'static Metadata<'static>,
        layer: u32,
        make: impl FnOnce() -> Role,
    ) -> Role {
        let address = address(metadata);
        // Metadata are aligned statics: the low bits say nothing.
        let slot = (address >> 4 ^ address >> 12) % CACHE;
        match self.entries.get(slot) {
            Some(Some(cached)) if cached.address == address && cached.layer == layer => cached.role,
            _ => self.fill(slot, address, layer, make()),
        }
    }

    #[cold]
    fn fill(&mut self, slot: usize, address: usize, layer: u32, role: Role) -> Role {
        if self.entries.is_empty() {
            self.entries.resize(CACHE, None);
        }
        self.entries[slot] = Some(Cached { address, layer, role });
        role
    }
}

fn address(metadata: &'static Metadata<'static>) -> usize {
    std::ptr::from_ref(metadata) as usize
}

/// The one [`Callsite`] of this metadata. It lives as long as the program, as the callsite does.
fn interned(metadata: &'static Metadata<'static>) -> &'static Callsite {
    static CALLSITES: OnceLock<RwLock<HashMap<usize, &'static Callsite>>> = OnceLock::new();
    let callsites = CALLSITES.get_or_init(RwLock::default);
    let key = address(metadata);
    let read = callsites.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = read.get(&key) {
        return found;
    }
    drop(read);
    let mut write = callsites.write().unwrap_or_else(PoisonError::into_inner);
    write.entry(key).or_insert_with(|| Box::leak(Box::new(Callsite::new(metadata))))
}
