//! [`Exchange`]: one request and its answer, from the head of the one to the end of the other.

use std::fmt;
use std::time::Duration;

use bytes::Buf;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, response};
use tracing::field::display;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Span};

use super::copy::{append, listed, wanted};
use super::grpc::{self, Call, Wire};
use super::grpc_web;
use super::here::{Told, Working};
use super::identity::Who;
use super::layer::Settings;
use super::span::{Head, Opened, header, name_call, name_request, name_route, open_span};
use super::visit::Visitor;
use crate::capture::{
    Breakage, Captured, CapturedBody, InCharge, Listener, guarded, is_ending_for, is_in_task,
};
use crate::model::known_method;

/// By how much sooner than our clock says a client may find that its deadline is over, or by a tenth of
/// it: its clock began before the request was sent.
const EARLY: Duration = Duration::from_millis(10);

/// What the request and its answer speak.
#[derive(Debug)]
enum Protocol {
    /// Its status is HTTP's.
    Http,
    /// It asks for this call of gRPC; nothing has told yet that it is one.
    Asked(Call),
    /// Its code tells the status, in the headers or in the trailers.
    Grpc,
}

/// A request under way.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub(super) struct Exchange {
    /// Before the span: when that closes, nobody else may hold its activity.
    charge: Option<InCharge>,
    span: Span,
    identity: Option<fn(&Extensions) -> Who<'_>>,
    visitor: Option<Visitor>,
    protocol: Protocol,
    method: &'static str,
    /// The route that was told from inside, until it is recorded.
    told: Told,
    /// For how long the client of what asks for a call waits.
    deadline: Option<Duration>,
    /// It began in a task of tokio's.
    in_task: bool,
    /// What asks for a call is one, whatever the answer tells.
    only_grpc: bool,
    /// The status of the answer, once there is one.
    status: Option<StatusCode>,
    /// The service failed by its own word, whatever becomes of the client.
    has_failed: bool,
    /// A gRPC code was told.
    has_code: bool,
    /// No body follows whatever the status.
    is_head: bool,
    /// No body follows a success.
    is_connect: bool,
    /// The answer has no end: the client leaves when it has heard enough.
    is_endless: bool,
    /// Inner code runs; when this is dropped meanwhile, it panicked.
    running: bool,
    ended: bool,
    /// The copy of the answer's body, where one is wanted.
    copy: Option<CapturedBody>,
    /// The answer's body, where it holds the trailers.
    web: Option<Box<grpc_web::Body>>,
}

impl Exchange {
    /// Opens the span of a request, where anybody listens.
    pub(super) fn open(settings: &Settings, parts: &Parts) -> Option<Self> {
        if !Self::is_wanted() {
            return None;
        }
        let mut exchange = Self::begin(settings, &Head::of(settings, parts))?;
        exchange.identify(&parts.extensions);
        if let Some(opened) = &settings.opened {
            guarded(|| opened(&exchange.span, parts));
        }
        Some(exchange)
    }

    /// Whether anybody may listen at all: then the head is worth reading.
    pub(super) fn is_wanted() -> bool {
        let is_wanted = LevelFilter::current() >= Level::INFO;
        if !is_wanted {
            Listener::current().hidden();
        }
        is_wanted
    }

