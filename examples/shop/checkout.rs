//! The checkout: stock is reserved while the card is charged, and the mail leaves afterwards.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tracing::{Instrument as _, info_span, instrument, warn};
use tracing_activity::with_activity;

use crate::account::Visitor;
use crate::error::ShopError;
use crate::payment::Receipt;
use crate::store::{Customer, Line, Order};
use crate::{App, Deploy, Shop, basket};

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/checkout", post(checkout))
}

#[derive(Deserialize)]
struct Payment {
    card: String,
}

async fn checkout(
    State(shop): State<App>,
    visitor: Visitor,
    Json(payment): Json<Payment>,
) -> Result<impl IntoResponse, ShopError> {
    with_activity(|a| a.title("Checkout").event("checkout"));
    let session = visitor.session.clone().ok_or(ShopError::NotLoggedIn)?;
    let customer = visitor.customer()?;
    let lines = shop.store.basket(&session).await;
    if lines.is_empty() {
        return Err(ShopError::Invalid("the basket is empty"));
    }

    let order = place_order(&shop, &customer, lines, payment.card).await?;
    with_activity(|a| a.object("order", order.id).data("total_cents", order.cents));
    shop.store.empty_basket(&session).await;
    shop.mailroom.send_confirmation(&customer, &order);
    Ok((StatusCode::CREATED, [(LOCATION, format!("/orders/{}", order.id))], Json(order)))
}

/// Reserves and charges side by side, and undoes the one that worked when the other did not.
#[instrument(skip_all, fields(lines = lines.len()))]
async fn place_order(
    shop: &App,
    customer: &Customer,
    lines: Vec<Line>,
    card: String,
) -> Result<Order, ShopError> {
    let cents = basket::total(shop, &lines).await?;
    if shop.deploy == Deploy::B {
        check_for_fraud(shop, customer, cents).await?;
    }

    let reserve = tokio::spawn({
        let (shop, lines) = (App::clone(shop), lines.clone());
        async move { reserve_stock(&shop, &lines).await }.instrument(info_span!("reserve"))
    });
    let charge = tokio::spawn({
        let shop = App::clone(shop);
        async move { shop.gateway.charge(&card, cents).await }.instrument(info_span!("pay"))
    });
    let (reserved, charged) = tokio::join!(reserve, charge);

    match (reserved?, charged?) {
        (Ok(()), Ok(receipt)) => Ok(shop.store.insert_order(customer, lines, cents, receipt).await),
        (Ok(()), Err(error)) => {
            release_stock(shop, &lines).await;
            Err(error.into())
        }
        (Err(error), Ok(receipt)) => {
            refund(shop, &receipt).await;
            Err(error)
        }
        (Err(error), Err(_)) => Err(error),
    }
}

/// Takes every line from the stock, or none.
#[instrument(skip_all)]
async fn reserve_stock(shop: &Shop, lines: &[Line]) -> Result<(), ShopError> {
    for (done, line) in lines.iter().enumerate() {
        if !shop.store.take_stock(line).await {
            warn!(product = line.product, "sold out during the checkout");
            release_stock(shop, &lines[..done]).await;
            return Err(ShopError::SoldOut(line.product));
        }
    }
    Ok(())
}

#[instrument(skip_all)]
async fn release_stock(shop: &Shop, lines: &[Line]) {
    for line in lines {
        shop.store.return_stock(line).await;
    }
}

#[instrument(skip_all)]
async fn refund(shop: &Shop, receipt: &Receipt) {
    shop.gateway.refund(receipt).await;
}

/// New in deploy B.
#[instrument(skip_all, fields(cents))]
async fn check_for_fraud(shop: &Shop, customer: &Customer, cents: u32) -> Result<(), ShopError> {
    const LARGE: u32 = 60_000;
    let before = shop.store.bought_by(&customer.id).await;
    let score = shop.store.fraud_score(&customer.id).await;
    if cents > LARGE && before.len() < 3 && score > 50 {
        return Err(ShopError::Suspicious);
    }
    Ok(())
}
