-- One row a request, its trace inline as parallel arrays.
CREATE TABLE IF NOT EXISTS {database}.activities{local}{on_cluster}
(
    when             DateTime64(6, 'UTC') CODEC(T64('bit'), Default),
    activity_id      UUID,
    duration         UInt64 COMMENT 'Microseconds to the last byte of the answer' CODEC(T64, Default),
    response_start   UInt64 COMMENT 'Microseconds to the head of the answer; 0: unknown' CODEC(T64, Default),
    outcome          Enum8('success' = 0, 'client_fault' = 1, 'server_fault' = 2),
    status           UInt16,
    method           LowCardinality(String),
    route            LowCardinality(String),
    url              String,
    referer          String,
    title            String,
    okind            LowCardinality(String),
    oid              String,
    ekind            LowCardinality(String),
    target_kind      LowCardinality(String),
    target_id        String,
    data             String COMMENT 'JSON object',
    error            String,
    error_kind       LowCardinality(String),
    user_id          String,
    actor_kind       LowCardinality(String) COMMENT 'Empty: a user',
    on_behalf_of     String,
    session_id       String,
    -- The requests of a visit stand apart: in larger blocks more of them are together.
    visit_id         String SETTINGS (min_compress_block_size = 1048576),
    visit_created    Bool,
    tracker_id       String SETTINGS (min_compress_block_size = 1048576),
    tracker_created  Bool,
    campaign         String COMMENT 'utm parameters, as a query',
    visit_referer    String COMMENT 'Host',
    ip               IPv6,
    user_agent       LowCardinality(String),
    client_kind      LowCardinality(String) COMMENT 'bot, browser or other; empty: no user agent',
    app              LowCardinality(String),
    app_version      LowCardinality(String),
    service          LowCardinality(String),
    host             LowCardinality(String),
    site_version     DateTime('UTC') COMMENT 'When the deploy was built',
    site_revision    LowCardinality(String),
    remote_trace_id  FixedString(16) COMMENT 'Zero bytes: none',
    remote_parent_id FixedString(8) COMMENT 'Span of the caller; zero bytes: none',
    parent_sampled   Bool COMMENT 'The caller keeps the trace',
    trace_hash       LowCardinality(String) COMMENT 'Fingerprint of the trace in hexadecimal; empty: no trace',
    response         String,
    kept_because     LowCardinality(String) COMMENT 'Why the trace was kept; empty: it was not',
    sample_weight    Float32 COMMENT 'Requests this trace stands for',
    truncated        Bool,
    incomplete       Bool,
    late_end         Bool COMMENT 'Second row of a request that was given up and ended after all',
    dropped_spans    UInt32,
    batch_id         UUID COMMENT 'The insert, and its deduplication token',

    span_name        Array(LowCardinality(String)),
    span_target      Array(LowCardinality(String)),
    span_level       Array(Enum8('trace' = 1, 'debug' = 2, 'info' = 3, 'warn' = 4, 'error' = 5)),
    span_parent      Array(UInt16) COMMENT 'Index of the parent, from 0; the root names itself',
    span_start       Array(UInt32) COMMENT 'Microseconds since the activity began' CODEC(T64, Default),
    span_duration    Array(UInt32) COMMENT 'Microseconds' CODEC(T64, Default),
    span_error       Array(LowCardinality(String)),
    attr_span        Array(UInt16) COMMENT 'Index of the span, from 0',
    attr_key         Array(LowCardinality(String)),
    attr_value       Array(String),
    int_span         Array(UInt16) COMMENT 'Index of the span, from 0',
    int_key          Array(LowCardinality(String)),
    int_value        Array(Int64) CODEC(T64, Default),
    event_span       Array(UInt16) COMMENT 'Index of the span, from 0',
    event_time       Array(UInt32) COMMENT 'Microseconds since the activity began' CODEC(T64, Default),
    event_level      Array(Enum8('trace' = 1, 'debug' = 2, 'info' = 3, 'warn' = 4, 'error' = 5)),
    event_target     Array(LowCardinality(String)),
    event_message    Array(String),
    event_fields     Array(String) COMMENT 'JSON object; empty: none',

    trace_id         String ALIAS if(empty(remote_trace_id), replaceAll(toString(activity_id), '-', ''), lower(hex(remote_trace_id))),
    -- What every question has to plan, asked for or not, and each of the views, at every insert: few
    -- functions, fewer lambdas.
    span_id          Array(String) ALIAS arrayMap(
        i -> printf('%016x', bitXor(toUInt64(bitShiftRight(reinterpretAsUInt128(activity_id), 64)), i)),
        range(greatest(length(span_name), 1))) COMMENT 'Of the request and of its spans, derived from activity_id',
    duration_ms      Float64 ALIAS duration / 1000,
    utm_source       String ALIAS decodeURLFormComponent(extractURLParameter(concat('?', campaign), 'utm_source')),
    utm_medium       String ALIAS decodeURLFormComponent(extractURLParameter(concat('?', campaign), 'utm_medium')),
    utm_campaign     String ALIAS decodeURLFormComponent(extractURLParameter(concat('?', campaign), 'utm_campaign')),
    -- Not by CAST: a row that the type refuses would fail every question that reads it.
    data_json        JSON ALIAS JSONExtract(data, 'JSON') COMMENT 'data by its keys; empty where it cannot be read by them',
    trace            String ALIAS toJSONString(arrayMap(
        (i, name, parent, start, took, error) -> CAST(
            (name, if(i = 0, NULL, parent), start, took, nullIf(error, ''), arrayFilter(
                (attribute, span) -> span = i,
                arrayConcat(
                    CAST(arrayZip(int_key, int_value), 'Array(Tuple(String, Variant(Int64, String)))'),
                    -- In two steps: in one, a text that reads as a number would become one.
                    CAST(
                        CAST(arrayZip(attr_key, attr_value), 'Array(Tuple(String, Variant(String)))'),
                        'Array(Tuple(String, Variant(Int64, String)))')),
                arrayConcat(int_span, attr_span))),
            'Tuple(name String, parent Nullable(UInt16), start_us UInt32, duration_us UInt32, error Nullable(String), attributes Map(String, Variant(Int64, String)))'),
        range(length(span_name)), span_name, span_parent, span_start, span_duration, span_error))
        COMMENT 'The spans as JSON, for people',

    INDEX id_time       UUIDv7ToDateTime(activity_id, 'UTC') TYPE minmax              GRANULARITY 1,
    INDEX duration      duration                             TYPE minmax              GRANULARITY 1,
    INDEX outcome       outcome                              TYPE set(3)              GRANULARITY 1,
    INDEX trace_hash    trace_hash                           TYPE set(256)            GRANULARITY 1,
    INDEX trace_time    UUIDv7ToDateTime(toUUIDOrZero(trace_id), 'UTC') TYPE minmax   GRANULARITY 1,
    INDEX trace         trace_id                             TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX user          user_id                              TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX object        oid                                  TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX session       session_id                           TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX visit         visit_id                             TYPE bloom_filter(0.01)  GRANULARITY 1,
    INDEX tracker       tracker_id                           TYPE bloom_filter(0.01)  GRANULARITY 1
)
ENGINE = {replicated}MergeTree
-- By the time in the id, too: a look-up by id alone then reads one day.
PARTITION BY (toDate(when), toDate(UUIDv7ToDateTime(activity_id, 'UTC')))
-- `when` itself stays out of the primary key: beside the expression of it, it would switch off
-- the pruning by that expression.
PRIMARY KEY (toStartOfFiveMinutes(when), okind, ekind)
ORDER BY (toStartOfFiveMinutes(when), okind, ekind, trace_hash, when)
{activities_ttl}
-- From the first insert on: without a window a plain MergeTree ignores deduplication tokens. The
-- codec stands here and not at the columns, because what stands there is not compressed again.
-- Rows are wide, so few of them are much: they are merged column by column from the first on. A
-- text's length stands before it: as a column of its own it takes more room and more work. All but
-- the windows only save room or work, and are left out where the server does not know them.
SETTINGS {window}, default_compression_codec = 'ZSTD(1)', vertical_merge_algorithm_min_rows_to_activate = 1, string_serialization_version = 'single_stream'
COMMENT 'One row a request';

-- The requests of a visit share a shard, and so do funnels.
CREATE TABLE IF NOT EXISTS {database}.activities{on_cluster} AS {database}.activities_local
ENGINE = Distributed({cluster}, {database_text}, activities_local, if(visit_id = '', cityHash64(activity_id), cityHash64(visit_id)))
