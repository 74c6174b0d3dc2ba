//! The routes, and the one layer that makes a request a span.

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{HeaderName, REFERER, USER_AGENT};
use axum::routing::get;
use tower_http::trace::TraceLayer;
use tracing::Span;

use crate::{App, account, admin, basket, catalogue, checkout, orders};

pub(crate) fn app(shop: App) -> Router {
    Router::new()
        .merge(catalogue::routes())
        .merge(account::routes())
        .merge(basket::routes())
        .merge(checkout::routes())
        .merge(orders::routes())
        .merge(admin::routes())
        .route("/healthz", get(|| async { "ok" }))
        .with_state(shop)
        // tower-http's layer as it comes, but for the span: it also names the route and who asks.
        .layer(TraceLayer::new_for_http().make_span_with(request_span))
}

fn request_span(request: &Request) -> Span {
    // What axum matched: `/products/{id}`, and nothing when no route did.
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    tracing::info_span!(
        "request",
        method = %request.method(),
        uri = %request.uri(),
        version = ?request.version(),
        http.route = route,
        user_agent.original = header(request, &USER_AGENT),
        http.request.header.referer = header(request, &REFERER),
    )
}

fn header<'a>(request: &'a Request, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}
