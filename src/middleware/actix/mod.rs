//! The request's span for actix-web.
//!
//! [`RequestSpan`] does for an actix-web application what
//! [`RequestSpanLayer`](super::RequestSpanLayer) does for tower services, and its rows are the
//! same: `layer` is the middleware, `head` brings actix-web's heads into the form that the rest of
//! the room reads, `future` waits for the answer, `body` follows it to its end.
//!
//! What is different here:
//! - The route is known before the request is routed: actix-web finds it by its resource map.
//! - An error that leaves the application is an answer: actix-web makes one of it. Its status
//!   tells the outcome, its text is the row's `error`.
//! - What authentication puts into the request's extensions is there when the answer comes, so that
//!   [`RequestSpan::identity`] needs no second middleware.
//!
//! Absent on purpose: capture of request bodies, gRPC.

mod body;
mod future;
mod head;
mod layer;

pub use super::body::ResponseBody;
pub use future::ResponseFuture;
pub use layer::{RequestSpan, RequestSpanService};
