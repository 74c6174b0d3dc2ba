//! How a request went, from the little that frameworks tell.
//!
//! Statuses come as span fields or in an event, as numbers or text, under three names; failures
//! come as a classification, as an error status of OpenTelemetry or as a panic. [`Signals`]
//! collects them while the request runs, [`Signals::judge`] weighs them when it ends.

use std::sync::atomic::Ordering;

use super::callsite::Callsite;
use super::evidence::Mark;
use crate::model::{Outcome, SpanId, TraceId};

/// What `otel.kind` said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unsaid,
    Server,
    Client,
    Producer,
    Consumer,
    Internal,
    /// None of the words.
    Unknown,
}

impl Kind {
    /// Those that have a word.
    const KNOWN: [Self; 5] =
        [Self::Server, Self::Client, Self::Producer, Self::Consumer, Self::Internal];

    fn of(text: &str) -> Self {
        let known = Self::KNOWN.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text));
        known.unwrap_or(if text.is_empty() { Self::Unsaid } else { Self::Unknown })
    }

    /// The word; empty where there is none.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Internal => "internal",
            Self::Unsaid | Self::Unknown => "",
        }
    }

    /// Whether a span of this mark and kind serves a request.
    pub(super) fn serves(self, mark: Mark) -> bool {
        match self {
            Self::Server | Self::Consumer => true,
            Self::Unsaid => mark == Mark::Request,
            _ => false,
        }
    }
}

/// What is known of a request's end.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each tells of its own")]
pub(super) struct Signals {
    /// HTTP status, 0 when none was seen.
    status: u16,
    /// Rank of the field that told the status.
    rank: u8,
    grpc: Option<u16>,
    pub(super) otel_error: bool,
    pub(super) failed: bool,
    /// An event at level ERROR happened.
    pub(super) error_event: bool,
    /// The root span was left by a panic.
    pub(super) panicked: bool,
    /// What `otel.kind` said of the span whose fields were recorded last; it is kept with the span.
    pub(super) kind: Option<Kind>,
    /// The value of a field told that the span serves.
    pub(super) serves: bool,
    pub(super) remote_trace: Option<TraceId>,
    /// The caller's span, where the middleware believes who named the trace.
    pub(super) remote_parent: Option<SpanId>,
    /// What a reserved field says of the outcome.
    pub(super) said: Option<Outcome>,
    /// A reserved field tells an error.
    pub(super) said_error: bool,
}

/// What broke a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "the middleware says it"))]
pub(crate) enum Breakage {
    /// Its code panicked.
    Panic,
    /// The service gave an error instead of an answer.
    Service,
    /// The body of the answer gave an error.
    Body,
}

impl Breakage {
    /// The column `error_kind`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Service => "service_error",
            Self::Body => "body_error",
        }
    }
}

/// How the activity came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its span closed.
    Closed,
    /// The application or the middleware said that it is finished.
    Finished,
    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "the middleware says it"))]
    /// The client went away before it had the whole answer.
    Disconnected,
    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "the middleware says it"))]
    /// The service failed, by an error of this class, in the midst of answering.
    Broken(Breakage),
    /// It was given up: too old, or the process or its runtime ends.
    Abandoned,
    #[cfg_attr(not(feature = "tower"), expect(dead_code, reason = "the middleware says it"))]
    /// A call was dropped before its answer: by its client or by a limit of the server.
    Cancelled,
}

impl End {
    /// Whether someone said it: what begins later is not the request's.
    pub(super) fn is_explicit(self) -> bool {
        !matches!(self, Self::Closed | Self::Abandoned)
    }
}

/// The judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// Class of the error where the end itself tells it.
    pub(super) error_kind: &'static str,
    pub(super) incomplete: bool,
}

/// The class of a request that was given up before its end.
const ABANDONED: &str = "abandoned";

/// The class of a request that ended without an answer where others got one.
const CANCELLED: &str = "cancelled";

impl Verdict {
    /// Whether the request closed without an answer, as one does whose client left.
    #[inline]
    pub(super) fn is_cancelled(&self) -> bool {
        self.error_kind == CANCELLED && self.outcome == Outcome::ClientFault
    }

    /// Whether its end does not tell how it went.
    pub(super) fn is_untold(&self) -> bool {
        self.incomplete || self.is_cancelled()
    }
}

impl Signals {
    /// A status from a field of this rank. Below 100 it is a gRPC code.
    pub(super) fn set_status(&mut self, rank: u8, status: Option<u16>) {
        match status {
            Some(code @ 0..100) => self.set_grpc(Some(code)),
            Some(status @ 100..1000) if rank >= self.rank => {
                (self.status, self.rank) = (status, rank);
            }
            _ => {}
        }
    }

    pub(super) fn set_grpc(&mut self, code: Option<u16>) {
        self.grpc = code.or(self.grpc);
    }

    pub(super) fn set_kind(&mut self, kind: &str) {
        self.kind = Some(Kind::of(kind));
    }

    /// Takes over what the application said by reserved fields, on whatever span.
    pub(super) fn merge_said(&mut self, other: &Signals) {
        self.said = other.said.or(self.said);
        self.said_error |= other.said_error;
    }

    /// Takes over what another operation told.
    pub(super) fn merge(&mut self, other: &Signals) {
        self.merge_said(other);
        if other.status != 0 {
            self.set_status(other.rank, Some(other.status));
        }
        self.grpc = other.grpc.or(self.grpc);
        self.otel_error |= other.otel_error;
        self.failed |= other.failed;
        self.error_event |= other.error_event;
        self.panicked |= other.panicked;
        self.remote_trace = other.remote_trace.or(self.remote_trace);
        self.remote_parent = other.remote_parent.or(self.remote_parent);
    }

