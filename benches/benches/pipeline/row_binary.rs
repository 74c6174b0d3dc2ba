//! The same rows in the format `RowBinaryWithNamesAndTypes`, to compare: row by row, every text
//! spelt out.

use std::borrow::Cow;
use std::net::Ipv6Addr;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Compression};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tracing_activity::config::ClickHouse;
use tracing_activity::model::{Activity, KeepReason, Level, Outcome, Timestamp, Value};
use tracing_activity::schema::COLUMNS;
use tracing_activity::sink::{Batch, BoxFuture, ClickHouseSink, Sink, SinkError};
use uuid::Uuid;

/// How much is compressed and sent at a time.
const CHUNK: usize = 1 << 20;

const SETTINGS: [(&str, &str); 10] = [
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    ("wait_end_of_query", "1"),
    ("max_insert_block_size", "200000"),
    ("min_insert_block_size_rows", "200000"),
    ("min_insert_block_size_bytes", "1073741824"),
    ("max_insert_threads", "1"),
    ("input_format_parallel_parsing", "0"),
    ("input_format_with_types_use_header", "1"),
];

/// Makes tables as [`ClickHouseSink`] does and writes rows.
pub(crate) struct RowBinarySink {
    tables: ClickHouseSink,
    client: Client,
    insert: String,
}

impl RowBinarySink {
    pub(crate) fn new(config: &ClickHouse) -> Self {
        let client = Client::default()
            .with_url(&config.url)
            .with_user(&config.user)
            .with_password(config.password.expose())
            .with_compression(Compression::Lz4);
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let insert = format!(
            "INSERT INTO {}.activities ({}) FORMAT RowBinaryWithNamesAndTypes",
            config.database,
            names.join(", ")
        );
        Self { tables: ClickHouseSink::new(config, Duration::from_mins(1)), client, insert }
    }

    async fn insert(&self, batch: &Batch) -> clickhouse::error::Result<()> {
        let mut insert = self
            .client
            .insert_formatted_with(&*self.insert)
            .with_setting("insert_deduplication_token", batch.id().to_string());
        for (name, value) in SETTINGS {
            insert = insert.with_setting(name, value);
        }
        let mut chunk = Vec::with_capacity(batch.bytes().min(CHUNK) + CHUNK / 8);
        write_header(&mut chunk);
        for activity in batch.rows() {
            ActivityRow::new(activity, batch.id()).write(&mut chunk);
            if chunk.len() >= CHUNK {
                insert.send(Bytes::from(std::mem::take(&mut chunk))).await?;
                chunk.reserve(CHUNK + CHUNK / 8);
            }
        }
        if !chunk.is_empty() {
            insert.send(Bytes::from(chunk)).await?;
        }
        insert.end().await
    }
}

impl Sink for RowBinarySink {
    fn name(&self) -> &'static str {
        "RowBinary"
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.tables.prepare()
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.insert(batch).await.map_err(|error| SinkError::rejected(error.to_string()))
        })
    }
}

type Texts<'a> = Vec<&'a str>;

/// The last second that a `DateTime` holds.
const LAST_SECOND: i64 = u32::MAX as i64;

macro_rules! columns {
    ($($name:ident: $rust:ty,)*) => {
        /// A row of `activities`, borrowing from the activity. Fields are columns, in order.
        #[derive(Debug)]
        struct ActivityRow<'a> {
            $($name: $rust,)*
        }

        impl ActivityRow<'_> {
            /// Appends the row in the format `RowBinary`.
            fn write(&self, out: &mut Vec<u8>) {
                $(self.$name.put(out);)*
            }
        }
    };
}

