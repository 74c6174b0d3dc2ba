-- The tables of the ClickHouse in docker-compose.yml, written by `cargo xtask schema --compose`.
-- Each start runs it again, which does no harm.

CREATE DATABASE IF NOT EXISTS `activity`;

CREATE TABLE IF NOT EXISTS `activity`.schema_version
(
    version    UInt32,
    name       String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version
COMMENT 'Migrations of tracing-activity that were applied';

-- Version 1: activities

-- One row a request, its trace inline as parallel arrays.
CREATE TABLE IF NOT EXISTS `activity`.activities
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
ENGINE = MergeTree
-- By the time in the id, too: a look-up by id alone then reads one day.
PARTITION BY (toDate(when), toDate(UUIDv7ToDateTime(activity_id, 'UTC')))
-- `when` itself stays out of the primary key: beside the expression of it, it would switch off
-- the pruning by that expression.
PRIMARY KEY (toStartOfFiveMinutes(when), okind, ekind)
ORDER BY (toStartOfFiveMinutes(when), okind, ekind, trace_hash, when)
TTL toDateTime(when) + toIntervalDay(3) RECOMPRESS CODEC(ZSTD(6)), toDateTime(when) + toIntervalDay(30)
-- From the first insert on: without a window a plain MergeTree ignores deduplication tokens. The
-- codec stands here and not at the columns, because what stands there is not compressed again.
-- Rows are wide, so few of them are much: they are merged column by column from the first on. A
-- text's length stands before it: as a column of its own it takes more room and more work. All but
-- the windows only save room or work, and are left out where the server does not know them.
SETTINGS non_replicated_deduplication_window = 10000, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, default_compression_codec = 'ZSTD(1)', vertical_merge_algorithm_min_rows_to_activate = 1, string_serialization_version = 'single_stream'
COMMENT 'One row a request';

INSERT INTO `activity`.schema_version (version, name) VALUES (1, 'activities');

-- Version 2: activity_minutes

-- Requests, their duration, the time until their answers began, and outcome by minute.
CREATE TABLE IF NOT EXISTS `activity`.activity_minutes
(
    minute        DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    service       LowCardinality(String),
    okind         LowCardinality(String),
    ekind         LowCardinality(String),
    route         LowCardinality(String),
    outcome       Enum8('success' = 0, 'client_fault' = 1, 'server_fault' = 2),
    site_version  DateTime('UTC'),
    requests      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    weight        SimpleAggregateFunction(sum, Float64) COMMENT 'Requests that the kept traces stand for' CODEC(ZSTD(1)),
    duration_sum  SimpleAggregateFunction(sum, UInt64) COMMENT 'Microseconds' CODEC(T64, ZSTD(1)),
    duration_max  SimpleAggregateFunction(max, UInt64) COMMENT 'Microseconds' CODEC(T64, ZSTD(1)),
    dur_hist      SimpleAggregateFunction(sumMap, Map(UInt16, UInt64)) COMMENT 'Requests by floor(16 * log2(duration)); read it with activity_hist_quantile' CODEC(ZSTD(1)),
    start_hist    SimpleAggregateFunction(sumMap, Map(UInt16, UInt64)) COMMENT 'The same of response_start, and of duration where nobody told that' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
-- `minute` itself stays out of the primary key: beside the expression of it, it would switch off the
-- pruning by that expression.
PRIMARY KEY (toStartOfHour(minute), service, okind, ekind, route)
ORDER BY (toStartOfHour(minute), service, okind, ekind, route, outcome, site_version, minute)
TTL minute + toIntervalDay(365)
-- Of its own: with a window on `activities` alone, a repeated insert would count here twice.
SETTINGS non_replicated_deduplication_window = 10000, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'Requests by minute';

CREATE MATERIALIZED VIEW IF NOT EXISTS `activity`.activity_minutes_mv TO `activity`.activity_minutes AS
SELECT
    toStartOfMinute(toDateTime(when, 'UTC')) AS minute,
    service,
    okind,
    ekind,
    route,
    outcome,
    site_version,
    count() AS requests,
    -- A number that is none would make every sum of it one.
    sumIf(toFloat64(sample_weight), isFinite(sample_weight)) AS weight,
    sum(duration) AS duration_sum,
    max(duration) AS duration_max,
    -- 16 buckets an octave: the middle of one is within 2.2 % of whatever is in it.
    sumMap(map(toUInt16(16 * log2(greatest(duration, 1))), toUInt64(1))) AS dur_hist,
    sumMap(map(toUInt16(16 * log2(greatest(if(response_start = 0, duration, response_start), 1))), toUInt64(1))) AS start_hist
FROM `activity`.activities
-- A request counts by its first row.
WHERE NOT late_end
GROUP BY minute, service, okind, ekind, route, outcome, site_version;

INSERT INTO `activity`.schema_version (version, name) VALUES (2, 'activity_minutes');

-- Version 3: trace_shapes

-- The code paths that requests took, one row for each service and fingerprint. Rows of one path
-- are added up when parts merge: read with FINAL, or group.
CREATE TABLE IF NOT EXISTS `activity`.trace_shapes
(
    service        LowCardinality(String),
    trace_hash     String COMMENT 'Fingerprint of the trace; other: of those beyond the cap' CODEC(ZSTD(1)),
    first_seen     SimpleAggregateFunction(min, DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    last_seen      SimpleAggregateFunction(max, DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    first_version  SimpleAggregateFunction(min, DateTime('UTC')) COMMENT 'The earliest site_version that took this path' CODEC(ZSTD(1)),
    last_version   SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'The latest' CODEC(ZSTD(1)),
    requests       SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1)),
    errors         SimpleAggregateFunction(sum, UInt64) COMMENT 'Those with outcome server_fault' CODEC(ZSTD(1)),
    duration_sum   SimpleAggregateFunction(sum, UInt64) COMMENT 'Microseconds' CODEC(ZSTD(1)),
    duration_max   SimpleAggregateFunction(max, UInt64) COMMENT 'Microseconds' CODEC(ZSTD(1)),
    routes         SimpleAggregateFunction(groupUniqArrayArray(20), Array(String)) COMMENT 'Method and route, 20 at most' CODEC(ZSTD(1)),
    ekinds         SimpleAggregateFunction(groupUniqArrayArray(20), Array(String)) COMMENT '20 at most' CODEC(ZSTD(1)),
    -- Of one request, so that its parts fit each other: of those with a trace one with the fewest
    -- spans. Without names inside, because `example.name` would be read before the rows of a path
    -- are added up.
    example        SimpleAggregateFunction(min, Tuple(UInt16, UUID, Array(String), Array(UInt16), Array(String))) COMMENT 'Spans less one, activity_id, span_name, span_parent, span_error' CODEC(ZSTD(1)),

    route          String ALIAS arraySort(routes)[1],
    activity_id    UUID ALIAS tupleElement(example, 2) COMMENT 'An example, with a trace where one was kept',
    span_name      Array(String) ALIAS tupleElement(example, 3) COMMENT 'Empty until a trace was kept',
    span_parent    Array(UInt16) ALIAS tupleElement(example, 4),
    span_error     Array(String) ALIAS tupleElement(example, 5),
    -- Each span has a path of the numbers of its ancestors and its own, four digits each; they sort
    -- as the tree is printed. One lambda, because the view below plans this twice for an insert.
    shape          String ALIAS arrayStringConcat(arraySort(arrayFold(
        (nodes, name, parent, error) -> arrayPushBack(nodes, (
            concat(nodes[parent + 1].1, '/', leftPad(hex(toUInt16(length(nodes))), 4, '0')),
            concat(repeat('  ', intDiv(length(nodes[parent + 1].1), 5)), name, if(error = '', '', concat(' !', error))))),
        span_name, span_parent, span_error,
        CAST([], 'Array(Tuple(String, String))'))).2, '\n') COMMENT 'The tree of spans as text'
)
ENGINE = AggregatingMergeTree
ORDER BY (service, trace_hash)
TTL toDateTime(last_seen) + toIntervalDay(365)
SETTINGS non_replicated_deduplication_window = 10000, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800
COMMENT 'The code paths that requests took';;

-- A mistake that makes a path of every request must not fill the table: what is not known goes to
-- `other` where the service has 10000 paths seen in the last 30 days, and beyond the first
-- 1000 of one insert. One level of SELECT without scalar subqueries, because planning
-- this is what an insert pays for it; the rows of `other` are added up by the table.
CREATE MATERIALIZED VIEW IF NOT EXISTS `activity`.trace_shapes_mv TO `activity`.trace_shapes AS
SELECT
    a.service AS service,
    if(
        ((a.service, toString(a.trace_hash)) IN (SELECT service, trace_hash FROM `activity`.trace_shapes) AS known)
        OR (
            row_number() OVER (PARTITION BY a.service, known ORDER BY min(a.when), a.trace_hash) <= 1000
            AND a.service NOT IN (
                SELECT service
                FROM `activity`.trace_shapes
                WHERE last_seen > now() - toIntervalDay(30)
                GROUP BY service
                HAVING uniqExact(trace_hash) >= 10000
            )
        ),
        toString(a.trace_hash),
        'other') AS trace_hash,
    min(a.when) AS first_seen,
    max(a.when) AS last_seen,
    min(a.site_version) AS first_version,
    max(a.site_version) AS last_version,
    count() AS requests,
    countIf(a.outcome = 'server_fault') AS errors,
    sum(a.duration) AS duration_sum,
    max(a.duration) AS duration_max,
    groupUniqArray(20)(trimLeft(concat(a.method, ' ', a.route))) AS routes,
    groupUniqArray(20)(toString(a.ekind)) AS ekinds,
    -- One less than the spans: of none it wraps around, and comes last.
    argMin(
        (toUInt16(length(a.span_name) - 1) AS rank, a.activity_id, a.span_name, a.span_parent, a.span_error),
        rank) AS example
FROM `activity`.activities AS a
WHERE a.trace_hash != '' AND NOT a.late_end
GROUP BY a.service, a.trace_hash;

INSERT INTO `activity`.schema_version (version, name) VALUES (3, 'trace_shapes');

-- Version 4: activity_spans

-- The spans as the OpenTelemetry Collector's exporter lays them out, for what reads that, such as
-- Grafana. A request whose trace was not kept is here, too: its root alone.
CREATE VIEW IF NOT EXISTS `activity`.activity_spans AS
SELECT
    toDateTime64(when, 9, 'UTC') + toIntervalMicrosecond(nth_start) AS Timestamp,
    trace_id AS TraceId,
    nth_id AS SpanId,
    multiIf(nth > 0, span_id[nth_parent + 1], empty(remote_parent_id), '', lower(hex(remote_parent_id))) AS ParentSpanId,
    '' AS TraceState,
    toLowCardinality(multiIf(
        nth > 0, toString(nth_name),
        route != '', trimLeft(concat(method, ' ', route)),
        notEmpty(nth_name), toString(nth_name),
        'request')) AS SpanName,
    toLowCardinality(multiIf(
        nth_attributes['otel.kind'] != '', initcap(nth_attributes['otel.kind']),
        nth = 0, 'Server',
        'Internal')) AS SpanKind,
    service AS ServiceName,
    CAST(map(
        'service.name', service,
        'service.version', site_revision,
        'host.name', host), 'Map(LowCardinality(String), String)') AS ResourceAttributes,
    toString(nth_target) AS ScopeName,
    '' AS ScopeVersion,
    CAST(if(nth > 0, nth_attributes, mapUpdate(nth_attributes, mapFilter((key, value) -> value != '', map(
        'http.request.method', toString(method),
        'http.route', toString(route),
        'http.response.status_code', if(status = 0, '', toString(status)),
        'url.path', url,
        'http.request.header.referer', referer,
        'client.address', if(ip = toIPv6('::'), '', replaceOne(toString(ip), '::ffff:', '')),
        'user_agent.original', toString(user_agent),
        'user.id', user_id,
        'session.id', session_id,
        'activity.visit_id', visit_id,
        'activity.tracker_id', tracker_id,
        'error.type', toString(error_kind),
        'activity.id', toString(activity_id),
        'activity.okind', toString(okind),
        'activity.oid', oid,
        'activity.ekind', toString(ekind),
        'activity.title', title,
        'activity.data', data,
        'activity.trace_hash', toString(trace_hash))))), 'Map(LowCardinality(String), String)') AS SpanAttributes,
    1000 * if(nth = 0, duration, toUInt64(nth_duration)) AS Duration,
    toLowCardinality(if(if(nth = 0, outcome = 'server_fault', notEmpty(nth_error)), 'Error', 'Unset')) AS StatusCode,
    if(nth = 0, error, toString(nth_error)) AS StatusMessage,
    arrayMap(time -> toDateTime64(when, 9, 'UTC') + toIntervalMicrosecond(time), arrayFilter((time, span) -> span = nth, event_time, event_span)) AS `Events.Timestamp`,
    CAST(arrayFilter((message, span) -> span = nth, event_message, event_span), 'Array(LowCardinality(String))') AS `Events.Name`,
    arrayMap(
        (fields, level, target) -> CAST(
            mapUpdate(JSONExtract(fields, 'Map(String, String)'), map('level', toString(level), 'target', toString(target))),
            'Map(LowCardinality(String), String)'),
        arrayFilter((fields, span) -> span = nth, event_fields, event_span),
        arrayFilter((level, span) -> span = nth, event_level, event_span),
        arrayFilter((target, span) -> span = nth, event_target, event_span)) AS `Events.Attributes`,
    emptyArrayString() AS `Links.TraceId`,
    emptyArrayString() AS `Links.SpanId`,
    emptyArrayString() AS `Links.TraceState`,
    CAST([], 'Array(Map(LowCardinality(String), String))') AS `Links.Attributes`
FROM `activity`.activities
ARRAY JOIN
    range(greatest(length(span_name), 1)) AS nth,
    span_id AS nth_id,
    arrayResize(span_name, length(span_id)) AS nth_name,
    arrayResize(span_target, length(span_id)) AS nth_target,
    arrayResize(span_parent, length(span_id)) AS nth_parent,
    arrayResize(span_start, length(span_id)) AS nth_start,
    arrayResize(span_duration, length(span_id)) AS nth_duration,
    arrayResize(span_error, length(span_id)) AS nth_error,
    arrayMap(
        i -> CAST(mapFromArrays(
            arrayConcat(
                arrayFilter((key, span) -> span = i, arrayMap(key -> toString(key), attr_key), attr_span),
                arrayFilter((key, span) -> span = i, arrayMap(key -> toString(key), int_key), int_span)),
            arrayConcat(
                arrayFilter((value, span) -> span = i, attr_value, attr_span),
                arrayFilter((value, span) -> span = i, arrayMap(value -> toString(value), int_value), int_span))),
            'Map(String, String)'),
        range(length(span_id))) AS nth_attributes
-- A request by its first row: a second one has spans of the same ids.
WHERE NOT late_end;

-- When a trace began and ended: what Grafana asks first.
CREATE VIEW IF NOT EXISTS `activity`.activity_spans_trace_id_ts AS
SELECT
    trace_id AS TraceId,
    toDateTime(when, 'UTC') AS Start,
    -- Thirty years at most: beyond the years that a time holds the sum would be an error.
    toDateTime(when + toIntervalMicrosecond(least(duration, 1000000000000000)), 'UTC') + 1 AS End
FROM `activity`.activities;

INSERT INTO `activity`.schema_version (version, name) VALUES (4, 'activity_spans');

-- The quantile `p` of the histograms in `activity_minutes`: the middle of the bucket that holds
-- what quantileExact gives. Functions belong to the whole server, hence the long name.
CREATE FUNCTION IF NOT EXISTS activity_hist_quantile AS (histogram, p) -> if(
    empty(histogram),
    nan,
    exp2((0.5 + mapKeys(histogram)[arrayFirstIndex(
        total -> total > least(
            floor(toFloat64(p) * arraySum(mapValues(histogram))),
            toFloat64(arraySum(mapValues(histogram))) - 1),
        arrayCumSum(mapValues(histogram)))]) / 16));

-- The Collector's tables, for a Collector that makes none (production.yaml).
--
-- Names and types of the columns are the exporter's, which inserts by name; `cargo xtask collector
-- check` compares them with those of the tables that the exporter makes itself. The rest is ours to
-- choose: 30 days are kept, and a batch that is sent a second time, unchanged, is stored once.
-- Running this again does no harm.

CREATE DATABASE IF NOT EXISTS otel;

CREATE TABLE IF NOT EXISTS otel.otel_traces
(
    Timestamp          DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId            String CODEC(ZSTD(1)),
    SpanId             String CODEC(ZSTD(1)),
    ParentSpanId       String CODEC(ZSTD(1)),
    TraceState         String CODEC(ZSTD(1)),
    SpanName           LowCardinality(String) CODEC(ZSTD(1)),
    SpanKind           LowCardinality(String) CODEC(ZSTD(1)),
    ServiceName        LowCardinality(String) CODEC(ZSTD(1)),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName          String CODEC(ZSTD(1)),
    ScopeVersion       String CODEC(ZSTD(1)),
    SpanAttributes     Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration           UInt64 CODEC(T64, ZSTD(1)),
    StatusCode         LowCardinality(String) CODEC(ZSTD(1)),
    StatusMessage      String CODEC(ZSTD(1)),
    Events Nested
    (
        Timestamp  DateTime64(9),
        Name       LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    Links Nested
    (
        TraceId    String,
        SpanId     String,
        TraceState String,
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    INDEX trace TraceId TYPE bloom_filter(0.001),
    INDEX duration Duration TYPE minmax,
    INDEX resource_keys mapKeys(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX resource_values mapValues(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX attribute_keys mapKeys(SpanAttributes) TYPE bloom_filter(0.01),
    INDEX attribute_values mapValues(SpanAttributes) TYPE bloom_filter(0.01)
)
ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
TTL toDateTime(Timestamp) + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

-- When a trace began and ended, so that one is found by its id without reading every day.
CREATE TABLE IF NOT EXISTS otel.otel_traces_trace_id_ts
(
    TraceId String CODEC(ZSTD(1)),
    Start   DateTime CODEC(Delta, ZSTD(1)),
    End     DateTime CODEC(Delta, ZSTD(1)),
    INDEX trace TraceId TYPE bloom_filter(0.01)
)
ENGINE = MergeTree
PARTITION BY toDate(Start)
ORDER BY (TraceId, Start)
TTL Start + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS otel.otel_traces_trace_id_ts_mv
TO otel.otel_traces_trace_id_ts AS
SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End
FROM otel.otel_traces
WHERE TraceId != ''
GROUP BY TraceId;

-- Metrics: one table for each kind of point.

CREATE TABLE IF NOT EXISTS otel.otel_metrics_gauge
(
    ResourceAttributes    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ResourceSchemaUrl     String CODEC(ZSTD(1)),
    ScopeName             String CODEC(ZSTD(1)),
    ScopeVersion          String CODEC(ZSTD(1)),
    ScopeAttributes       Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeDroppedAttrCount UInt32 CODEC(ZSTD(1)),
    ScopeSchemaUrl        String CODEC(ZSTD(1)),
    ServiceName           LowCardinality(String) CODEC(ZSTD(1)),
    MetricName            LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription     String CODEC(ZSTD(1)),
    MetricUnit            String CODEC(ZSTD(1)),
    Attributes            Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    StartTimeUnix         DateTime CODEC(Delta, ZSTD(1)),
    TimeUnix              DateTime CODEC(Delta, ZSTD(1)),
    Value                 Float64 CODEC(ZSTD(1)),
    Flags                 UInt32 CODEC(ZSTD(1)),
    Exemplars Nested
    (
        FilteredAttributes Map(LowCardinality(String), String),
        TimeUnix           DateTime,
        Value              Float64,
        SpanId             String,
        TraceId            String
    ) CODEC(ZSTD(1)),
    INDEX resource_keys mapKeys(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX resource_values mapValues(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX attribute_keys mapKeys(Attributes) TYPE bloom_filter(0.01),
    INDEX attribute_values mapValues(Attributes) TYPE bloom_filter(0.01)
)
ENGINE = MergeTree
PARTITION BY toDate(TimeUnix)
ORDER BY (ServiceName, MetricName, cityHash64(Attributes), TimeUnix)
TTL TimeUnix + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS otel.otel_metrics_sum
(
    ResourceAttributes    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ResourceSchemaUrl     String CODEC(ZSTD(1)),
    ScopeName             String CODEC(ZSTD(1)),
    ScopeVersion          String CODEC(ZSTD(1)),
    ScopeAttributes       Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeDroppedAttrCount UInt32 CODEC(ZSTD(1)),
    ScopeSchemaUrl        String CODEC(ZSTD(1)),
    ServiceName           LowCardinality(String) CODEC(ZSTD(1)),
    MetricName            LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription     String CODEC(ZSTD(1)),
    MetricUnit            String CODEC(ZSTD(1)),
    Attributes            Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    StartTimeUnix         DateTime CODEC(Delta, ZSTD(1)),
    TimeUnix              DateTime CODEC(Delta, ZSTD(1)),
    Value                 Float64 CODEC(ZSTD(1)),
    Flags                 UInt32 CODEC(ZSTD(1)),
    Exemplars Nested
    (
        FilteredAttributes Map(LowCardinality(String), String),
        TimeUnix           DateTime,
        Value              Float64,
        SpanId             String,
        TraceId            String
    ) CODEC(ZSTD(1)),
    AggregationTemporality Int32 CODEC(ZSTD(1)),
    IsMonotonic           Bool CODEC(ZSTD(1)),
    INDEX resource_keys mapKeys(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX resource_values mapValues(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX attribute_keys mapKeys(Attributes) TYPE bloom_filter(0.01),
    INDEX attribute_values mapValues(Attributes) TYPE bloom_filter(0.01)
)
ENGINE = MergeTree
PARTITION BY toDate(TimeUnix)
ORDER BY (ServiceName, MetricName, cityHash64(Attributes), TimeUnix)
TTL TimeUnix + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS otel.otel_metrics_summary
(
    ResourceAttributes    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ResourceSchemaUrl     String CODEC(ZSTD(1)),
    ScopeName             String CODEC(ZSTD(1)),
    ScopeVersion          String CODEC(ZSTD(1)),
    ScopeAttributes       Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeDroppedAttrCount UInt32 CODEC(ZSTD(1)),
    ScopeSchemaUrl        String CODEC(ZSTD(1)),
    ServiceName           LowCardinality(String) CODEC(ZSTD(1)),
    MetricName            LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription     String CODEC(ZSTD(1)),
    MetricUnit            String CODEC(ZSTD(1)),
    Attributes            Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    StartTimeUnix         DateTime CODEC(Delta, ZSTD(1)),
    TimeUnix              DateTime CODEC(Delta, ZSTD(1)),
    Count                 UInt64 CODEC(ZSTD(1)),
    Sum                   Float64 CODEC(ZSTD(1)),
    ValueAtQuantiles Nested
    (
        Quantile Float64,
        Value    Float64
    ) CODEC(ZSTD(1)),
    Flags                 UInt32 CODEC(ZSTD(1)),
    INDEX resource_keys mapKeys(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX resource_values mapValues(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX attribute_keys mapKeys(Attributes) TYPE bloom_filter(0.01),
    INDEX attribute_values mapValues(Attributes) TYPE bloom_filter(0.01)
)
ENGINE = MergeTree
PARTITION BY toDate(TimeUnix)
ORDER BY (ServiceName, MetricName, cityHash64(Attributes), TimeUnix)
TTL TimeUnix + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS otel.otel_metrics_histogram
(
    ResourceAttributes    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ResourceSchemaUrl     String CODEC(ZSTD(1)),
    ScopeName             String CODEC(ZSTD(1)),
    ScopeVersion          String CODEC(ZSTD(1)),
    ScopeAttributes       Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeDroppedAttrCount UInt32 CODEC(ZSTD(1)),
    ScopeSchemaUrl        String CODEC(ZSTD(1)),
    ServiceName           LowCardinality(String) CODEC(ZSTD(1)),
    MetricName            LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription     String CODEC(ZSTD(1)),
    MetricUnit            String CODEC(ZSTD(1)),
    Attributes            Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    StartTimeUnix         DateTime CODEC(Delta, ZSTD(1)),
    TimeUnix              DateTime CODEC(Delta, ZSTD(1)),
    Count                 UInt64 CODEC(ZSTD(1)),
    Sum                   Float64 CODEC(ZSTD(1)),
    BucketCounts          Array(UInt64) CODEC(ZSTD(1)),
    ExplicitBounds        Array(Float64) CODEC(ZSTD(1)),
    Exemplars Nested
    (
        FilteredAttributes Map(LowCardinality(String), String),
        TimeUnix           DateTime,
        Value              Float64,
        SpanId             String,
        TraceId            String
    ) CODEC(ZSTD(1)),
    Flags                 UInt32 CODEC(ZSTD(1)),
    Min                   Float64 CODEC(ZSTD(1)),
    Max                   Float64 CODEC(ZSTD(1)),
    AggregationTemporality Int32 CODEC(ZSTD(1)),
    INDEX resource_keys mapKeys(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX resource_values mapValues(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX attribute_keys mapKeys(Attributes) TYPE bloom_filter(0.01),
    INDEX attribute_values mapValues(Attributes) TYPE bloom_filter(0.01)
)
ENGINE = MergeTree
PARTITION BY toDate(TimeUnix)
ORDER BY (ServiceName, MetricName, cityHash64(Attributes), TimeUnix)
TTL TimeUnix + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS otel.otel_metrics_exponential_histogram
(
    ResourceAttributes    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ResourceSchemaUrl     String CODEC(ZSTD(1)),
    ScopeName             String CODEC(ZSTD(1)),
    ScopeVersion          String CODEC(ZSTD(1)),
    ScopeAttributes       Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeDroppedAttrCount UInt32 CODEC(ZSTD(1)),
    ScopeSchemaUrl        String CODEC(ZSTD(1)),
    ServiceName           LowCardinality(String) CODEC(ZSTD(1)),
    MetricName            LowCardinality(String) CODEC(ZSTD(1)),
    MetricDescription     String CODEC(ZSTD(1)),
    MetricUnit            String CODEC(ZSTD(1)),
    Attributes            Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    StartTimeUnix         DateTime CODEC(Delta, ZSTD(1)),
    TimeUnix              DateTime CODEC(Delta, ZSTD(1)),
    Count                 UInt64 CODEC(ZSTD(1)),
    Sum                   Float64 CODEC(ZSTD(1)),
    Scale                 Int32 CODEC(ZSTD(1)),
    ZeroCount             UInt64 CODEC(ZSTD(1)),
    PositiveOffset        Int32 CODEC(ZSTD(1)),
    PositiveBucketCounts  Array(UInt64) CODEC(ZSTD(1)),
    NegativeOffset        Int32 CODEC(ZSTD(1)),
    NegativeBucketCounts  Array(UInt64) CODEC(ZSTD(1)),
    Exemplars Nested
    (
        FilteredAttributes Map(LowCardinality(String), String),
        TimeUnix           DateTime,
        Value              Float64,
        SpanId             String,
        TraceId            String
    ) CODEC(ZSTD(1)),
    Flags                 UInt32 CODEC(ZSTD(1)),
    Min                   Float64 CODEC(ZSTD(1)),
    Max                   Float64 CODEC(ZSTD(1)),
    AggregationTemporality Int32 CODEC(ZSTD(1)),
    INDEX resource_keys mapKeys(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX resource_values mapValues(ResourceAttributes) TYPE bloom_filter(0.01),
    INDEX attribute_keys mapKeys(Attributes) TYPE bloom_filter(0.01),
    INDEX attribute_values mapValues(Attributes) TYPE bloom_filter(0.01)
)
ENGINE = MergeTree
PARTITION BY toDate(TimeUnix)
ORDER BY (ServiceName, MetricName, cityHash64(Attributes), TimeUnix)
TTL TimeUnix + toIntervalDay(30)
SETTINGS ttl_only_drop_parts = 1;
