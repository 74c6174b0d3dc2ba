-- Requests, their duration and outcome by minute.
CREATE TABLE IF NOT EXISTS {database}.activity_minutes
(
    minute        DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    service       LowCardinality(String),
    okind         LowCardinality(String),
    ekind         LowCardinality(String),
    route         LowCardinality(String),
    outcome       Enum8('success' = 0, 'client_fault' = 1, 'server_fault' = 2),
    site_version  DateTime('UTC'),
    requests      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    duration_sum  SimpleAggregateFunction(sum, UInt64) COMMENT 'Microseconds' CODEC(T64, ZSTD(1)),
    duration_max  SimpleAggregateFunction(max, UInt64) COMMENT 'Microseconds' CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (toStartOfHour(minute), service, okind, ekind, route, outcome, site_version, minute)
-- Of its own: with a window on `activities` alone, a repeated insert would count here twice.
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Requests by minute';

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.activity_minutes_mv TO {database}.activity_minutes AS
SELECT
    toStartOfMinute(toDateTime(when, 'UTC')) AS minute,
    service,
    okind,
    ekind,
    route,
    outcome,
    site_version,
    count() AS requests,
    sum(duration) AS duration_sum,
    max(duration) AS duration_max
FROM {database}.activities
GROUP BY minute, service, okind, ekind, route, outcome, site_version
