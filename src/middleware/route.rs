//! [`RouteLayer`]: the route of a request, told from inside of the router.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use http::request::Parts;
use tower_layer::Layer;
use tower_service::Service;

use super::here::tell_route;
use super::layer::Settings;
use super::span::route;

/// Tells the [`RequestSpanLayer`](super::RequestSpanLayer) around the router which route serves a
/// request.
///
/// Only inside of a router is the route known. Where `RequestSpanLayer` stands outside of it - around
/// tower-http's `NormalizePath`, or in a `ServiceBuilder` around the whole application - this
/// goes inside. With the feature `axum` it reads axum's `MatchedPath`:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use tower_layer::Layer as _;
/// use tracing_activity::middleware::{RequestSpanLayer, RouteLayer};
///
/// let router: Router = Router::new()
///     .route("/users/{id}", get(|| async { "ana" }))
///     .route_layer(RouteLayer::new());
/// let app = RequestSpanLayer::new().layer(router);
/// # let _ = app;
/// # }
/// ```
///
/// The service is called on the same thread as the layer around it is, unless something between them
/// calls it from a task of its own, as tower's `Buffer` does. Then the route stays unknown.
#[derive(Clone, Default)]
#[must_use]
pub struct RouteLayer {
    settings: Arc<Settings>,
}

impl RouteLayer {
    /// A layer that tells what the framework matched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the route's template, such as `/users/{id}`, where the framework leaves it in a place of
    /// its own. `None` lets the next source try: axum's `MatchedPath`. Never give the raw path.
    pub fn route(
        mut self,
        read: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.settings).route = Some(Arc::new(read));
        self
    }
}

impl fmt::Debug for RouteLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteLayer")
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = RouteService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RouteService { inner, settings: Arc::clone(&self.settings) }
    }
}

/// A service that tells the route of its requests; made by [`RouteLayer`].
#[derive(Clone)]
pub struct RouteService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S: fmt::Debug> fmt::Debug for RouteService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for RouteService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        if let Some(route) = route(&self.settings, &parts) {
            tell_route(&route);
        }
        self.inner.call(Request::from_parts(parts, body))
    }
}
