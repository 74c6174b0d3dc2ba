//! [`ResponseFuture`]: the wait for the head of the answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::HttpMessage as _;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use pin_project_lite::pin_project;
use tracing::instrument::Instrumented;

use super::body::following;
use super::head::{response_parts, set_cookies, status_parts};
use super::layer::ReadWho;
use crate::capture::guarded;
use crate::middleware::body::ResponseBody;
use crate::middleware::exchange::Exchange;

pin_project! {
    /// The future of [`RequestSpan`](super::RequestSpan).
    ///
    /// Dropping it before it is ready means that the client went away, or that the runtime is shutting
    /// down.
    pub struct ResponseFuture<F> {
        // Dropped first, inside its span.
        #[pin]
        inner: Instrumented<F>,
        exchange: Option<Exchange>,
        identity: Option<ReadWho>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(
        inner: Instrumented<F>,
        exchange: Option<Exchange>,
        identity: Option<ReadWho>,
    ) -> Self {
        Self { inner, exchange, identity }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, actix_web::Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<ResponseBody<B>>, actix_web::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.exchange {
            None => ready!(this.inner.poll(cx)),
            // The inner future enters the span itself.
            Some(exchange) => ready!(exchange.guarded(|| this.inner.poll(cx))),
        };
        let (exchange, identity) = (this.exchange.take(), this.identity.take());
        Poll::Ready(match (answer, exchange) {
            (Ok(response), Some(exchange)) => Ok(answered(response, exchange, identity)),
            (Ok(response), None) => Ok(response.map_body(|_, body| ResponseBody::new(body))),
            (Err(error), exchange) => {
                if let Some(exchange) = exchange {
                    refused(&error, exchange);
                }
                Err(error)
            }
        })
    }
}

/// The answer whose body will end the exchange, unless there is none to wait for.
fn answered<B: MessageBody>(
    mut response: ServiceResponse<B>,
    mut exchange: Exchange,
    identity: Option<ReadWho>,
) -> ServiceResponse<ResponseBody<B>> {
    if let Some(read) = identity {
        let extensions = response.request().extensions();
        if let Some(who) = guarded(|| read(&extensions)) {
            exchange.is(&who);
        }
    }
    let parts = response_parts(&response);
    exchange.answered(&parts);
    set_cookies(exchange.cookies(&parts), &mut response);
    if let Some(error) = response.response().error() {
        exchange.says(error);
    }
    if exchange.ends_with_head(parts.status) {
        exchange.complete();
        return response.map_body(|_, body| ResponseBody::new(body));
    }
    response.map_body(|_, body| following(body, exchange))
}

/// The error that actix-web makes the answer of, out of our sight.
fn refused(error: &actix_web::Error, mut exchange: Exchange) {
    exchange.answered(&status_parts(error.as_response_error().status_code()));
    exchange.says(error);
    exchange.complete();
}
