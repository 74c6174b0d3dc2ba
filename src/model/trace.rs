//! The trace of an activity: its spans and events, flat, in the order they began.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use super::text::Text;

/// The spans of one activity. `spans[0]` is the request itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Trace {
    /// Spans in the order they began; a parent always stands before its children.
    pub spans: Vec<SpanRecord>,
    /// Events in the order they happened.
    pub events: Vec<EventRecord>,
}

/// One span.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpanRecord {
    /// The span's name.
    pub name: Cow<'static, str>,
    /// The module or target that made it.
    pub target: Cow<'static, str>,
    /// Verbosity.
    pub level: Level,
    /// Index of the parent in [`Trace::spans`]; the root names itself.
    pub parent: u32,
    /// Microseconds from the beginning of the activity.
    pub start: u32,
    /// Microseconds from the span's beginning to its last exit.
    pub duration: u32,
    /// Class of the error that arose in this span, empty when none did.
    pub error: Cow<'static, str>,
    /// Attributes in the order first recorded; of a repeated name the last value.
    pub attributes: Vec<(Cow<'static, str>, Value)>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventRecord {
    /// Index in [`Trace::spans`] of the span it happened in.
    pub span: u32,
    /// Microseconds from the beginning of the activity.
    pub time: u32,
    /// Verbosity.
    pub level: Level,
    /// The module or target that made it.
    pub target: Cow<'static, str>,
    /// The event's message, empty when it has none.
    pub message: String,
    /// The other fields.
    pub attributes: Vec<(Cow<'static, str>, Value)>,
}

/// Verbosity of a span or event, as in `tracing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The finest.
    Trace,
    /// For debugging.
    Debug,
    /// What is worth knowing.
    Info,
    /// What may become an error.
    Warn,
    /// What went wrong.
    Error,
}

impl Level {
    /// The level's name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A floating-point number.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Str(Text),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I64(value) => value.fmt(f),
            Self::U64(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Str(value) => f.write_str(value),
        }
    }
}
