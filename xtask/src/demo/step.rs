//! One request and its client's manners.

use std::time::Duration;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The pause before it.
    pub(crate) pause: Duration,
    pub(crate) call: Call,
}

/// What is asked, and how the client behaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Get(String),
    Post {
        path: String,
        json: String,
    },
    /// `GET` of where the last answer pointed to.
    Follow,
    /// `GET` of a page whose handler panics: the server hangs up instead of answering.
    GetBroken(String),
    /// `POST` by a client that leaves while the handler works.
    LeaveWaiting {
        path: &'static str,
        json: String,
    },
    /// `GET` by a client that leaves in the middle of the body.
    LeaveReading(&'static str),
}
