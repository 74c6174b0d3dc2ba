//! Processor time of the request's thread, by shape and subscriber.
//!
//! `cargo bench --package benchmarks --bench requests -- usual` runs one group.

use std::time::Duration;

use benchmarks::{Peer, Session, Shape, ThreadTime};
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

/// Criterion's measure: processor time of this thread instead of the wall's.
struct ThreadCpu;

impl Measurement for ThreadCpu {
    type Intermediate = ThreadTime;
    type Value = Duration;

    fn start(&self) -> ThreadTime {
        ThreadTime::now()
    }

    fn end(&self, start: ThreadTime) -> Duration {
        start.elapsed()
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Requests in one sample of the inner loop.
const BURST: u64 = 64;

fn group(criterion: &mut Criterion<ThreadCpu>, name: &str, shape: Shape, peers: &[Peer]) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BURST));
    for peer in peers {
        let session = Session::new(*peer);
        let id = BenchmarkId::from_parameter(peer.name());
        group.bench_function(id, |bencher| {
            session.under(|| {
                // The worker keeps up, as it does in a service; overload is `stalled`.
                bencher.iter_batched(
                    || session.settle(),
                    |()| {
                        for n in 0..BURST {
                            session.request(shape, n);
                        }
                    },
                    BatchSize::PerIteration,
                );
            });
        });
    }
    group.finish();
}

fn main() {
    use Peer::{Activity, Floor, OpenTelemetry, RootOnly};
    let mut criterion = Criterion::default().with_measurement(ThreadCpu).configure_from_args();
    let three = [Floor, Activity, OpenTelemetry];
    group(&mut criterion, "usual", Shape::Usual, &Peer::ALL);
    group(&mut criterion, "children_99", Shape::Children(99), &three);
    group(&mut criterion, "events_1000", Shape::Events(1000), &three);
    group(&mut criterion, "polls_10", Shape::Polls, &three);
    group(&mut criterion, "threads_4", Shape::Threads(4), &three);
    group(&mut criterion, "root_only_children_99", Shape::Children(99), &[Floor, RootOnly]);
    for children in [1, 10, 100, 1000] {
        let name = format!("scale_{children}");
        group(&mut criterion, &name, Shape::Children(children), &[Floor, Activity]);
    }
    criterion.final_summary();
}
