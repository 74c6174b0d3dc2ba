//! What capture costs, beside its peers: the requests that are traced, and the subscribers.
//!
//! Every variant traces the same requests. The floor is a registry with a layer that does nothing:
//! what `tracing` itself costs, whoever listens.

mod clock;
mod counting;
mod peers;
mod shapes;

pub use clock::ThreadTime;
pub use counting::{Counting, allocations};
pub use peers::{Peer, Session};
pub use shapes::{Shape, fastrace_request};
