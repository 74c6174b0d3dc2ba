//! The routes, and the one layer that makes a request an activity.

use axum::Router;
use axum::routing::get;
use tracing_activity::middleware::RequestSpanLayer;

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
        .layer(RequestSpanLayer::new())
}
