-- The spans as the OpenTelemetry Collector's exporter lays them out, for what reads that, such as
-- Grafana. A request whose trace was not kept is here, too: its root alone.
CREATE VIEW IF NOT EXISTS {database}.activity_spans{on_cluster} AS
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
FROM {database}.activities
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
CREATE VIEW IF NOT EXISTS {database}.activity_spans_trace_id_ts{on_cluster} AS
SELECT
    trace_id AS TraceId,
    toDateTime(when, 'UTC') AS Start,
    -- Thirty years at most: beyond the years that a time holds the sum would be an error.
    toDateTime(when + toIntervalMicrosecond(least(duration, 1000000000000000)), 'UTC') + 1 AS End
FROM {database}.activities