columns! {
    when: i64,
    activity_id: Uuid,
    duration: u64,
    response_start: u64,
    outcome: i8,
    status: u16,
    method: &'a str,
    route: &'a str,
    url: &'a str,
    referer: &'a str,
    title: &'a str,
    okind: &'a str,
    oid: &'a str,
    ekind: &'a str,
    target_kind: &'a str,
    target_id: &'a str,
    data: &'a str,
    error: &'a str,
    error_kind: &'a str,
    user_id: &'a str,
    actor_kind: &'a str,
    on_behalf_of: &'a str,
    session_id: &'a str,
    visit_id: &'a str,
    visit_created: bool,
    tracker_id: &'a str,
    tracker_created: bool,
    campaign: &'a str,
    visit_referer: &'a str,
    ip: Ipv6Addr,
    user_agent: &'a str,
    client_kind: &'a str,
    app: &'a str,
    app_version: &'a str,
    service: &'a str,
    host: &'a str,
    site_version: u32,
    site_revision: &'a str,
    remote_trace_id: [u8; 16],
    remote_parent_id: [u8; 8],
    parent_sampled: bool,
    trace_hash: String,
    response: &'a str,
    kept_because: &'a str,
    sample_weight: f32,
    truncated: bool,
    incomplete: bool,
    late_end: bool,
    dropped_spans: u32,
    batch_id: Uuid,
    span_name: Texts<'a>,
    span_target: Texts<'a>,
    span_level: Vec<i8>,
    span_parent: Vec<u16>,
    span_start: Vec<u32>,
    span_duration: Vec<u32>,
    span_error: Texts<'a>,
    attr_span: Vec<u16>,
    attr_key: Texts<'a>,
    attr_value: Vec<Cow<'a, str>>,
    int_span: Vec<u16>,
    int_key: Texts<'a>,
    int_value: Vec<i64>,
    event_span: Vec<u16>,
    event_time: Vec<u32>,
    event_level: Vec<i8>,
    event_target: Texts<'a>,
    event_message: Texts<'a>,
    event_fields: Vec<String>,
}

/// Appends what stands before the rows in `RowBinaryWithNamesAndTypes`: how many columns, their
/// names, their types.
fn write_header(out: &mut Vec<u8>) {
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
    fn new(activity: &'a Activity, batch_id: Uuid) -> Self {
        let empty = &[][..];
        let (spans, events) =
            activity.trace.as_ref().map_or((empty, &[][..]), |it| (&it.spans[..], &it.events[..]));
        let mut row = Self {
            when: date_time(activity.when),
            activity_id: activity.activity_id.to_uuid(),
            duration: activity.duration,
            response_start: activity.response_start,
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
            target_kind: &activity.target_kind,
            target_id: &activity.target_id,
            data: &activity.data,
            error: &activity.error,
            error_kind: &activity.error_kind,
            user_id: &activity.user_id,
            actor_kind: &activity.actor_kind,
            on_behalf_of: &activity.on_behalf_of,
            session_id: &activity.session_id,
            visit_id: &activity.visit_id,
            visit_created: activity.visit_created,
            tracker_id: &activity.tracker_id,
            tracker_created: activity.tracker_created,
            campaign: &activity.campaign,
            visit_referer: &activity.visit_referer,
            ip: activity.ip.unwrap_or(Ipv6Addr::UNSPECIFIED),
            user_agent: &activity.user_agent,
            client_kind: activity.client_kind.as_str(),
            app: &activity.app,
            app_version: &activity.app_version,
            service: &activity.service,
            host: &activity.host,
            site_version: (date_time(activity.site_version) / 1_000_000) as u32,
            site_revision: &activity.site_revision,
            remote_trace_id: activity.remote_trace_id.unwrap_or_default().to_bytes(),
            remote_parent_id: activity.remote_parent_id.unwrap_or_default().to_bytes(),
            parent_sampled: activity.parent_sampled,
            trace_hash: activity.trace_hash.map(|it| it.to_string()).unwrap_or_default(),
            response: &activity.response,
            kept_because: activity.kept_because.map_or("", KeepReason::as_str),
            sample_weight: activity.sample_weight,
            truncated: activity.truncated,
            incomplete: activity.incomplete,
            late_end: activity.late_end,
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
                Value::Str(text) => Cow::Borrowed(text.as_str()),
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

/// A value of a column.
trait Wire {
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! little_endian {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

little_endian!(i8, i64, u16, u32, u64, f32);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Wire for str {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_str().put(out);
    }
}

impl Wire for Cow<'_, str> {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_ref().put(out);
    }
}

impl<T: Wire + ?Sized> Wire for &T {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for value in self {
            value.put(out);
        }
    }
}

/// A `FixedString(16)`.
impl<const N: usize> Wire for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Wire for Uuid {
    fn put(&self, out: &mut Vec<u8>) {
        let (high, low) = self.as_u64_pair();
        high.put(out);
        low.put(out);
    }
}

impl Wire for Ipv6Addr {
    fn put(&self, out: &mut Vec<u8>) {
        self.octets().put(out);
    }
}

/// A length in LEB128: seven bits a byte, the lowest first.
fn put_length(length: usize, out: &mut Vec<u8>) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
