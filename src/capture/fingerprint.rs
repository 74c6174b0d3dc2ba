//! From the record of a request to the fingerprint of its trace, and to its shape for those who
//! ask for it.
//!
//! A service takes the same few code paths over and over. What the fingerprint depends on - each
//! span's callsite, parent, kind and error, and what ran at the same time - is written as a key, and
//! the fingerprint of a key that came before is remembered: looking it up takes a tenth of the time.
//! The shape is never remembered, so that the two can be compared.

use std::cell::RefCell;
use std::collections::HashMap;

use super::buffer::{Buffer, SpanRec};
use super::trace::level;
use crate::model::TraceHash;
use crate::shape::{Shape, ShapeSpan, trace_hash};

/// Spans of a trace whose fingerprint is worth remembering: wider ones are of loops, which vary.
const REMEMBERED_SPANS: usize = 256;

/// Memory for the keys of one thread.
const REMEMBERED_BYTES: usize = 1 << 20;

/// The fingerprints that a thread met.
#[derive(Default)]
struct Known {
    hashes: HashMap<Box<[u8]>, Option<TraceHash>>,
    /// Bytes of the keys.
    bytes: usize,
    /// The key at hand.
    key: Vec<u8>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// The fingerprint of what was collected: `None` where spans were not, or not all.
pub(super) fn fingerprint(buffer: &Buffer) -> Option<TraceHash> {
    if !is_whole(buffer) {
        return None;
    }
    let compute = || trace_hash(&spans(buffer));
    if buffer.spans.len() > REMEMBERED_SPANS {
        return compute();
    }
    let known = KNOWN.try_with(|known| known.borrow_mut().get(&buffer.spans, compute));
    // No thread-local any more: the thread is ending.
    known.unwrap_or_else(|_| compute())
}

/// The shape of what was collected: `None` where there is no fingerprint.
pub(super) fn shape(buffer: &Buffer) -> Option<Shape> {
    if is_whole(buffer) { Shape::of(&spans(buffer)) } else { None }
}

fn is_whole(buffer: &Buffer) -> bool {
    buffer.sealed.is_some_and(|sealed| sealed.collected)
}

fn spans(buffer: &Buffer) -> Vec<ShapeSpan<'_>> {
    let spans = buffer.spans.iter().map(|span| {
        let metadata = span.callsite.metadata;
        ShapeSpan {
            name: metadata.name(),
            target: metadata.target(),
            level: level(*metadata.level()),
            kind: span.kind.as_str(),
            fields: span.callsite.field_names(),
            error: span.error(),
            parent: span.parent,
            ended: span.ended,
        }
    });
    spans.collect()
}

impl Known {
    fn get(
        &mut self,
        spans: &[SpanRec],
        compute: impl FnOnce() -> Option<TraceHash>,
    ) -> Option<TraceHash> {
        self.key.clear();
        for span in spans {
            self.key.extend_from_slice(&part(span, spans.len()));
        }
        if let Some(hash) = self.hashes.get(&*self.key) {
            return *hash;
        }
        if self.bytes + self.key.len() > REMEMBERED_BYTES {
            self.hashes.clear();
            self.bytes = 0;
        }
        let hash = compute();
        self.bytes += self.key.len();
        self.hashes.insert(self.key.as_slice().into(), hash);
        hash
    }
}

/// What the fingerprint of a trace of this many spans depends on, of one span. The callsite stands
/// for all that it declares: it lasts as long as the program, and so does its address.
fn part(span: &SpanRec, spans: usize) -> [u8; 16] {
    let mut part = [0; 16];
    part[..8].copy_from_slice(&(std::ptr::from_ref(span.callsite) as u64).to_le_bytes());
    // Both are below 65,536 here, or mean no span at all.
    part[8..10].copy_from_slice(&(span.parent.min(u16::MAX.into()) as u16).to_le_bytes());
    // Behind the last span it does not matter how far.
    part[10..12].copy_from_slice(&(span.ended.min(spans as u32) as u16).to_le_bytes());
    part[12] = span.kind as u8;
    part[13] = u8::from(span.panicked) << 1 | u8::from(span.failed);
    part
}
