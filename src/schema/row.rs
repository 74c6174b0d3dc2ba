//! [`ActivityRow`]: an activity as it travels to the table.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::wire::{Wire, put_length};
use crate::model::{Activity, KeepReason, Level, Outcome, Timestamp, Value};

type Texts<'a> = Vec<&'a str>;

/// The last second that a `DateTime` holds.
const LAST_SECOND: i64 = u32::MAX as i64;

macro_rules! columns {
    ($($name:ident: $rust:ty = $sql:literal,)*) => {
        /// A row of `activities`, borrowing from the activity. Fields are columns, in order.
        #[derive(Debug)]
        pub struct ActivityRow<'a> {
            $($name: $rust,)*
        }

        impl ActivityRow<'_> {
            /// Appends the row in the format `RowBinary`.
            pub fn write(&self, out: &mut Vec<u8>) {
                $(self.$name.put(out);)*
            }
        }

        /// Name and type of every column that is written, in order.
        pub const COLUMNS: &[(&str, &str)] = &[$((stringify!($name), $sql),)*];
    };
}

columns! {
    when: i64 = "DateTime64(6, 'UTC')",
    activity_id: Uuid = "UUID",
    duration: u64 = "UInt64",
    outcome: i8 = "Enum8('success' = 0, 'client_fault' = 1, 'server_fault' = 2)",
    status: u16 = "UInt16",
    method: &'a str = "LowCardinality(String)",
    route: &'a str = "LowCardinality(String)",
    url: &'a str = "String",
    referer: &'a str = "String",
    title: &'a str = "String",
    okind: &'a str = "LowCardinality(String)",
    oid: &'a str = "String",
    ekind: &'a str = "LowCardinality(String)",
    data: &'a str = "String",
    error: &'a str = "String",
    error_kind: &'a str = "LowCardinality(String)",
    user_id: &'a str = "String",
    session_id: &'a str = "String",
    visit_id: &'a str = "String",
    visit_created: bool = "Bool",
    tracker_id: &'a str = "String",
    tracker_created: bool = "Bool",
    ip: Ipv6Addr = "IPv6",
    user_agent: &'a str = "LowCardinality(String)",
    app: &'a str = "LowCardinality(String)",
    app_version: &'a str = "LowCardinality(String)",
    service: &'a str = "LowCardinality(String)",
    host: &'a str = "LowCardinality(String)",
    site_version: u32 = "DateTime('UTC')",
    site_revision: &'a str = "LowCardinality(String)",
    remote_trace_id: [u8; 16] = "FixedString(16)",
    trace_hash: String = "LowCardinality(String)",
    response: &'a str = "String",
    kept_because: &'a str = "LowCardinality(String)",
    sample_weight: f32 = "Float32",
    truncated: bool = "Bool",
    incomplete: bool = "Bool",
    dropped_spans: u32 = "UInt32",
    batch_id: Uuid = "UUID",
    span_name: Texts<'a> = "Array(LowCardinality(String))",
    span_target: Texts<'a> = "Array(LowCardinality(String))",
    span_level: Vec<i8> = "Array(Enum8('trace' = 1, 'debug' = 2, 'info' = 3, 'warn' = 4, 'error' = 5))",
    span_parent: Vec<u16> = "Array(UInt16)",
    span_start: Vec<u32> = "Array(UInt32)",
    span_duration: Vec<u32> = "Array(UInt32)",
    span_error: Texts<'a> = "Array(LowCardinality(String))",
    attr_span: Vec<u16> = "Array(UInt16)",
    attr_key: Texts<'a> = "Array(LowCardinality(String))",
    attr_value: Vec<Cow<'a, str>> = "Array(String)",
    int_span: Vec<u16> = "Array(UInt16)",
    int_key: Texts<'a> = "Array(LowCardinality(String))",
    int_value: Vec<i64> = "Array(Int64)",
    event_span: Vec<u16> = "Array(UInt16)",
    event_time: Vec<u32> = "Array(UInt32)",
    event_level: Vec<i8> = "Array(Enum8('trace' = 1, 'debug' = 2, 'info' = 3, 'warn' = 4, 'error' = 5))",
    event_target: Texts<'a> = "Array(LowCardinality(String))",
    event_message: Texts<'a> = "Array(String)",
    event_fields: Vec<String> = "Array(String)",
}

/// Appends what stands before the rows in `RowBinaryWithNamesAndTypes`: how many columns, their
/// names, their types.
pub fn write_header(out: &mut Vec<u8>) {
    put_length(COLUMNS.len(), out);
    for (name, _) in COLUMNS {
        name.put(out);
    }
    for (_, kind) in COLUMNS {
        kind.put(out);
    }
}

