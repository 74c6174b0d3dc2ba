//! The code path of real spans, on the real layer: what shows in `trace_hash` and what does not.
//!
//! Random programs run on the layer in two ways that differ in nothing that should show.
//! `PROPTEST_CASES=10000 cargo test --test it paths` tries more of them.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use tracing::{Span, error, info_span};
use tracing_activity::testing::{Capture, CapturedActivity};

use crate::support::request;

/// A step of a program.
#[derive(Debug, Clone)]
enum Step {
    /// A span around further steps.
    Span(usize, Vec<Step>),
    /// The same, as often as the way of running says, but more than once.
    Loop(Vec<Step>),
    /// Spans that are open at the same time.
    Together(Vec<(usize, Vec<Step>)>),
    /// An event at level ERROR.
    Fails,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let leaf = prop_oneof![
        4 => (0..4_usize).prop_map(|kind| Step::Span(kind, Vec::new())),
        1 => Just(Step::Fails),
    ];
    let step = leaf.prop_recursive(3, 12, 4, |inner| {
        let some = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            3 => (0..4_usize, some()).prop_map(|(kind, steps)| Step::Span(kind, steps)),
            1 => some().prop_map(Step::Loop),
            1 => prop::collection::vec((0..4_usize, some()), 2..4).prop_map(Step::Together),
        ]
    });
    prop::collection::vec(step, 1..5)
}

/// How a program is run: nothing of it may show.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Values of fields.
    value: u64,
    /// Turns of every loop.
    turns: usize,
    /// The spans stand on other lines of the source.
    other_lines: bool,
    /// What runs at the same time begins, and ends, in another order.
    turned_round: bool,
    /// Microseconds that each span takes.
    takes: u64,
    /// Every span is entered on a thread of its own.
    other_threads: bool,
}

fn way(other_threads: impl Strategy<Value = bool>) -> impl Strategy<Value = Way> {
    (any::<u64>(), 2..5_usize, any::<[bool; 2]>(), 0..4_u64, other_threads).prop_map(
        |(value, turns, [other_lines, turned_round], takes, other_threads)| Way {
            value,
            turns,
            other_lines,
            turned_round,
            takes,
            other_threads,
        },
    )
}

/// A span of one of four kinds, from one of two lines.
fn open(kind: usize, way: Way) -> Span {
    let value = way.value;
    match (kind, way.other_lines) {
        (0, false) => info_span!("query", id = value),
        (0, true) => info_span!("query", id = value),
        (1, false) => info_span!("render", page = value, otel.kind = "internal"),
        (1, true) => info_span!("render", page = value, otel.kind = "internal"),
        (2, false) => tracing::warn_span!("retry", attempt = ?value),
        (2, true) => tracing::warn_span!("retry", attempt = ?value),
        (_, false) => info_span!("query", id = value, late = tracing::field::Empty),
        (_, true) => info_span!("query", id = value, late = tracing::field::Empty),
    }
}

fn run(steps: &[Step], way: Way) {
    for step in steps {
        match step {
            Step::Fails => error!(value = way.value, "it failed"),
            Step::Span(kind, steps) => inside(&open(*kind, way), steps, way),
            Step::Loop(steps) => (0..way.turns).for_each(|_| run(steps, way)),
            Step::Together(members) => {
                let mut order: Vec<usize> = (0..members.len()).collect();
                if way.turned_round {
                    order.reverse();
                }
                let open: Vec<(Span, &[Step])> =
                    order.iter().map(|at| (open(members[*at].0, way), &*members[*at].1)).collect();
                for (span, steps) in open.iter().rev() {
                    inside(span, steps, way);
                }
                // Each is left for the last time after all have begun.
                for (span, _) in &open {
                    span.in_scope(|| ());
                }
            }
        }
    }
}

fn inside(span: &Span, steps: &[Step], way: Way) {
    let work = || {
        span.in_scope(|| {
            crate::support::spin(Duration::from_micros(way.takes));
            run(steps, way);
        });
    };
    if way.other_threads {
        std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    } else {
        work();
    }
}

/// Runs the program in both ways.
fn both(program: &[Step], ways: [Way; 2]) -> [CapturedActivity; 2] {
    let capture = Capture::begin();
    for way in ways {
        request!("http.response.status_code" = 200, user.id = way.value)
            .in_scope(|| run(program, way));
    }
    let captured = capture.finish().into_vec();
    captured.try_into().expect("two requests")
}