    /// Opens the span of a request with this head.
    pub(super) fn begin(settings: &Settings, head: &Head<'_>) -> Option<Self> {
        let parts = head.parts;
        let mut call = Call::of(parts);
        let Opened { span, parent, address } = open_span(settings, head, call.as_mut());
        if span.is_disabled() {
            Listener::current().hidden();
            return None;
        }
        let charge = InCharge::of(&span);
        if charge.is_none() {
            Listener::current().missed(&span);
        }
        if let (Some(charge), Some(parent)) = (&charge, parent) {
            charge.activity().joins(parent);
        }
        let exchange = Self {
            visitor: charge.as_ref().and_then(|it| Visitor::of(it.activity(), parts, address)),
            charge,
            span,
            identity: settings.identity,
            deadline: call.as_ref().and_then(|_| grpc::timeout(&parts.headers)),
            in_task: is_in_task(),
            protocol: call.map_or(Protocol::Http, Protocol::Asked),
            method: known_method(parts.method.as_str()),
            told: None,
            only_grpc: settings.only_grpc,
            status: None,
            has_failed: false,
            has_code: false,
            is_head: parts.method == Method::HEAD,
            is_connect: parts.method == Method::CONNECT,
            is_endless: false,
            running: false,
            ended: false,
            copy: None,
            web: None,
        };
        exchange.keep_headers(&parts.headers, |captured, headers| {
            captured.request_headers = headers;
        });
        Some(exchange)
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Runs code of the service inside of the span.
    pub(super) fn inside<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.running = true;
        let working = Working::on(self.charge.as_ref().map(InCharge::key), &mut self.told);
        let result = self.span.in_scope(f);
        drop(working);
        self.running = false;
        result
    }

