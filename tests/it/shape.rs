//! `trace_hash`: alike what took the same code path, different what did not.
//!
//! `PROPTEST_CASES=10000 cargo test --test it shape` tries more than the usual few cases.

use proptest::prelude::*;
use tracing::{error, info_span};
use tracing_activity::model::{Activity, Level, TraceHash};
use tracing_activity::shape::{Shape, ShapeSpan, trace_hash};

use crate::support::{capture, capture_one, capture_with, config, request};
use crate::trees::{FRESH, Tree, names, tree, trees};

proptest! {
    #[test]
    fn which_of_several_at_a_time_begins_or_ends_first_does_not_show(
        tree in tree(), one in any::<u64>(), other in any::<u64>(),
    ) {
        prop_assert_eq!(tree.hash_when(one), tree.hash_when(other));
    }

    #[test]
    fn how_often_a_loop_turns_does_not_show_but_that_it_does(
        tree in tree(), at in any::<usize>(), steps in 1..4_usize, times in 2..12_usize,
    ) {
        let turning = |times: usize| {
            let turn = (0..steps).map(|step| Tree::of(FRESH[step]).with(Tree::of(1)));
            let turns: Vec<Tree> = (0..times).flat_map(|_| turn.clone()).collect();
            tree.clone().changed(at, |node| node.then(turns)).hash()
        };
        prop_assert_eq!(turning(times), turning(2));
        prop_assert_ne!(turning(times), turning(1));
    }

    #[test]
    fn the_branches_that_the_turns_of_a_loop_took_do_not_show_one_by_one(
        tree in tree(), at in any::<usize>(), branches in prop::collection::vec(any::<bool>(), 0..20),
    ) {
        let turning = |branches: &[bool]| {
            let turns = [&[true, false], branches, &[true, false]].concat();
            let turns = turns.into_iter().map(|branch| Tree::of(FRESH[usize::from(branch)]));
            tree.clone().changed(at, |node| node.then(turns.collect())).hash()
        };
        prop_assert_eq!(turning(&branches), turning(&[]));
    }

    #[test]
    fn a_span_that_is_new_or_vanished_shows(tree in tree(), at in any::<usize>(), place in any::<usize>()) {
        let grown = tree.clone().changed(at, |node| node.insert(place, Tree::of(FRESH[0])));
        prop_assert_ne!(grown.hash(), tree.hash());
    }

    #[test]
    fn a_subtree_that_is_new_or_vanished_shows(tree in tree(), new in tree(), at in any::<usize>()) {
        let grown = tree.clone().changed(at, |node| node.insert(0, Tree::of(FRESH[0]).with(new.clone())));
        prop_assert_ne!(grown.hash(), tree.hash());
    }

    #[test]
    fn a_span_that_moved_one_level_down_shows(tree in tree(), at in any::<usize>()) {
        let below = Tree::of(FRESH[1]);
        let beside = tree.clone().changed(at, |node| node.then(vec![below.clone(), Tree::of(FRESH[0])]));
        let inside = tree.changed(at, |node| node.then(vec![below.clone().with(Tree::of(FRESH[0]))]));
        prop_assert_ne!(beside.hash(), inside.hash());
    }

    #[test]
    fn a_span_that_got_another_around_it_shows(tree in tree(), at in any::<usize>()) {
        let wrapped = tree.clone().changed(at, |node| *node = Tree::of(FRESH[0]).with(node.clone()));
        prop_assert_ne!(wrapped.hash(), tree.hash());
    }

    #[test]
    fn the_class_of_an_error_and_its_place_show(tree in tree(), at in any::<usize>()) {
        let failing = |error| tree.clone().changed(at, |node| node.error = error).hash();
        prop_assert_ne!(failing("timeout"), tree.hash());
        prop_assert_ne!(failing("timeout"), failing("refused"));
        let above = tree.clone().changed(at, |node| {
            node.error = "timeout";
            node.steps = vec![vec![Tree::of(FRESH[0])]];
        });
        let below = tree.clone().changed(at, |node| {
            node.steps = vec![vec![Tree { error: "timeout", ..Tree::of(FRESH[0]) }]];
        });
        prop_assert_ne!(above.hash(), below.hash());
    }

    #[test]
    fn the_names_and_the_order_of_declared_fields_show(tree in tree(), at in any::<usize>()) {
        let declaring = |fields| tree.clone().changed(at, |node| node.fields = fields).hash();
        let hashes = [&[] as &[_], &["x"], &["y"], &["x", "y"], &["y", "x"], &["xy"]].map(declaring);
        for (n, hash) in hashes.iter().enumerate() {
            prop_assert!(!hashes[..n].contains(hash), "the fields of number {n}");
        }
    }

    #[test]
    fn level_kind_target_and_name_show(tree in tree(), at in any::<usize>()) {
        let changed = |change: fn(&mut Tree)| tree.clone().changed(at, change).hash();
        let base = changed(|node| *node = Tree { level: Level::Info, kind: "", target: "shop", name: "a", ..node.clone() });
        for change in [
            (|node| *node = Tree { level: Level::Debug, kind: "", target: "shop", name: "a", ..node.clone() }) as fn(&mut Tree),
            |node| *node = Tree { level: Level::Info, kind: "client", target: "shop", name: "a", ..node.clone() },
            |node| *node = Tree { level: Level::Info, kind: "", target: "shop::b", name: "a", ..node.clone() },
            |node| *node = Tree { level: Level::Info, kind: "", target: "shop", name: "b", ..node.clone() },
        ] {
            prop_assert_ne!(changed(change), base);
        }
    }

    #[test]
    fn whether_a_step_ran_once_or_several_times_shows(
        tree in tree(), at in any::<usize>(), times in 2..40_usize, at_once in any::<bool>(),
    ) {
        let repeated = |times: usize| {
            let steps = vec![Tree::of(FRESH[0]); times];
            let steps = if at_once { vec![steps] } else { steps.into_iter().map(|it| vec![it]).collect() };
            tree.clone().changed(at, |node| node.steps.extend(steps.clone())).hash()
        };
        prop_assert_ne!(repeated(1), repeated(times));
        prop_assert_eq!(repeated(2), repeated(times));
    }

    #[test]
    fn order_shows_and_so_does_running_at_the_same_time(tree in tree(), at in any::<usize>()) {
        let [a, b] = [0, 1].map(|n| Tree::of(FRESH[n]));
        let with = |steps: &[Vec<Tree>]| {
            tree.clone().changed(at, |node| node.steps.extend_from_slice(steps)).hash()
        };
        let in_order = with(&[vec![a.clone()], vec![b.clone()]]);
        let reversed = with(&[vec![b.clone()], vec![a.clone()]]);
        let together = with(&[vec![a.clone(), b.clone()]]);
        prop_assert_ne!(in_order, reversed);
        prop_assert_ne!(in_order, together);
        prop_assert_ne!(reversed, together);
    }

    #[test]
    fn the_text_of_a_shape_is_equal_where_its_hash_is_and_nowhere_else((one, other) in trees()) {
        let (a, b) = (one.shape(), other.shape());
        prop_assert_eq!(a.to_string() == b.to_string(), one.hash() == other.hash(), "\n{}\n\n{}", a, b);
        prop_assert_eq!(a == b, one.hash() == other.hash());
        prop_assert_eq!(a.changes(&b).is_empty(), one.hash() == other.hash(), "{:?}", a.changes(&b));
    }

    #[test]
    fn the_text_of_a_shape_is_read_back_whatever_the_names(tree in tree(), odd in names(), at in any::<usize>()) {
        let [name, target, kind, error, field, other] = odd.each_ref().map(String::as_str);
        let fields = [field, other, field];
        let mut spans = tree.spans(1);
        let at = at % spans.len();
        spans[at] = ShapeSpan { name, target, kind, error, fields: &fields, ..spans[at] };
        let shape = Shape::of(&spans).unwrap();
        let read: Shape = shape.to_string().parse().unwrap();
        prop_assert_eq!(&read, &shape, "\n{}", shape);
        prop_assert_eq!(read.to_string(), shape.to_string());
        prop_assert_eq!(Some(read.trace_hash()), trace_hash(&spans));
        prop_assert_eq!(Some(shape.trace_hash()), trace_hash(&spans));
    }
}

