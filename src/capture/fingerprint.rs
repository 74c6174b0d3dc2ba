//! From the record of a request to the fingerprint of its trace, and to its shape for those who
//! ask for it.

use super::buffer::Buffer;
use super::fields::EVENT;
use super::mapping::span_errors;
use super::trace::level;
use crate::model::TraceHash;
use crate::shape::{Shape, ShapeSpan, trace_hash};

/// The words of `otel.kind`.
const KINDS: [&str; 5] = ["server", "client", "producer", "consumer", "internal"];

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
    let mut spans: Vec<ShapeSpan<'_>> = Vec::with_capacity(buffer.spans.len());
    for (span, error) in buffer.spans.iter().zip(span_errors(buffer)) {
        let metadata = span.callsite.metadata;
        spans.push(ShapeSpan {
            name: metadata.name(),
            target: metadata.target(),
            level: level(*metadata.level()),
            kind: "",
            fields: span.callsite.field_names(),
            error,
            parent: span.parent,
            ended: span.ended,
        });
    }
    for record in buffer.fields.iter().filter(|record| record.owner & EVENT == 0) {
        if buffer.name_of(record) == "otel.kind"
            && let Some(span) = spans.get_mut(record.owner as usize)
            && let Some(text) = buffer.fields.text_of(record)
        {
            let known = KINDS.iter().find(|kind| kind.eq_ignore_ascii_case(text));
            span.kind = known.copied().unwrap_or_default();
        }
    }
    spans
}
