//! [`Block`]: activities as they travel to the table.

use std::net::Ipv6Addr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::wire::{Column, Lists, Plain, Push, Symbols, Texts, put_length, put_text};
use crate::model::{
    Activity, EventRecord, KeepReason, Level, Outcome, SpanRecord, Timestamp, TraceHash, Value,
};

/// The last second that a `DateTime` holds.
const LAST_SECOND: i64 = u32::MAX as i64;

macro_rules! columns {
    (
        |$activity:ident, $batch_id:ident, $spans:ident, $events:ident|
        $($name:ident: $kind:ty = $sql:literal, $value:expr;)*
    ) => {
        /// Rows of `activities` in the format `Native`, column by column. Fields are columns, in
        /// order.
        ///
        /// A block is used again and again: once it has grown, rows allocate nothing.
        #[derive(Debug, Default)]
        pub struct Block {
            rows: usize,
            $($name: $kind,)*
        }

        impl Block {
            /// Appends the row of `activity` in the batch `batch_id`.
            pub fn push(&mut self, $activity: &Activity, $batch_id: Uuid) {
                let ($spans, $events) = match &$activity.trace {
                    Some(trace) => (&trace.spans[..], &trace.events[..]),
                    None => (&[][..], &[][..]),
                };
                $(self.$name.push($value);)*
                self.push_attributes($spans);
                self.rows += 1;
            }

            /// Forgets the rows, and gives back memory beyond the usual.
            pub fn clear(&mut self) {
                self.rows = 0;
                $(self.$name.clear();)*
            }

            fn columns(&self) -> [&dyn Column; COLUMNS.len()] {
                [$(&self.$name,)*]
            }
        }

        /// Name and type of every column that is written, in order.
        pub const COLUMNS: &[(&str, &str)] = &[$((stringify!($name), $sql),)*];
    };
}