    /// Whether a status of HTTP was told.
    #[inline]
    pub(super) fn has_status(&self) -> bool {
        self.status != 0
    }

    /// Whether anything was told of an answer.
    pub(super) fn is_answered(&self) -> bool {
        self.status != 0 || self.grpc.is_some()
    }

    /// HTTP status, else the gRPC code, else 0.
    pub(super) fn status(&self) -> u16 {
        if self.status == 0 { self.grpc.unwrap_or(0) } else { self.status }
    }

    /// The status or the code that tells a fault of the server, where one does; else what was told.
    pub(super) fn fault(&self) -> Option<u16> {
        let code = self.grpc.filter(|code| grpc_outcome(*code) == Outcome::ServerFault);
        let told = if self.status < 500 { code } else { None };
        told.or(Some(self.status())).filter(|status| *status != 0)
    }

    /// The code of a call, where it is all that tells how the request went.
    pub(super) fn call(&self) -> Option<u16> {
        if self.status == 0 { self.grpc } else { None }
    }

    /// Weighs the signals of a request whose root span is of `root`.
    pub(super) fn judge(&self, root: &Callsite, end: End) -> Verdict {
        let of = |outcome, error_kind| Verdict { outcome, error_kind, incomplete: false };
        let by_status = match self.status {
            0 => None,
            500.. => Some(Outcome::ServerFault),
            400.. => Some(Outcome::ClientFault),
            _ => Some(Outcome::Success),
        };
        let by_grpc = self.grpc.map(grpc_outcome);
        let told = match (by_status, by_grpc) {
            // gRPC answers HTTP 200 to everything; its own code says how it went.
            (Some(Outcome::Success) | None, Some(outcome)) => Some(outcome),
            (by_status, _) => by_status,
        };
        match end {
            End::Abandoned => return self.judge_unfinished(root, told),
            End::Cancelled if !self.failed_by_itself() => {
                return Verdict { incomplete: true, ..of(Outcome::Success, CANCELLED) };
            }
            End::Broken(breakage) if told != Some(Outcome::ServerFault) => {
                return of(Outcome::ServerFault, breakage.as_str());
            }
            End::Disconnected if !self.failed_by_itself() && self.status < 500 => {
                return of(Outcome::ClientFault, "client_disconnected");
            }
            _ => {}
        }
        if let Some(outcome) = told {
            root.status_seen.store(true, Ordering::Relaxed);
            return match outcome {
                Outcome::Success if self.panicked => of(Outcome::ServerFault, "panic"),
                Outcome::Success if self.failed || self.otel_error => of(Outcome::ServerFault, ""),
                outcome => of(outcome, ""),
            };
        }
        if self.panicked {
            return of(Outcome::ServerFault, "panic");
        }
        if self.failed || self.otel_error {
            root.status_seen.store(true, Ordering::Relaxed);
            return of(Outcome::ServerFault, "");
        }
        if !answers_with_status(root) || end.is_explicit() {
            return of(if self.error_event { Outcome::ServerFault } else { Outcome::Success }, "");
        }
        if root.status_seen.load(Ordering::Relaxed) {
            // Others of its kind were answered: this one's client went away.
            return of(Outcome::ClientFault, CANCELLED);
        }
        let outcome = if self.error_event { Outcome::ServerFault } else { Outcome::Success };
        Verdict { incomplete: true, ..of(outcome, "no_status") }
    }
}

impl Signals {
    /// How a request stands that was given up before its end. Only what went wrong by then is a fault:
    /// an answer under way, a stream, a job that goes on is nobody's.
    fn judge_unfinished(&self, root: &Callsite, told: Option<Outcome>) -> Verdict {
        if told.is_some() {
            root.status_seen.store(true, Ordering::Relaxed);
        }
        let (outcome, error_kind) = match told.unwrap_or(Outcome::Success) {
            Outcome::Success if self.panicked => (Outcome::ServerFault, "panic"),
            Outcome::Success if self.failed || self.otel_error => (Outcome::ServerFault, ""),
            Outcome::Success => (Outcome::Success, ABANDONED),
            fault => (fault, ""),
        };
        Verdict { outcome, error_kind, incomplete: true }
    }

    /// Whether the service failed, whatever became of the client.
    fn failed_by_itself(&self) -> bool {
        let by_grpc = self.grpc.is_some_and(|code| grpc_outcome(code) == Outcome::ServerFault);
        self.panicked || self.failed || self.otel_error || by_grpc
    }
}

/// Whether requests of this callsite end with a status when they are answered.
fn answers_with_status(root: &Callsite) -> bool {
    let mut names = root.metadata.fields().iter().map(|field| field.name());
    root.mark != Mark::Plain
        && names.any(|name| {
            name.starts_with("http.") || name.starts_with("rpc.") || name == "uri" || name == "path"
        })
}

/// Whose fault a gRPC code tells, by OpenTelemetry's convention for the server side: UNKNOWN,
/// `DEADLINE_EXCEEDED`, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and `DATA_LOSS` are errors. A code that
/// gRPC does not define counts as UNKNOWN.
fn grpc_outcome(code: u16) -> Outcome {
    match code {
        0 => Outcome::Success,
        2 | 4 | 12 | 13 | 14 | 15 | 17.. => Outcome::ServerFault,
        _ => Outcome::ClientFault,
    }
}
