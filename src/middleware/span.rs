//! The span of a request, filled with what its head tells.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use http::header::{REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use tracing::Span;
use tracing::field::Empty;

use super::client::client_address;
use super::grpc::Call;
use super::here;
use super::layer::Settings;
use super::peer::Peer;
use super::traceparent::{trace_of, trace_state};
#[cfg(feature = "axum")]
use crate::capture::is_public_route;
use crate::capture::{Listener, REQUEST_TARGET, guarded};
use crate::config::TraceparentTrust;
use crate::model::{SpanId, known_method};
use crate::redact::{self, Redactor};

/// The head of a request, and what the framework knows of it besides.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) parts: &'a Parts,
    /// The route's template.
    pub(super) route: Option<Cow<'a, str>>,
    /// Who connected.
    pub(super) peer: Option<Peer>,
}

impl<'a> Head<'a> {
    /// What tower's frameworks leave in the extensions, or the application reads.
    pub(super) fn of(settings: &Settings, parts: &'a Parts) -> Self {
        Self { parts, route: route(settings, parts), peer: Peer::of(settings, parts) }
    }
}

/// The span of a request, and who calls.
#[derive(Debug)]
pub(super) struct Opened {
    /// Disabled where nobody wants it.
    pub(super) span: Span,
    /// The caller's span, where the caller's word counts.
    pub(super) parent: Option<SpanId>,
    /// The client's address.
    pub(super) address: Option<IpAddr>,
}

/// The span of a request.
pub(super) fn open_span(settings: &Settings, head: &Head<'_>, call: Option<&mut Call>) -> Opened {
    let listener = Listener::current();
    let (parts, peer, http) = (head.parts, head.peer, listener.http());
    let proxies = settings.trusted_proxies.as_ref().unwrap_or(&http.trusted_proxies);
    let believes = match settings.traceparent.unwrap_or(http.traceparent) {
        TraceparentTrust::Never => false,
        TraceparentTrust::Trusted => peer.is_some_and(|peer| peer.is_among(proxies)),
        TraceparentTrust::Always => true,
    };
    if !proxies.is_empty() {
        listener.met_peer(peer.is_some());
    }
    let told_by = settings.client_address.as_ref().unwrap_or(&http.client_address);
    let trace = if believes { trace_of(&parts.headers) } else { None };
    let caller = Caller {
        address: peer.and_then(|peer| client_address(peer, proxies, told_by, &parts.headers)),
        trace: trace.map(|(trace, _)| trace),
        agent: header(&parts.headers, USER_AGENT),
    };
    // What a guard that somebody left behind stands for is not what calls.
    let is_apart = listener.is_left_behind(here::serving());
    let span = match call {
        Some(call) => {
            call.route = head.route.as_deref().map(Into::into);
            rpc_span(parts, &caller, listener.redactor(), is_apart)
        }
        None => http_span(head, &caller, listener.redactor(), is_apart),
    };
    if caller.trace.is_some() && listener.has_bridge() {
        let traceparent = header(&parts.headers, http::HeaderName::from_static("traceparent"));
        let tracestate = trace_state(&parts.headers);
        listener.called_by(&span, &traceparent.unwrap_or_default(), &tracestate);
    }
    Opened { span, parent: trace.map(|(_, parent)| parent), address: caller.address }
}

/// What the head says of who calls.
#[derive(Debug)]
struct Caller<'a> {
    address: Option<IpAddr>,
    trace: Option<&'a str>,
    agent: Option<Cow<'a, str>>,
}

/// The span's name by OpenTelemetry: of few values.
struct Name<'a> {
    method: &'a str,
    route: Option<&'a str>,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.route {
            Some(route) => write!(f, "{} {route}", self.method),
            None => f.write_str(self.method),
        }
    }
}

/// A span of this target at INFO: below the current one, or apart from whatever is current.
macro_rules! span {
    ($is_apart:expr, $($span:tt)*) => {
        if $is_apart {
            tracing::info_span!(target: REQUEST_TARGET, parent: None, $($span)*)
        } else {
            tracing::info_span!(target: REQUEST_TARGET, $($span)*)
        }
    };
}

