//! [`ClientKind`]: what sort of program a request came from.

use std::fmt;

use serde::Serialize;

/// What the client calls itself, by its `User-Agent`.
///
/// It is a classification and no judgement: nothing is left out because of it, and a client that
/// lies is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientKind {
    /// It does not say.
    #[default]
    #[serde(rename = "")]
    Unknown,
    /// A crawler, a monitor, a preview: a program that nobody looks through.
    Bot,
    /// A browser.
    Browser,
    /// Anything else: an app, a library, a service.
    Other,
}

impl ClientKind {
    /// The kind's name in the column `client_kind`; empty for [`Unknown`](Self::Unknown).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Bot => "bot",
            Self::Browser => "browser",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
