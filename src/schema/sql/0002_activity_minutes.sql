-- Requests, their duration, the time until their answers began, and outcome by minute.
CREATE TABLE IF NOT EXISTS {database}.activity_minutes{local}{on_cluster}
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
ENGINE = {replicated}AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
-- `minute` itself stays out of the primary key: beside the expression of it, it would switch off the
-- pruning by that expression.
PRIMARY KEY (toStartOfHour(minute), service, okind, ekind, route)
ORDER BY (toStartOfHour(minute), service, okind, ekind, route, outcome, site_version, minute)
{minutes_ttl}
-- Of its own: with a window on `activities` alone, a repeated insert would count here twice.
SETTINGS {window}
COMMENT 'Requests by minute';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.activity_minutes_mv{on_cluster} TO {database}.activity_minutes{local} AS
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
FROM {database}.activities{local}
-- A request counts by its first row.
WHERE NOT late_end
GROUP BY minute, service, okind, ekind, route, outcome, site_version;

CREATE TABLE IF NOT EXISTS {database}.activity_minutes{on_cluster} AS {database}.activity_minutes_local
ENGINE = Distributed({cluster}, {database_text}, activity_minutes_local)
