//! [`SinkError`]: why a batch was not stored, and so what to do with it.

use std::fmt;

/// Why a batch was not stored.
///
/// The predicates tell what is worth doing; the message tells a person, and names the remedy.
#[derive(Debug, Clone)]
pub struct SinkError {
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Busy,
    Configuration,
    Schema,
    Rejected,
    Closed,
    Unknown,
}

impl SinkError {
    /// The sink cannot be reached, or it is unknown whether the batch arrived: send it again.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// The sink has too much to do: send the batch again, after a longer pause.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Kind::Busy, message)
    }

    /// A person has to repair something, such as a password: send the batch again, rarely.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(Kind::Configuration, message)
    }

    /// The tables are missing or of another version: a matter of configuration.
    pub fn schema(message: impl Into<String>) -> Self {
        Self::new(Kind::Schema, message)
    }

    /// The batch holds a row that will never be accepted.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self::new(Kind::Rejected, message)
    }

    /// The sink will never accept anything again, as a pipe without a reader.
    pub fn closed(message: impl Into<String>) -> Self {
        Self::new(Kind::Closed, message)
    }

    /// Nothing is known about this error: try again a few times, then take it as rejected.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Kind::Unknown, message)
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Whether the same batch can succeed later without anybody's doing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Busy)
    }

    /// Whether the sink asks for less.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.kind == Kind::Busy
    }

    /// Whether a person has to repair something before the same batch can succeed.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self.kind, Kind::Configuration | Kind::Schema)
    }

    /// Whether what has to be repaired is the tables.
    #[must_use]
    pub fn is_schema(&self) -> bool {
        self.kind == Kind::Schema
    }

    /// Whether a row of the batch will never be accepted.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.kind == Kind::Rejected
    }

    /// Whether the sink will never accept anything again.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind == Kind::Closed
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SinkError {}
