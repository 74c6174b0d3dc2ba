//! The tables an insert goes into: made, upgraded and checked.

use ::clickhouse::Row;
use ::clickhouse::error::{Error, Result};
use serde::Deserialize;

use super::ClickHouseSink;
use super::failure::code;
use crate::config::ClickHouse;
use crate::schema::{
    COLUMNS, LATEST_VERSION, SchemaOptions, VERSION_TABLE, activities_ttl, migrations,
    retention_days_in,
};
use crate::sink::SinkError;

const DAY: u64 = 86_400;

/// The server's answer that a user lacks a right.
const ACCESS_DENIED: u32 = 497;
/// The server's answer that a table exists, which `IF NOT EXISTS` does not always catch when two
/// create it at once.
const TABLE_EXISTS: u32 = 57;

pub(super) fn options(config: &ClickHouse) -> SchemaOptions {
    let days = config.retention.map(|age| u32::try_from(age.as_secs() / DAY).unwrap_or(u32::MAX));
    SchemaOptions { database: config.database.clone(), retention_days: days }
}

#[derive(Deserialize, Row)]
struct Column {
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

    /// Sets the age at which rows are deleted, if it is another one than asked for.
    async fn keep_as_long_as_asked(&self) -> Result<()> {
        let asked = options(&self.config).retention_days;
        let engine = self
            .client
            .query(
                "SELECT engine_full FROM system.tables WHERE database = ? AND name = 'activities'",
            )
            .bind(&self.config.database)
            .fetch_optional::<String>()
            .await?;
        if engine.is_none_or(|engine| retention_days_in(&engine) == asked) {
            return Ok(());
        }
        let ttl = activities_ttl(asked);
        self.run(&format!("ALTER TABLE {{database}}.activities MODIFY TTL {ttl}")).await
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
            .query(
                "SELECT name, type FROM system.columns WHERE database = ? AND table = 'activities'",
            )
            .bind(&self.config.database)
            .fetch_all::<Column>()
            .await
            .map_err(|error| self.place.explain(&error))?;
        if columns.is_empty() {
            return Err(self.place.missing("no such table is visible to this user"));
        }
        for (name, kind) in COLUMNS {
            match columns.iter().find(|it| it.name == *name) {
                None => return Err(self.place.mismatch(&format!("there is no column {name}"))),
                Some(it) if it.r#type != *kind => {
                    let how = format!("{name} is {}, not {kind}", it.r#type);
                    return Err(self.place.mismatch(&how));
                }
                Some(_) => {}
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
            Err(Error::BadResponse(text)) if code(&text) == Some(TABLE_EXISTS) => Ok(()),
            result => result,
        }
    }
}
