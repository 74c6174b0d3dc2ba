//! [`Activity`]: one finished request.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use super::{ActivityId, ClientKind, SpanId, Trace, TraceHash, TraceId};

/// A point in time: microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        // Whole seconds first: 64 bits suffice for 292,000 years.
        let micros = |it: Duration| {
            let whole = it.as_secs().saturating_mul(1_000_000);
            i64::try_from(whole.saturating_add(it.subsec_micros().into())).unwrap_or(i64::MAX)
        };
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(micros(after)),
            Err(before) => Self(-micros(before.duration())),
        }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with microseconds. Times outside the years 1970 to 9999 print as their nearest end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LAST: i64 = 253_402_300_799_999_999;
        let micros = self.0.clamp(0, LAST) as u64;
        let time = UNIX_EPOCH + Duration::from_micros(micros);
        humantime::format_rfc3339_micros(time).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a request went, and by whose doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was served.
    #[default]
    Success,
    /// The client asked for what it could not have, or went away.
    ClientFault,
    /// The service failed.
    ServerFault,
}

impl Outcome {
    /// The outcome's name in SQL and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientFault => "client_fault",
            Self::ServerFault => "server_fault",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text was not the name of an [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an outcome: expected success, client_fault or server_fault")]
pub struct ParseOutcomeError(String);

impl FromStr for Outcome {
    type Err = ParseOutcomeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Success, Self::ClientFault, Self::ServerFault]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| ParseOutcomeError(text.to_owned()))
    }
}

/// Why a trace was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeepReason {
    /// The request failed on the server's side or, where the policy says so, on the client's (the
    /// Collector's `status_code`).
    StatusCode,
    /// The request was slower than the threshold (the Collector's `latency`).
    Latency,
    /// The request is part of the random sample (the Collector's `probabilistic`).
    Probabilistic,
    /// The policy always keeps requests of its kind (the Collector's `always_sample`).
    AlwaysSample,
    /// The caller keeps the trace.
    ParentSampled,
}

impl KeepReason {
    /// The reason's name in the column `kept_because`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StatusCode => "status_code",
            Self::Latency => "latency",
            Self::Probabilistic => "probabilistic",
            Self::AlwaysSample => "always_sample",
            Self::ParentSampled => "parent_sampled",
        }
    }
}

/// One finished request: a row.
///
/// Empty text stands for "unknown", as it does in the table. The names are the columns' names.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a column")]
pub struct Activity {
    /// When the request arrived.
    pub when: Timestamp,
    /// Identity, ordered by arrival.
    pub activity_id: ActivityId,
    /// Microseconds from arrival to the end of the answer.
    pub duration: u64,
    /// Microseconds from arrival to the head of the answer; 0 when nobody told when it was there.
    pub response_start: u64,
    /// How it went.
    pub outcome: Outcome,
    /// Response status: HTTP's, or gRPC's where `method` is empty. 0 when none was seen.
    pub status: u16,
    /// HTTP request method.
    pub method: String,
    /// Route template, such as `/users/{id}`.
    pub route: String,
    /// Path and query of the request.
    pub url: String,
    /// Referring page.
    pub referer: String,
    /// Human-readable title of what was done.
    pub title: String,
    /// Kind of the object acted on.
    pub okind: String,
    /// Identity of the object among its kind.
    pub oid: String,
    /// Kind of event: what was done to the object.
    pub ekind: String,
    /// Kind of what else took part: where it went, whom it was given to.
    pub target_kind: String,
    /// Identity of that among its kind.
    pub target_id: String,
    /// JSON object of what else the application tells, empty when nothing.
    pub data: String,
    /// Error message.
    pub error: String,
    /// Class of the error: an exception type, `panic`, `cancelled`, `abandoned`.
    pub error_kind: String,
    /// Who did it, in the application's terms.
    pub user_id: String,
    /// Kind of who did it, where it is no user: a job, a key, another service.
    pub actor_kind: String,
    /// For whom it was done, where that is not who did it.
    pub on_behalf_of: String,
    /// The session, in the application's terms.
    pub session_id: String,
    /// The visit.
    pub visit_id: String,
    /// Whether this request began the visit.
    pub visit_created: bool,
    /// The tracker: the returning browser.
    pub tracker_id: String,
    /// Whether this request minted the tracker.
    pub tracker_created: bool,
    /// The campaign that the visit came by, in the form of a query: `utm_source=..&utm_medium=..`.
    pub campaign: String,
    /// Host of the page that the visit came from.
    pub visit_referer: String,
    /// Address of the client; IPv4 mapped into IPv6, `::` when unknown.
    #[serde(serialize_with = "serialize_ip")]
    pub ip: Option<Ipv6Addr>,
    /// `User-Agent` of the client.
    pub user_agent: String,
    /// What the client calls itself: `bot`, `browser` or `other`; empty when it does not.
    pub client_kind: ClientKind,
    /// The client program: a browser, the iOS app, the Android app.
    pub app: String,
    /// Version of the client program.
    pub app_version: String,
    /// Name of this service.
    pub service: String,
    /// Host it ran on.
    pub host: String,
    /// When the running deploy was built: its identity.
    pub site_version: Timestamp,
    /// Revision of the running deploy, such as a commit.
    pub site_revision: String,
    /// Trace id given by the caller; `None` makes the activity id double as the trace id.
    pub remote_trace_id: Option<TraceId>,
    /// The caller's span, where the caller gave the trace id.
    pub remote_parent_id: Option<SpanId>,
    /// Whether the caller keeps the trace; `false` where it does not or does not tell.
    pub parent_sampled: bool,
    /// Structural fingerprint of the trace; `None` when its spans were not collected.
    pub trace_hash: Option<TraceHash>,
    /// Response body, where its capture is switched on.
    pub response: String,
    /// Why the trace was kept; `None` when it was not.
    pub kept_because: Option<KeepReason>,
    /// How many requests this kept trace stands for; 0 when it was not kept, or by the caller
    /// alone, with a chance that it does not tell.
    pub sample_weight: f32,
    /// Something was cut to stay within the caps.
    pub truncated: bool,
    /// Something is missing that should be here: the request had not ended, or logging it failed.
    pub incomplete: bool,
    /// The request was given up, at its age, and has a row that tells so; this is its second, of the
    /// same id, which tells how it ended after all.
    pub late_end: bool,
    /// Spans left out because of the caps.
    pub dropped_spans: u32,
    /// The trace, when it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

impl Activity {
    /// The trace id: the caller's, else the activity's own.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.remote_trace_id.unwrap_or_else(|| self.activity_id.to_trace_id())
    }
}

#[allow(clippy::ref_option, reason = "serde calls it so")]
fn serialize_ip<S: Serializer>(ip: &Option<Ipv6Addr>, serializer: S) -> Result<S::Ok, S::Error> {
    match ip {
        Some(ip) => serializer.collect_str(&ip.to_canonical()),
        None => serializer.serialize_str(""),
    }
}
