//! What the shop sells: the home page, a product's page, the search, and the whole list as CSV.

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{debug, instrument};
use tracing_activity::with_activity;

use crate::account::Visitor;
use crate::error::ShopError;
use crate::store::{Customer, Product, Store};
use crate::{App, Deploy, Shop};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(home))
        .route("/products/{id}", get(product))
        .route("/search", get(search))
        .route("/catalogue.csv", get(csv))
}

async fn home(State(shop): State<App>, visitor: Visitor) -> Json<Value> {
    with_activity(|a| a.title("Home page").event("view_home"));
    let best_sellers = shop.store.best_sellers().await;
    let recommended = match &visitor.customer {
        Some(customer) => recommend(&shop, customer).await,
        None => Vec::new(),
    };
    Json(json!({ "best_sellers": best_sellers, "recommended": recommended }))
}

#[instrument(skip_all)]
async fn recommend(shop: &Shop, customer: &Customer) -> Vec<Product> {
    let bought = shop.store.bought_by(&customer.id).await;
    let similar = shop.store.similar_to(&bought).await;
    if shop.deploy == Deploy::C {
        shop.store.ratings(&similar).await;
    }
    similar
}

async fn product(
    State(shop): State<App>,
    visitor: Visitor,
    Path(id): Path<u32>,
) -> Result<Json<Value>, ShopError> {
    with_activity(|a| a.title("Product page").object("product", id).event("view_product"));
    let product = load_product(&shop, id).await?;
    with_activity(|a| a.data("price_cents", product.cents));
    // The bug every shop has once: one product was entered without a picture.
    let cover = &product.pictures[0];
    let greeting = visitor.customer.map(|customer| format!("Good to see you, {}", customer.id));
    Ok(Json(json!({ "product": product, "cover": cover, "greeting": greeting })))
}

/// Reads through the cache.
#[instrument(skip(shop))]
pub(crate) async fn load_product(shop: &Shop, id: u32) -> Result<Product, ShopError> {
    if let Some(product) = shop.store.cached_product(id) {
        debug!("from the cache");
        return Ok(product);
    }
    shop.store.product(id).await
}

#[derive(Deserialize)]
struct Search {
    q: String,
}

async fn search(State(shop): State<App>, Query(Search { q }): Query<Search>) -> Json<Vec<Product>> {
    with_activity(|a| a.title("Search").event("search").data("q", &q));
    let mut found = shop.store.search(&q).await;
    if found.is_empty() {
        found = did_you_mean(&shop, &q).await;
    }
    with_activity(|a| a.data("found", found.len()));
    Json(found)
}

/// Tries again with less and less of a word that nothing matches.
#[instrument(skip(shop))]
async fn did_you_mean(shop: &Shop, q: &str) -> Vec<Product> {
    let letters: Vec<char> = q.chars().collect();
    for kept in [letters.len() / 2, letters.len() / 3] {
        let start: String = letters[..kept].iter().collect();
        let found = shop.store.search(&start).await;
        if !start.is_empty() && !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// Streams the list a line at a time. The request lasts until the last line is sent, or until the
/// client has had enough.
async fn csv(State(shop): State<App>) -> impl IntoResponse {
    with_activity(|a| a.title("Catalogue as CSV").event("export_catalogue"));
    let lines = stream::unfold(Store::product_ids(), move |mut ids| {
        let shop = App::clone(&shop);
        async move {
            let id = ids.next()?;
            let line = match shop.store.product(id).await {
                Ok(product) => format!("{id},{},{}\n", product.name, product.cents),
                Err(error) => format!("{id},{error}\n"),
            };
            Some((Ok::<_, std::convert::Infallible>(line), ids))
        }
    });
    ([(CONTENT_TYPE, "text/csv; charset=utf-8")], Body::from_stream(lines))
}
