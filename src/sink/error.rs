//! [`SinkError`]: why a batch was not stored, and so what to do with it.

use std::fmt;

/// Why a batch was not stored.
///
/// The predicates tell what is worth doing; the message tells a person, and names the remedy.
#[derive(Debug, Clone)]
pub struct SinkError {
    kind: Kind,
    /// Whether it is certain that nothing of the batch is stored.
    certain: bool,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Busy,
    Configuration,
    Schema,
    Rejected,
    TooLarge,
    Memory,
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

    /// The batch is larger than the way to the sink allows: its halves may succeed.
    ///
    /// A single row that is too large is given up.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(Kind::TooLarge, message)
    }

    /// Storing the batch takes more memory than it may: its halves may succeed, or the same batch
    /// later.
    pub fn memory(message: impl Into<String>) -> Self {
        Self::new(Kind::Memory, message)
    }

    /// The batch holds a row that will never be accepted, and nothing of it is stored: the pipeline
    /// searches for the row, and gives up that row alone.
    pub fn rejected(message: impl Into<String>) -> Self {
        Self::new(Kind::Rejected, message)
    }

    /// The sink will never accept anything again, as a pipe without a reader.
    pub fn closed(message: impl Into<String>) -> Self {
        Self::new(Kind::Closed, message)
    }

    /// Nothing is known about this error: send the batch again, more and more slowly.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Kind::Unknown, message)
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        let certain = matches!(kind, Kind::Rejected | Kind::TooLarge);
        Self { kind, certain, message: message.into() }
    }

    /// The same error of which it is certain that nothing of the batch is stored.
    ///
    /// Only rejected batches and those that are too large are taken so otherwise. While a batch may
    /// be stored it is repeated unchanged, never in parts.
    #[must_use]
    pub fn certain(self) -> Self {
        Self { certain: true, ..self }
    }

    /// The same error of which it is not certain that nothing of the batch is stored.
    #[must_use]
    pub fn in_doubt(self) -> Self {
        Self { certain: false, ..self }
    }

    /// Whether the same batch can succeed later without anybody's doing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::Busy | Kind::Memory)
    }

    /// Whether the sink asks for less.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self.kind, Kind::Busy | Kind::Memory)
    }

    /// Whether a smaller batch may succeed.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self.kind, Kind::TooLarge | Kind::Memory)
    }

    /// Whether it is certain that nothing of the batch is stored.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.certain
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