impl<'a> ActivityRow<'a> {
    /// The row of `activity` in the batch `batch_id`.
    #[must_use]
    pub fn new(activity: &'a Activity, batch_id: Uuid) -> Self {
        let empty = &[][..];
        let (spans, events) =
            activity.trace.as_ref().map_or((empty, &[][..]), |it| (&it.spans[..], &it.events[..]));
        let mut row = Self {
            when: date_time(activity.when),
            activity_id: activity.activity_id.to_uuid(),
            duration: activity.duration,
            outcome: outcome(activity.outcome),
            status: activity.status,
            method: &activity.method,
            route: &activity.route,
            url: &activity.url,
            referer: &activity.referer,
            title: &activity.title,
            okind: &activity.okind,
            oid: &activity.oid,
            ekind: &activity.ekind,
            data: &activity.data,
            error: &activity.error,
            error_kind: &activity.error_kind,
            user_id: &activity.user_id,
            session_id: &activity.session_id,
            visit_id: &activity.visit_id,
            visit_created: activity.visit_created,
            tracker_id: &activity.tracker_id,
            tracker_created: activity.tracker_created,
            ip: activity.ip.unwrap_or(Ipv6Addr::UNSPECIFIED),
            user_agent: &activity.user_agent,
            app: &activity.app,
            app_version: &activity.app_version,
            service: &activity.service,
            host: &activity.host,
            site_version: (date_time(activity.site_version) / 1_000_000) as u32,
            site_revision: &activity.site_revision,
            remote_trace_id: activity.remote_trace_id.unwrap_or_default().to_bytes(),
            trace_hash: activity.trace_hash.map(|it| it.to_string()).unwrap_or_default(),
            response: &activity.response,
            kept_because: activity.kept_because.map_or("", KeepReason::as_str),
            sample_weight: activity.sample_weight,
            truncated: activity.truncated,
            incomplete: activity.incomplete,
            dropped_spans: activity.dropped_spans,
            batch_id,
            span_name: spans.iter().map(|it| &*it.name).collect(),
            span_target: spans.iter().map(|it| &*it.target).collect(),
            span_level: spans.iter().map(|it| level(it.level)).collect(),
            span_parent: spans.iter().map(|it| index(it.parent)).collect(),
            span_start: spans.iter().map(|it| it.start).collect(),
            span_duration: spans.iter().map(|it| it.duration).collect(),
            span_error: spans.iter().map(|it| &*it.error).collect(),
            attr_span: Vec::new(),
            attr_key: Vec::new(),
            attr_value: Vec::new(),
            int_span: Vec::new(),
            int_key: Vec::new(),
            int_value: Vec::new(),
            event_span: events.iter().map(|it| index(it.span)).collect(),
            event_time: events.iter().map(|it| it.time).collect(),
            event_level: events.iter().map(|it| level(it.level)).collect(),
            event_target: events.iter().map(|it| &*it.target).collect(),
            event_message: events.iter().map(|it| &*it.message).collect(),
            event_fields: events.iter().map(|it| json(&it.attributes)).collect(),
        };
        for (span, record) in (0..).zip(spans) {
            for (key, value) in &record.attributes {
                row.attribute(index(span), key, value);
            }
        }
        row
    }

    fn attribute(&mut self, span: u16, key: &'a str, value: &'a Value) {
        let integer = match value {
            Value::I64(value) => Some(*value),
            Value::U64(value) => i64::try_from(*value).ok(),
            Value::F64(_) | Value::Bool(_) | Value::Str(_) => None,
        };
        if let Some(integer) = integer {
            self.int_span.push(span);
            self.int_key.push(key);
            self.int_value.push(integer);
        } else {
            self.attr_span.push(span);
            self.attr_key.push(key);
            self.attr_value.push(match value {
                Value::Str(text) => Cow::Borrowed(text),
                other => Cow::Owned(other.to_string()),
            });
        }
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

/// Attributes as the text of a JSON object, empty for none.
fn json(attributes: &[(Cow<'static, str>, Value)]) -> String {
    struct Object<'a>(&'a [(Cow<'static, str>, Value)]);

    impl Serialize for Object<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            for (key, value) in self.0 {
                map.serialize_entry(key, value)?;
            }
            map.end()
        }
    }

    if attributes.is_empty() {
        return String::new();
    }
    serde_json::to_string(&Object(attributes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventRecord, SpanRecord, Trace};

    fn activity_with(attributes: Vec<(Cow<'static, str>, Value)>) -> Activity {
        let span = SpanRecord {
            name: "root".into(),
            target: "".into(),
            level: Level::Info,
            parent: 0,
            start: 0,
            duration: u32::MAX,
            error: "".into(),
            attributes: attributes.clone(),
        };
        let event = EventRecord {
            span: 70_000,
            time: 1,
            level: Level::Error,
            target: "".into(),
            message: String::new(),
            attributes,
        };
        let trace = Trace { spans: vec![span], events: vec![event] };
        Activity { trace: Some(trace), ..Activity::default() }
    }

    #[test]
    fn integers_and_everything_else_go_to_columns_of_their_own() {
        let activity = activity_with(vec![
            ("a".into(), Value::I64(-1)),
            ("b".into(), Value::U64(u64::MAX)),
            ("c".into(), Value::U64(7)),
            ("d".into(), Value::F64(1.5)),
            ("e".into(), Value::Bool(true)),
            ("f".into(), Value::Str("x\"\0".into())),
        ]);
        let row = ActivityRow::new(&activity, Uuid::nil());
        assert_eq!((row.int_key, row.int_value), (vec!["a", "c"], vec![-1, 7]));
        assert_eq!(row.attr_key, ["b", "d", "e", "f"]);
        assert_eq!(row.attr_value, ["18446744073709551615", "1.5", "true", "x\"\0"]);
        assert_eq!(row.event_span, [u16::MAX]);
        assert_eq!(
            row.event_fields,
            [r#"{"a":-1,"b":18446744073709551615,"c":7,"d":1.5,"e":true,"f":"x\"\u0000"}"#]
        );
        assert_eq!(ActivityRow::new(&activity_with(vec![]), Uuid::nil()).event_fields, [""]);
    }

    #[test]
    fn times_are_brought_into_the_columns_range() {
        for (micros, when, site) in [
            (i64::MIN, 0, 0),
            (1_700_000_000_123_456, 1_700_000_000_123_456, 1_700_000_000),
            (i64::MAX, i64::from(u32::MAX) * 1_000_000 + 999_999, u32::MAX),
        ] {
            let time = Timestamp::from_micros(micros);
            let activity = Activity { when: time, site_version: time, ..Activity::default() };
            let row = ActivityRow::new(&activity, Uuid::nil());
            assert_eq!((row.when, row.site_version), (when, site));
        }
    }
}
