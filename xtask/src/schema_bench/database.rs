//! The engine of the measurement: loads both sides, and reads what it noted of its own work.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clickhouse::{Client, Compression};
use embedded_clickhouse::{Options, Server, connect_or_start, env, fetch};
use serde_json::Value;
use tracing_activity::config::{ClickHouse, Database, Secret};
use tracing_activity::model::Activity;
use tracing_activity::sink::{Batch, ClickHouseSink, Sink as _};

use super::peer;

/// Databases of a run: of `activities`, of `otel_traces`, of the same in the Collector's batches,
/// and of the batch that is on its way from the one to the others.
pub(crate) const ACTIVITIES: &str = "schema_bench_activities";
pub(crate) const OTEL: &str = "schema_bench_otel";
pub(crate) const COLLECTOR: &str = "schema_bench_collector";
const FEED: &str = "schema_bench_feed";
const ALL: [&str; 4] = [ACTIVITIES, OTEL, COLLECTOR, FEED];

/// Spans that the Collector's batch processor sends at a time by default.
pub(crate) const COLLECTOR_BATCH: u32 = 8192;

/// Parts stay as they were inserted until both sides are merged at once: the same work for both,
/// whatever the background would have got done meanwhile.
const NO_MERGES: &str = "MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, \
    parts_to_delay_insert = 100000, parts_to_throw_insert = 100000";

const CPU: &str =
    "sum(ProfileEvents['UserTimeMicroseconds'] + ProfileEvents['SystemTimeMicroseconds'])";

const LONG: Duration = Duration::from_mins(10);

/// What a side has cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) bytes: f64,
    pub(crate) insert_us: f64,
    pub(crate) merge_us: f64,
    pub(crate) parts: f64,
}

pub(crate) struct Databases {
    server: Server,
    client: Client,
    sink: ClickHouseSink,
    feed: ClickHouseSink,
    runtime: tokio::runtime::Runtime,
    /// When the run began, by the server's clock in microseconds: its logs may know of others.
    began: String,
}

/// An answer and how long the server took.
pub(crate) struct Answer {
    pub(crate) rows: Value,
    pub(crate) millis: f64,
    pub(crate) read: u64,
}

