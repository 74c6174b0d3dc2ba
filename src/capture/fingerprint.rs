//! From the record of a request to the fingerprint of its trace, and to its shape for those who
//! ask for it.

use super::buffer::Buffer;
use super::trace::level;
use crate::model::TraceHash;
use crate::shape::{Shape, ShapeSpan, trace_hash};

/// The fingerprint of what was collected: `None` where spans were not, or not all.
pub(super) fn fingerprint(buffer: &Buffer) -> Option<TraceHash> {
    if is_whole(buffer) { trace_hash(&spans(buffer)) } else { None }
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
