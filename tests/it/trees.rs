//! Trees of which spans are made, for the properties of `trace_hash`.

use std::cell::RefCell;

use proptest::prelude::*;
use tracing_activity::model::{Level, TraceHash};
use tracing_activity::shape::{Shape, ShapeSpan, trace_hash};

/// A span, and the steps below it: each is one span, or several that run at the same time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    pub(crate) name: &'static str,
    pub(crate) target: &'static str,
    pub(crate) level: Level,
    pub(crate) kind: &'static str,
    pub(crate) fields: &'static [&'static str],
    pub(crate) error: &'static str,
    pub(crate) steps: Vec<Vec<Tree>>,
}

const NAMES: [&str; 9] =
    ["page", "query", "render", "pay", "mail", "check", "new one", "new two", "new three"];
/// Names that no drawn tree has.
pub(crate) const FRESH: [usize; 3] = [6, 7, 8];

/// A drawn tree, as wide and deep as those of small requests.
pub(crate) fn tree() -> impl Strategy<Value = Tree> {
    tree_of(0..FRESH[0], 24)
}

/// Two trees that are often alike: drawn from little, or one made out of the other.
pub(crate) fn trees() -> impl Strategy<Value = (Tree, Tree)> {
    let small = || tree_of(0..2, 5);
    prop_oneof![
        (small(), small()),
        (tree(), tree()),
        (tree(), any::<usize>(), any::<usize>()).prop_map(|(tree, at, place)| {
            let changed = tree.clone().changed(at, |node| node.insert(place, Tree::of(2)));
            (tree, changed)
        }),
        (tree(), any::<usize>()).prop_map(|(tree, at)| {
            let changed = tree.clone().changed(at, |node| node.steps.reverse());
            (tree, changed)
        }),
        (tree(), any::<usize>()).prop_map(|(tree, at)| {
            let changed = tree.clone().changed(at, |node| {
                let all = node.steps.concat();
                node.steps = vec![all];
            });
            (tree, changed)
        }),
    ]
}

fn tree_of(names: std::ops::Range<usize>, size: u32) -> impl Strategy<Value = Tree> {
    let span = (names, 0..2_usize, 0..4_usize).prop_map(|(name, error, look)| Tree {
        error: ["", "error"][error],
        level: if look == 1 { Level::Debug } else { Level::Info },
        kind: if look == 2 { "client" } else { "" },
        target: if look == 3 { "shop::store" } else { "shop" },
        ..Tree::of(name)
    });
    let leaf = span.boxed();
    leaf.clone().prop_recursive(4, size, 5, move |inner| {
        let step = prop_oneof![
            4 => prop::collection::vec(inner.clone(), 1..2),
            1 => prop::collection::vec(inner, 2..4),
        ];
        (leaf.clone(), prop::collection::vec(step, 0..5))
            .prop_map(|(span, steps)| Tree { steps, ..span })
    })
}

/// Texts as nobody should choose them.
pub(crate) fn names() -> impl Strategy<Value = [String; 6]> {
    let odd = prop_oneof![
        any::<String>(),
        "[ -~]{0,8}",
        "(in |kind |fails: |x2\\+|[{}&*\"\\\\,]| ){0,4}",
        Just("& at the same time".to_owned()),
        Just("debug".to_owned()),
    ];
    prop::array::uniform6(odd)
}

impl Tree {
    /// A span alone.
    pub(crate) fn of(name: usize) -> Self {
        Self {
            name: NAMES[name],
            target: "shop",
            level: Level::Info,
            kind: "",
            fields: &["id"],
            error: "",
            steps: Vec::new(),
        }
    }

    /// With one more step, after the others.
    pub(crate) fn with(mut self, step: Tree) -> Self {
        self.steps.push(vec![step]);
        self
    }

    /// Adds steps one after the other, after those that are there.
    pub(crate) fn then(&mut self, steps: Vec<Tree>) {
        self.steps.extend(steps.into_iter().map(|step| vec![step]));
    }

    /// Adds a step somewhere.
    pub(crate) fn insert(&mut self, place: usize, step: Tree) {
        self.steps.insert(place % (self.steps.len() + 1), vec![step]);
    }

    /// Changes the span at a place that any tree can be asked for.
    pub(crate) fn changed(mut self, at: usize, change: impl FnOnce(&mut Tree)) -> Self {
        change(self.nth(at));
        self
    }

    fn size(&self) -> usize {
        1 + self.steps.iter().flatten().map(Self::size).sum::<usize>()
    }

    fn nth(&mut self, at: usize) -> &mut Tree {
        fn find(tree: &mut Tree, mut at: usize) -> &mut Tree {
            if at == 0 {
                return tree;
            }
            at -= 1;
            for child in tree.steps.iter_mut().flatten() {
                let size = child.size();
                if at < size {
                    return find(child, at);
                }
                at -= size;
            }
            unreachable!("the place is below the size")
        }
        let at = at % self.size();
        find(self, at)
    }

    pub(crate) fn hash(&self) -> TraceHash {
        self.hash_when(1)
    }

    /// The hash where chance decides how what runs at the same time is interleaved.
    pub(crate) fn hash_when(&self, seed: u64) -> TraceHash {
        trace_hash(&self.spans(seed)).unwrap()
    }

    pub(crate) fn shape(&self) -> Shape {
        Shape::of(&self.spans(1)).unwrap()
    }

    /// The spans of the tree. The seed decides which of several at a time begin and end first.
    pub(crate) fn spans(&self, seed: u64) -> Vec<ShapeSpan<'static>> {
        let mut run = Run { spans: Vec::new(), rng: RefCell::new(fastrand::Rng::with_seed(seed)) };
        run.begin(self, 0);
        run.below(self, 0);
        run.spans[0].ended = run.spans.len() as u32;
        run.spans
    }
}

struct Run {
    spans: Vec<ShapeSpan<'static>>,
    rng: RefCell<fastrand::Rng>,
}

impl Run {
    fn begin(&mut self, tree: &Tree, parent: u32) -> u32 {
        let Tree { name, target, level, kind, fields, error, .. } = *tree;
        self.spans.push(ShapeSpan { name, target, level, kind, fields, error, parent, ended: 0 });
        self.spans.len() as u32 - 1
    }

    fn below(&mut self, tree: &Tree, index: u32) {
        for step in &tree.steps {
            let mut members: Vec<(&Tree, u32)> = step.iter().map(|member| (member, 0)).collect();
            self.rng.borrow_mut().shuffle(&mut members);
            for (member, begun) in &mut members {
                *begun = self.begin(member, index);
            }
            let all_begun = self.spans.len() as u32;
            self.rng.borrow_mut().shuffle(&mut members);
            for (member, begun) in &members {
                self.below(member, *begun);
            }
            // Each ends at some time after all have begun.
            let now = self.spans.len() as u32;
            for (_, begun) in members {
                let ended =
                    if step.len() == 1 { now } else { self.rng.borrow_mut().u32(all_begun..=now) };
                self.spans[begun as usize].ended = ended;
            }
        }
    }
}
