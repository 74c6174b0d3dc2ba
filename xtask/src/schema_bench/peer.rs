//! The peer: the table that the OpenTelemetry Collector's exporter for ClickHouse makes.
//!
//! Columns, codecs, indexes, order, partitions and the table for looking up ids are those of the
//! exporter's default, with Bloom filters:
//! <https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/clickhouseexporter>.
//! Its two ALIAS columns, which store nothing, are left out.

/// Statements that make the tables, `{db}` is the database.
pub(crate) const TABLES: [&str; 4] = [
    "CREATE DATABASE {db}",
    "CREATE TABLE {db}.otel_traces (
        Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
        TraceId String CODEC(ZSTD(1)),
        SpanId String CODEC(ZSTD(1)),
        ParentSpanId String CODEC(ZSTD(1)),
        TraceState String CODEC(ZSTD(1)),
        SpanName LowCardinality(String) CODEC(ZSTD(1)),
        SpanKind LowCardinality(String) CODEC(ZSTD(1)),
        ServiceName LowCardinality(String) CODEC(ZSTD(1)),
        ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
        ScopeName String CODEC(ZSTD(1)),
        ScopeVersion String CODEC(ZSTD(1)),
        SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
        Duration UInt64 CODEC(T64, ZSTD(1)),
        StatusCode LowCardinality(String) CODEC(ZSTD(1)),
        StatusMessage String CODEC(ZSTD(1)),
        Events Nested (
            Timestamp DateTime64(9),
            Name LowCardinality(String),
            Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
        Links Nested (
            TraceId String,
            SpanId String,
            TraceState String,
            Attributes Map(LowCardinality(String), String)) CODEC(ZSTD(1)),
        INDEX trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
        INDEX resource_keys mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
        INDEX resource_values mapValues(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
        INDEX span_keys mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
        INDEX span_values mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1,
        INDEX duration Duration TYPE minmax GRANULARITY 1,
        INDEX lower_name lower(SpanName) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8)
    ENGINE = MergeTree
    PARTITION BY toDate(Timestamp)
    PRIMARY KEY (ServiceName, SpanName, toDateTime(Timestamp))
    ORDER BY (ServiceName, SpanName, toDateTime(Timestamp), Timestamp)
    SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1",
    "CREATE TABLE {db}.otel_traces_trace_id_ts (
        TraceId String CODEC(ZSTD(1)),
        Start SimpleAggregateFunction(min, DateTime) CODEC(ZSTD(1)),
        End SimpleAggregateFunction(max, DateTime) CODEC(ZSTD(1)))
    ENGINE = AggregatingMergeTree
    PARTITION BY toStartOfWeek(Start)
    ORDER BY TraceId
    SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1",
    "CREATE MATERIALIZED VIEW {db}.otel_traces_trace_id_ts_mv TO {db}.otel_traces_trace_id_ts AS
    SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End
    FROM {db}.otel_traces WHERE TraceId != '' GROUP BY TraceId",
];

/// The spans of a batch, as an instrumented service would have sent them. What only this crate
/// makes of a request - its id as an attribute, the fingerprint - is not the peer's to carry.
pub(crate) const SPANS: &str = "SELECT * REPLACE(
    CAST(mapFilter((key, value) -> key NOT IN ('activity.id', 'activity.trace_hash'), SpanAttributes),
        'Map(LowCardinality(String), String)') AS SpanAttributes)
    FROM {feed}.activity_spans {limit} SETTINGS max_block_size = 1000000";

/// An insert of such spans.
pub(crate) const INSERT: &str = "INSERT INTO {db}.otel_traces FORMAT Native";

/// Settings of the insert: the whole batch is one block, as it is on our side. The exporter asks for
/// asynchronous inserts by default, which gather small ones; these are large.
pub(crate) const INSERT_SETTINGS: [(&str, &str); 6] = [
    ("async_insert", "0"),
    ("max_insert_block_size", "2000000"),
    ("min_insert_block_size_rows", "2000000"),
    ("min_insert_block_size_bytes", "4294967296"),
    ("max_insert_threads", "1"),
    ("input_format_parallel_parsing", "0"),
];