columns! {
    |activity, batch_id, spans, events|
    when: Plain = "DateTime64(6, 'UTC')", date_time(activity.when);
    activity_id: Plain = "UUID", activity.activity_id.to_uuid();
    duration: Plain = "UInt64", activity.duration;
    response_start: Plain = "UInt64", activity.response_start;
    outcome: Plain = "Enum8('success' = 0, 'client_fault' = 1, 'server_fault' = 2)", outcome(activity.outcome);
    status: Plain = "UInt16", activity.status;
    method: Symbols = "LowCardinality(String)", &activity.method;
    route: Symbols = "LowCardinality(String)", &activity.route;
    url: Texts = "String", &activity.url;
    referer: Texts = "String", &activity.referer;
    title: Texts = "String", &activity.title;
    okind: Symbols = "LowCardinality(String)", &activity.okind;
    oid: Texts = "String", &activity.oid;
    ekind: Symbols = "LowCardinality(String)", &activity.ekind;
    target_kind: Symbols = "LowCardinality(String)", &activity.target_kind;
    target_id: Texts = "String", &activity.target_id;
    data: Texts = "String", &activity.data;
    error: Texts = "String", &activity.error;
    error_kind: Symbols = "LowCardinality(String)", &activity.error_kind;
    user_id: Texts = "String", &activity.user_id;
    actor_kind: Symbols = "LowCardinality(String)", &activity.actor_kind;
    on_behalf_of: Texts = "String", &activity.on_behalf_of;
    session_id: Texts = "String", &activity.session_id;
    visit_id: Texts = "String", &activity.visit_id;
    visit_created: Plain = "Bool", activity.visit_created;
    tracker_id: Texts = "String", &activity.tracker_id;
    tracker_created: Plain = "Bool", activity.tracker_created;
    campaign: Texts = "String", &activity.campaign;
    visit_referer: Texts = "String", &activity.visit_referer;
    ip: Plain = "IPv6", activity.ip.unwrap_or(Ipv6Addr::UNSPECIFIED);
    user_agent: Symbols = "LowCardinality(String)", &activity.user_agent;
    client_kind: Symbols = "LowCardinality(String)", activity.client_kind.as_str();
    app: Symbols = "LowCardinality(String)", &activity.app;
    app_version: Symbols = "LowCardinality(String)", &activity.app_version;
    service: Symbols = "LowCardinality(String)", &activity.service;
    host: Symbols = "LowCardinality(String)", &activity.host;
    site_version: Plain = "DateTime('UTC')", (date_time(activity.site_version) / 1_000_000) as u32;
    site_revision: Symbols = "LowCardinality(String)", &activity.site_revision;
    remote_trace_id: Plain = "FixedString(16)", activity.remote_trace_id.unwrap_or_default().to_bytes();
    remote_parent_id: Plain = "FixedString(8)", activity.remote_parent_id.unwrap_or_default().to_bytes();
    parent_sampled: Plain = "Bool", activity.parent_sampled;
    trace_hash: Symbols = "LowCardinality(String)", activity.trace_hash.map(hex).as_ref().map_or("", text);
    response: Texts = "String", &activity.response;
    kept_because: Symbols = "LowCardinality(String)", activity.kept_because.map_or("", KeepReason::as_str);
    sample_weight: Plain = "Float32", activity.sample_weight;
    truncated: Plain = "Bool", activity.truncated;
    incomplete: Plain = "Bool", activity.incomplete;
    late_end: Plain = "Bool", activity.late_end;
    dropped_spans: Plain = "UInt32", activity.dropped_spans;
    batch_id: Plain = "UUID", batch_id;
    span_name: Lists<Symbols> = "Array(LowCardinality(String))", spans.iter().map(|it| &it.name);
    span_target: Lists<Symbols> = "Array(LowCardinality(String))", spans.iter().map(|it| &it.target);
    span_level: Lists<Plain> = "Array(Enum8('trace' = 1, 'debug' = 2, 'info' = 3, 'warn' = 4, 'error' = 5))", spans.iter().map(|it| level(it.level));
    span_parent: Lists<Plain> = "Array(UInt16)", spans.iter().map(|it| index(it.parent));
    span_start: Lists<Plain> = "Array(UInt32)", spans.iter().map(|it| it.start);
    span_duration: Lists<Plain> = "Array(UInt32)", spans.iter().map(|it| it.duration);
    span_error: Lists<Symbols> = "Array(LowCardinality(String))", spans.iter().map(|it| &it.error);
    attr_span: Lists<Plain> = "Array(UInt16)", Later;
    attr_key: Lists<Symbols> = "Array(LowCardinality(String))", Later;
    attr_value: Lists<Texts> = "Array(String)", Later;
    int_span: Lists<Plain> = "Array(UInt16)", Later;
    int_key: Lists<Symbols> = "Array(LowCardinality(String))", Later;
    int_value: Lists<Plain> = "Array(Int64)", Later;
    event_span: Lists<Plain> = "Array(UInt16)", events.iter().map(|it| index(it.span));
    event_time: Lists<Plain> = "Array(UInt32)", events.iter().map(|it| it.time);
    event_level: Lists<Plain> = "Array(Enum8('trace' = 1, 'debug' = 2, 'info' = 3, 'warn' = 4, 'error' = 5))", events.iter().map(|it| level(it.level));
    event_target: Lists<Symbols> = "Array(LowCardinality(String))", events.iter().map(|it| &it.target);
    event_message: Lists<Texts> = "Array(String)", events.iter().map(|it| &it.message);
    event_fields: Lists<Texts> = "Array(String)", events.iter().map(Fields);
}

impl Block {
    /// Appends the column at `at` in [`COLUMNS`]; the first with what stands before all.
    ///
    /// Column by column, so that nobody has to hold the whole block twice.
    ///
    /// # Panics
    /// When there is no such column.
    pub fn write_column(&self, at: usize, out: &mut Vec<u8>) {
        if at == 0 {
            put_length(COLUMNS.len(), out);
            put_length(self.rows, out);
        }
        let ((name, kind), column) = (COLUMNS[at], self.columns()[at]);
        put_text(name, out);
        put_text(kind, out);
        column.write_prefix(out);
        column.write(out);
    }
}

