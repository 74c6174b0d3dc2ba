//! After the sale: the page of an order, and what it costs to have it sent.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::instrument;
use tracing_activity::with_activity;

use crate::account::Visitor;
use crate::error::ShopError;
use crate::store::Order;
use crate::{App, Shop};

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/orders/{id}", get(order)).route("/shipping/quote", post(quote))
}

async fn order(
    State(shop): State<App>,
    visitor: Visitor,
    Path(id): Path<u32>,
) -> Result<Json<Order>, ShopError> {
    with_activity(|a| a.title("Order").object("order", id).event("view_order"));
    let customer = visitor.customer()?;
    let order = shop.store.order(id).await?;
    if order.customer != customer.id {
        return Err(ShopError::Forbidden("the order"));
    }
    Ok(Json(order))
}

#[derive(Deserialize)]
struct Parcel {
    postcode: String,
}

async fn quote(
    State(shop): State<App>,
    Json(parcel): Json<Parcel>,
) -> Result<Json<Value>, ShopError> {
    with_activity(|a| {
        a.title("Shipping costs").object("postcode", &parcel.postcode).event("quote_shipping")
    });
    if parcel.postcode.is_empty() {
        return Err(ShopError::Invalid("the postcode is missing"));
    }
    Ok(Json(json!({ "cents": cheapest_courier(&shop, &parcel).await })))
}

/// Asks the couriers one after another. The one for the islands is in no hurry, and a customer who
/// leaves meanwhile ends the request right here.
#[instrument(skip_all)]
async fn cheapest_courier(shop: &Shop, parcel: &Parcel) -> u32 {
    let islands = parcel.postcode.starts_with("HS");
    let mut cheapest = ask_courier(shop, "red", Duration::from_millis(9)).await;
    cheapest = cheapest.min(ask_courier(shop, "blue", Duration::from_millis(9)).await);
    let ferry = Duration::from_millis(if islands { 1500 } else { 12 });
    cheapest.min(ask_courier(shop, "ferry", ferry).await)
}

#[instrument(name = "GET courier.example", skip(shop, typical))]
async fn ask_courier(shop: &Shop, courier: &str, typical: Duration) -> u32 {
    shop.couriers.pause(typical).await;
    390 + courier.len() as u32 * 10
}
