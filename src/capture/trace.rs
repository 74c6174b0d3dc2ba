//! From the record of a request to its trace.

use std::borrow::Cow;

use super::buffer::Buffer;
use super::fields::{EVENT, FieldRecord};
use super::mapping::{ip, span_errors};
use super::url::scrubbed;
use crate::model::{EventRecord, Level, SpanRecord, Trace, Value};

/// The trace that a buffer records.
pub(super) fn trace(buffer: &Buffer) -> Trace {
    let origin = buffer.spans[0].start;
    let micros = |from: u64, to: u64| micros(buffer, from, to);
    let mut trace = Trace::default();
    let errors = span_errors(buffer);
    for (span, error) in buffer.spans.iter().zip(errors) {
        trace.spans.push(SpanRecord {
            name: Cow::Borrowed(span.callsite.metadata.name()),
            target: Cow::Borrowed(span.callsite.metadata.target()),
            level: level(*span.callsite.metadata.level()),
            parent: span.parent,
            start: micros(origin, span.start),
            duration: micros(span.start, span.end),
            error: Cow::Borrowed(error),
            attributes: Vec::new(),
        });
    }
    // An explicit finish may have cut off the last spans; their events go with them.
    let kept = |span: u32| (span as usize) < buffer.spans.len();
    let mut places = Vec::with_capacity(buffer.events.len());
    for event in &buffer.events {
        places.push(kept(event.span).then_some(trace.events.len()));
        if kept(event.span) {
            trace.events.push(EventRecord {
                span: event.span,
                time: micros(origin, event.time),
                level: level(*event.callsite.metadata.level()),
                target: Cow::Borrowed(event.callsite.metadata.target()),
                message: String::new(),
                attributes: Vec::new(),
            });
        }
    }
    for record in buffer.fields.iter() {
        if record.owner & EVENT == 0 {
            if let Some(span) = trace.spans.get_mut(record.owner as usize) {
                set(&mut span.attributes, buffer, record);
            }
        } else if let Some(Some(place)) = places.get((record.owner & !EVENT) as usize) {
            let event = &mut trace.events[*place];
            if buffer.name_of(record) == "message" {
                event.message = buffer.fields.value(record).to_string();
            } else {
                set(&mut event.attributes, buffer, record);
            }
        }
    }
    trace
}

/// Whole microseconds between two times.
pub(super) fn micros(buffer: &Buffer, from: u64, to: u64) -> u32 {
    u32::try_from(buffer.shared.nanos(from, to) / 1000).unwrap_or(u32::MAX)
}

/// Of a repeated name the last value stands, at the place of the first.
fn set(attributes: &mut Vec<(Cow<'static, str>, Value)>, buffer: &Buffer, record: &FieldRecord) {
    let name = buffer.name_of(record);
    let mut value = buffer.fields.value(record);
    if is_ip(name) {
        // As in the column: the network, not the host.
        let text = value.to_string();
        value = Value::Str(ip(&text).map_or_else(String::new, |it| it.to_canonical().to_string()));
    } else if let Value::Str(text) = &mut value
        && is_address(name)
    {
        *text = if name == "url.query" { scrubbed(&format!("?{text}")) } else { scrubbed(text) };
    }
    match attributes.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => attributes.push((Cow::Borrowed(name), value)),
    }
}

/// Attributes that hold the address of a client.
fn is_ip(name: &str) -> bool {
    matches!(
        name,
        "client.address"
            | "http.client_ip"
            | "remote_addr"
            | "remote.addr"
            | "network.peer.address"
            | "net.peer.ip"
            | "net.sock.peer.addr"
    )
}

/// Attributes that may hold a query, whose values are not kept.
fn is_address(name: &str) -> bool {
    matches!(
        name,
        "uri"
            | "url"
            | "path"
            | "url.path"
            | "url.full"
            | "url.query"
            | "http.url"
            | "http.target"
            | "referer"
            | "http.referer"
            | "http.request.header.referer"
    )
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
