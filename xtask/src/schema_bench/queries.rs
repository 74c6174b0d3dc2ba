//! The questions, each in the words of both tables.
//!
//! Both sides answer the same, and [`super::run`] compares the answers: quantiles are exact, rows
//! are ordered. `{a}` is the database of `activities`, `{o}` that of `otel_traces`. On the peer's
//! side a request is a span of kind `Server`, a column of few values and so the cheapest way to
//! tell it from the others.

/// A question.
pub(crate) struct Question {
    pub(crate) key: &'static str,
    /// How many times faster this crate's table has to be, where there is a bar.
    pub(crate) bar: Option<f64>,
    pub(crate) says: &'static str,
    pub(crate) activities: &'static str,
    pub(crate) otel: &'static str,
}

/// `{from3}`, `{from1}` and `{hour}` are times, the others values that are there.
pub(crate) const QUESTIONS: [Question; 11] = [
    Question {
        key: "p99_by_ekind",
        bar: Some(10.0),
        says: "p99 by kind of event, 3 days",
        activities: "SELECT toString(ekind) AS kind, count() AS requests, quantileExact(0.99)(duration) AS p99
            FROM {a}.activities WHERE when >= {from3} GROUP BY ekind ORDER BY kind",
        otel: "SELECT SpanAttributes['activity.ekind'] AS kind, count() AS requests, intDiv(quantileExact(0.99)(Duration), 1000) AS p99
            FROM {o}.otel_traces WHERE SpanKind = 'Server' AND Timestamp >= {from3} GROUP BY kind ORDER BY kind",
    },
    Question {
        key: "new_paths",
        bar: Some(10.0),
        says: "code paths that came with the last deploy",
        activities: "SELECT count() AS paths, sum(requests) AS requests FROM (
                SELECT trace_hash, count() AS requests FROM {a}.activities
                GROUP BY trace_hash HAVING min(site_version) = {deploy})",
        otel: "SELECT count() AS paths, sum(requests) AS requests FROM (
                SELECT path, count() AS requests FROM (
                    SELECT TraceId, min(Timestamp) AS started,
                        cityHash64(arraySort(groupUniqArray(cityHash64(SpanName, if(SpanKind = 'Server', '', StatusMessage))))) AS path
                    FROM {o}.otel_traces GROUP BY TraceId)
                GROUP BY path HAVING min(started) >= {deploy})",
    },
    Question {
        key: "child_span",
        bar: Some(8.0),
        says: "which spans make up the time of a route, 1 day",
        activities: "SELECT span, count() AS times, quantileExact(0.95)(took) AS p95
            FROM {a}.activities ARRAY JOIN arrayPopFront(span_name) AS span, arrayPopFront(span_duration) AS took
            WHERE route = '/checkout' AND when >= {from1} GROUP BY span ORDER BY p95 DESC, span",
        otel: "SELECT toString(SpanName) AS span, count() AS times, intDiv(quantileExact(0.95)(Duration), 1000) AS p95
            FROM {o}.otel_traces
            WHERE Timestamp >= {from1} AND SpanKind != 'Server' AND TraceId IN (
                SELECT TraceId FROM {o}.otel_traces WHERE SpanName = 'POST /checkout' AND Timestamp >= {from1})
            GROUP BY span ORDER BY p95 DESC, span",
    },
    Question {
        key: "journey",
        bar: Some(4.0),
        says: "what a user did",
        activities: "SELECT toString(when) AS time, title, okind, oid, status
            FROM {a}.activities WHERE user_id = {user} ORDER BY time, oid",
        otel: "SELECT substring(toString(Timestamp), 1, 26) AS time, SpanAttributes['activity.title'] AS title,
                SpanAttributes['activity.okind'] AS okind, SpanAttributes['activity.oid'] AS oid,
                toUInt16OrZero(SpanAttributes['http.response.status_code']) AS status
            FROM {o}.otel_traces WHERE SpanAttributes['user.id'] = {user} AND SpanKind = 'Server' ORDER BY time, oid",
    },
    Question {
        key: "object",
        bar: Some(4.0),
        says: "what happened to an order",
        activities: "SELECT toString(when) AS time, user_id AS user, toString(ekind) AS kind
            FROM {a}.activities WHERE okind = 'order' AND oid = {order} ORDER BY time, kind",
        otel: "SELECT substring(toString(Timestamp), 1, 26) AS time, SpanAttributes['user.id'] AS user, SpanAttributes['activity.ekind'] AS kind
            FROM {o}.otel_traces WHERE SpanAttributes['activity.oid'] = {order}
                AND SpanAttributes['activity.okind'] = 'order' AND SpanKind = 'Server' ORDER BY time, kind",
    },
    Question {
        key: "funnel",
        bar: Some(4.0),
        says: "from a product to an order, by visit",
        activities: "SELECT level, count() AS visits FROM (
                SELECT visit_id, windowFunnel(7200)(toDateTime(when), ekind = 'viewed' AND okind = 'product', ekind = 'added', ekind = 'checkout') AS level
                FROM {a}.activities GROUP BY visit_id) GROUP BY level ORDER BY level",
        otel: "SELECT level, count() AS visits FROM (
                SELECT SpanAttributes['activity.visit_id'] AS visit, windowFunnel(7200)(toDateTime(Timestamp),
                    SpanAttributes['activity.ekind'] = 'viewed' AND SpanAttributes['activity.okind'] = 'product',
                    SpanAttributes['activity.ekind'] = 'added', SpanAttributes['activity.ekind'] = 'checkout') AS level
                FROM {o}.otel_traces WHERE SpanKind = 'Server' GROUP BY visit) GROUP BY level ORDER BY level",
    },
    Question {
        key: "trace_fetch",
        bar: Some(1.5),
        says: "a trace by its id, all of its spans",
        activities: "SELECT id, if(nth = 1, '', span_id[parent + 1]) AS parent_id, toString(name) AS span,
                toUnixTimestamp64Micro(when) + start AS began, took, toString(failure) AS error,
                if(nth = 1, [], arraySort(arrayFilter((pair, span) -> span = nth - 1,
                    arrayConcat(arrayMap((key, value) -> concat(key, '=', value), attr_key, attr_value), arrayMap((key, value) -> concat(key, '=', toString(value)), int_key, int_value)),
                    arrayConcat(attr_span, int_span)))) AS attributes
            FROM {a}.activities ARRAY JOIN arrayEnumerate(span_name) AS nth, span_id AS id, span_name AS name, span_parent AS parent,
                span_start AS start, span_duration AS took, span_error AS failure
            WHERE trace_id = {trace} ORDER BY began, id",
        otel: "WITH (SELECT min(Start) FROM {o}.otel_traces_trace_id_ts WHERE TraceId = {trace}) AS start,
                (SELECT max(End) + 1 FROM {o}.otel_traces_trace_id_ts WHERE TraceId = {trace}) AS end
            SELECT SpanId AS id, ParentSpanId AS parent_id, if(SpanKind = 'Server', 'request', toString(SpanName)) AS span,
                toUnixTimestamp64Micro(toDateTime64(Timestamp, 6)) AS began, intDiv(Duration, 1000) AS took,
                if(SpanKind = 'Server', '', StatusMessage) AS error,
                if(SpanKind = 'Server', [], arraySort(arrayMap((key, value) -> concat(key, '=', value), mapKeys(SpanAttributes), mapValues(SpanAttributes)))) AS attributes
            FROM {o}.otel_traces WHERE TraceId = {trace} AND Timestamp >= start AND Timestamp <= end ORDER BY began, id",
    },
    Question {
        key: "red",
        bar: Some(0.9),
        says: "rate, errors, duration of each route, 1 day",
        activities: "SELECT concat(method, ' ', route) AS name, count() AS requests, countIf(outcome = 'server_fault') AS errors, quantileExact(0.95)(duration) AS p95
            FROM {a}.activities WHERE when >= {from1} GROUP BY method, route ORDER BY name",
        otel: "SELECT toString(SpanName) AS name, count() AS requests, countIf(StatusCode = 'Error') AS errors, intDiv(quantileExact(0.95)(Duration), 1000) AS p95
            FROM {o}.otel_traces WHERE SpanKind = 'Server' AND Timestamp >= {from1} GROUP BY SpanName ORDER BY name",
    },
    Question {
        key: "errors",
        bar: None,
        says: "errors by kind of object, 1 hour",
        activities: "SELECT toString(okind) AS kind, count() AS errors FROM {a}.activities
            WHERE outcome = 'server_fault' AND when >= {hour} GROUP BY okind ORDER BY kind",
        otel: "SELECT SpanAttributes['activity.okind'] AS kind, count() AS errors FROM {o}.otel_traces
            WHERE SpanKind = 'Server' AND StatusCode = 'Error' AND Timestamp >= {hour} GROUP BY kind ORDER BY kind",
    },
    Question {
        key: "top_routes",
        bar: None,
        says: "the routes that take the most time",
        activities: "SELECT concat(method, ' ', route) AS name, sum(duration) AS total FROM {a}.activities
            GROUP BY method, route ORDER BY total DESC LIMIT 10",
        otel: "SELECT toString(SpanName) AS name, intDiv(sum(Duration), 1000) AS total FROM {o}.otel_traces
            WHERE SpanKind = 'Server' GROUP BY SpanName ORDER BY total DESC LIMIT 10",
    },
    Question {
        key: "attribute",
        bar: None,
        says: "spans with a rare value of an attribute",
        activities: "SELECT trace_id AS trace, arrayCount((key, value) -> key = 'cache.key' AND value = {cache_key}, attr_key, attr_value) AS spans
            FROM {a}.activities WHERE has(attr_value, {cache_key}) AND spans > 0 ORDER BY trace",
        otel: "SELECT TraceId AS trace, count() AS spans FROM {o}.otel_traces
            WHERE SpanAttributes['cache.key'] = {cache_key} GROUP BY trace ORDER BY trace",
    },
];

/// New paths of the last deploy, from the table that knows them.
pub(crate) const NEW_SHAPES: &str = "SELECT count() AS paths, sum(requests) AS requests
    FROM {a}.trace_shapes FINAL WHERE first_version = {deploy}";

/// Values for the questions, taken from the rows: one column each.
pub(crate) const VALUES: &str = "SELECT
    toString(max(when) - toIntervalDay(3)) AS from3,
    toString(max(when) - toIntervalDay(1)) AS from1,
    toString(max(when) - toIntervalHour(1)) AS hour,
    toString(max(site_version)) AS deploy,
    argMinIf(user_id, cityHash64(user_id), user_id != '' AND length(user_id) > 4) AS user,
    argMinIf(oid, cityHash64(oid), ekind = 'checkout') AS order,
    argMin(trace_id, cityHash64(activity_id)) AS trace,
    argMinIf(attr_value[indexOf(attr_key, 'cache.key')], cityHash64(activity_id), has(attr_key, 'cache.key')) AS cache_key
    FROM {a}.activities";
