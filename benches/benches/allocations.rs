//! Allocations of the request's thread: exact, so they gate.
//!
//! Prints one JSON object. With `--check`, ends with an error above the bars.

use benchmarks::{Counting, Peer, Session, Shape, allocations};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations a request may make, and one child of it.
const BARS: (f64, f64) = (2.0, 0.0);

/// Bursts of requests, between which the worker catches up as it does in a service.
const ROUNDS: u64 = 20;
const BURST: u64 = 64;

/// Allocations per request of this shape, once everything is warm.
fn per_request(peer: Peer, shape: Shape) -> f64 {
    let session = Session::new(peer);
    let mut made = 0;
    for round in 0..2 * ROUNDS {
        session.settle();
        let before = allocations();
        session.run(shape, BURST);
        if round >= ROUNDS {
            made += allocations() - before;
        }
    }
    made as f64 / (ROUNDS * BURST) as f64
}

fn main() {
    let request = per_request(Peer::Activity, Shape::Usual);
    let (few, many) = (Shape::Children(10), Shape::Children(30));
    let of_children = per_request(Peer::Activity, many) - per_request(Peer::Activity, few);
    let child = of_children / 20.0;
    let peers: Vec<String> = Peer::ALL
        .into_iter()
        .map(|peer| format!("\"{}\":{:.2}", peer.name(), per_request(peer, Shape::Usual)))
        .collect();
    println!(
        "{{\"allocations_per_request\":{request:.2},\"allocations_per_child\":{child:.3},\"peers\":{{{}}}}}",
        peers.join(",")
    );
    let (max_request, max_child) = BARS;
    // A request now and then finds the pool empty, or a list that must grow.
    let slack = 0.05;
    if std::env::args().any(|it| it == "--check")
        && (request > max_request + slack || child > max_child + slack)
    {
        eprintln!(
            "allocations: {request} a request (bar {max_request}), {child} a child (bar {max_child})"
        );
        std::process::exit(1);
    }
}
