//! [`RequestSpan`] and its service.

use std::fmt;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpMessage as _;
use actix_web::body::MessageBody;
use actix_web::dev::{Extensions, Service, ServiceRequest, ServiceResponse, Transform};
use tracing::{Instrument as _, Span};

use super::future::ResponseFuture;
use super::head;
use crate::capture::guarded;
use crate::config::{ClientAddressHeader, Networks, TraceparentTrust};
use crate::middleware::body::ResponseBody;
use crate::middleware::exchange::Exchange;
use crate::middleware::identity::{Identity, Who};
use crate::middleware::layer::Settings;

/// Reads who makes the request.
pub(super) type ReadWho = fn(&Extensions) -> Who<'_>;

type Opened = Arc<dyn Fn(&Span, &ServiceRequest) + Send + Sync>;

/// What the extension `T` says, where there is one.
fn who<T: Identity>(extensions: &Extensions) -> Who<'_> {
    extensions.get::<T>().map_or_else(Who::default, Who::of)
}

/// Makes every request of an actix-web application one activity.
///
/// Wrap it around all other middleware, which means last:
///
/// ```
/// use actix_web::{App, web};
/// use tracing_activity::middleware::actix::RequestSpan;
///
/// let app = App::new()
///     .route("/users/{id}", web::get().to(async || "ana"))
///     .wrap(RequestSpan::new());
/// ```
///
/// `ACTIVITY_TRUSTED_PROXIES`, `ACTIVITY_CLIENT_ADDRESS_HEADER` and `ACTIVITY_TRACEPARENT` hold
/// unless they are set here.
///
/// A client that goes away ends its request at once only where the server says
/// [`h1_allow_half_closed(false)`](https://docs.rs/actix-web/4/actix_web/struct.HttpServer.html#method.h1_allow_half_closed);
/// else actix-web goes on with the handler, and notices when it writes the answer.
#[derive(Clone, Default)]
#[must_use]
pub struct RequestSpan {
    settings: Arc<Settings>,
    identity: Option<ReadWho>,
    opened: Option<Opened>,
}

impl fmt::Debug for RequestSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.describe(&mut f.debug_struct("RequestSpan")).finish_non_exhaustive()
    }
}

impl RequestSpan {
    /// A middleware that reads what actix-web tells.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        // A middleware that was cloned before keeps what it had.
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Fills `user_id` and `session_id` from the extension `T` of the request: what is there when
    /// the request arrives, and what is there when it is answered.
    pub fn identity<T: Identity>(self) -> Self {
        Self { identity: Some(who::<T>), ..self }
    }

    /// Peers that are believed who the client is, instead of `ACTIVITY_TRUSTED_PROXIES`.
    pub fn trusted_proxies(self, networks: Networks) -> Self {
        self.with(|settings| settings.trusted_proxies = Some(networks))
    }

    /// The header by which they tell it, instead of `ACTIVITY_CLIENT_ADDRESS_HEADER`.
    pub fn client_address_header(self, header: ClientAddressHeader) -> Self {
        self.with(|settings| settings.client_address = Some(header))
    }

    /// Whose `traceparent` names the trace, instead of `ACTIVITY_TRACEPARENT`.
    pub fn traceparent(self, trust: TraceparentTrust) -> Self {
        self.with(|settings| settings.traceparent = Some(trust))
    }

    /// Says that a peer without an address is on a Unix socket, as with `HttpServer::bind_uds`. It is
    /// believed who the client is where `ACTIVITY_TRUSTED_PROXIES` holds the word `unix`.
    pub fn unix_socket(self) -> Self {
        self.with(|settings| settings.on_unix = true)
    }

    /// Calls `opened` with each new span and its request, before anything is recorded below it. A
    /// bridge to another tracing system sets its remote parent here.
    pub fn on_request(
        self,
        opened: impl Fn(&Span, &ServiceRequest) + Send + Sync + 'static,
    ) -> Self {
        Self { opened: Some(Arc::new(opened)), ..self }
    }

    /// The request under way, where anybody listens.
    fn open(&self, request: &ServiceRequest) -> Option<Exchange> {
        let mut exchange = head::open(&self.settings, request)?;
        if let Some(read) = self.identity {
            let extensions = request.extensions();
            if let Some(who) = guarded(|| read(&extensions)) {
                exchange.is(&who);
            }
        }
        if let Some(opened) = &self.opened {
            guarded(|| opened(exchange.span(), request));
        }
        Some(exchange)
    }
}

impl<S, B> Transform<S, ServiceRequest> for RequestSpan
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<ResponseBody<B>>;
    type Error = actix_web::Error;
    type Transform = RequestSpanService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, Self::InitError>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(RequestSpanService { inner, layer: self.clone() }))
    }
}

/// A service whose requests are activities; made by [`RequestSpan`].
pub struct RequestSpanService<S> {
    inner: S,
    layer: RequestSpan,
}

impl<S: fmt::Debug> fmt::Debug for RequestSpanService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSpanService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, B> Service<ServiceRequest> for RequestSpanService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<ResponseBody<B>>;
    type Error = actix_web::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let Some(mut exchange) = self.layer.open(&request) else {
            let inner = self.inner.call(request).instrument(Span::none());
            return ResponseFuture::new(inner, None, None);
        };
        let future = exchange.inside(|| self.inner.call(request));
        let future = future.instrument(exchange.span().clone());
        ResponseFuture::new(future, Some(exchange), self.layer.identity)
    }
}
