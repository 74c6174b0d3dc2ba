//! [`Error`]: what can go wrong while activities are set up.
//!
//! Running never fails towards the application: what goes wrong later is counted and warned of.

use std::{fmt, io};

use crate::config::ConfigError;
use crate::sink::SinkError;

/// Why activities cannot be captured or stored.
///
/// Opaque: the predicates tell the cases apart, the message names the remedy.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
}

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Database(#[from] SinkError),
    #[error(
        "a tracing subscriber is installed already: call tracing_activity::init first, or add the layer of tracing_activity::builder().build() to that subscriber"
    )]
    Installed,
    #[error("cannot start the thread that delivers activities: {0}")]
    Thread(#[source] io::Error),
}

impl Error {
    /// A global subscriber exists already.
    #[must_use]
    pub fn installed() -> Self {
        Kind::Installed.into()
    }

    /// The worker's thread did not start.
    #[must_use]
    pub fn thread(error: io::Error) -> Self {
        Kind::Thread(error).into()
    }

    /// Whether a setting cannot be used.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(self.kind, Kind::Config(_))
    }

    /// Whether the database cannot be reached, refuses the user, or has the wrong tables.
    #[must_use]
    pub fn is_database(&self) -> bool {
        matches!(self.kind, Kind::Database(_))
    }

    /// Whether the database's tables are missing or of another version.
    #[must_use]
    pub fn is_schema(&self) -> bool {
        matches!(&self.kind, Kind::Database(error) if error.is_schema())
    }

    /// Whether another global subscriber was installed before.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        matches!(self.kind, Kind::Installed)
    }

    /// Whether the worker's thread could not be started.
    #[must_use]
    pub fn is_thread(&self) -> bool {
        matches!(self.kind, Kind::Thread(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self { kind }
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Kind::Config(error).into()
    }
}

impl From<SinkError> for Error {
    fn from(error: SinkError) -> Self {
        Kind::Database(error).into()
    }
}
