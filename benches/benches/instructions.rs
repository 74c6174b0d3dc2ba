#![allow(missing_docs, reason = "the macros make public items")]
//! Instructions of the request's thread under callgrind: the same on a busy machine and a quiet
//! one, so they gate.

use benchmarks::{Peer, Session, Shape};
use gungraun::{library_benchmark, library_benchmark_group, main};

const REQUESTS: u64 = 100;

fn warm(peer: Peer) -> Session {
    let session = Session::new(peer);
    session.run(Shape::Usual, REQUESTS);
    session.settle();
    session
}

#[library_benchmark(setup = warm)]
#[bench::floor(Peer::Floor)]
#[bench::activity(Peer::Activity)]
#[bench::root_only(Peer::RootOnly)]
#[bench::stalled(Peer::Stalled)]
#[bench::fmt_json(Peer::FmtJson)]
#[bench::otel(Peer::OpenTelemetry)]
#[bench::stacked(Peer::Stacked)]
#[bench::fastrace(Peer::Fastrace)]
fn usual(session: Session) -> Session {
    session.run(Shape::Usual, REQUESTS);
    session
}

library_benchmark_group!(name = requests; benchmarks = usual);
main!(library_benchmark_groups = requests);