fn http_span(head: &Head<'_>, caller: &Caller<'_>, redactor: &Redactor, is_apart: bool) -> Span {
    let (parts, route) = (head.parts, head.route.as_deref());
    let method = known_method(parts.method.as_str());
    let name = Name { method, route };
    let original = (method == "_OTHER").then(|| parts.method.as_str());
    let referer = header(&parts.headers, REFERER).map(|url| redactor.url(&url));
    let (path, query) = (asked_for(parts), query(parts));
    span!(
        is_apart,
        "HTTP request",
        "otel.name" = display(&name),
        "otel.kind" = "server",
        "http.request.method" = method,
        "http.request.method_original" = original,
        "http.route" = route,
        "url.path" = &*path,
        "url.query" = query.map(|query| display(redactor.query(query))),
        "url.scheme" = parts.uri.scheme_str(),
        "network.protocol.version" = version(parts.version),
        "user_agent.original" = caller.agent.as_deref(),
        "http.request.header.referer" = referer.as_deref(),
        "client.address" = caller.address.map(display),
        "trace_id" = caller.trace,
        "user.id" = Empty,
        "session.id" = Empty,
        "rpc.grpc.status_code" = Empty,
        "http.response.status_code" = Empty,
        "error.type" = Empty,
        "exception.message" = Empty,
        "otel.status_code" = Empty,
    )
}

/// The span of a request that asks for a call. What it is called stands open until the answer tells
/// whether it is one: see [`name_call`] and [`name_request`].
fn rpc_span(parts: &Parts, caller: &Caller<'_>, redactor: &Redactor, is_apart: bool) -> Span {
    let (path, query) = (asked_for(parts), query(parts));
    span!(
        is_apart,
        "gRPC request",
        "otel.name" = Empty,
        "otel.kind" = "server",
        "rpc.system" = Empty,
        "rpc.service" = Empty,
        "rpc.method" = Empty,
        "http.request.method" = Empty,
        "http.route" = Empty,
        "url.path" = &*path,
        "url.query" = query.map(|query| display(redactor.query(query))),
        "network.protocol.version" = version(parts.version),
        "user_agent.original" = caller.agent.as_deref(),
        "client.address" = caller.address.map(display),
        "trace_id" = caller.trace,
        "user.id" = Empty,
        "session.id" = Empty,
        "rpc.grpc.status_code" = Empty,
        "http.response.status_code" = Empty,
        "error.type" = Empty,
        "exception.message" = Empty,
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
    )
}

/// Names the span of a call.
pub(super) fn name_call(span: &Span, call: &Call) {
    span.record(
        "otel.name",
        tracing::field::display(format_args!("{}/{}", call.service, call.method)),
    );
    span.record("rpc.system", "grpc");
    span.record("rpc.service", &*call.service);
    span.record("rpc.method", &*call.method);
}

/// Names the span of what asked for a call and was none.
pub(super) fn name_request(span: &Span, call: &Call) {
    let name = Name { method: "POST", route: call.route.as_deref() };
    span.record("otel.name", tracing::field::display(&name));
    span.record("http.request.method", name.method);
    if let Some(route) = name.route {
        span.record("http.route", route);
    }
}

/// What the request is for: its path, and of a tunnel whither it goes.
fn asked_for(parts: &Parts) -> Cow<'_, str> {
    match (parts.uri.path(), parts.uri.authority()) {
        ("", Some(authority)) if parts.method == Method::CONNECT => {
            let authority = authority.as_str();
            Cow::Borrowed(authority.rsplit('@').next().unwrap_or(authority))
        }
        (path, _) => redact::path(path),
    }
}

fn query(parts: &Parts) -> Option<&str> {
    parts.uri.query().filter(|query| !query.is_empty())
}

/// Names the span of a request whose route was told from inside.
pub(super) fn name_route(span: &Span, method: &str, route: &str) {
    span.record("otel.name", tracing::field::display(&Name { method, route: Some(route) }));
    span.record("http.route", route);
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "",
    }
}

/// The route's template: what the application reads, else what axum matched. How axum serves what has no
/// route is none.
pub(super) fn route<'a>(settings: &Settings, parts: &'a Parts) -> Option<Cow<'a, str>> {
    if let Some(route) = settings.route.as_ref().and_then(|read| guarded(|| read(parts))?) {
        return Some(Cow::Owned(route));
    }
    #[cfg(feature = "axum")]
    if let Some(matched) = parts.extensions.get::<axum::extract::MatchedPath>()
        && is_public_route(matched.as_str())
    {
        return Some(Cow::Borrowed(matched.as_str()));
    }
    None
}

/// A header as text. What is no UTF-8 in it, such as Latin-1, is replaced: the rest still tells.
pub(super) fn header(headers: &HeaderMap, name: http::HeaderName) -> Option<Cow<'_, str>> {
    headers.get(name).map(text)
}

/// A header's value as text.
pub(super) fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}
