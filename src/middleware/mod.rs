//! The request's span for tower services over `http`'s types, and for actix-web.
//!
//! [`RequestSpanLayer`] opens the root span of each request under OpenTelemetry's names, follows
//! the answer to the end of its body, and then says that the request is over and how it went. With
//! it, method, route, status, outcome and duration are right whatever the framework tells.
//!
//! One layer is `layer`, its service is `layer`'s too, `future` waits for the answer, `body`
//! follows it, and `exchange` is the request they all speak of: the span, and the charge of the
//! activity's end. `span` opens it; `grpc`, `traceparent`, `peer`, `client` and `identity` read one
//! thing each of the head, `grpc_web` the trailers that a body holds, and `visit` asks the room
//! `visits` what cookies say. `copy` and `request_body` keep the start of bodies, where that is asked
//! for. `here` knows which exchange works on a thread, and `route` tells it from inside of a router
//! what that matched. `actix` is the same for actix-web, whose
//! services, bodies and types are its own.
//!
//! Invariants:
//! - Requests and answers pass untouched: no frame is held back, no body is boxed, the sizes and
//!   ends that bodies announce stay. Cookies are added where visits are followed by them.
//! - An exchange ends exactly once, also when it is dropped: by whoever drops it first.
//! - Without a subscriber nothing is read, recorded or allocated. With other subscribers than ours
//!   the span is theirs to use.
//! - A client's word is bounded: unknown methods are `_OTHER`, the raw path is never a name, and
//!   addresses and traces are believed of trusted peers only.
//!
//! Absent on purpose: columns, clocks, sampling.

#[cfg(feature = "actix")]
#[cfg_attr(docsrs, doc(cfg(feature = "actix")))]
pub mod actix;
mod body;
mod client;
mod copy;
mod exchange;
mod future;
mod grpc;
mod grpc_web;
mod here;
mod identity;
mod layer;
mod peer;
mod request_body;
mod route;
mod span;
mod traceparent;
mod visit;

pub use body::ResponseBody;
pub use future::ResponseFuture;
pub use identity::{Identity, IdentityLayer, IdentityService};
pub use layer::{RequestSpan, RequestSpanLayer};
pub use request_body::{RequestBody, RequestBodyLayer, RequestBodyService};
pub use route::{RouteLayer, RouteService};
pub use traceparent::{ParseTraceparentError, Traceparent};
