//! The back office: the slow report, and the price that only an administrator may set.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{info, instrument};
use tracing_activity::with_activity;

use crate::account::Visitor;
use crate::error::ShopError;
use crate::store::Product;
use crate::{App, Shop};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/admin/report", get(report))
        .route("/admin/products/{id}/price", post(set_price))
}

fn require_admin(visitor: Visitor) -> Result<(), ShopError> {
    if visitor.customer()?.admin { Ok(()) } else { Err(ShopError::Forbidden("the back office")) }
}

async fn report(State(shop): State<App>, visitor: Visitor) -> Result<Json<Value>, ShopError> {
    with_activity(|a| a.title("Sales report").object("report", "sales").event("view_report"));
    require_admin(visitor)?;
    Ok(Json(sales_report(&shop).await))
}

/// Adds up every order there is, each time anew.
#[instrument(skip_all)]
async fn sales_report(shop: &Shop) -> Value {
    let by_day = shop.store.sum_orders("day", Duration::from_millis(240)).await;
    let by_product = shop.store.sum_orders("product", Duration::from_millis(320)).await;
    json!({ "by_day": by_day, "by_product": by_product })
}

#[derive(Deserialize)]
struct Price {
    cents: u32,
}

async fn set_price(
    State(shop): State<App>,
    visitor: Visitor,
    Path(id): Path<u32>,
    Json(price): Json<Price>,
) -> Result<Json<Product>, ShopError> {
    with_activity(|a| {
        a.title("Set a price")
            .object("product", id)
            .event("set_price")
            .data("price_cents", price.cents)
    });
    require_admin(visitor)?;
    if price.cents == 0 {
        return Err(ShopError::Invalid("nothing is free"));
    }
    let before = shop.store.product(id).await?;
    let after = shop.store.set_price(id, price.cents).await?;
    with_activity(|a| a.data("before_cents", before.cents));
    info!(before = before.cents, after = after.cents, "price changed");
    Ok(Json(after))
}
