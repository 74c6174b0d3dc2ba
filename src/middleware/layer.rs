//! [`RequestSpanLayer`] and its service.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::request::Parts;
use http::{Extensions, Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument as _, Span};

use super::body::ResponseBody;
use super::exchange::Exchange;
use super::future::ResponseFuture;
use super::identity::{Identity, Who, who};
use super::peer::Peer;
use crate::config::{ClientAddressHeader, Networks, TraceparentTrust};

type Read<T> = Arc<dyn Fn(&Parts) -> Option<T> + Send + Sync>;
type Opened = Arc<dyn Fn(&Span, &Parts) + Send + Sync>;

/// What is set in code; the rest is the environment's.
#[derive(Clone, Default)]
pub(super) struct Settings {
    pub(super) route: Option<Read<String>>,
    pub(super) peer: Option<Read<IpAddr>>,
    /// A peer without an address is on a Unix socket.
    pub(super) on_unix: bool,
    pub(super) identity: Option<fn(&Extensions) -> Who<'_>>,
    pub(super) trusted_proxies: Option<Networks>,
    pub(super) client_address: Option<ClientAddressHeader>,
    pub(super) traceparent: Option<TraceparentTrust>,
    pub(super) opened: Option<Opened>,
    pub(super) only_grpc: bool,
}

impl Settings {
    /// The peer at this address, or on the Unix socket.
    pub(super) fn or_unix(&self, address: Option<IpAddr>) -> Option<Peer> {
        address.map(Peer::Ip).or(self.on_unix.then_some(Peer::Unix))
    }

    /// What can be printed of them.
    pub(super) fn describe<'f, 'a, 'b>(
        &self,
        f: &'f mut fmt::DebugStruct<'a, 'b>,
    ) -> &'f mut fmt::DebugStruct<'a, 'b> {
        f.field("trusted_proxies", &self.trusted_proxies)
            .field("client_address", &self.client_address)
            .field("on_unix", &self.on_unix)
            .field("traceparent", &self.traceparent)
    }
}

/// Makes every request of a tower service one activity.
///
/// Put it outside of all other layers: what answers for the service - a timeout, a panic catcher -
/// is then part of the request. With axum, the feature `axum` reads route and peer, and the layer
/// goes to [`Router::layer`](https://docs.rs/axum/0.8/axum/struct.Router.html#method.layer),
/// where the route is known:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use tracing_activity::middleware::RequestSpanLayer;
///
/// let app: Router = Router::new()
///     .route("/users/{id}", get(|| async { "ana" }))
///     .layer(RequestSpanLayer::new());
/// # }
/// ```
///
/// Where `ACTIVITY_VISITS` asks for it, visits are followed, and their cookies added to answers.
///
/// `ACTIVITY_TRUSTED_PROXIES`, `ACTIVITY_CLIENT_ADDRESS_HEADER` and `ACTIVITY_TRACEPARENT` hold
/// unless they are set here.
#[derive(Clone, Default)]
#[must_use]
pub struct RequestSpanLayer {
    settings: Arc<Settings>,
}

impl fmt::Debug for RequestSpanLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.describe(&mut f.debug_struct("RequestSpanLayer")).finish_non_exhaustive()
    }
}

impl RequestSpanLayer {
    /// A layer that reads what every framework tells.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        // A layer that was cloned before keeps what it had.
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Reads the route's template, such as `/users/{id}`, where the framework leaves it in a place
    /// of its own. `None` lets the next source try: axum's `MatchedPath`. Never give the raw path:
    /// it would make a column of few values one of many.
    pub fn route(self, read: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.route = Some(Arc::new(read)))
    }

    /// Reads the address of the peer: who connected, be it the client or a proxy. axum's
    /// `ConnectInfo<SocketAddr>`, with the feature `axum`, and tonic's `TcpConnectInfo`, with the
    /// feature `tonic`, are read without it. axum knows the peer where the service is made by
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn peer(self, read: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.peer = Some(Arc::new(read)))
    }

    /// Says that a peer without an address is on a Unix socket. It is believed who the client is where
    /// `ACTIVITY_TRUSTED_PROXIES` holds the word `unix`. tonic's peers on such sockets are known without
    /// this, and axum's with `into_make_service_with_connect_info::<tokio::net::unix::SocketAddr>()`.
    pub fn unix_socket(self) -> Self {
        self.with(|settings| settings.on_unix = true)
    }

    /// Fills `user_id` and `session_id` from the extension `T`: of the request where it is there
    /// when this layer sees it, and of the response. For a `T` that a layer further inside puts
    /// into the request, add an [`IdentityLayer`](super::IdentityLayer) behind that.
    pub fn identity<T: Identity>(self) -> Self {
        self.with(|settings| settings.identity = Some(who::<T>))
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

    /// Says that the service serves gRPC and nothing else, as tonic's does. What asks for a call is
    /// one then, also where no answer tells: the service panicked, or the client left.
    pub fn grpc(self) -> Self {
        self.with(|settings| settings.only_grpc = true)
    }

    /// Calls `opened` with each new span and the head of its request, before anything is recorded
    /// below it. A bridge to another tracing system sets its remote parent here.
    pub fn on_request(self, opened: impl Fn(&Span, &Parts) + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.opened = Some(Arc::new(opened)))
    }
}

impl<S> Layer<S> for RequestSpanLayer {
    type Service = RequestSpan<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestSpan { inner, settings: Arc::clone(&self.settings) }
    }
}

/// A service whose requests are activities; made by [`RequestSpanLayer`].
#[derive(Clone)]
pub struct RequestSpan<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S: fmt::Debug> fmt::Debug for RequestSpan<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSpan").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequestSpan<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: fmt::Display,
    ResBody: Body,
    ResBody::Error: fmt::Display,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let exchange = Exchange::open(&self.settings, &parts);
        let request = Request::from_parts(parts, body);
        let Some(mut exchange) = exchange else {
            let inner = self.inner.call(request).instrument(Span::none());
            return ResponseFuture::new(inner, None);
        };
        let future = exchange.inside(|| self.inner.call(request));
        ResponseFuture::new(future.instrument(exchange.span().clone()), Some(exchange))
    }
}
