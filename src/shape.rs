//! The shape of a trace: which code ran, in what order, and where it failed.
//!
//! [`trace_hash`] fingerprints a span tree by its structure alone, so that requests which took the
//! same code path have the same hash, whatever their values, timings and counts were. The
//! description that is hashed is specified in `docs/trace-hash.md`, by which another
//! implementation can reproduce it from the same spans; golden vectors hold the two together.
//! [`Shape`] is the same description for people: a text that is equal where the hash is.
//!
//! Invariants:
//! - Values, times, line numbers and ids never reach the hash. Whether siblings ran at the same
//!   time is a matter of what happened before what, and not of a clock.
//! - A loop of three and of three hundred turns are alike, however many steps a turn has and
//!   whichever way it branches, and differ from one turn.
//! - Siblings that ran at the same time have no order.
//! - A change of the description is a new [`VERSION`], which is hashed with it.
//!
//! Absent on purpose: what is kept or dropped (`sampling`).

mod changes;
mod parse;
mod tree;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

pub use parse::ParseShapeError;
pub use tree::Shape;

use crate::model::{Level, TraceHash};

/// The version of the description.
pub const VERSION: u8 = 2;

/// What the shape needs to know of a span.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShapeSpan<'a> {
    /// The span's name.
    pub name: &'a str,
    /// The module or target that made it.
    pub target: &'a str,
    /// Verbosity.
    pub level: Level,
    /// `otel.kind` in lower case, empty when it says none.
    pub kind: &'a str,
    /// Names of the fields that its callsite declares, in that order.
    pub fields: &'a [&'a str],
    /// Class of the error that arose in it, empty when none did.
    pub error: &'a str,
    /// Index of the parent, before this span; the root names itself.
    pub parent: u32,
    /// How many spans of the trace had begun when this one was last left. A later sibling with a
    /// lower index than this began before it had ended: the two ran at the same time.
    pub ended: u32,
}

