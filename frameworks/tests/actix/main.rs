//! `actix::RequestSpan` on real actix-web, over real sockets. Each test serves an application of
//! its own, whose worker has a subscriber of its own.

mod answers;
mod caller;
mod ends;
mod server;
mod targets;
