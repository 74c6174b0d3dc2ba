//! Visits, between heads and rows: what `visits` is told of a request and its answer, and where what
//! it says goes.

use std::net::IpAddr;

use http::header::{
    ACCEPT, CACHE_CONTROL, COOKIE, ETAG, EXPIRES, HOST, HeaderName, HeaderValue, LAST_MODIFIED,
    REFERER, SET_COOKIE, USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::identity::Who;
use super::span::{self, header};
use crate::capture::CurrentActivity;
use crate::visits::{Answer, Came, Head, Mark, is_navigation, is_shared};

const DESTINATION: HeaderName = HeaderName::from_static("sec-fetch-dest");
const PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const OBJECTION: HeaderName = HeaderName::from_static("sec-gpc");
const NETWORKS: HeaderName = HeaderName::from_static("cdn-cache-control");
const SURROGATES: HeaderName = HeaderName::from_static("surrogate-control");

/// What is read of requests beside what is read of all, and of answers: for frameworks that have
/// headers of their own type.
#[cfg(feature = "actix")]
pub(super) const OF_REQUESTS: [HeaderName; 6] =
    [COOKIE, ACCEPT, HOST, DESTINATION, PURPOSE, OBJECTION];
#[cfg(feature = "actix")]
pub(super) const OF_ANSWERS: [HeaderName; 6] =
    [CACHE_CONTROL, EXPIRES, ETAG, LAST_MODIFIED, NETWORKS, SURROGATES];

/// A visitor whose request is under way.
#[derive(Debug)]
pub(super) struct Visitor {
    /// What the cookies said; taken when the answer is there.
    came: Option<Came>,
    /// Who the application's user data says it is.
    user: Option<String>,
}

impl Visitor {
    /// Reads the head, and tells the row what is known; where visits are followed.
    pub(super) fn of(
        activity: &CurrentActivity,
        parts: &Parts,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        let visits = activity.visits()?;
        let headers = &parts.headers;
        let text = |name: HeaderName| header(headers, name);
        let (referer, host, agent) = (text(REFERER), text(HOST), text(USER_AGENT));
        // One by one: a cookie of the application that is no text must not hide ours.
        let cookies =
            headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|it| *it == b';'));
        let cookies = cookies.filter_map(|cookie| std::str::from_utf8(cookie).ok());
        let head = Head {
            now: activity.when()?,
            cookies: cookies.collect(),
            navigates: is_navigation(
                parts.method.as_str(),
                text(DESTINATION).as_deref(),
                text(ACCEPT).as_deref(),
                text(PURPOSE).as_deref(),
            ),
            objects: text(OBJECTION).as_deref() == Some("1"),
            query: parts.uri.query(),
            referer: referer.as_deref(),
            host: host.as_deref().or_else(|| parts.uri.host()),
            user_agent: agent.as_deref(),
            address,
        };
        let (mark, came) = visits.came(&head);
        if mark != Mark::default() {
            activity.visited(mark);
        }
        Some(Self { came: Some(came?), user: None })
    }

    /// Remembers who it is: another user is another visit.
    pub(super) fn is(&mut self, who: &Who<'_>) {
        if let Some(user) = &who.user {
            self.user = Some(user.clone().into_owned());
        }
    }

    /// The cookies that the answer needs. What is new goes to the row.
    pub(super) fn answered(
        &mut self,
        activity: &CurrentActivity,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Vec<HeaderValue> {
        let (Some(came), Some(visits)) = (self.came.take(), activity.visits()) else {
            return Vec::new();
        };
        let lines = |name: HeaderName| headers.get_all(name).iter().map(span::text);
        let control: Vec<_> = lines(CACHE_CONTROL).collect();
        let networks: Vec<_> = [NETWORKS, SURROGATES].into_iter().flat_map(lines).collect();
        // After these the connection is another's, or a cache keeps what it had.
        let has_no_head = status.is_informational() || status == StatusCode::NOT_MODIFIED;
        let moves_for_good =
            matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT);
        let is_kept =
            moves_for_good || headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
        let (said, ends_visit) = activity.said_of_visit();
        let answer = Answer {
            is_shared: has_no_head
                || is_shared(
                    control.iter().map(|line| &**line),
                    networks.iter().map(|line| &**line),
                    header(headers, EXPIRES).as_deref(),
                    is_kept,
                ),
            user: said.as_deref().or(self.user.as_deref()).filter(|user| !user.is_empty()),
            ends_visit,
        };
        let (mark, cookies) = visits.answer(came, &answer);
        if let Some(mark) = mark {
            activity.visited(mark);
        }
        cookies.into_iter().filter_map(|line| HeaderValue::try_from(line).ok()).collect()
    }
}

/// Adds cookies to those that the service sets.
pub(super) fn set_cookies(cookies: Vec<HeaderValue>, headers: &mut HeaderMap) {
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
}
