//! For the tests of an application: which activities a piece of code makes, and by which code path.
//!
//! ```
//! use tracing::info_span;
//! use tracing_activity::testing::capture;
//! use tracing_activity::assert_shape;
//!
//! fn page() {
//!     info_span!("request", http.request.method = "GET", http.route = "/basket").in_scope(|| {
//!         for id in 0..3 {
//!             info_span!("SELECT products", id).in_scope(|| ());
//!         }
//!     });
//! }
//!
//! let captured = capture(page);
//! assert_eq!(captured[0].route, "/basket");
//! # let _ = || // a doc test has no file that a snapshot could be stored in
//! assert_shape!(captured.only(), @"
//! request  in shop  {http.request.method, http.route}
//!   SELECT products  {id}  x2+
//! ");
//! ```
//!
//! `capture` gives what was made - [`CapturedActivity`], the row and its
//! [`Shape`](crate::shape::Shape) - by a function, [`capture_async`] by a future, [`Capture`] until
//! it is told to finish. [`assert_shape!`](crate::assert_shape) holds a shape to a snapshot that is
//! stored with the test, and says in words what is different.
//!
//! Invariants:
//! - A capture sees its own subscriber's spans only, so tests run side by side.
//! - Every trace is kept. Activities stand in the order in which they began.
//! - What has not ended when a capture finishes is waited for, up to a deadline, after which the
//!   test fails: half a shape is none.
//!
//! Absent on purpose: a comparison of values and times. The fields of
//! [`Activity`](crate::model::Activity) are there for `assert_eq!`.

mod capture;
mod follow;
mod snapshot;

pub use capture::{Capture, Captured, CapturedActivity, Unfinished, capture, capture_async};
#[doc(hidden)]
pub use insta as __insta;
pub use snapshot::ToShape;
#[doc(hidden)]
pub use snapshot::compare as __compare;
