-- The code paths that requests took, one row for each service and fingerprint. Rows of one path
-- are added up when parts merge: read with FINAL, or group.
CREATE TABLE IF NOT EXISTS {database}.trace_shapes{local}{on_cluster}
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
ENGINE = {replicated}AggregatingMergeTree
ORDER BY (service, trace_hash)
{shapes_ttl}
SETTINGS {window}
COMMENT 'The code paths that requests took';;

-- A mistake that makes a path of every request must not fill the table: what is not known goes to
-- `other` where the service has {shapes_cap} paths seen in the last 30 days, and beyond the first
-- {shapes_at_once} of one insert. One level of SELECT without scalar subqueries, because planning
-- this is what an insert pays for it; the rows of `other` are added up by the table.
CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.trace_shapes_mv{on_cluster} TO {database}.trace_shapes{local} AS
SELECT
    a.service AS service,
    if(
        ((a.service, toString(a.trace_hash)) IN (SELECT service, trace_hash FROM {database}.trace_shapes{local}) AS known)
        OR (
            row_number() OVER (PARTITION BY a.service, known ORDER BY min(a.when), a.trace_hash) <= {shapes_at_once}
            AND a.service NOT IN (
                SELECT service
                FROM {database}.trace_shapes{local}
                WHERE last_seen > now() - toIntervalDay(30)
                GROUP BY service
                HAVING uniqExact(trace_hash) >= {shapes_cap}
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
FROM {database}.activities{local} AS a
WHERE a.trace_hash != '' AND NOT a.late_end
GROUP BY a.service, a.trace_hash;

CREATE TABLE IF NOT EXISTS {database}.trace_shapes{on_cluster} AS {database}.trace_shapes_local
ENGINE = Distributed({cluster}, {database_text}, trace_shapes_local)