    /// Runs code of the service that enters the span itself.
    pub(super) fn guarded<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.running = true;
        let working = Working::on(self.charge.as_ref().map(InCharge::key), &mut self.told);
        let result = f();
        drop(working);
        self.running = false;
        result
    }

    /// Records the route that was told from inside.
    fn name_route(&mut self) {
        let Some(route) = self.told.take() else { return };
        match &mut self.protocol {
            Protocol::Http => name_route(&self.span, self.method, &route),
            Protocol::Asked(call) => call.route = Some(route),
            Protocol::Grpc => {}
        }
    }

    /// The head of the answer is there.
    pub(super) fn answered(&mut self, parts: &response::Parts) {
        if let Some(charge) = &self.charge {
            charge.activity().answers();
        }
        self.identify(&parts.extensions);
        self.keep_headers(&parts.headers, |captured, headers| {
            captured.response_headers = headers;
        });
        self.copy = self.wanted(&parts.headers);
        let content_type = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        self.is_endless = content_type.is_some_and(is_event_stream);
        if self.is_endless {
            self.streams();
        }
        self.status = Some(parts.status);
        match self.protocol {
            Protocol::Http => {
                self.http_status(parts.status);
                self.refused(parts);
            }
            Protocol::Asked(_) if grpc::speaks(&parts.headers) => {
                self.is_a_call();
                match parts.status {
                    StatusCode::OK => self.answered_call(&parts.headers),
                    other => self.code(grpc::code_of(other)),
                }
            }
            // Trailers may still tell.
            Protocol::Asked(_) | Protocol::Grpc => {}
        }
    }

    /// The answer is a stream: its length is known to nobody, or it goes on for as long as the client
    /// listens.
    pub(super) fn streams(&self) {
        if let Some(charge) = &self.charge {
            charge.activity().streams();
        }
    }

    /// The cookies that the answer needs; asked once, after [`answered`](Self::answered).
    pub(super) fn cookies(&mut self, parts: &response::Parts) -> Vec<HeaderValue> {
        match (&mut self.visitor, &self.charge) {
            (Some(visitor), Some(charge)) => {
                visitor.answered(charge.activity(), parts.status, &parts.headers)
            }
            _ => Vec::new(),
        }
    }

    fn http_status(&mut self, status: StatusCode) {
        self.span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            self.has_failed = true;
            self.span.record("otel.status_code", "ERROR");
            self.span.record("error.type", status.as_str());
        }
    }

    /// A service of gRPC answers to what is no call, too, and says by its code that it serves none: its
    /// status is always 200.
    fn refused(&mut self, parts: &response::Parts) {
        let Some(code @ 1..) = grpc::status(&parts.headers) else { return };
        if parts.status.is_success() {
            self.span.record("rpc.grpc.status_code", code);
            if let Some(message) = grpc::message(&parts.headers) {
                self.span.record("exception.message", &*message);
            }
            self.fault(code);
        }
    }

    /// A call was answered. Of gRPC-Web the code may stand in the body.
    fn answered_call(&mut self, headers: &HeaderMap) {
        self.trailers(headers);
        if self.has_code {
            return;
        }
        if let Some(wire @ (Wire::Web | Wire::WebText)) = grpc::wire(headers) {
            self.web = Some(Box::new(grpc_web::Body::new(headers, wire == Wire::WebText)));
        }
    }

    /// What was asked for is a call.
    fn is_a_call(&mut self) {
        if let Protocol::Asked(call) = std::mem::replace(&mut self.protocol, Protocol::Grpc) {
            name_call(&self.span, &call);
        }
    }

    /// Nothing told that it was a call, and nothing will.
    fn settle(&mut self) {
        self.name_route();
        let Protocol::Asked(call) = &self.protocol else { return };
        if self.only_grpc {
            self.is_a_call();
            match self.status {
                None => {}
                Some(StatusCode::OK) => self.code(grpc::UNKNOWN),
                Some(other) => self.code(grpc::code_of(other)),
            }
            return;
        }
        name_request(&self.span, call);
        self.protocol = Protocol::Http;
        if let Some(status) = self.status {
            self.http_status(status);
        }
    }

    /// The copy to be made of the answer's body.
    fn wanted(&self, headers: &HeaderMap) -> Option<CapturedBody> {
        let activity = self.charge.as_ref()?.activity();
        let content_type = header(headers, CONTENT_TYPE)?;
        wanted(&activity.capture().response, &content_type, headers.get(CONTENT_ENCODING))
    }

    fn keep_headers(
        &self,
        headers: &HeaderMap,
        put: impl FnOnce(&mut Captured, Vec<(String, String)>),
    ) {
        let Some(charge) = &self.charge else { return };
        let headers = listed(&charge.activity().capture().headers, headers);
        if !headers.is_empty() {
            let mut captured = Captured::default();
            put(&mut captured, headers);
            charge.activity().captured(captured);
        }
    }

    /// A part of the answer passes.
    pub(super) fn data(&mut self, data: &impl Buf) {
        if let (Some(copy), Some(charge)) = (&mut self.copy, &self.charge) {
            append(copy, data, charge.activity().capture().max_bytes);
        }
        if let Some(trailers) = self.web.as_mut().and_then(|web| web.pass(data)) {
            self.trailers(&trailers);
        }
    }

    /// Whether the body held trailers: nothing follows them.
    pub(super) fn has_trailers_in_body(&self) -> bool {
        self.web.is_some() && self.has_code
    }

    /// Ends the exchange: hands over what was copied, and the charge of saying how it ended.
    fn end(&mut self) -> Option<InCharge> {
        self.ended = true;
        self.settle();
        let charge = self.charge.take()?;
        if let Some(response) = self.copy.take() {
            let response = Some(response);
            charge.activity().captured(Captured { response, ..Captured::default() });
        }
        Some(charge)
    }

    /// Headers or trailers that may tell the gRPC code.
    pub(super) fn trailers(&mut self, headers: &HeaderMap) {
        if matches!(self.protocol, Protocol::Http) {
            return;
        }
        let Some(code) = grpc::status(headers) else { return };
        self.is_a_call();
        if code != 0
            && let Some(message) = grpc::message(headers)
        {
            self.span.record("otel.status_description", &*message);
        }
        self.code(code);
    }

    fn code(&mut self, code: u16) {
        self.has_code = true;
        self.span.record("rpc.grpc.status_code", code);
        if code == grpc::UNIMPLEMENTED {
            // Nobody serves it: its name is the client's invention.
            self.span.record("rpc.service", "_OTHER");
            self.span.record("rpc.method", "_OTHER");
        }
        self.fault(code);
    }

    /// Says whether a code is the server's fault.
    fn fault(&mut self, code: u16) {
        if grpc::is_server_fault(code) {
            self.has_failed = true;
            self.span.record("otel.status_code", "ERROR");
        }
    }

    fn identify(&mut self, extensions: &Extensions) {
        if let Some(read) = self.identity
            && let Some(who) = guarded(|| read(extensions))
        {
            self.is(&who);
        }
    }

    /// Says who makes the request.
    pub(super) fn is(&mut self, who: &Who<'_>) {
        if let Some(visitor) = &mut self.visitor {
            visitor.is(who);
        }
        if let Some(user) = &who.user {
            self.span.record("user.id", &**user);
        }
        if let Some(session) = &who.session {
            self.span.record("session.id", &**session);
        }
    }

    /// What the application says of the error that it answers with.
    #[cfg(feature = "actix")]
    pub(super) fn says(&self, error: &dyn fmt::Display) {
        self.span.record("exception.message", display(error));
    }

    /// Whether the answer's body may end with more than its last byte.
    pub(super) fn awaits_trailers(&self) -> bool {
        self.lacks_code() && self.web.is_none()
    }

    fn lacks_code(&self) -> bool {
        matches!(self.protocol, Protocol::Grpc) && !self.has_code
    }

    /// Whether no body follows this status: a server would not even ask for it. What a connection
    /// becomes after an upgrade is no answer any more.
    pub(super) fn ends_with_head(&self, status: StatusCode) -> bool {
        self.is_head
            || self.is_connect && status.is_success()
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// The answer is out.
    pub(super) fn complete(mut self) {
        if let Some(trailers) = self.web.as_mut().and_then(|web| web.end()) {
            self.trailers(&trailers);
        }
        if self.lacks_code() && !self.web.as_ref().is_some_and(|web| web.is_unreadable()) {
            // By gRPC's rules a stream that ends without a code is UNKNOWN.
            self.code(grpc::UNKNOWN);
        }
        self.finish();
    }

    fn finish(&mut self) {
        if let Some(charge) = self.end() {
            charge.finished();
        }
    }

    /// The service gave an error instead of the answer or of its rest.
    pub(super) fn failed(mut self, breakage: Breakage, error: &dyn fmt::Display) {
        self.span.record("exception.message", display(error));
        self.broke(breakage);
    }

    /// Whether the time is over that the client gave to the call, which no code has ended yet.
    fn is_too_late(&self) -> bool {
        let (Some(deadline), Some(charge)) = (self.deadline, &self.charge) else { return false };
        let early = EARLY.max(deadline / 10);
        !self.has_code && charge.elapsed().saturating_add(early) >= deadline
    }

    fn broke(&mut self, breakage: Breakage) {
        self.settle();
        self.span.record("error.type", breakage.as_str());
        self.span.record("otel.status_code", "ERROR");
        if let Some(charge) = self.end() {
            charge.broken(breakage);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if self.running || std::thread::panicking() {
            return self.broke(Breakage::Panic);
        }
        if is_ending_for(self.in_task) {
            if let Some(charge) = self.end() {
                charge.abandoned();
            }
            return;
        }
        if self.is_endless {
            return self.finish();
        }
        let is_call = !matches!(self.protocol, Protocol::Http);
        self.settle();
        if is_call && self.is_too_late() {
            // Whoever noticed it first, the client or the server.
            self.code(grpc::DEADLINE_EXCEEDED);
            return self.finish();
        }
        if is_call && self.status.is_none() {
            // A limit that the server keeps outside of this layer drops a call as a client does that
            // cancels it, and nothing tells which it was.
            self.code(grpc::CANCELLED);
            if let Some(charge) = self.end() {
                charge.cancelled();
            }
            return;
        }
        if !self.has_failed {
            self.span.record("error.type", "client_disconnected");
        }
        if let Some(charge) = self.end() {
            charge.disconnected();
        }
    }
}

/// Whether this is the media type of events that a server sends.
fn is_event_stream(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    content_type.get(..TYPE.len()).is_some_and(|it| it.eq_ignore_ascii_case(TYPE))
}