impl Databases {
    /// Starts an engine, or takes the one named in the environment, and makes the tables.
    pub(crate) fn start() -> Result<Self> {
        let server = if env::text(env::TEST_URL).is_some() {
            connect_or_start()?
        } else {
            fetch::ensure()?;
            Server::start(Options { memory_bytes: 10 << 30, ..Options::default() })?
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::default()
            .with_url(&server.url)
            .with_user(&server.user)
            .with_password(&server.password)
            .with_compression(Compression::Lz4);
        for database in ALL {
            server.query(&format!("DROP DATABASE IF EXISTS {database} SYNC"))?;
        }
        let began = server.query("SELECT toUnixTimestamp64Micro(now64(6))")?.trim().to_owned();
        let mut sink = ClickHouseSink::new(&config(&server, ACTIVITIES)?, LONG);
        let mut feed = ClickHouseSink::new(&config(&server, FEED)?, LONG);
        runtime.block_on(async {
            sink.prepare().await?;
            feed.prepare().await
        })?;
        for database in [OTEL, COLLECTOR] {
            for statement in peer::TABLES {
                server.query(&statement.replace("{db}", database))?;
            }
        }
        for table in [
            format!("{ACTIVITIES}.activities"),
            format!("{OTEL}.otel_traces"),
            format!("{COLLECTOR}.otel_traces"),
        ] {
            server.query(&format!("ALTER TABLE {table} {NO_MERGES}"))?;
        }
        // What the feed does is nobody's cost: no views, no merges.
        for view in ["activity_minutes_mv", "trace_shapes_mv"] {
            server.query(&format!("DROP TABLE {FEED}.{view} SYNC"))?;
        }
        Ok(Self { server, client, sink, feed, runtime, began })
    }

    /// Stores `rows` on both sides, in one insert each; of a `sample` the peer's once more, in
    /// inserts as the Collector makes them. Answers with the spans of that.
    pub(crate) fn store(&mut self, rows: Vec<Activity>, sample: bool) -> Result<u32> {
        let batch = Batch::new(rows, 0);
        self.runtime.block_on(self.sink.write(&batch))?;
        self.server.query(&format!("TRUNCATE TABLE {FEED}.activities"))?;
        self.runtime.block_on(self.feed.write(&batch))?;
        self.insert_spans(OTEL, "")?;
        if !sample {
            return Ok(0);
        }
        let spans = self.number(&format!("SELECT count() FROM {FEED}.activity_spans"))? as u32;
        // Whole batches only: a rest would be an insert for few spans.
        let batches = spans / COLLECTOR_BATCH;
        for at in 0..batches {
            let offset = at * COLLECTOR_BATCH;
            self.insert_spans(COLLECTOR, &format!("LIMIT {COLLECTOR_BATCH} OFFSET {offset}"))?;
        }
        Ok(batches * COLLECTOR_BATCH)
    }

    /// Inserts the spans of the feed that `limit` allows into the peer's table in `database`.
    fn insert_spans(&self, database: &str, limit: &str) -> Result<()> {
        let select = peer::SPANS.replace("{feed}", FEED).replace("{limit}", limit);
        self.runtime.block_on(async {
            // The server's own writer makes the bytes: the peer's insert is as good as can be.
            let spans = self.client.query(&select).fetch_bytes("Native")?.collect().await?;
            let sql = peer::INSERT.replace("{db}", database);
            let mut insert = self.client.insert_formatted_with(sql);
            for (name, value) in peer::INSERT_SETTINGS {
                insert = insert.with_setting(name, value);
            }
            for at in (0..spans.len()).step_by(1 << 20) {
                insert.send(spans.slice(at..spans.len().min(at + (1 << 20)))).await?;
            }
            insert.end().await
        })?;
        Ok(())
    }

    /// Merges both sides to one part for each partition.
    pub(crate) fn merge(&self) -> Result<()> {
        for database in [ACTIVITIES, OTEL] {
            for table in self.tables(database)? {
                self.run(&format!("OPTIMIZE TABLE {database}.{table} FINAL"))?;
            }
        }
        Ok(())
    }

    /// Lets the three days pass after which rows are compressed better.
    pub(crate) fn age(&self) -> Result<()> {
        let table = format!("{ACTIVITIES}.activities");
        // A part notes when it is due; the mutation writes that down anew.
        self.run(&format!(
            "ALTER TABLE {table} MODIFY TTL toDateTime(when) RECOMPRESS CODEC(ZSTD(6)) SETTINGS mutations_sync = 2"
        ))?;
        self.run(&format!("OPTIMIZE TABLE {table} FINAL"))?;
        let young = self.number(&format!(
            "SELECT count() FROM system.parts WHERE active AND database = '{ACTIVITIES}' AND table = 'activities' AND default_compression_codec != 'ZSTD(6)'"
        ))?;
        ensure!(young == 0.0, "{young} parts were not compressed again");
        Ok(())
    }

    fn tables(&self, database: &str) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT name FROM system.tables WHERE database = '{database}' AND position(engine, 'MergeTree') > 0 AND name != 'schema_version'"
        );
        Ok(self.server.query(&sql)?.lines().map(str::to_owned).collect())
    }

    /// What `database` has cost until now, its views included.
    pub(crate) fn cost(&self, database: &str) -> Result<Cost> {
        let parts = format!(
            "FROM system.parts WHERE active AND database = '{database}' AND table != 'schema_version'"
        );
        Ok(Cost {
            bytes: self.number(&format!("SELECT sum(bytes_on_disk) {parts}"))?,
            parts: self.number(&format!("SELECT count() {parts}"))?,
            insert_us: self.insert_us(database)?,
            merge_us: self.number(&format!(
                "SELECT {CPU} FROM system.part_log WHERE event_type = 'MergeParts' AND database = '{database}' AND {}",
                self.since_the_beginning()
            ))?,
        })
    }

    /// Processor time of the inserts into the database's table, its views included.
    pub(crate) fn insert_us(&self, database: &str) -> Result<f64> {
        self.server.query("SYSTEM FLUSH LOGS")?;
        self.number(&format!(
            "SELECT {CPU} FROM system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Insert' \
             AND hasAny(tables, ['{database}.activities', '{database}.otel_traces']) AND {}",
            self.since_the_beginning()
        ))
    }

    fn since_the_beginning(&self) -> String {
        format!("event_time_microseconds >= fromUnixTimestamp64Micro({})", self.began)
    }

    /// Bytes on disk of one table of [`ACTIVITIES`].
    pub(crate) fn bytes_of(&self, table: &str) -> Result<f64> {
        self.number(&format!(
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = '{ACTIVITIES}' AND table = '{table}'"
        ))
    }

    /// The columns and indexes of a table that take the most room, each with its bytes.
    pub(crate) fn largest(&self, database: &str, table: &str) -> Result<Vec<(String, f64)>> {
        let of = format!("WHERE database = '{database}' AND table = '{table}'");
        let sql = format!(
            "SELECT name, bytes FROM (SELECT name, data_compressed_bytes AS bytes FROM system.columns {of} \
             UNION ALL SELECT concat('index ', name), data_compressed_bytes FROM system.data_skipping_indices {of}) \
             ORDER BY bytes DESC LIMIT 24"
        );
        let lines = self.server.query(&sql)?;
        let pairs = lines.lines().filter_map(|line| line.split_once('\t'));
        pairs.map(|(name, bytes)| Ok((name.to_owned(), bytes.parse()?))).collect()
    }

    pub(crate) fn number(&self, sql: &str) -> Result<f64> {
        let text = self.server.query(sql)?;
        text.trim().parse().with_context(|| format!("{text:?} is no number: {sql}"))
    }

    /// Asks, without what the server remembers of the last time it was asked.
    pub(crate) fn ask(&self, sql: &str) -> Result<Answer> {
        let sql = format!(
            "{sql} SETTINGS use_query_condition_cache = 0, max_memory_usage = 0 FORMAT JSON"
        );
        let text = self.server.query(&sql)?;
        let answer: Value =
            serde_json::from_str(&text).with_context(|| format!("asking {sql}: {text}"))?;
        let statistics = &answer["statistics"];
        let Some(seconds) = statistics["elapsed"].as_f64() else { bail!("no time of {sql}") };
        Ok(Answer {
            rows: answer["data"].clone(),
            millis: seconds * 1000.0,
            read: statistics["rows_read"].as_u64().unwrap_or_default(),
        })
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.runtime.block_on(self.client.query(sql).execute()).with_context(|| sql.to_owned())
    }

    /// Removes everything.
    pub(crate) fn finish(self) -> Result<()> {
        for database in ALL {
            self.server.query(&format!("DROP DATABASE IF EXISTS {database} SYNC"))?;
        }
        match self.server.engine {
            Some(engine) => Ok(engine.stop()?),
            None => Ok(()),
        }
    }
}

fn config(server: &Server, database: &str) -> Result<ClickHouse> {
    let parsed: Result<Database, String> = server.url.parse();
    let Ok(Database::ClickHouse(mut config)) = parsed else {
        bail!("{} is no address of a ClickHouse", server.url)
    };
    database.clone_into(&mut config.database);
    config.user.clone_from(&server.user);
    config.password = Secret::new(&*server.password);
    Ok(config)
}
