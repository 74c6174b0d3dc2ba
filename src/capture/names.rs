//! Method, address, route and event kind of a request, from the fields of its root span and of
//! the middleware's.
//!
//! They are columns, and the sampling policy may have rules about them. So they are found in one
//! place for both: by `mapping` on the worker's thread, and by [`decide`] when the request ends,
//! but only where the policy asks for them.

use std::borrow::Cow;
use std::time::Duration;

use super::buffer::Buffer;
use super::fields::FieldRecord;
use super::head::Head;
use super::mapping::text;
use crate::model::{Outcome, TraceId, known_method};
use crate::redact::{Redactor, path_and_query, without_mark};
use crate::sampling::{Decision, Finished, randomness};

/// gRPC's code for what nobody serves.
const UNIMPLEMENTED: u16 = 12;

/// What the root's fields say of its names, before it is known which of several are there.
#[derive(Default)]
pub(super) struct Names<'a> {
    /// Empty where there is none.
    pub(super) method: &'static str,
    route: Cow<'a, str>,
    url: Option<Cow<'a, str>>,
    query: Option<Cow<'a, str>>,
    rpc: [Option<Cow<'a, str>>; 2],
    messaging: [Option<Cow<'a, str>>; 2],
}

impl<'a> Names<'a> {
    /// Reads a field of the root span. Among aliases the conventional name wins, else the last.
    pub(super) fn read(&mut self, buffer: &'a Buffer, record: &FieldRecord, name: &str) {
        let text = || match buffer.fields.text_of(record) {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(text(buffer, record)),
        };
        match name {
            "http.request.method" => self.method = known_method(&text()),
            "http.method" | "method" if self.method.is_empty() => {
                self.method = known_method(&text());
            }
            "http.route" => self.route = Some(text()).filter(|it| is_route(it)).unwrap_or_default(),
            "matched_path" if self.route.is_empty() => {
                self.route = Some(text()).filter(|it| is_route(it)).unwrap_or_default();
            }
            "url.path" => self.url = Some(text()),
            "url.query" => self.query = Some(text()),
            "http.target" | "uri" | "path" | "url.full" | "http.url" => {
                self.url.get_or_insert_with(text);
            }
            "rpc.service" => self.rpc[0] = Some(text()),
            "rpc.method" => self.rpc[1] = Some(text()),
            "messaging.operation.name" | "messaging.operation" | "messaging.operation.type" => {
                self.messaging[0].get_or_insert_with(text);
            }
            "messaging.destination.name" => self.messaging[1] = Some(text()),
            _ => {}
        }
    }

    /// Says once all fields are read that it is a call, where only its code tells that: then the
    /// path is its name. So it is with tower-http's `TraceLayer::new_for_grpc`.
    pub(super) fn settle(&mut self, buffer: &Buffer) {
        let Some(code) = buffer.signals.call() else { return };
        self.method = "";
        if self.rpc.iter().any(Option::is_some) {
            return;
        }
        let path = self.url.as_deref().map(path_and_query).and_then(|url| url.split('?').next());
        let call = path.and_then(|path| path.strip_prefix('/')?.rsplit_once('/'));
        if let Some((service, method)) = call {
            // What nobody serves is the client's invention.
            let known = |part: &str| if code == UNIMPLEMENTED { "_OTHER" } else { part }.to_owned();
            self.rpc = [Some(Cow::Owned(known(service))), Some(Cow::Owned(known(method)))];
        }
    }

    /// The address without its secrets; empty where there is none.
    pub(super) fn url(&self, redactor: &Redactor) -> String {
        let Some(url) = self.url.as_deref().map(path_and_query) else { return String::new() };
        match self.query.as_deref() {
            Some(query) if !query.is_empty() && !url.contains('?') => {
                redactor.target(&[url, "?", without_mark(query)].concat())
            }
            _ => redactor.target(url),
        }
    }

    fn has_url(&self, buffer: &Buffer) -> bool {
        !self.url(&buffer.shared.redactor).is_empty()
    }

    /// The route; of what is no HTTP request the name of its span.
    pub(super) fn route(&self, buffer: &'a Buffer) -> Cow<'_, str> {
        if !self.route.is_empty() {
            return Cow::Borrowed(&self.route);
        }
        for (parts, between) in [(&self.rpc, "/"), (&self.messaging, " ")] {
            let route = joined(parts, between);
            if !route.is_empty() {
                return route;
            }
        }
        let is_http = !self.method.is_empty() || self.has_url(buffer);
        Cow::Borrowed(if is_http { "" } else { buffer.spans[0].callsite.metadata.name() })
    }
}

/// Whether this is the template of a route. `default` is what tracing-actix-web calls that of a request
/// that has none; axum's routes of its own are none of the application's; the others are how `Debug` shows an
/// `Option`.
fn is_route(text: &str) -> bool {
    text != "default" && text != "None" && !text.starts_with("Some(") && is_public_route(text)
}

/// Whether a route that axum matched is one of the application's, and not how axum serves what has none.
pub(crate) fn is_public_route(route: &str) -> bool {
    !route.contains("__private__axum")
}

/// Both parts with something between them, or the one that there is.
fn joined<'s>(parts: &'s [Option<Cow<'_, str>>; 2], between: &str) -> Cow<'s, str> {
    match [parts[0].as_deref(), parts[1].as_deref()] {
        [Some(a), Some(b)] => Cow::Owned([a, between, b].concat()),
        [one, other] => Cow::Borrowed(one.or(other).unwrap_or_default()),
    }
}

/// The event kind of a request that nobody annotated, in parts.
pub(super) fn event_kind<'a>(buffer: &Buffer, method: &'a str, route: &'a str) -> [&'a str; 3] {
    match (method, route) {
        ("", "") => [buffer.spans[0].callsite.metadata.name(), "", ""],
        ("", route) => [route, "", ""],
        // The path would make a column of few values one of many.
        (method, "") => [method, "", ""],
        (method, route) => [method, " ", route],
    }
}

/// Whether any span or event has `activity.*` fields.
pub(super) fn is_annotated(buffer: &Buffer) -> bool {
    let mut spans = buffer.spans.iter().map(|it| it.callsite);
    let mut events = buffer.events.iter().map(|it| it.callsite);
    spans.any(|it| it.annotates) || events.any(|it| it.annotates)
}

/// The event kind that the application gave: its last word, `with_activity` before fields.
fn said_event_kind(buffer: &Buffer) -> Option<Cow<'_, str>> {
    let patched = buffer.patch.event.as_ref().map(|event| Cow::Borrowed(&*event.ekind));
    let annotated = || {
        let mut records = buffer.fields.iter().rev();
        let record = records.find(|record| buffer.name_of(record) == "activity.ekind")?;
        Some(match buffer.fields.text_of(record) {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(text(buffer, record)),
        })
    };
    let said = patched.or_else(|| if is_annotated(buffer) { annotated() } else { None });
    said.filter(|said| !said.is_empty())
}

/// Decides about the trace of a request that ended at `now`, after so many nanoseconds and with this
/// head; `None` where a rule leaves out its row.
#[inline]
pub(super) fn decide(
    buffer: &Buffer,
    outcome: Outcome,
    (nanos, head): (u64, Head),
    trace_id: TraceId,
    now: u64,
) -> Option<Decision> {
    let random_value = buffer.linked.and_then(|linked| linked.caller?.random_value);
    let random = random_value.unwrap_or_else(|| randomness(trace_id));
    if buffer.current.sampler.drops_at_once(outcome, nanos, random) {
        return Some(Decision::Drop);
    }
    let duration = Duration::from_nanos(nanos);
    let finished = Finished {
        outcome,
        duration,
        response_start: Duration::from_nanos(head.start),
        is_stream: head.is_stream,
        trace_id,
        random_value,
        ..Finished::default()
    };
    decide_in_full(buffer, finished, now)
}

#[cold]
#[inline(never)]
fn decide_in_full(buffer: &Buffer, finished: Finished<'_>, now: u64) -> Option<Decision> {
    let sampler = &buffer.current.sampler;
    if !sampler.tail().reads_names() {
        return Some(sampler.decide(&finished, || buffer.shared.age(now)));
    }
    with_names(buffer, |ekind, route| {
        let finished = Finished { ekind, route, ..finished };
        let stays = !sampler.tail().drops_row(&finished);
        stays.then(|| sampler.decide(&finished, || buffer.shared.age(now)))
    })
}

/// Whether a rule leaves out the row of a request whose spans are not collected.
#[cold]
#[inline(never)]
pub(super) fn leaves_out(buffer: &Buffer, outcome: Outcome) -> bool {
    let tail = buffer.current.sampler.tail();
    with_names(buffer, |ekind, route| {
        tail.drops_row(&Finished { outcome, ekind, route, ..Finished::default() })
    })
}

/// Runs `f` on the event kind and the route, as far as the policy reads them.
fn with_names<R>(buffer: &Buffer, f: impl FnOnce(&str, &str) -> R) -> R {
    let sampler = &buffer.current.sampler;
    let said =
        if sampler.tail().reads_ekind() { said_event_kind(buffer) } else { Some(Cow::default()) };
    let mut names = Names::default();
    if said.is_none() || sampler.tail().reads_route() {
        for record in buffer.fields.iter().filter(|record| buffer.is_request(record.owner)) {
            names.read(buffer, record, buffer.name_of(record));
        }
        names.settle(buffer);
    }
    let route = names.route(buffer);
    match said {
        Some(said) => f(&said, &route),
        None => with_joined(event_kind(buffer, names.method, &route), |it| f(it, &route)),
    }
}

/// Runs `f` on the parts joined, without an allocation where they are as short as they usually are.
fn with_joined<R>(parts: [&str; 3], f: impl FnOnce(&str) -> R) -> R {
    let mut bytes = [0; 128];
    let len = parts.iter().map(|part| part.len()).sum();
    if let Some(mut room) = bytes.get_mut(..len) {
        for part in parts {
            let (to, rest) = room.split_at_mut(part.len());
            to.copy_from_slice(part.as_bytes());
            room = rest;
        }
        if let Ok(text) = std::str::from_utf8(&bytes[..len]) {
            return f(text);
        }
    }
    f(&parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_whatever_their_length() {
        for route in ["", "/orders/{id}", "/ä/ö", &"/x".repeat(100)] {
            let joined = with_joined(["GET", " ", route], str::to_owned);
            assert_eq!(joined, format!("GET {route}"));
        }
    }
}