/// The fingerprint of the tree whose root is the first span; `None` when there is none.
///
/// Spans stand in the order they began. A parent must stand before its children; a span for which that does not hold counts as a child
/// of the root.
///
/// ```
/// use tracing_activity::model::Level;
/// use tracing_activity::shape::{ShapeSpan, trace_hash};
///
/// let span = |name, parent, ended| ShapeSpan {
///     name, target: "shop", level: Level::Info, kind: "", fields: &["id"], error: "",
///     parent, ended,
/// };
/// let three = [span("page", 0, 4), span("query", 0, 2), span("query", 0, 3), span("query", 0, 4)];
/// let two = &three[..3];
/// let one = &three[..2];
/// assert_eq!(trace_hash(&three), trace_hash(two));
/// assert_ne!(trace_hash(two), trace_hash(one));
/// ```
#[must_use]
pub fn trace_hash(spans: &[ShapeSpan<'_>]) -> Option<TraceHash> {
    let children = children(spans);
    let mut hashes = vec![[0; 32]; spans.len()];
    let mut bytes = Vec::with_capacity(512);
    // Children stand behind their parents: from the end, every subtree is done before its parent.
    for index in (0..spans.len()).rev() {
        hashes[index] = subtree(spans, index, &children[index], &hashes, &mut bytes);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hashes.first()?[..16]);
    Some(TraceHash::from_bytes(short))
}

type Hash = [u8; 32];

/// By span, its children in the order they began.
fn children(spans: &[ShapeSpan<'_>]) -> Vec<Vec<u32>> {
    let mut children: Vec<Vec<u32>> = vec![Vec::new(); spans.len()];
    for (index, span) in spans.iter().enumerate().skip(1) {
        let parent = if (span.parent as usize) < index { span.parent } else { 0 };
        children[parent as usize].push(index as u32);
    }
    children
}

/// The hash of a span and what is below it. `bytes` is a buffer to describe it in.
fn subtree(
    spans: &[ShapeSpan<'_>],
    index: usize,
    children: &[u32],
    hashes: &[Hash],
    bytes: &mut Vec<u8>,
) -> Hash {
    describe(bytes, &spans[index]);
    let at = bytes.len();
    number(bytes, 0);
    let mut count: u32 = 0;
    steps(spans, children, hashes, |mark, members| {
        count += 1;
        bytes.push(mark as u8);
        number(bytes, members.len());
        for member in members {
            bytes.extend_from_slice(&hashes[*member as usize]);
        }
    });
    bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
    hash_of(bytes)
}

/// Describes a span but for its steps.
fn describe(bytes: &mut Vec<u8>, span: &ShapeSpan<'_>) {
    bytes.clear();
    bytes.push(VERSION);
    text(bytes, span.target);
    text(bytes, span.name);
    bytes.push(level(span.level));
    text(bytes, span.kind);
    number(bytes, span.fields.len());
    for field in span.fields {
        text(bytes, field);
    }
    text(bytes, span.error);
}

/// Descriptions whose hash a thread remembers: all subtrees of a few hundred code paths.
const REMEMBERED: usize = 4096;

/// Bytes of a description that is worth remembering. Longer ones are of wide spans, which vary.
const REMEMBERED_BYTES: usize = 1024;

thread_local! {
    static HASHES: RefCell<HashMap<Box<[u8]>, Hash>> = RefCell::default();
}

/// The hash of a description. A service says the same few over and over, and looking one up takes
/// a fraction of the time.
fn hash_of(description: &[u8]) -> Hash {
    let hash = || *blake3::hash(description).as_bytes();
    if description.len() > REMEMBERED_BYTES {
        return hash();
    }
    let remembered = HASHES.try_with(|hashes| {
        let mut hashes = hashes.borrow_mut();
        if let Some(hash) = hashes.get(description) {
            return *hash;
        }
        if hashes.len() >= REMEMBERED {
            hashes.clear();
        }
        let hash = hash();
        hashes.insert(description.into(), hash);
        hash
    });
    // No thread-local any more: the thread is ending.
    remembered.unwrap_or_else(|_| hash())
}

/// What a step among the children of a span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// One child.
    Once = 0,
    /// Several equal ones.
    Repeated = 1,
    /// Different ones that ran at the same time.
    Together = 2,
    /// Different ones that ran again and again.
    Loop = 3,
}

/// The children as a sequence of steps, given to `step` with one child of each kind in the order
/// of their hashes.
///
/// What ran at the same time is one step, equal neighbours are one step, and where two kinds take
/// turns - both come back, before the other has come for the last time - all from the first to the
/// last of them is one step.
fn steps(
    spans: &[ShapeSpan<'_>],
    children: &[u32],
    hashes: &[Hash],
    mut step: impl FnMut(Mark, &[u32]),
) {
    if let [alone] = children {
        return step(Mark::Once, &[*alone]);
    }
    let (mut kinds, groups) = groups(spans, children, hashes);
    let mut first = 0;
    for Range { start, end } in loops(&kinds, &groups, hashes) {
        for group in &groups[first..start] {
            step(group.mark(), group.of(&kinds));
        }
        let from = kinds.len();
        kinds.extend_from_within(groups[start].kinds.start..groups[end].kinds.end);
        distinct(&mut kinds, from, hashes);
        step(Mark::Loop, &kinds[from..]);
        first = end + 1;
    }
    for group in &groups[first..] {
        step(group.mark(), group.of(&kinds));
    }
}

/// Children that ran at the same time.
struct Group {
    /// Where in the list of kinds they stand, one child of each.
    kinds: Range<usize>,
    /// One of a kind ran several times, or the same group did, again and again.
    repeated: bool,
}

impl Group {
    fn of<'a>(&self, kinds: &'a [u32]) -> &'a [u32] {
        &kinds[self.kinds.clone()]
    }

    fn mark(&self) -> Mark {
        match (self.kinds.len(), self.repeated) {
            (1, false) => Mark::Once,
            (1, true) => Mark::Repeated,
            (_, false) => Mark::Together,
            (_, true) => Mark::Loop,
        }
    }
}

/// Cuts the children into groups of what ran at the same time; equal neighbours are one.
fn groups(spans: &[ShapeSpan<'_>], children: &[u32], hashes: &[Hash]) -> (Vec<u32>, Vec<Group>) {
    let mut kinds: Vec<u32> = Vec::with_capacity(children.len());
    let mut groups: Vec<Group> = Vec::with_capacity(children.len());
    let mut rest = children;
    while let Some(first) = rest.first() {
        // A group grows while the next child began before all of the group had ended.
        let (mut size, mut ended) = (1, spans[*first as usize].ended);
        while let Some(next) = rest.get(size)
            && *next < ended
        {
            ended = ended.max(spans[*next as usize].ended);
            size += 1;
        }
        let (group, later) = rest.split_at(size);
        rest = later;
        let from = kinds.len();
        kinds.extend_from_slice(group);
        distinct(&mut kinds, from, hashes);
        let new = &kinds[from..];
        let repeated = new.len() < group.len();
        let same = |last: &Group| {
            let last = last.of(&kinds);
            last.len() == new.len()
                && last.iter().zip(new).all(|(a, b)| hashes[*a as usize] == hashes[*b as usize])
        };
        if groups.last().is_some_and(same) {
            kinds.truncate(from);
            groups.last_mut().expect("there is a last one").repeated = true;
        } else {
            groups.push(Group { kinds: from..kinds.len(), repeated });
        }
    }
    (kinds, groups)
}

/// Orders the children from `from` on by their hashes, and leaves one of each kind.
fn distinct(kinds: &mut Vec<u32>, from: usize, hashes: &[Hash]) {
    if kinds.len() - from < 2 {
        return;
    }
    kinds[from..].sort_unstable_by_key(|kind| hashes[*kind as usize]);
    let mut kept = from;
    for at in from + 1..kinds.len() {
        if hashes[kinds[at] as usize] != hashes[kinds[kept] as usize] {
            kept += 1;
            kinds[kept] = kinds[at];
        }
    }
    kinds.truncate(kept + 1);
}

/// Where two or more kinds take turns: the first and the last group of each such stretch.
fn loops(kinds: &[u32], groups: &[Group], hashes: &[Hash]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    if groups.len() < 3 {
        return found;
    }
    // By kind, the first and the last group that it stands in; only those that come back count.
    let mut stretches: Vec<Range<usize>> = returns(kinds, groups, hashes);
    stretches.sort_unstable_by_key(|stretch| (stretch.start, stretch.end));
    let mut rest = stretches.into_iter().peekable();
    while let Some(mut joined) = rest.next() {
        let mut alone = true;
        while let Some(next) = rest.next_if(|next| next.start <= joined.end) {
            joined.end = joined.end.max(next.end);
            alone = false;
        }
        if !alone {
            found.push(joined);
        }
    }
    found
}

/// Kinds up to which comparing each with each is quicker than a map.
const FEW: usize = 32;

/// The first and the last group of every kind that stands in several.
fn returns(kinds: &[u32], groups: &[Group], hashes: &[Hash]) -> Vec<Range<usize>> {
    let hash = |at: usize| &hashes[kinds[at] as usize];
    let group = |at: usize| groups.partition_point(|group| group.kinds.end <= at);
    if kinds.len() <= FEW {
        let all = 0..kinds.len();
        let firsts = all.clone().filter(|at| !(0..*at).any(|before| hash(before) == hash(*at)));
        return firsts
            .filter_map(|at| {
                let last = all.clone().skip(at + 1).rfind(|later| hash(*later) == hash(at))?;
                Some(group(at)..group(last))
            })
            .collect();
    }
    let mut stretches: HashMap<&Hash, Range<usize>> = HashMap::new();
    for (at, group) in groups.iter().enumerate() {
        for kind in group.of(kinds) {
            stretches.entry(&hashes[*kind as usize]).or_insert(at..at).end = at;
        }
    }
    stretches.into_values().filter(|stretch| stretch.start < stretch.end).collect()
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    number(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend_from_slice(&(number as u32).to_le_bytes());
}

fn level(level: Level) -> u8 {
    match level {
        Level::Trace => 1,
        Level::Debug => 2,
        Level::Info => 3,
        Level::Warn => 4,
        Level::Error => 5,
    }
}
