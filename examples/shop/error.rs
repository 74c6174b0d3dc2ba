//! What can go wrong, whose fault it is, and how the row learns of it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::task::JoinError;
use tracing_activity::with_activity;

use crate::payment::PaymentError;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShopError {
    #[error("there is no {kind} {id}")]
    NotFound { kind: &'static str, id: u32 },
    #[error("log in first")]
    NotLoggedIn,
    #[error("wrong name or password")]
    WrongPassword,
    #[error("{0} is not yours to see")]
    Forbidden(&'static str),
    #[error("{0}")]
    Invalid(&'static str),
    #[error("product {0} is sold out")]
    SoldOut(u32),
    #[error("the order looks like fraud")]
    Suspicious,
    #[error("the order could not be paid")]
    Payment(#[from] PaymentError),
    #[error("a task of the checkout ended early")]
    Task(#[from] JoinError),
}

impl ShopError {
    fn status_and_kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::NotLoggedIn => (StatusCode::UNAUTHORIZED, "not_logged_in"),
            Self::WrongPassword => (StatusCode::UNAUTHORIZED, "wrong_password"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::SoldOut(_) => (StatusCode::CONFLICT, "sold_out"),
            Self::Suspicious => (StatusCode::FORBIDDEN, "suspicious"),
            Self::Payment(PaymentError::Declined(_)) => {
                (StatusCode::PAYMENT_REQUIRED, "card_declined")
            }
            Self::Payment(PaymentError::Unreachable(_)) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "payment_unreachable")
            }
            Self::Task(_) => (StatusCode::INTERNAL_SERVER_ERROR, "task"),
        }
    }
}

impl IntoResponse for ShopError {
    /// The one place where an error becomes a status for the client and a cause for the row.
    fn into_response(self) -> Response {
        let (status, kind) = self.status_and_kind();
        with_activity(|a| a.error(&self).error_kind(kind));
        // The client is told what happened, and not why.
        (status, Json(json!({ "error": kind, "message": self.to_string() }))).into_response()
    }
}
