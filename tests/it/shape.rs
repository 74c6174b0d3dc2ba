//! `trace_hash`: alike what took the same code path, different what did not.

use proptest::prelude::*;
use tracing::{error, info_span};
use tracing_activity::model::{Activity, Level, TraceHash};
use tracing_activity::shape::{ShapeSpan, trace_hash};

use crate::support::{capture, capture_one, request};

/// A tree from which spans with times are made: sequential, so that nothing overlaps.
#[derive(Debug, Clone)]
struct Tree {
    name: usize,
    error: usize,
    children: Vec<Tree>,
}

/// Names of spans. The last and its error are for what a test adds: no drawn tree has them.
const NAMES: [&str; 7] = ["page", "query", "render", "pay", "mail", "check", "added"];
const DRAWN: usize = NAMES.len() - 1;
const ERRORS: [&str; 3] = ["", "error", "added"];

fn tree() -> impl Strategy<Value = Tree> {
    let leaf =
        (0..DRAWN, 0..2_usize).prop_map(|(name, error)| Tree { name, error, children: Vec::new() });
    leaf.prop_recursive(4, 30, 5, |inner| {
        (0..DRAWN, 0..2_usize, prop::collection::vec(inner, 0..5))
            .prop_map(|(name, error, children)| Tree { name, error, children })
    })
}

/// The spans of a tree whose leaves take `unit` microseconds, one after the other.
fn spans(tree: &Tree, unit: u32) -> Vec<ShapeSpan<'static>> {
    fn add(
        tree: &Tree,
        parent: u32,
        start: u32,
        unit: u32,
        out: &mut Vec<ShapeSpan<'static>>,
    ) -> u32 {
        let index = out.len();
        out.push(ShapeSpan {
            name: NAMES[tree.name],
            target: "shop",
            level: Level::Info,
            kind: "",
            fields: &["id"],
            error: ERRORS[tree.error],
            parent,
            start,
            duration: 0,
        });
        let mut now = start + unit;
        for child in &tree.children {
            now = add(child, index as u32, now, unit, out) + unit;
        }
        out[index].duration = now - start;
        now
    }
    let mut out = Vec::new();
    add(tree, 0, 0, unit, &mut out);
    out
}

fn hash(tree: &Tree) -> TraceHash {
    trace_hash(&spans(tree, 1)).unwrap()
}

