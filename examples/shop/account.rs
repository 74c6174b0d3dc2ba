//! Who is asking: the session cookie, and the login that gives it.

use axum::extract::{FromRequestParts, State};
use axum::http::header::{COOKIE, HeaderName, SET_COOKIE};
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tracing::{info, instrument};
use tracing_activity::with_activity;

use crate::error::ShopError;
use crate::store::Customer;
use crate::{App, Shop};

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/login", post(login))
}

/// The one who sent the request, known as far as the cookie tells.
pub(crate) struct Visitor {
    pub(crate) session: Option<String>,
    pub(crate) customer: Option<Customer>,
}

impl Visitor {
    /// The customer, or the error that asks for a login.
    pub(crate) fn customer(self) -> Result<Customer, ShopError> {
        self.customer.ok_or(ShopError::NotLoggedIn)
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = ShopError;

    async fn from_request_parts(parts: &mut Parts, shop: &App) -> Result<Self, ShopError> {
        let Some(session) = session_cookie(parts) else {
            return Ok(Self { session: None, customer: None });
        };
        with_activity(|a| a.session(number(&session)));
        let customer = shop.store.customer_of(&session).await;
        if let Some(customer) = &customer {
            with_activity(|a| a.user(&customer.id));
        }
        Ok(Self { session: Some(session), customer })
    }
}

fn session_cookie(parts: &Parts) -> Option<String> {
    let cookies = parts.headers.get(COOKIE)?.to_str().ok()?;
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == "session").map(|(_, value)| value.to_owned())
}

/// What may be written down of `session`: its number. The secret after the dot opens it.
fn number(session: &str) -> &str {
    session.split('.').next().unwrap_or_default()
}

/// The header that makes a browser remember `session`, which this request belongs to from now on.
pub(crate) fn remember(session: &str) -> [(HeaderName, String); 1] {
    with_activity(|a| a.session(number(session)));
    [(SET_COOKIE, format!("session={session}; Path=/; HttpOnly; SameSite=Lax"))]
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(
    State(shop): State<App>,
    visitor: Visitor,
    Json(login): Json<Login>,
) -> Result<impl IntoResponse, ShopError> {
    with_activity(|a| a.title("Login").object("user", &login.user).event("login"));
    let customer = authenticate(&shop, &login).await?;
    with_activity(|a| a.user(&customer.id));
    let session = shop.store.open_session(visitor.session, &customer).await;
    Ok((remember(&session), Json(customer)))
}

#[instrument(skip_all)]
async fn authenticate(shop: &Shop, login: &Login) -> Result<Customer, ShopError> {
    let Some(customer) = shop.store.customer(&login.user).await else {
        info!("no such user");
        return Err(ShopError::WrongPassword);
    };
    if !shop.store.verify_password(&login.password).await {
        return Err(ShopError::WrongPassword);
    }
    Ok(customer)
}
