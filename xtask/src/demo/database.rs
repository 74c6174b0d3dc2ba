//! Questions to ClickHouse, asked as the user that may only read.

use anyhow::{Context as _, Result};
use embedded_clickhouse::Server;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The server and the database of this demo.
pub(crate) struct Database {
    pub(crate) server: Server,
    pub(crate) name: String,
}

/// How many rows there are, in all and of each deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Landed {
    pub(crate) rows: u64,
    pub(crate) rows_a: u64,
    pub(crate) rows_b: u64,
    pub(crate) traces: u64,
}

impl Database {
    /// `http://host:port`.
    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    /// The rows `sql` gives, where `{database}` stands for the database and `{table}` for
    /// `activities` in it.
    ///
    /// # Errors
    /// When ClickHouse cannot be reached, refuses, or answers something else than `T`.
    pub(crate) fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>> {
        let table = format!("{}.activities", self.name);
        let sql = sql.replace("{table}", &table).replace("{database}", &self.name);
        let sql = format!("{sql} FORMAT JSONEachRow");
        let body = self
            .server
            .query_as_reader(&sql)
            .with_context(|| format!("ClickHouse at {} does not answer", self.url()))?;
        body.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("in the row {line}")))
            .collect()
    }

    /// Counts what is there.
    pub(crate) fn landed(&self, revisions: [&str; 2]) -> Result<Landed> {
        let [a, b] = revisions;
        // Counts as 32 bits, since JSON quotes wider ones.
        let sql = format!(
            "SELECT toUInt32(count()) AS rows, \
             toUInt32(countIf(site_revision = '{a}')) AS rows_a, \
             toUInt32(countIf(site_revision = '{b}')) AS rows_b, \
             toUInt32(countIf(notEmpty(span_name))) AS traces FROM {{table}}"
        );
        self.rows(&sql)?.pop().context("count() gave no row")
    }
}