/// A place in a tree, by a number that any tree can be asked for.
fn nth(tree: &mut Tree, n: usize) -> &mut Tree {
    fn count(tree: &Tree) -> usize {
        1 + tree.children.iter().map(count).sum::<usize>()
    }
    fn find(tree: &mut Tree, mut n: usize) -> &mut Tree {
        if n == 0 {
            return tree;
        }
        n -= 1;
        for child in &mut tree.children {
            let size = count(child);
            if n < size {
                return find(child, n);
            }
            n -= size;
        }
        unreachable!("n is below the count")
    }
    let n = n % count(tree);
    find(tree, n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn timings_do_not_show(tree in tree(), unit in 1_u32..1000) {
        prop_assert_eq!(trace_hash(&spans(&tree, unit)).unwrap(), hash(&tree));
    }

    #[test]
    fn a_step_repeated_in_a_row_shows_once_and_not_how_often(
        tree in tree(),
        at in 0..100_usize,
        times in 2..40_usize,
    ) {
        let repeat = |times: usize| {
            let mut tree = tree.clone();
            let inner = Tree { name: 2, error: 0, children: vec![] };
            let step = Tree { name: DRAWN, error: 0, children: vec![inner] };
            nth(&mut tree, at).children.extend(std::iter::repeat_n(step, times));
            hash(&tree)
        };
        prop_assert_eq!(repeat(times), repeat(2));
        prop_assert_ne!(repeat(times), repeat(1));
    }

    #[test]
    fn a_new_span_shows(tree in tree(), at in 0..100_usize) {
        let mut grown = tree.clone();
        nth(&mut grown, at).children.push(Tree { name: DRAWN, error: 0, children: vec![] });
        prop_assert_ne!(hash(&grown), hash(&tree));
    }

    #[test]
    fn where_an_error_arose_shows(tree in tree(), at in 0..100_usize) {
        let mut failed = tree.clone();
        nth(&mut failed, at).error = 2;
        prop_assert_ne!(hash(&failed), hash(&tree));
    }

    #[test]
    fn siblings_that_overlap_have_no_order(names in prop::collection::vec(0..DRAWN, 2..8), seed in any::<u64>()) {
        let overlapping = |names: &[usize]| {
            let mut spans = spans(&Tree { name: 0, error: 0, children: vec![] }, 1000);
            for (at, name) in names.iter().enumerate() {
                spans.push(ShapeSpan { name: NAMES[*name], start: 10 + at as u32, duration: 100, ..spans[0] });
            }
            trace_hash(&spans).unwrap()
        };
        let mut shuffled = names.clone();
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        prop_assert_eq!(overlapping(&names), overlapping(&shuffled));
    }
}

#[test]
fn the_order_of_steps_that_do_not_overlap_shows() {
    let leaf = |name| Tree { name, error: 0, children: vec![] };
    let of =
        |names: [usize; 2]| hash(&Tree { name: 0, error: 0, children: names.map(leaf).to_vec() });
    assert_ne!(of([1, 2]), of([2, 1]));
}

#[test]
fn a_changed_nesting_shows() {
    let leaf = |name, children| Tree { name, error: 0, children };
    let flat = leaf(0, vec![leaf(1, vec![]), leaf(2, vec![])]);
    let nested = leaf(0, vec![leaf(1, vec![leaf(2, vec![])])]);
    assert_ne!(hash(&flat), hash(&nested));
}

#[test]
fn a_parent_that_does_not_stand_before_its_child_counts_as_the_root() {
    let mut spans = spans(&Tree { name: 0, error: 0, children: vec![] }, 1);
    let child = ShapeSpan { name: "query", parent: 0, ..spans[0] };
    spans.push(child);
    let right = trace_hash(&spans);
    spans[1].parent = 1;
    assert_eq!(trace_hash(&spans), right);
    spans[1].parent = 7;
    assert_eq!(trace_hash(&spans), right);
    assert_eq!(trace_hash(&[]), None);
}

/// The vectors of the specification: a change here is a new version of it.
#[test]
fn the_vectors_of_the_specification_hold() {
    let text = include_str!("shape_vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 5);
    for vector in vectors {
        let text = |value: &serde_json::Value| -> &'static str {
            value.as_str().unwrap().to_owned().leak()
        };
        let number = |value: &serde_json::Value| value.as_u64().unwrap() as u32;
        let spans: Vec<ShapeSpan<'_>> = vector["spans"]
            .as_array()
            .unwrap()
            .iter()
            .map(|span| ShapeSpan {
                name: text(&span["name"]),
                target: text(&span["target"]),
                level: match text(&span["level"]) {
                    "trace" => Level::Trace,
                    "debug" => Level::Debug,
                    "info" => Level::Info,
                    "warn" => Level::Warn,
                    _ => Level::Error,
                },
                kind: text(&span["kind"]),
                fields: span["fields"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(text)
                    .collect::<Vec<_>>()
                    .leak(),
                error: text(&span["error"]),
                parent: number(&span["parent"]),
                start: number(&span["start"]),
                duration: number(&span["duration"]),
            })
            .collect();
        let hash = trace_hash(&spans).unwrap().to_string();
        assert_eq!(hash, text(&vector["trace_hash"]), "{}", vector["about"]);
    }
}

#[test]
fn every_collected_request_has_a_hash_and_a_loop_of_any_length_has_the_same() {
    let page = |queries: u32| {
        request!("http.response.status_code" = 200).in_scope(|| {
            for n in 0..queries {
                info_span!("query", n).in_scope(|| ());
            }
        });
    };
    let hashes: Vec<TraceHash> = capture(|| {
        page(1);
        page(3);
        page(300);
    })
    .iter()
    .map(|activity: &Activity| activity.trace_hash.unwrap())
    .collect();
    assert_eq!(hashes[1], hashes[2]);
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn a_request_that_fails_in_a_span_has_another_hash() {
    let run = |fails: bool| {
        capture_one(|| {
            request!("http.response.status_code" = 200).in_scope(|| {
                info_span!("query").in_scope(|| {
                    if fails {
                        error!("gone");
                    }
                });
            });
        })
        .trace_hash
        .unwrap()
    };
    assert_ne!(run(true), run(false));
}
