//! The basket. Its page asks for each product by itself: the N+1 queries a trace makes visible.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tracing::instrument;
use tracing_activity::with_activity;

use crate::account::{Visitor, remember};
use crate::catalogue::load_product;
use crate::error::ShopError;
use crate::store::Line;
use crate::{App, Shop};

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/basket", get(basket)).route("/basket/items", post(add))
}

const AT_MOST: u32 = 20;

async fn add(
    State(shop): State<App>,
    visitor: Visitor,
    Json(line): Json<Line>,
) -> Result<impl IntoResponse, ShopError> {
    with_activity(|a| {
        a.title("Add to basket")
            .object("product", line.product)
            .event("add_to_basket")
            .data("quantity", line.quantity)
    });
    if !(1..=AT_MOST).contains(&line.quantity) {
        return Err(ShopError::Invalid("the quantity must be from 1 to 20"));
    }
    let product = load_product(&shop, line.product).await?;
    if shop.store.stock(product.id).await < line.quantity {
        return Err(ShopError::SoldOut(product.id));
    }
    // The first item of a stranger opens a session.
    let session = match visitor.session {
        Some(session) => session,
        None => shop.store.open_anonymous_session().await,
    };
    shop.store.add_to_basket(&session, line).await;
    Ok((StatusCode::CREATED, remember(&session)))
}

async fn basket(State(shop): State<App>, visitor: Visitor) -> Result<Json<Value>, ShopError> {
    with_activity(|a| a.title("Basket").event("view_basket"));
    let Some(session) = &visitor.session else {
        return Ok(Json(json!({ "lines": [], "total_cents": 0 })));
    };
    let lines = shop.store.basket(session).await;
    let mut cents = total(&shop, &lines).await?;
    if let Some(customer) = &visitor.customer {
        cents -= shop.store.discount(&customer.id, cents).await;
    }
    with_activity(|a| a.data("lines", lines.len()).data("total_cents", cents));
    Ok(Json(json!({ "lines": lines, "total_cents": cents })))
}

/// What `lines` cost together, in cents.
#[instrument(skip_all, fields(lines = lines.len()))]
pub(crate) async fn total(shop: &Shop, lines: &[Line]) -> Result<u32, ShopError> {
    let mut cents = 0;
    for line in lines {
        cents += shop.store.product(line.product).await?.cents * line.quantity;
    }
    Ok(cents)
}