/// The value of a column that is filled by [`Block::push_attributes`].
struct Later;

impl<C> Push<Later> for Lists<C> {
    fn push(&mut self, _: Later) {}
}

impl Block {
    /// Fills the columns of attributes, all in one go: integers of 64 bits with a sign go to columns
    /// of their own, anything else to others.
    fn push_attributes(&mut self, spans: &[SpanRecord]) {
        for (span, record) in (0..).map(index).zip(spans) {
            for (key, value) in &record.attributes {
                if let Some(value) = integer(value) {
                    self.int_span.push_element(span);
                    self.int_key.push_element(key);
                    self.int_value.push_element(value);
                } else {
                    self.attr_span.push_element(span);
                    self.attr_key.push_element(key);
                    self.attr_value.push_element(value);
                }
            }
        }
        for list in [&mut self.int_span, &mut self.int_value, &mut self.attr_span] {
            list.end();
        }
        self.int_key.end();
        self.attr_key.end();
        self.attr_value.end();
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::I64(value) => Some(*value),
        Value::U64(value) => i64::try_from(*value).ok(),
        Value::F64(_) | Value::Bool(_) | Value::Str(_) => None,
    }
}

/// Microseconds within the years that a `DateTime` holds, 1970 to 2106: partitions and the ages at
/// which rows are deleted are computed in it.
fn date_time(time: Timestamp) -> i64 {
    time.as_micros().clamp(0, LAST_SECOND * 1_000_000 + 999_999)
}

fn outcome(outcome: Outcome) -> i8 {
    match outcome {
        Outcome::Success => 0,
        Outcome::ClientFault => 1,
        Outcome::ServerFault => 2,
    }
}

fn level(level: Level) -> i8 {
    match level {
        Level::Trace => 1,
        Level::Debug => 2,
        Level::Info => 3,
        Level::Warn => 4,
        Level::Error => 5,
    }
}

fn index(index: u32) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// The digits of a hash.
fn hex(hash: TraceHash) -> [u8; 32] {
    let digit = |it: u8| b"0123456789abcdef"[usize::from(it & 15)];
    let bytes = hash.to_bytes();
    std::array::from_fn(|at| digit(if at % 2 == 0 { bytes[at / 2] >> 4 } else { bytes[at / 2] }))
}

fn text(digits: &[u8; 32]) -> &str {
    std::str::from_utf8(digits).expect("digits are text")
}

