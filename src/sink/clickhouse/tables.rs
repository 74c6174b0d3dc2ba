//! The tables an insert goes into: made, upgraded and checked.

use std::time::Duration;

use serde::Deserialize;

use super::ClickHouseSink;
use super::failure::code;
use super::http::{Error, Result};
use crate::config::ClickHouse;
use crate::schema::{
    COLUMNS, HIST_QUANTILE, LATEST_VERSION, Retained, SchemaOptions, VERSION_TABLE, migrations,
    retention_days_in, rollup_columns,
};
use crate::sink::SinkError;

const DAY: u64 = 86_400;
/// The table that is written.
const ACTIVITIES: &str = "activities";

/// The server's answer that a user lacks a right.
const ACCESS_DENIED: u32 = 497;
/// The server's answer that a table exists, which `IF NOT EXISTS` does not always catch when two
/// create it at once.
const TABLE_EXISTS: u32 = 57;
/// The same of a function.
const FUNCTION_EXISTS: u32 = 609;

pub(super) fn options(config: &ClickHouse) -> SchemaOptions {
    let days = |age: Option<Duration>| {
        age.map(|age| u32::try_from(age.as_secs() / DAY).unwrap_or(u32::MAX))
    };
    SchemaOptions {
        database: config.database.clone(),
        retention_days: days(config.retention),
        rollup_retention_days: days(config.rollup_retention),
        cluster: None,
    }
}

#[derive(Deserialize)]
struct Column {
    table: String,
    name: String,
    r#type: String,
}

impl ClickHouseSink {
    /// Makes or upgrades the tables where the configuration asks for it, and checks them.
    pub(super) async fn prepare_tables(&self) -> std::result::Result<(), SinkError> {
        let explain = |error: Error| self.place.explain(&error);
        if self.config.migrate {
            if self.count("system.databases WHERE name = ?").await.map_err(explain)? == 0 {
                self.run("CREATE DATABASE IF NOT EXISTS {database}").await.map_err(explain)?;
            }
            if !self.has_version_table().await.map_err(explain)? {
                self.run(VERSION_TABLE).await.map_err(explain)?;
            }
            let current = self.version().await.map_err(explain)?;
            self.check_version(current)?;
            // A user who may not even read the version is not the one who upgrades.
            if let Some(current) = current {
                self.migrate_from(current).await.map_err(explain)?;
                self.keep_as_long_as_asked().await.map_err(explain)?;
                self.make_function().await.map_err(explain)?;
            }
        } else if self.has_version_table().await.map_err(explain)? {
            self.check_version(self.version().await.map_err(explain)?)?;
        }
        self.check_columns().await
    }

    async fn migrate_from(&self, current: u32) -> Result<()> {
        for migration in migrations(&options(&self.config)) {
            if migration.version <= current {
                continue;
            }
            for sql in &migration.statements {
                self.run(sql).await?;
            }
            self.run(&format!(
                "INSERT INTO {{database}}.schema_version (version, name) VALUES ({}, '{}')",
                migration.version, migration.name
            ))
            .await?;
        }
        Ok(())
    }

    /// Sets the ages at which rows are deleted, where they are others than asked for.
    ///
    /// A table that is none of a merge tree is that of a cluster, whose ages are set where its SQL
    /// is printed.
    async fn keep_as_long_as_asked(&self) -> Result<()> {
        let options = options(&self.config);
        let engines = self
            .client
            .query(
                "SELECT name, engine_full FROM system.tables WHERE database = ? AND position(engine, 'MergeTree') > 0",
            )
            .bind(&self.config.database)
            .fetch_all::<(String, String)>()
            .await?;
        for table in Retained::ALL {
            let engine = engines.iter().find(|(name, _)| name == table.table());
            if engine.is_some_and(|(_, text)| retention_days_in(text) != table.days(&options)) {
                self.run(&table.change(&options)).await?;
            }
        }
        Ok(())
    }

    /// Makes the function for quantiles of the rollup. It belongs to the whole server, so not
    /// everyone may; who may not does without it.
    async fn make_function(&self) -> Result<()> {
        let there = "system.functions WHERE name = 'activity_hist_quantile' AND ? != ''";
        if self.count(there).await? > 0 {
            return Ok(());
        }
        match self.run(HIST_QUANTILE).await {
            Err(Error::BadResponse(text)) if code(&text) == Some(ACCESS_DENIED) => Ok(()),
            result => result,
        }
    }

    fn check_version(&self, current: Option<u32>) -> std::result::Result<(), SinkError> {
        let database = &self.config.database;
        match current {
            Some(current) if current > LATEST_VERSION => Err(SinkError::schema(format!(
                "the tables in {database} are at schema version {current}, this build knows {LATEST_VERSION}: upgrade tracing-activity in this service"
            ))),
            Some(current) if current < LATEST_VERSION && !self.config.migrate => {
                Err(SinkError::schema(format!(
                    "the tables in {database} are at schema version {current}, this build needs {LATEST_VERSION}: upgrade them with ACTIVITY_MIGRATE=true or the SQL that `cargo xtask schema` prints"
                )))
            }
            _ => Ok(()),
        }
    }

    async fn check_columns(&self) -> std::result::Result<(), SinkError> {
        let columns = self
            .client
            .query("SELECT table, name, type FROM system.columns WHERE database = ?")
            .bind(&self.config.database)
            .fetch_all::<Column>()
            .await
            .map_err(|error| self.place.explain(&error))?;
        let find = |table: &str, name: &str| {
            columns.iter().find(|it| it.table == table && it.name == name)
        };
        if columns.iter().all(|it| it.table != ACTIVITIES) {
            return Err(self.place.missing("no such table is visible to this user"));
        }
        for (name, kind) in COLUMNS {
            let how = match find(ACTIVITIES, name) {
                None => format!("there is no column {name}"),
                Some(it) if it.r#type != *kind => format!("{name} is {}, not {kind}", it.r#type),
                Some(_) => continue,
            };
            return Err(self.place.mismatch(ACTIVITIES, &how));
        }
        // A rollup that this user does not see, or that was given up, is no matter of an insert.
        for (table, names) in rollup_columns() {
            let seen = columns.iter().any(|it| it.table == table);
            if let Some(name) = names.iter().find(|name| seen && find(table, name).is_none()) {
                return Err(self.place.mismatch(table, &format!("there is no column {name}")));
            }
        }
        Ok(())
    }

    async fn has_version_table(&self) -> Result<bool> {
        let tables = "system.tables WHERE database = ? AND name = 'schema_version'";
        Ok(self.count(tables).await? > 0)
    }

    /// The version of the tables; `None` when this user may not know it.
    async fn version(&self) -> Result<Option<u32>> {
        let sql = options(&self.config).fill("SELECT max(version) FROM {database}.schema_version");
        match self.client.query(&sql).fetch_one::<u32>().await {
            Ok(version) => Ok(Some(version)),
            Err(Error::BadResponse(text)) if code(&text) == Some(ACCESS_DENIED) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn count(&self, what: &str) -> Result<u64> {
        let sql = format!("SELECT count() FROM {what}");
        self.client.query(&sql).bind(&self.config.database).fetch_one().await
    }

    async fn run(&self, template: &str) -> Result<()> {
        let sql = options(&self.config).fill(template);
        match self.client.query_raw(&sql).execute().await {
            Err(Error::BadResponse(text))
                if matches!(code(&text), Some(TABLE_EXISTS | FUNCTION_EXISTS)) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}
