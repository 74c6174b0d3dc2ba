//! [`ResponseBody`]: the answer on its way to the client.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use pin_project_lite::pin_project;

use crate::capture::Breakage;
use crate::middleware::exchange::Exchange;

pin_project! {
    /// The body of an answer of [`RequestSpan`](super::RequestSpan).
    ///
    /// Its end is the request's end. Dropping it before means that the client went away.
    pub struct ResponseBody<B> {
        // Present until it is over: it is dropped inside of its span, and before the exchange.
        #[pin]
        inner: Option<B>,
        exchange: Option<Exchange>,
        // Bytes to come, where their number is known.
        remaining: Option<u64>,
    }

    impl<B> PinnedDrop for ResponseBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(exchange) = this.exchange {
                exchange.inside(|| this.inner.set(None));
            }
        }
    }
}

impl<B: MessageBody> ResponseBody<B> {
    pub(super) fn new(inner: B, exchange: Option<Exchange>) -> Self {
        Self { inner: Some(inner), exchange, remaining: None }
    }

    /// The body whose end will be the exchange's.
    pub(super) fn following(inner: B, exchange: Exchange) -> Self {
        let remaining = match inner.size() {
            // actix-web does not ask for what is not there.
            BodySize::None | BodySize::Sized(0) => {
                exchange.complete();
                return Self::new(inner, None);
            }
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::Stream => None,
        };
        Self { inner: Some(inner), exchange: Some(exchange), remaining }
    }
}

impl<B: fmt::Debug> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<B: MessageBody> MessageBody for ResponseBody<B> {
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.inner.as_ref().map_or(BodySize::None, MessageBody::size)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let Some(exchange) = this.exchange.as_mut() else {
            return inner.poll_next(cx).map_err(Into::into);
        };
        match ready!(exchange.inside(|| inner.as_mut().poll_next(cx))) {
            Some(Ok(part)) => {
                exchange.data(&part);
                *this.remaining = this.remaining.map(|it| it.saturating_sub(part.len() as u64));
                if *this.remaining == Some(0)
                    && let Some(exchange) = this.exchange.take()
                {
                    exchange.complete();
                }
                Poll::Ready(Some(Ok(part)))
            }
            Some(Err(error)) => {
                let error: Box<dyn Error> = error.into();
                if let Some(exchange) = this.exchange.take() {
                    exchange.failed(Breakage::Body, &error);
                }
                Poll::Ready(Some(Err(error)))
            }
            None => {
                exchange.inside(|| this.inner.set(None));
                if let Some(exchange) = this.exchange.take() {
                    exchange.complete();
                }
                Poll::Ready(None)
            }
        }
    }
}