/// The attributes of an event as the text of a JSON object, empty for none.
struct Fields<'a>(&'a EventRecord);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.attributes.len()))?;
        for (key, value) in &self.0.attributes {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Push<Fields<'_>> for Texts {
    fn push(&mut self, fields: Fields<'_>) {
        self.push_with(|out| {
            if !fields.0.attributes.is_empty() {
                // Text, numbers and truth values can all be written as JSON.
                let _ = serde_json::to_writer(out, &fields);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::model::Trace;

    fn attributes() -> Vec<(Cow<'static, str>, Value)> {
        vec![
            ("a".into(), Value::I64(-1)),
            ("b".into(), Value::U64(u64::MAX)),
            ("c".into(), Value::U64(7)),
            ("d".into(), Value::F64(1.5)),
            ("e".into(), Value::Bool(true)),
            ("f".into(), Value::Str("x\"\0".into())),
        ]
    }

    fn span(attributes: Vec<(Cow<'static, str>, Value)>) -> SpanRecord {
        SpanRecord {
            name: "root".into(),
            target: "".into(),
            level: Level::Info,
            parent: 0,
            start: 0,
            duration: u32::MAX,
            error: "".into(),
            attributes,
        }
    }

    fn event(attributes: Vec<(Cow<'static, str>, Value)>) -> EventRecord {
        EventRecord {
            span: 70_000,
            time: 1,
            level: Level::Error,
            target: "".into(),
            message: String::new(),
            attributes,
        }
    }

    fn written(column: &impl Column) -> Vec<u8> {
        let mut out = Vec::new();
        column.write(&mut out);
        out
    }

    fn as_text(push: impl FnOnce(&mut Texts)) -> String {
        let mut column = Texts::default();
        push(&mut column);
        String::from_utf8(written(&column)[1..].to_vec()).unwrap()
    }

    #[test]
    fn integers_and_everything_else_go_to_columns_of_their_own() {
        let spans = vec![span(vec![]), span(attributes())];
        let trace = Some(Trace { spans, events: vec![] });
        let mut block = Block::default();
        block.push(&Activity { trace, ..Activity::default() }, Uuid::nil());
        let mut expected = Block::default();
        expected.int_span.push([1_u16, 1]);
        expected.int_key.push(["a", "c"]);
        expected.int_value.push([-1_i64, 7]);
        expected.attr_span.push([1_u16; 4]);
        expected.attr_key.push(["b", "d", "e", "f"]);
        expected.attr_value.push(["18446744073709551615", "1.5", "true", "x\"\0"]);
        let columns = |block: &Block| {
            let integers = [written(&block.int_span), written(&block.int_key)];
            let others = [written(&block.attr_span), written(&block.attr_key)];
            [integers, others, [written(&block.int_value), written(&block.attr_value)]]
        };
        assert_eq!(columns(&block), columns(&expected));
    }

    #[test]
    fn fields_of_an_event_are_a_json_object_or_nothing() {
        assert_eq!(
            as_text(|it| it.push(Fields(&event(attributes())))),
            r#"{"a":-1,"b":18446744073709551615,"c":7,"d":1.5,"e":true,"f":"x\"\u0000"}"#
        );
        assert_eq!(as_text(|it| it.push(Fields(&event(vec![])))), "");
    }

    #[test]
    fn numbers_are_brought_into_the_columns_range() {
        for (micros, when, site) in [
            (i64::MIN, 0, 0),
            (1_700_000_000_123_456, 1_700_000_000_123_456, 1_700_000_000),
            (i64::MAX, i64::from(u32::MAX) * 1_000_000 + 999_999, u32::MAX),
        ] {
            let time = Timestamp::from_micros(micros);
            let trace = Trace { spans: vec![], events: vec![event(vec![])] };
            let activity = Activity {
                when: time,
                site_version: time,
                trace: Some(trace),
                ..Activity::default()
            };
            let mut block = Block::default();
            block.push(&activity, Uuid::nil());
            assert_eq!(written(&block.when), i64::to_le_bytes(when));
            assert_eq!(written(&block.site_version), u32::to_le_bytes(site));
            assert!(written(&block.event_span).ends_with(&[0xff, 0xff]));
        }
    }

    #[test]
    fn a_block_that_is_used_again_holds_nothing_of_the_last() {
        let activity = |n: u16| Activity {
            status: n,
            okind: n.to_string(),
            trace: Some(Trace { spans: vec![span(attributes())], events: vec![] }),
            ..Activity::default()
        };
        let bytes = |block: &Block| {
            let mut out = Vec::new();
            (0..COLUMNS.len()).for_each(|at| block.write_column(at, &mut out));
            out
        };
        let (mut used, mut new) = (Block::default(), Block::default());
        (0..300).for_each(|n| used.push(&activity(n), Uuid::max()));
        used.clear();
        for block in [&mut used, &mut new] {
            block.push(&activity(7), Uuid::nil());
        }
        assert_eq!(bytes(&used), bytes(&new));
    }

    #[test]
    fn a_hash_is_its_digits() {
        let hash = TraceHash::from_bytes(std::array::from_fn(|n| n as u8 * 17));
        assert_eq!(text(&hex(hash)), hash.to_string());
    }
}
