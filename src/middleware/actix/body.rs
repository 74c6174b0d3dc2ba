//! [`ResponseBody`] as actix-web's servers ask for it.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;

use crate::capture::Breakage;
use crate::middleware::body::ResponseBody;
use crate::middleware::exchange::Exchange;

/// The body whose end will be the exchange's.
pub(super) fn following<B: MessageBody>(inner: B, exchange: Exchange) -> ResponseBody<B> {
    let remaining = match inner.size() {
        // actix-web does not ask for what is not there.
        BodySize::None | BodySize::Sized(0) => {
            exchange.complete();
            return ResponseBody::new(inner);
        }
        BodySize::Sized(bytes) => Some(bytes),
        BodySize::Stream => {
            exchange.streams();
            None
        }
    };
    ResponseBody { inner: Some(inner), exchange: Some(exchange), remaining }
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
