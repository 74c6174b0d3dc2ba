//! The shape of a trace: which code ran, in what order, and where it failed.
//!
//! [`trace_hash`] fingerprints a span tree by its structure alone, so that requests which took the
//! same code path have the same hash, whatever their values, timings and counts were. The
//! description that is hashed is specified in `docs/trace-hash.md`, by which another
//! implementation can reproduce it from the same spans; golden vectors hold the two together.
//!
//! Invariants:
//! - Values, timings, line numbers and ids never reach the hash. Timings decide one thing only:
//!   whether siblings ran one after the other or at the same time.
//! - A loop of three and of three hundred equal steps are alike, and differ from one step.
//! - Siblings that ran at the same time have no order.
//! - A change of the description is a new [`VERSION`], which is hashed with it.
//!
//! Absent on purpose: what is kept or dropped (`sampling`), and the shape's text (`schema` stores
//! an example by hash).

use std::cell::RefCell;
use std::collections::HashMap;

use crate::model::{Level, TraceHash};

/// The version of the description.
pub const VERSION: u8 = 1;

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
    /// Microseconds from the beginning of the activity.
    pub start: u32,
    /// Microseconds.
    pub duration: u32,
}

/// The fingerprint of the tree whose root is the first span; `None` when there is none.
///
/// A parent must stand before its children; a span for which that does not hold counts as a child
/// of the root.
///
/// ```
/// use tracing_activity::model::Level;
/// use tracing_activity::shape::{ShapeSpan, trace_hash};
///
/// let span = |name, parent, start, duration| ShapeSpan {
///     name, target: "shop", level: Level::Info, kind: "", fields: &["id"], error: "",
///     parent, start, duration,
/// };
/// let three = [span("page", 0, 0, 9), span("query", 0, 1, 1), span("query", 0, 3, 1), span("query", 0, 5, 1)];
/// let two = &three[..3];
/// let one = &three[..2];
/// assert_eq!(trace_hash(&three), trace_hash(two));
/// assert_ne!(trace_hash(two), trace_hash(one));
/// ```
#[must_use]
pub fn trace_hash(spans: &[ShapeSpan<'_>]) -> Option<TraceHash> {
    let mut children: Vec<Vec<u32>> = vec![Vec::new(); spans.len()];
    for (index, span) in spans.iter().enumerate().skip(1) {
        let parent = if (span.parent as usize) < index { span.parent } else { 0 };
        children[parent as usize].push(index as u32);
    }
    let mut hashes = vec![[0; 32]; spans.len()];
    let mut bytes = Vec::with_capacity(512);
    // Children stand behind their parents: from the end, every subtree is done before its parent.
    for index in (0..spans.len()).rev() {
        hashes[index] = subtree(spans, index, &mut children[index], &hashes, &mut bytes);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hashes.first()?[..16]);
    Some(TraceHash::from_bytes(short))
}

type Hash = [u8; 32];

/// The hash of a span and what is below it. `bytes` is a buffer to describe it in.
fn subtree(
    spans: &[ShapeSpan<'_>],
    index: usize,
    children: &mut [u32],
    hashes: &[Hash],
    bytes: &mut Vec<u8>,
) -> Hash {
    let span = &spans[index];
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
    let steps = steps(spans, children, hashes);
    number(bytes, steps.len());
    for Step { hash, repeated } in steps {
        bytes.push(u8::from(repeated));
        bytes.extend_from_slice(&hash);
    }
    hash_of(bytes)
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

/// One step among the children of a span.
struct Step {
    hash: Hash,
    /// It stands for several in a row, or at a time.
    repeated: bool,
}

/// The children as a sequence: first what began first, siblings that overlap in time in the order
/// of their hashes, and equal neighbours as one.
fn steps(spans: &[ShapeSpan<'_>], children: &mut [u32], hashes: &[Hash]) -> Vec<Step> {
    let start = |index: u32| spans[index as usize].start;
    let end = |index: u32| start(index).saturating_add(spans[index as usize].duration);
    children.sort_by_key(|index| (start(*index), *index));
    let mut steps: Vec<Step> = Vec::with_capacity(children.len());
    let mut rest = &*children;
    while let Some(first) = rest.first() {
        // A group grows while the next sibling begins before all of the group have ended.
        let (mut size, mut until) = (1, end(*first));
        while let Some(next) = rest.get(size)
            && start(*next) < until
        {
            until = until.max(end(*next));
            size += 1;
        }
        let (group, later) = rest.split_at(size);
        rest = later;
        let mut step = |hash: Hash| match steps.last_mut() {
            Some(last) if last.hash == hash => last.repeated = true,
            _ => steps.push(Step { hash, repeated: false }),
        };
        if let [alone] = group {
            step(hashes[*alone as usize]);
        } else {
            let mut group: Vec<Hash> = group.iter().map(|it| hashes[*it as usize]).collect();
            group.sort_unstable();
            group.into_iter().for_each(step);
        }
    }
    steps
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
