//! `RequestSpanLayer` on real axum and real hyper, over real sockets. Each test serves an
//! application of its own, on a thread with a subscriber of its own.

mod answers;
mod caller;
mod capture;
mod ends;
mod many;
mod place;
mod rpc;
mod server;
mod streams;
mod targets;
mod visits;
mod web;
