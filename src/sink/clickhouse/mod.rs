//! [`ClickHouseSink`]: one insert a batch, over HTTP.
//!
//! The insert carries the batch's id as its deduplication token and is one block in the format
//! `Native`, so it is stored whole or not at all, and once however often it is sent. `tables`
//! creates and checks what it goes into; `http` is the way there; `failure` reads errors by the table
//! of `codes`; `settings` looks at what became of the insert's settings on the way.
//!
//! A batch counts as stored when the server tells how many rows it wrote, or when its rows are found
//! in the table. A status alone is believed of nobody.

mod codes;
mod failure;
mod frames;
mod http;
mod settings;
mod tables;

use std::future::Future;
use std::time::Duration;

use url::Url;

use self::failure::Place;
pub(crate) use self::http::problem_of;
use self::http::{Answer, Client, Error, Result};
use super::{Batch, BoxFuture, Sink, SinkError};
use crate::config::ClickHouse;
use crate::schema::{Block, COLUMNS};

/// How much is compressed at a time, beyond what a column has.
const CHUNK: usize = 1 << 20;

/// The server's answer that a user lacks a right.
const ACCESS_DENIED: u32 = 497;
/// The server's answer that these rows were there already.
const DEDUPLICATED: u32 = 389;
/// 2100-01-01 in microseconds: times until then are stored as they are.
const FAR: i64 = 4_102_444_800_000_000;

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
    /// Whether it was told which settings are not in force.
    told: bool,
    /// Used again for every batch.
    block: Block,
    column: Vec<u8>,
}

impl ClickHouseSink {
    /// A sink for the server, database and user of `config`. One insert takes `timeout` at most.
    ///
    /// Connects to nothing yet. Where the system has no certificates for an `https://` address, every
    /// insert fails, and [`init`](crate::init) says so.
    #[must_use]
    pub fn new(config: &ClickHouse, timeout: Duration) -> Self {
        let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let insert = tables::options(config).fill(&format!(
            "INSERT INTO {{database}}.activities ({}) FORMAT Native",
            columns.join(", ")
        ));
        let origin = Url::parse(&config.url).map_or_else(
            |_| "an address that is not one".to_owned(),
            |url| url.origin().ascii_serialization(),
        );
        Self {
            client: Client::new(config),
            config: config.clone(),
            place: Place { origin, database: config.database.clone(), user: config.user.clone() },
            insert,
            // Short enough to be added to any time.
            timeout: timeout.min(Duration::from_hours(365 * 24)),
            told: false,
            block: Block::default(),
            column: Vec::new(),
        }
    }

    async fn insert(&mut self, batch: &Batch) -> Result<()> {
        let token = batch.id().to_string();
        let settings = INSERT_SETTINGS.into_iter().chain([("insert_deduplication_token", &*token)]);
        let body = self.body(batch);
        let answer = self.client.insert(&self.insert, settings, body).await?;
        match answer.code() {
            None if answer.tells_of(batch.len()) => Ok(()),
            None if (200..300).contains(&answer.status) => self.look_for(batch, &answer).await,
            Some(DEDUPLICATED) => self.look_for(batch, &answer).await,
            _ => Err(Error::BadResponse(answer)),
        }
    }

    fn body(&mut self, batch: &Batch) -> Vec<u8> {
        self.block.clear();
        for activity in batch.rows() {
            self.block.push(activity, batch.id());
        }
        let mut body = Vec::new();
        self.column.clear();
        for at in 0..COLUMNS.len() {
            self.block.write_column(at, &mut self.column);
            if self.column.len() >= CHUNK || at + 1 == COLUMNS.len() {
                frames::compress(&self.column, &mut body);
                self.column.clear();
            }
        }
        self.column.shrink_to(2 * CHUNK);
        body
    }

    /// The insert is said to have succeeded, but not by the server's account: are its rows there?
    async fn look_for(&self, batch: &Batch, answer: &Answer) -> Result<()> {
        let why = match self.count_rows(batch).await {
            Ok(Some(count)) if count >= batch.len() => return Ok(()),
            Ok(Some(count)) => format!(
                "answered {} to an insert of {} rows, of which {count} are stored: something between here and ClickHouse answers in its place",
                answer.status,
                batch.len()
            ),
            Ok(None) => format!(
                "answered {} to an insert without ClickHouse's account of it, X-ClickHouse-Summary: let the proxy pass that header, or grant {} on {}.activities to ACTIVITY_USER, so that it can look",
                answer.status, "SELECT(batch_id, when)", self.config.database
            ),
            Err(error) => format!(
                "answered {} to an insert without ClickHouse's account of it, and does not tell whether the rows are stored: {}",
                answer.status,
                self.place.explain(&error)
            ),
        };
        Err(Error::Unverified(why))
    }

    /// How many rows of `batch` are in the table; `None` when this user may not look.
    async fn count_rows(&self, batch: &Batch) -> Result<Option<usize>> {
        let times = || batch.rows().iter().map(|it| it.when.as_micros());
        let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        let mut sql = tables::options(&self.config)
            .fill("SELECT count() FROM {database}.activities WHERE batch_id = ");
        sql += &["'", &batch.id().to_string(), "'"].concat();
        if first >= 0 && last < FAR {
            let time = |micros: i64| format!("fromUnixTimestamp64Micro(toInt64({micros}))");
            sql += &[" AND when BETWEEN ", &time(first), " AND ", &time(last)].concat();
        }
        match self.client.query(&sql).fetch_one::<u64>().await {
            Ok(count) => Ok(Some(usize::try_from(count).unwrap_or(usize::MAX))),
            Err(Error::BadResponse(answer)) if answer.code() == Some(ACCESS_DENIED) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Warns, once, of settings that did not reach the server.
    async fn check_settings(&mut self) {
        if self.told {
            return;
        }
        if let Ok(found) = settings::in_force(&self.client).await {
            self.told = true;
            settings::warn(&settings::missing(&found), &self.place.origin);
        }
    }
}

/// What `call` comes to within `limit`.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(Error::TimedOut))
}

impl Sink for ClickHouseSink {
    fn name(&self) -> &'static str {
        "ClickHouse"
    }

    fn prepare(&mut self) -> BoxFuture<'_, std::result::Result<(), SinkError>> {
        Box::pin(async move {
            let prepared = tokio::time::timeout(self.timeout, self.prepare_tables()).await;
            prepared.unwrap_or_else(|_| Err(self.place.explain(&Error::TimedOut)))?;
            // What cannot be looked at is no reason to store nothing.
            let _ = tokio::time::timeout(self.timeout, self.check_settings()).await;
            Ok(())
        })
    }

    fn write<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, std::result::Result<(), SinkError>> {
        Box::pin(async move {
            let written = within(self.timeout, self.insert(batch)).await;
            written.map_err(|error| self.place.explain(&error))
        })
    }

    fn stored<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, std::result::Result<Option<usize>, SinkError>> {
        Box::pin(async move {
            let counted = within(self.timeout, self.count_rows(batch)).await;
            counted.map_err(|error| self.place.explain(&error))
        })
    }
}

impl std::fmt::Debug for ClickHouseSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouseSink").field("config", &self.config).finish_non_exhaustive()
    }
}
