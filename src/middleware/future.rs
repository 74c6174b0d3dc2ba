//! [`ResponseFuture`]: the wait for the head of the answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;
use tracing::instrument::Instrumented;

use super::body::ResponseBody;
use super::exchange::Exchange;
use super::visit::set_cookies;
use crate::capture::Breakage;

pin_project! {
    /// The future of [`RequestSpan`](super::RequestSpan).
    ///
    /// Dropping it before it is ready means that the client went away, or that the runtime is shutting
    /// down. Of a call of gRPC it may also be a limit that the server keeps outside of the layer.
    pub struct ResponseFuture<F> {
        // Dropped first, inside its span.
        #[pin]
        inner: Instrumented<F>,
        exchange: Option<Exchange>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: Instrumented<F>, exchange: Option<Exchange>) -> Self {
        Self { inner, exchange }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: fmt::Display,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(exchange) = this.exchange else {
            let answer = ready!(this.inner.poll(cx));
            return Poll::Ready(answer.map(|response| response.map(ResponseBody::new)));
        };
        // The inner future enters the span itself.
        let answer = ready!(exchange.guarded(|| this.inner.poll(cx)));
        let exchange = this.exchange.take();
        Poll::Ready(match answer {
            Ok(response) => Ok(answered(response, exchange)),
            Err(error) => {
                if let Some(exchange) = exchange {
                    exchange.failed(Breakage::Service, &error);
                }
                Err(error)
            }
        })
    }
}

/// The answer whose body will end the exchange, unless there is none to wait for.
fn answered<B: Body>(
    response: Response<B>,
    exchange: Option<Exchange>,
) -> Response<ResponseBody<B>> {
    let (mut parts, body) = response.into_parts();
    let body = match exchange {
        None => ResponseBody::new(body),
        Some(mut exchange) => {
            exchange.answered(&parts);
            set_cookies(exchange.cookies(&parts), &mut parts.headers);
            if exchange.ends_with_head(parts.status) {
                exchange.complete();
                ResponseBody::new(body)
            } else {
                ResponseBody::following(body, &parts.headers, exchange)
            }
        }
    };
    Response::from_parts(parts, body)
}
