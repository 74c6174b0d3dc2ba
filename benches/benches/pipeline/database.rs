//! The real ClickHouse of the measurement, and what it tells about its work.

use embedded_clickhouse::{Server, connect_or_start};
use tracing_activity::config::{ClickHouse, Database, Secret};

/// A server with a database for each run.
pub(crate) struct Databases {
    server: Server,
}

/// The server's share of a run.
pub(crate) struct Share {
    /// Processor time of the inserts, views included, in microseconds.
    pub(crate) insert_us: f64,
    /// Bytes of `activities` on disk, all indexes included.
    pub(crate) stored: f64,
}

impl Databases {
    pub(crate) fn start() -> Self {
        Self { server: connect_or_start().expect("a ClickHouse server") }
    }

    /// The configuration for a database of this name.
    pub(crate) fn config(&self, database: &str) -> ClickHouse {
        let mut config = parsed(&self.server.url);
        database.clone_into(&mut config.database);
        config.user.clone_from(&self.server.user);
        config.password = Secret::new(&*self.server.password);
        config
    }

    /// What the inserts into `database` have cost so far.
    pub(crate) fn share(&self, database: &str) -> Share {
        self.ask("SYSTEM FLUSH LOGS");
        let time =
            "ProfileEvents['UserTimeMicroseconds'] + ProfileEvents['SystemTimeMicroseconds']";
        Share {
            insert_us: self.number(&format!(
                "SELECT sum({time}) FROM system.query_log WHERE type = 'QueryFinish' \
                 AND query_kind = 'Insert' AND has(tables, '{database}.activities')"
            )),
            stored: self.number(&format!(
                "SELECT sum(bytes_on_disk) FROM system.parts \
                 WHERE active AND database = '{database}' AND table = 'activities'"
            )),
        }
    }

    /// Merges what `database` holds into one part for each partition.
    pub(crate) fn merge(&self, database: &str) {
        self.ask(&format!("OPTIMIZE TABLE {database}.activities FINAL"));
    }

    pub(crate) fn drop(&self, database: &str) {
        self.ask(&format!("DROP DATABASE IF EXISTS {database} SYNC"));
    }

    /// Spans in a row at most, to see that rows are what they should be.
    pub(crate) fn most_spans(&self, database: &str) -> f64 {
        self.number(&format!("SELECT max(length(span_name)) FROM {database}.activities"))
    }

    fn number(&self, sql: &str) -> f64 {
        self.ask(sql).trim().parse().expect("a number")
    }

    fn ask(&self, sql: &str) -> String {
        self.server.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// The configuration for the server at `url`.
pub(crate) fn parsed(url: &str) -> ClickHouse {
    match url.parse() {
        Ok(Database::ClickHouse(config)) => config,
        other => panic!("{url}: {other:?}"),
    }
}
