//! Copies of request bodies. Apart from [`RequestSpanLayer`](super::RequestSpanLayer), since it
//! changes the type of the request.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::copy::{append, wanted};
use super::span::header;
use crate::capture::{Captured, CapturedBody, CurrentActivity};

/// Keeps copies of request bodies, of the types that `ACTIVITY_CAPTURE_REQUEST` lists.
///
/// They come to `data`, under `http.request.body`. The layer goes inside of
/// [`RequestSpanLayer`](super::RequestSpanLayer), and outside of what decompresses bodies nothing
/// is kept of compressed ones. What the service does not read is not kept either.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::post};
/// use tracing_activity::middleware::{RequestBodyLayer, RequestSpanLayer};
///
/// let app: Router = Router::new()
///     .route("/orders", post(|body: String| async { body }))
///     .layer(RequestBodyLayer::new())
///     .layer(RequestSpanLayer::new());
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct RequestBodyLayer(());

impl RequestBodyLayer {
    /// A layer that keeps what is listed.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for RequestBodyLayer {
    type Service = RequestBodyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestBodyService { inner }
    }
}

/// A service whose request bodies are copied; made by [`RequestBodyLayer`].
#[derive(Debug, Clone)]
pub struct RequestBodyService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for RequestBodyService<S>
where
    S: Service<Request<RequestBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let copy = Copy::of(request.headers());
        self.inner.call(request.map(|inner| RequestBody { inner, copy }))
    }
}

pin_project! {
    /// A request body of which a copy is kept.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        copy: Option<Copy>,
    }
}

/// A copy under way. It is handed over when the body ends or is dropped.
struct Copy {
    activity: CurrentActivity,
    body: CapturedBody,
    max_bytes: usize,
}

impl Copy {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = header(headers, CONTENT_TYPE)?;
        let activity = CurrentActivity::get()?;
        let capture = activity.capture();
        let is_wanted = wanted(&capture.request, &content_type, headers.get(CONTENT_ENCODING));
        let (body, max_bytes) = (is_wanted?, capture.max_bytes);
        Some(Self { activity, body, max_bytes })
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if self.body.bytes.is_empty() {
            return;
        }
        let request = Some(std::mem::take(&mut self.body));
        self.activity.captured(Captured { request, ..Captured::default() });
    }
}

impl<B: Default> Default for RequestBody<B> {
    fn default() -> Self {
        Self { inner: B::default(), copy: None }
    }
}

impl<B: fmt::Debug> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        match (&frame, &mut *this.copy) {
            (Some(Ok(frame)), Some(copy)) => {
                if let Some(data) = frame.data_ref() {
                    append(&mut copy.body, data, copy.max_bytes);
                }
            }
            (None, copy) => drop(copy.take()),
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
