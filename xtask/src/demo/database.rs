//! Questions to ClickHouse, asked as the user that may only read.

use anyhow::{Context as _, Result, ensure};
use embedded_clickhouse::{Server, http};
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

    /// The rows `sql` gives, where `{table}` stands for `activities`.
    ///
    /// # Errors
    /// Those of [`Database::ask`].
    pub(crate) fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>> {
        self.ask(&sql.replace("{table}", "activities"))
    }

    /// The rows `sql` gives, whose bare names are tables of this database.
    ///
    /// # Errors
    /// When ClickHouse cannot be reached, refuses, or answers something else than `T`.
    pub(crate) fn ask<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>> {
        let Server { url, reader, reader_password, .. } = &self.server;
        let address = url.strip_prefix("http://").unwrap_or(url);
        let sql = format!("{sql}\nFORMAT JSONEachRow");
        let response =
            http::query(address, reader, reader_password, &[("database", &self.name)], &sql)
                .with_context(|| format!("ClickHouse at {url} does not answer"))?;
        ensure!(response.status == 200, "ClickHouse at {url} refuses: {}", response.body.trim());
        response
            .body
            .lines()
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
