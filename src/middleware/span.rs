//! The span of a request, filled with what its head tells.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
#[cfg(feature = "axum")]
use std::net::SocketAddr;

use http::header::{REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Version};
use tracing::Span;
use tracing::field::Empty;

use super::client::client_address;
use super::grpc::Call;
use super::layer::Settings;
use super::traceparent::{trace_of, trace_state};
use crate::capture::{Listener, REQUEST_TARGET, guarded};
use crate::config::TraceparentTrust;
use crate::model::{SpanId, known_method};
use crate::redact::Redactor;

/// The head of a request, and what the framework knows of it besides.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) parts: &'a Parts,
    /// The route's template.
    pub(super) route: Option<Cow<'a, str>>,
    /// Who connected.
    pub(super) peer: Option<IpAddr>,
}

impl<'a> Head<'a> {
    /// What tower's frameworks leave in the extensions, or the application reads.
    pub(super) fn of(settings: &Settings, parts: &'a Parts) -> Self {
        Self { parts, route: route(settings, parts), peer: peer(settings, parts) }
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
        TraceparentTrust::Trusted => peer.is_some_and(|peer| proxies.contains(peer)),
        TraceparentTrust::Always => true,
    };
    let told_by = settings.client_address.unwrap_or(http.client_address);
    let trace = if believes { trace_of(&parts.headers) } else { None };
    let caller = Caller {
        address: peer.map(|peer| client_address(peer, proxies, told_by, &parts.headers)),
        trace: trace.map(|(trace, _)| trace),
        agent: header(&parts.headers, USER_AGENT),
    };
    let span = match call {
        Some(call) => {
            call.route = head.route.as_deref().map(Into::into);
            rpc_span(parts, &caller, listener.redactor())
        }
        None => http_span(head, &caller, listener.redactor()),
    };
    if caller.trace.is_some() && listener.has_bridge() {
        let traceparent = header(&parts.headers, http::HeaderName::from_static("traceparent"));
        let tracestate = trace_state(&parts.headers);
        listener.called_by(&span, traceparent.unwrap_or_default(), &tracestate);
    }
    Opened { span, parent: trace.map(|(_, parent)| parent), address: caller.address }
}

/// What the head says of who calls.
#[derive(Debug)]
struct Caller<'a> {
    address: Option<IpAddr>,
    trace: Option<&'a str>,
    agent: Option<&'a str>,
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

fn http_span(head: &Head<'_>, caller: &Caller<'_>, redactor: &Redactor) -> Span {
    let (parts, route) = (head.parts, head.route.as_deref());
    let method = known_method(parts.method.as_str());
    let name = Name { method, route };
    let original = (method == "_OTHER").then(|| parts.method.as_str());
    let referer = header(&parts.headers, REFERER).map(|url| redactor.url(url));
    let query = parts.uri.query().filter(|query| !query.is_empty());
    tracing::info_span!(
        target: REQUEST_TARGET,
        "HTTP request",
        "otel.name" = display(name),
        "otel.kind" = "server",
        "http.request.method" = method,
        "http.request.method_original" = original,
        "http.route" = route,
        "url.path" = parts.uri.path(),
        "url.query" = query.map(|query| display(redactor.query(query))),
        "url.scheme" = parts.uri.scheme_str(),
        "network.protocol.version" = version(parts.version),
        "user_agent.original" = caller.agent,
        "http.request.header.referer" = referer,
        "client.address" = caller.address.map(display),
        "trace_id" = caller.trace,
        "user.id" = Empty,
        "session.id" = Empty,
        "http.response.status_code" = Empty,
        "error.type" = Empty,
        "exception.message" = Empty,
        "otel.status_code" = Empty,
    )
}

/// The span of a request that asks for a call. What it is called stands open until the answer tells
/// whether it is one: see [`name_call`] and [`name_request`].
fn rpc_span(parts: &Parts, caller: &Caller<'_>, redactor: &Redactor) -> Span {
    let query = parts.uri.query().filter(|query| !query.is_empty());
    tracing::info_span!(
        target: REQUEST_TARGET,
        "gRPC request",
        "otel.name" = Empty,
        "otel.kind" = "server",
        "rpc.system" = Empty,
        "rpc.service" = Empty,
        "rpc.method" = Empty,
        "http.request.method" = Empty,
        "http.route" = Empty,
        "url.path" = parts.uri.path(),
        "url.query" = query.map(|query| display(redactor.query(query))),
        "network.protocol.version" = version(parts.version),
        "user_agent.original" = caller.agent,
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

/// The route's template: what the application reads, else what axum matched.
fn route<'a>(settings: &Settings, parts: &'a Parts) -> Option<Cow<'a, str>> {
    if let Some(route) = settings.route.as_ref().and_then(|read| guarded(|| read(parts))?) {
        return Some(Cow::Owned(route));
    }
    #[cfg(feature = "axum")]
    if let Some(matched) = parts.extensions.get::<axum::extract::MatchedPath>() {
        return Some(Cow::Borrowed(matched.as_str()));
    }
    None
}

/// Who connected.
fn peer(settings: &Settings, parts: &Parts) -> Option<IpAddr> {
    if let Some(read) = &settings.peer {
        return guarded(|| read(parts)).flatten();
    }
    #[cfg(feature = "axum")]
    if let Some(info) = parts.extensions.get::<axum::extract::ConnectInfo<SocketAddr>>() {
        return Some(info.0.ip());
    }
    None
}

/// A header as text.
pub(super) fn header(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