proptest! {
    #[test]
    fn values_lines_counts_times_and_the_order_of_what_overlaps_do_not_show(
        program in steps(), one in way(Just(false)), other in way(Just(false)),
    ) {
        let [a, b] = both(&program, [one, other]);
        prop_assert_eq!(a.shape.to_string(), b.shape.to_string());
        prop_assert_eq!(a.activity.trace_hash, b.activity.trace_hash);
        prop_assert_eq!(a.activity.trace_hash, Some(a.shape.trace_hash()));
        prop_assert_ne!(a.activity.activity_id, b.activity.activity_id);
    }

    #[test]
    fn the_thread_does_not_show(program in steps(), one in way(Just(false)), other in way(Just(true))) {
        let [a, b] = both(&program, [one, other]);
        prop_assert_eq!(a.shape.to_string(), b.shape.to_string());
        prop_assert_eq!(a.activity.trace_hash, b.activity.trace_hash);
    }

    #[test]
    fn a_hash_that_is_remembered_is_the_one_of_the_shape(
        programs in prop::collection::vec(steps(), 2..5), ways in prop::collection::vec(way(Just(false)), 2),
    ) {
        let capture = Capture::begin();
        for way in ways {
            for program in &programs {
                request!("http.response.status_code" = 200).in_scope(|| run(program, way));
            }
        }
        for CapturedActivity { activity, shape, .. } in capture.finish().into_vec() {
            prop_assert_eq!(activity.trace_hash, Some(shape.trace_hash()), "{}", shape);
        }
    }

    #[test]
    fn one_more_span_shows_wherever_it_runs(program in steps(), way in way(Just(false)), at in any::<usize>()) {
        let capture = Capture::begin();
        for grown in [false, true] {
            let mut program = program.clone();
            if grown {
                insert(&mut program, at);
            }
            request!("http.response.status_code" = 200).in_scope(|| run(&program, way));
        }
        let captured = capture.finish();
        prop_assert_ne!(captured[0].trace_hash, captured[1].trace_hash);
    }
}

/// Puts a span in a list of steps somewhere in the program, at its end, around a failure that no
/// other span has.
fn insert(program: &mut Vec<Step>, at: usize) {
    let here = at.is_multiple_of(3);
    let inner = program.iter_mut().find_map(|step| match step {
        Step::Span(_, steps) | Step::Loop(steps) => Some(steps),
        Step::Together(members) => members.first_mut().map(|(_, steps)| steps),
        Step::Fails => None,
    });
    match inner {
        Some(inner) if !here => insert(inner, at / 3),
        _ => {
            // Four deep of one kind: the programs drawn are not.
            let deep = (0..6).fold(Vec::new(), |steps, _| vec![Step::Span(2, steps)]);
            program.extend(deep);
        }
    }
}

#[test]
fn spans_that_take_no_time_at_all_overlap_all_the_same() {
    let began = Instant::now();
    let capture = Capture::begin();
    for turned_round in [false, true] {
        let way = Way {
            value: 1,
            turns: 2,
            other_lines: false,
            turned_round,
            takes: 0,
            other_threads: false,
        };
        let members = vec![(0, Vec::new()), (1, Vec::new())];
        request!().in_scope(|| run(&[Step::Together(members)], way));
    }
    let captured = capture.finish();
    assert!(captured[0].shape.to_string().contains("& at the same time"), "{captured}");
    assert_eq!(captured[0].shape, captured[1].shape, "after {:?}", began.elapsed());
}

/// What two spans of one callsite may have, which the callsite does not declare.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Twist {
    Kind(&'static str),
    Fails,
    Panics,
    Nested,
    Overlaps,
}

fn walk(twists: &[Twist]) {
    let kind =
        twists.iter().find_map(|it| if let Twist::Kind(kind) = it { Some(kind) } else { None });
    let open = || info_span!("step", otel.kind = kind);
    let has = |twist| twists.contains(&twist);
    let one = open();
    let other = has(Twist::Overlaps).then(open);
    let work = || {
        one.in_scope(|| {
            if has(Twist::Fails) {
                error!("it failed");
            }
            if has(Twist::Nested) {
                open().in_scope(|| ());
            }
            assert!(!has(Twist::Panics), "on purpose");
        });
    };
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    if !has(Twist::Nested) {
        other.unwrap_or_else(open).in_scope(|| ());
    }
}

#[test]
fn paths_over_the_same_lines_are_not_taken_for_one_another() {
    let paths: [&[Twist]; 7] = [
        &[],
        &[Twist::Kind("client")],
        &[Twist::Kind("server")],
        &[Twist::Fails],
        &[Twist::Panics],
        &[Twist::Nested],
        &[Twist::Overlaps, Twist::Fails],
    ];
    let capture = Capture::begin();
    for path in [paths, paths].concat() {
        request!("http.response.status_code" = 200).in_scope(|| walk(path));
    }
    let all = capture.finish().into_vec();
    let hashes: Vec<_> = all.iter().map(|it| it.activity.trace_hash).collect();
    let shapes: Vec<_> = all.iter().map(|it| Some(it.shape.trace_hash())).collect();
    assert_eq!(hashes, shapes);
    assert_eq!(hashes[..paths.len()], hashes[paths.len()..], "the second time as the first");
    let distinct: std::collections::HashSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), paths.len());
}
