//! Who comes again: visits, trackers, and what kind of client it is.
//!
//! A *tracker* is a browser that comes back, a *visit* what it does until it leaves. [`Visits`] is
//! asked twice about a request: [`came`](Visits::came) reads its head, and says what is known of the
//! visitor; [`answer`](Visits::answer) says, when the answer's head is there, what is new and which
//! cookies to set. In between it keeps nothing. `docs/visits.md` has the rules for people.
//!
//! `cookie` signs and reads cookies; `rules` decides by them; `campaign` reads what a link says of
//! where it stood; `cookieless` makes identities without cookies, by the salts of `salts`; `client`
//! tells bots from browsers.
//!
//! Invariants:
//! - Decisions are functions of what they are given, the time included. There is no clock here.
//! - A request's thread does no input or output here. Files of salts are read and written when the
//!   service starts and on the worker's thread.
//! - What a client sends is believed if it is signed, and bounded whatever it is.
//! - Nothing is left out because of a bot: it is only told.
//!
//! Absent on purpose: types of HTTP frameworks, spans, columns' names.

#[cfg(feature = "tower")]
mod campaign;
mod client;
#[cfg(feature = "tower")]
mod cookie;
#[cfg(feature = "tower")]
mod cookieless;
#[cfg(feature = "tower")]
mod rules;
#[cfg(feature = "tower")]
mod salts;

#[cfg(feature = "tower")]
use std::net::IpAddr;

pub(crate) use client::kind_of;
#[cfg(feature = "tower")]
pub(crate) use rules::{Answer, Came, is_navigation, is_shared};

#[cfg(feature = "tower")]
use crate::config;
#[cfg(feature = "tower")]
use crate::error::Error;
use crate::model::Activity;
#[cfg(feature = "tower")]
use crate::model::{ClientKind, Timestamp};

/// What becomes of a request's row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Mark {
    pub(crate) visit_id: String,
    pub(crate) visit_created: bool,
    pub(crate) tracker_id: String,
    pub(crate) tracker_created: bool,
    pub(crate) campaign: String,
    pub(crate) visit_referer: String,
}

impl Mark {
    /// Memory held, about.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [&self.visit_id, &self.tracker_id, &self.campaign, &self.visit_referer];
        size_of::<Self>() + texts.into_iter().map(String::len).sum::<usize>()
    }

    pub(crate) fn fill(self, activity: &mut Activity) {
        activity.visit_id = self.visit_id;
        activity.visit_created = self.visit_created;
        activity.tracker_id = self.tracker_id;
        activity.tracker_created = self.tracker_created;
        activity.campaign = self.campaign;
        activity.visit_referer = self.visit_referer;
    }
}

/// What the head of a request says, as far as it matters here.
#[cfg(feature = "tower")]
#[derive(Debug, Default)]
pub(crate) struct Head<'a> {
    pub(crate) now: Timestamp,
    /// The lines of the header `Cookie`.
    pub(crate) cookies: Vec<&'a str>,
    /// Somebody looks at a page: see [`is_navigation`].
    pub(crate) navigates: bool,
    /// The client asks not to be followed: `Sec-GPC: 1`.
    pub(crate) objects: bool,
    pub(crate) query: Option<&'a str>,
    pub(crate) referer: Option<&'a str>,
    pub(crate) host: Option<&'a str>,
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) address: Option<IpAddr>,
}

/// What follows visits, where that is asked for.
#[cfg(feature = "tower")]
#[derive(Debug)]
pub(crate) enum Visits {
    Cookieless(cookieless::Cookieless),
    Cookie(cookie::Keys),
}

#[cfg(feature = "tower")]
impl Visits {
    /// What the configuration asks for; `None` where it asks for nothing.
    pub(crate) fn new(
        config: &config::Visits,
        service: &str,
        now: Timestamp,
    ) -> Result<Option<Self>, Error> {
        let visits = match config {
            config::Visits::Off => return Ok(None),
            config::Visits::Cookieless(config) => {
                Self::Cookieless(cookieless::Cookieless::new(config, service, now)?)
            }
            config::Visits::Cookie(keys) => Self::Cookie(cookie::Keys::new(keys)),
        };
        // The first question takes its time: the patterns are compiled then.
        kind_of("");
        Ok(Some(visits))
    }

    /// What is known of the visitor when the request arrives, and what the answer is to be asked
    /// with.
    pub(crate) fn came(&self, head: &Head<'_>) -> (Mark, Option<Came>) {
        let is_bot = || matches!(head.user_agent.map(kind_of), None | Some(ClientKind::Bot));
        match self {
            Self::Cookieless(_) if head.objects || is_bot() => (Mark::default(), None),
            Self::Cookieless(cookieless) => (cookieless.mark(head), None),
            Self::Cookie(keys) => {
                let came = Came::new(keys, head, || !is_bot());
                (came.mark(), Some(came))
            }
        }
    }

    /// What is new, now that the answer is there, and the lines of `Set-Cookie` that it needs.
    pub(crate) fn answer(&self, came: Came, answer: &Answer<'_>) -> (Option<Mark>, Vec<String>) {
        match self {
            Self::Cookieless(_) => (None, Vec::new()),
            Self::Cookie(keys) => came.answer(keys, answer),
        }
    }

    /// What is to be done now and then, away from requests.
    pub(crate) fn tick(&self, now: Timestamp) {
        if let Self::Cookieless(cookieless) = self {
            cookieless.prepare(now);
        }
    }
}

/// 16 bytes of the system's randomness.
#[cfg(feature = "tower")]
fn random() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok().map(|()| bytes)
}

/// Whole seconds since 1970.
#[cfg(feature = "tower")]
fn seconds(time: Timestamp) -> u64 {
    (time.as_micros().max(0) / 1_000_000) as u64
}

/// 16 bytes in hexadecimal digits.
#[cfg(feature = "tower")]
fn hex(bytes: [u8; 16]) -> String {
    crate::model::TraceId::from_bytes(bytes).to_string()
}
