//! [`ClickHouseSink`]: one insert a batch, over HTTP.
//!
//! The insert carries the batch's id as its deduplication token and is one block in the format
//! `Native`, so it is stored whole or not at all, and once however often it is sent. `tables`
//! creates and checks what it goes into; `failure` reads the server's errors.
//!
//! What the client library does not do by itself: its timeouts are off until set, and a request
//! that the server answers early fails with "channel closed" on the sending side, while the
//! server's words wait on the other: see `ClickHouseSink::insert`.

mod client;
mod failure;
mod tables;

use std::time::Duration;

use ::clickhouse::error::Error;
use ::clickhouse::insert_formatted::InsertFormatted;
use ::clickhouse::{Client, Compression};
use bytes::Bytes;
use tokio::time::Instant;
use url::Url;

pub(crate) use self::client::problem_of;
use self::failure::Place;
use super::{Batch, BoxFuture, Sink, SinkError};
use crate::config::ClickHouse;
use crate::schema::{Block, COLUMNS};

/// How much is compressed and sent at a time.
const CHUNK: usize = 1 << 20;

/// Settings of every insert, beside its token.
///
/// A batch has at most 100,000 rows (`ACTIVITY_BATCH_ROWS`), so these bounds make it one block:
/// a refused row then leaves nothing of its batch behind, and one token stands for all of it.
const INSERT_SETTINGS: [(&str, &str); 11] = [
    ("async_insert", "0"),
    ("insert_deduplicate", "1"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    // The answer comes when views are written, too, and its status is the last word.
    ("wait_end_of_query", "1"),
    // On a cluster: when every shard has its rows.
    ("distributed_foreground_insert", "1"),
    ("max_insert_block_size", "200000"),
    ("min_insert_block_size_rows", "200000"),
    ("min_insert_block_size_bytes", "1073741824"),
    ("max_insert_threads", "1"),
    ("input_format_parallel_parsing", "0"),
    ("input_format_native_allow_types_conversion", "0"),
];

/// Stores activities in ClickHouse.
pub struct ClickHouseSink {
    client: Client,
    config: ClickHouse,
    place: Place,
    insert: String,
    timeout: Duration,
    /// Used again for every batch.
    block: Block,
    chunk: Vec<u8>,
}

impl ClickHouseSink {
    /// A sink for the server, database and user of `config`. One insert takes `timeout` at most.
    ///
    /// Connects to nothing yet. Where the system has no certificates for an `https://` address, every
    /// insert fails, and [`init`](crate::init) says so.
    #[must_use]
    pub fn new(config: &ClickHouse, timeout: Duration) -> Self {
        let client = client::client(&config.url)
            .or_else(|_| client::client(""))
            .unwrap_or_default()
            .with_url(&config.url)
            .with_user(&config.user)
            .with_password(config.password.expose())
            .with_compression(Compression::Lz4)
            .with_product_info("tracing-activity", env!("CARGO_PKG_VERSION"));
        let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let insert = tables::options(config).fill(&format!(
            "INSERT INTO {{database}}.activities ({}) FORMAT Native",
            columns.join(", ")
        ));
        let origin = Url::parse(&config.url).map_or_else(
            |_| "an address that is not one".to_owned(),
            |url| url.origin().ascii_serialization(),
        );
        let place = Place { origin, database: config.database.clone(), user: config.user.clone() };
        // Short enough to be added to any time.
        let timeout = timeout.min(Duration::from_hours(365 * 24));
        let config = config.clone();
        Self { client, config, place, insert, timeout, block: Block::default(), chunk: Vec::new() }
    }

    async fn insert(&mut self, batch: &Batch) -> Result<(), Error> {
        self.block.clear();
        for activity in batch.rows() {
            self.block.push(activity, batch.id());
        }
        let end = Instant::now() + self.timeout;
        let mut insert = self
            .client
            .insert_formatted_with(&*self.insert)
            .with_timeouts(Some(self.timeout), Some(self.timeout))
            .with_setting("insert_deduplication_token", batch.id().to_string());
        for (name, value) in INSERT_SETTINGS {
            insert = insert.with_setting(name, value);
        }
        let sent =
            tokio::time::timeout_at(end, send(&mut insert, &self.block, &mut self.chunk)).await;
        let sent = sent.unwrap_or(Err(Error::TimedOut));
        if matches!(sent, Err(Error::TimedOut)) {
            return sent;
        }
        // Also after a failure to send: the server may have answered, and then that is the error.
        let left = end.saturating_duration_since(Instant::now());
        insert.with_timeouts(None, Some(left)).end().await.and(sent)
    }
}

async fn send(
    insert: &mut InsertFormatted,
    block: &Block,
    chunk: &mut Vec<u8>,
) -> Result<(), Error> {
    chunk.clear();
    for at in 0..COLUMNS.len() {
        block.write_column(at, chunk);
        if chunk.len() >= CHUNK {
            flush(insert, chunk).await?;
        }
    }
    flush(insert, chunk).await
}

/// Sends what is in `chunk` and empties it.
async fn flush(insert: &mut InsertFormatted, chunk: &mut Vec<u8>) -> Result<(), Error> {
    let bytes = Bytes::from(std::mem::take(chunk));
    for start in (0..bytes.len()).step_by(CHUNK) {
        insert.send(bytes.slice(start..bytes.len().min(start + CHUNK))).await?;
    }
    // Compressed by now, so nobody else holds the memory: it is used again.
    *chunk = Vec::from(bytes);
    chunk.clear();
    chunk.shrink_to(2 * CHUNK);
    Ok(())
}

impl Sink for ClickHouseSink {
    fn name(&self) -> &'static str {
        "ClickHouse"
    }

    fn prepare(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let prepared = tokio::time::timeout(self.timeout, self.prepare_tables()).await;
            prepared.unwrap_or_else(|_| Err(self.place.explain(&Error::TimedOut)))
        })
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(
            async move { self.insert(batch).await.map_err(|error| self.place.explain(&error)) },
        )
    }
}

impl std::fmt::Debug for ClickHouseSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseSink").field("config", &self.config).finish_non_exhaustive()
    }
}
