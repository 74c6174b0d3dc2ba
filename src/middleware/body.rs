//! [`ResponseBody`]: the answer on its way to the client. Of actix-web's servers it is followed in
//! `actix::body`.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::exchange::Exchange;
use crate::capture::Breakage;

pin_project! {
    /// The body of an answer of `RequestSpan`, whether tower's or actix-web's.
    ///
    /// Its end is the request's end. Dropping it before means that the client went away, or that the
    /// runtime is shutting down.
    pub struct ResponseBody<B> {
        // Present until it is over: it is dropped inside of its span, and before the exchange.
        #[pin]
        pub(super) inner: Option<B>,
        pub(super) exchange: Option<Exchange>,
        // Bytes to come, where the body or the head told their number: a server does not ask for
        // the end of what it has in full.
        pub(super) remaining: Option<u64>,
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

impl<B> ResponseBody<B> {
    /// A body that nobody follows.
    pub(super) fn new(inner: B) -> Self {
        Self { inner: Some(inner), exchange: None, remaining: None }
    }
}

impl<B: Body> ResponseBody<B> {
    /// The body of an answer with this head, whose end will be the exchange's.
    pub(super) fn following(inner: B, headers: &HeaderMap, exchange: Exchange) -> Self {
        let remaining = inner.size_hint().exact().or_else(|| content_length(headers));
        if inner.is_end_stream() || remaining == Some(0) && !exchange.awaits_trailers() {
            exchange.complete();
            return Self::new(inner);
        }
        if remaining.is_none() {
            exchange.streams();
        }
        Self { inner: Some(inner), exchange: Some(exchange), remaining }
    }
}

/// The number of bytes that the head announces. A server sends no more of them, whatever follows.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: fmt::Debug> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Error: fmt::Display,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let Some(exchange) = this.exchange else { return inner.poll_frame(cx) };
        let frame = ready!(exchange.inside(|| inner.as_mut().poll_frame(cx)));
        let is_over = match &frame {
            None => {
                exchange.inside(|| this.inner.set(None));
                true
            }
            Some(Err(error)) => {
                if let Some(exchange) = this.exchange.take() {
                    exchange.failed(Breakage::Body, error);
                }
                return Poll::Ready(frame);
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    exchange.data(data);
                    let passed = data.remaining() as u64;
                    *this.remaining = this.remaining.map(|it| it.saturating_sub(passed));
                }
                let is_full = *this.remaining == Some(0) && !exchange.awaits_trailers();
                // Nothing follows trailers, and nobody asks.
                let trailers = frame.trailers_ref().inspect(|it| exchange.trailers(it));
                let is_told = trailers.is_some() || exchange.has_trailers_in_body();
                is_full || is_told || inner.is_end_stream()
            }
        };
        if is_over && let Some(exchange) = this.exchange.take() {
            exchange.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
