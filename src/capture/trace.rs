//! From the record of a request to its trace.

use std::borrow::Cow;

use super::buffer::{Buffer, EventRec};
use super::callsite::Callsite;
use super::fields::{EVENT, FieldRecord};
use super::mapping::text;
use crate::model::{EventRecord, Level, Outcome, SpanRecord, Trace, Value};
use crate::redact::{CARD, Nature, Redactor, SECRET, ip, without_mark};

/// The trace that a buffer records.
pub(super) fn trace(buffer: &Buffer) -> Trace {
    let origin = buffer.spans[0].start;
    let micros = |from: u64, to: u64| micros(buffer, from, to);
    let mut spans: Vec<SpanRecord> = Vec::with_capacity(buffer.spans.len());
    for span in &buffer.spans {
        let metadata = span.callsite.metadata;
        spans.push(SpanRecord {
            name: Cow::Borrowed(metadata.name()),
            target: Cow::Borrowed(metadata.target()),
            level: level(*metadata.level()),
            parent: span.parent,
            start: micros(origin, span.start),
            duration: micros(span.start, span.end),
            error: Cow::Borrowed(span.error()),
            attributes: Vec::with_capacity(metadata.fields().len()),
        });
    }
    mark_request(buffer, &mut spans);
    let mut events = Vec::with_capacity(buffer.events.len());
    // An explicit finish may have cut off the last spans; their events go with them.
    let is_kept = |event: &EventRec| (event.span as usize) < spans.len();
    let places = places(&buffer.events, is_kept);
    for event in buffer.events.iter().filter(|event| is_kept(event)) {
        let metadata = event.callsite.metadata;
        events.push(EventRecord {
            span: event.span,
            time: micros(origin, event.time),
            level: level(*metadata.level()),
            target: Cow::Borrowed(metadata.target()),
            message: String::new(),
            attributes: Vec::with_capacity(metadata.fields().len()),
        });
    }
    for record in buffer.fields.iter() {
        let Some(callsite) = buffer.callsite_of(record) else { continue };
        let name = record.name(callsite);
        if record.owner & EVENT == 0 {
            if let Some(span) = spans.get_mut(record.owner as usize) {
                set(&mut span.attributes, name, value(buffer, record, callsite));
            }
            continue;
        }
        let index = (record.owner & !EVENT) as usize;
        let place = places.as_ref().map_or(Some(index), |places| places[index]);
        let Some(event) = place.map(|place| &mut events[place]) else { continue };
        let event: &mut EventRecord = event;
        if name == "message" {
            event.message = text(buffer, record);
        } else {
            set(&mut event.attributes, name, value(buffer, record, callsite));
        }
    }
    Trace { spans, events }
}

/// By event, its place among those that are kept; `None` where all are.
fn places(events: &[EventRec], is_kept: impl Fn(&EventRec) -> bool) -> Option<Vec<Option<usize>>> {
    if events.iter().all(&is_kept) {
        return None;
    }
    let mut kept = 0..;
    Some(events.iter().map(|event| if is_kept(event) { kept.next() } else { None }).collect())
}

/// Marks the middleware's span of a request that failed: frameworks log that a response failed, the
/// middleware knows. Only in the trace: the fingerprint is of the path, whatever was answered.
fn mark_request(buffer: &Buffer, spans: &mut [SpanRecord]) {
    let failed = buffer.sealed.is_some_and(|it| it.verdict.outcome == Outcome::ServerFault);
    let request = buffer.request as usize;
    if failed
        && buffer.spans.get(request).is_some_and(|span| span.callsite.told_by_middleware)
        && let Some(span) = spans.get_mut(request)
        && span.error.is_empty()
    {
        span.error = Cow::Borrowed("error");
    }
}

/// The value of an attribute, without the secrets of an address, or of one that its name calls a
/// secret.
fn value(buffer: &Buffer, record: &FieldRecord, callsite: &Callsite) -> Value {
    let redactor = &buffer.shared.redactor;
    match (record.nature(callsite), buffer.fields.text_of(record)) {
        (Nature::Secret, text) if redactor.hides_by_name() => {
            let value = buffer.fields.value(record);
            // `has_password = true`, `token = ?None`.
            let is_secret = text.map_or(!matches!(value, Value::Bool(_)), Redactor::is_secret);
            if is_secret { Value::Str(SECRET.into()) } else { value }
        }
        (Nature::Ip, _) => {
            // As in the column: as a rule the network, not the host.
            let stored = ip(&text(buffer, record), buffer.shared.http.address);
            Value::Str(stored.map(|it| it.to_canonical().to_string()).unwrap_or_default().into())
        }
        (Nature::Query, Some(text)) => {
            Value::Str(redactor.query(without_mark(text)).to_string().into())
        }
        (Nature::Address, Some(text)) => Value::Str(redactor.url(text).into()),
        (Nature::Target, Some(text)) => Value::Str(redactor.target(text).into()),
        _ => attribute(redactor, buffer.name_of(record), buffer.fields.value(record)),
    }
}

/// A value, unless it is an integer that must not be kept under this name.
pub(super) fn attribute(redactor: &Redactor, name: &str, value: Value) -> Value {
    let number = match value {
        Value::U64(number) => number,
        Value::I64(number) => u64::try_from(number).unwrap_or(0),
        _ => 0,
    };
    if redactor.hides_number(name, number) { Value::Str(CARD.into()) } else { value }
}

/// Whole microseconds between two times.
pub(super) fn micros(buffer: &Buffer, from: u64, to: u64) -> u32 {
    u32::try_from(buffer.shared.nanos(from, to) / 1000).unwrap_or(u32::MAX)
}

/// Of a repeated name the last value stands, at the place of the first.
fn set(attributes: &mut Vec<(Cow<'static, str>, Value)>, name: &'static str, value: Value) {
    match attributes.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => attributes.push((Cow::Borrowed(name), value)),
    }
}

pub(super) fn level(level: tracing_core::Level) -> Level {
    match level {
        tracing_core::Level::ERROR => Level::Error,
        tracing_core::Level::WARN => Level::Warn,
        tracing_core::Level::INFO => Level::Info,
        tracing_core::Level::DEBUG => Level::Debug,
        _ => Level::Trace,
    }
}