#[test]
fn a_text_that_is_none_of_a_shape_is_refused_with_line_and_reason() {
    for (text, line, reason) in [
        ("", 1, "expected a span"),
        ("page\n   query", 2, "unevenly"),
        ("page\nquery", 2, "indented like the first"),
        ("page\n    query", 2, "unevenly"),
        ("page  x2+", 1, "runs once"),
        ("page  quickly", 1, "expected `in TARGET`"),
        ("page  {id}  in shop", 1, "another order"),
        ("page  in shop  in shop", 1, "another order"),
        ("page  {id", 1, "behind a field"),
        ("page  fails: ", 1, "expected"),
        ("\"page", 1, "as in JSON"),
        ("page\n  & at the same time\n    query", 2, "at least two"),
        ("page\n  & at the same time\n    a  x2+\n    b", 4, "x2+"),
    ] {
        let error = text.parse::<Shape>().expect_err(text).to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
        assert!(error.contains(&format!("line {line} ")), "{text:?}: {error}");
    }
}

#[test]
fn a_shape_of_any_depth_is_dropped_and_of_the_greatest_recorded_printed_and_read_on_a_small_stack()
{
    let deep = |levels: u32| {
        let span = |parent| ShapeSpan {
            name: "deeper",
            target: "shop",
            level: Level::Info,
            kind: "",
            fields: &[],
            error: "",
            parent,
            ended: levels,
        };
        let spans: Vec<_> = (0..levels).map(|at: u32| span(at.saturating_sub(1))).collect();
        Shape::of(&spans).unwrap()
    };
    let run = move || {
        let shape = deep(251);
        assert_eq!(shape.to_string().parse::<Shape>().unwrap(), shape);
        drop(deep(65_535));
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_parent_that_does_not_stand_before_its_child_counts_as_the_root() {
    let mut spans = Tree::of(0).spans(1);
    spans.push(ShapeSpan { name: "query", ended: 2, ..spans[0] });
    let right = trace_hash(&spans);
    spans[1].parent = 1;
    assert_eq!(trace_hash(&spans), right);
    spans[1].parent = 7;
    assert_eq!(trace_hash(&spans), right);
    assert_eq!(trace_hash(&[]), None);
}

#[test]
fn many_children_hash_as_few_do() {
    let root = |turns: usize| {
        let turns = (0..turns).flat_map(|_| [Tree::of(1), Tree::of(2)]).collect();
        let mut root = Tree::of(0);
        root.then(turns);
        root.hash()
    };
    assert_eq!(root(2), root(400));
    assert_ne!(root(1), root(400));
}

/// The vectors of the specification: a change here is a new version of it.
#[test]
fn the_vectors_of_the_specification_hold() {
    let text = include_str!("shape_vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 20);
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
                ended: number(&span["ended"]),
            })
            .collect();
        let hash = trace_hash(&spans).unwrap().to_string();
        assert_eq!(hash, text(&vector["trace_hash"]), "{}", vector["about"]);
        let shape = Shape::of(&spans).unwrap();
        assert_eq!(shape.to_string(), text(&vector["text"]), "{}", vector["about"]);
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
fn what_the_caps_leave_out_of_the_row_is_not_left_out_of_the_hash() {
    let mut caps = config();
    (caps.capture.max_fields, caps.capture.max_events) = (10, 2);
    let mut small = config();
    small.capture.max_row_bytes = 40;
    for config in [caps, small] {
        let (activities, stats) = capture_with(config, || {
            for turns in [3, 300] {
                request!("http.response.status_code" = 200).in_scope(|| {
                    for n in 0..turns {
                        let query = info_span!("query", n, text = "SELECT", otel.kind = "client");
                        query.in_scope(|| error!("gone"));
                        let later = info_span!("later", n, otel.kind = tracing::field::Empty);
                        later.record("otel.kind", tracing::field::display("PRODUCER"));
                    }
                });
            }
        });
        assert!(stats.truncated > 0, "a cap was reached");
        assert_eq!(activities[0].trace_hash, activities[1].trace_hash);
    }
}

#[test]
fn a_kind_that_another_thread_records_counts_as_one_of_the_same_thread() {
    let run = |kind: Option<&'static str>, elsewhere: bool| {
        capture_one(|| {
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            request!("http.response.status_code" = 200).in_scope(|| {
                let pay = info_span!("pay", otel.kind = tracing::field::Empty);
                let record = || {
                    if let Some(kind) = kind {
                        pay.record("otel.kind", kind);
                    }
                };
                if elsewhere {
                    let record = || tracing::dispatcher::with_default(&dispatch, record);
                    std::thread::scope(|scope| scope.spawn(record).join().unwrap());
                } else {
                    record();
                }
            });
        })
        .trace_hash
        .unwrap()
    };
    assert_eq!(run(Some("client"), true), run(Some("Client"), false));
    assert_ne!(run(Some("client"), true), run(None, true));
    assert_eq!(run(Some("a word of its own"), true), run(None, true));
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

/// As in every other build and on every other machine: `cargo xtask builds` makes two of them.
#[test]
fn the_hash_of_real_spans_is_the_same_in_every_build() {
    let activity = capture_one(|| {
        let root = info_span!(target: "shop", "request", http.request.method = "GET");
        root.in_scope(|| {
            for id in 0..3 {
                info_span!(target: "shop", "query", id).in_scope(|| ());
            }
            let pay = tracing::warn_span!(target: "shop", "pay", otel.kind = "CLIENT");
            pay.in_scope(|| error!("gone"));
        });
    });
    assert_eq!(activity.trace_hash.unwrap().to_string(), "587ce61a5bc219bccd557f4f88065e7b");
}
