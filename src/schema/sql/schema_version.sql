CREATE TABLE IF NOT EXISTS {database}.schema_version{on_cluster}
(
    version    UInt32,
    name       String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = {replicated}ReplacingMergeTree{everywhere}
ORDER BY version
COMMENT 'Migrations of tracing-activity that were applied'
