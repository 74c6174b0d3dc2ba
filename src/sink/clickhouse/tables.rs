//! The tables an insert goes into: made, mended, upgraded and checked.
//!
//! Where the configuration allows it, whatever is missing is made: at the first start all of it,
//! later what somebody dropped, while a service runs, too, since an insert that fails for it asks
//! for this. What is there is left as it is, but for our own ages and for columns that are missing.
//! The tables of a cluster are none of ours to change: their SQL is printed.

use std::collections::HashMap;
use std::sync::Once;
use std::time::Duration;

use serde::Deserialize;

use super::ClickHouseSink;
use super::failure::code;
use super::http::{Error, Result};
use crate::config::ClickHouse;
use crate::schema::{
    COLUMNS, HIST_QUANTILE, LATEST_VERSION, OLDEST_SERVER, Object, Retained, SchemaOptions,
    VERSION_TABLE, is_outdated, leave_out, migrations, objects,
};
use crate::sink::SinkError;
use crate::warn::print;

const DAY: u64 = 86_400;
/// The table that is written.
const ACTIVITIES: &str = "activities";

/// The server's answers that a user lacks a right, or may only read.
const ACCESS_DENIED: u32 = 497;
const READONLY: u32 = 164;
/// The server's answer that a table exists, which `IF NOT EXISTS` does not always catch when two
/// create it at once.
const TABLE_EXISTS: u32 = 57;
/// The same of a function.
const FUNCTION_EXISTS: u32 = 609;
/// The server's answer that a table has an age already: more than one without a condition is not
/// allowed.
const BAD_TTL: u32 = 450;

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
    default_expression: String,
}

/// Whether a server of this version is too old for the tables.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(year)), Some(Ok(month))) => (year, month) < OLDEST_SERVER,
        _ => false,
    }
}

/// What stands in the database, by its name: the engine, in short and in full.
struct Standing(HashMap<String, (String, String)>);

impl Standing {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether these are the tables of a cluster.
    fn is_of_a_cluster(&self) -> bool {
        let distributed = self.0.get(ACTIVITIES).is_some_and(|(engine, _)| engine == "Distributed");
        distributed || self.has("activities_local")
    }

    /// Whether `object` is a rollup that somebody does without: something else stands in the place
    /// of the view that fills it.
    fn was_given_up(&self, object: &Object) -> bool {
        let view = object.filled_by.and_then(|view| self.0.get(view));
        view.is_some_and(|(engine, _)| engine != "MaterializedView")
    }

    /// The server's text of a table whose rows we may delete.
    fn merge_tree(&self, name: &str) -> Option<&str> {
        let (engine, full) = self.0.get(name)?;
        engine.contains("MergeTree").then_some(full)
    }
}

impl ClickHouseSink {
    /// Makes or upgrades the tables where the configuration asks for it, and checks them. Where that
    /// fails on a server that is too old, its age is the reason, whatever it says.
    pub(super) async fn prepare_tables(&self) -> std::result::Result<(), SinkError> {
        match self.make_and_check().await {
            Err(error) if !error.is_retryable() => Err(self.too_old().await.unwrap_or(error)),
            prepared => prepared,
        }
    }

    async fn too_old(&self) -> Option<SinkError> {
        let version: String = self.client.query("SELECT version()").fetch_one().await.ok()?;
        let (year, month) = OLDEST_SERVER;
        is_too_old(&version).then(|| {
            SinkError::configuration(format!(
                "the server at {} is ClickHouse {version}, and the tables need {year}.{month} or newer: upgrade it",
                self.place.origin
            ))
        })
    }

    async fn make_and_check(&self) -> std::result::Result<(), SinkError> {
        let explain = |error: Error| self.place.explain(&error);
        let mut standing = self.standing().await.map_err(explain)?;
        let migrate = self.config.migrate && !standing.is_of_a_cluster();
        if migrate {
            if standing.0.is_empty()
                && self.count("system.databases WHERE name = ?").await.map_err(explain)? == 0
            {
                self.run(self.fill("CREATE DATABASE IF NOT EXISTS {database}"))
                    .await
                    .map_err(explain)?;
            }
            if !standing.has("schema_version") {
                self.run(self.fill(VERSION_TABLE)).await.map_err(explain)?;
            }
            let current = self.version().await.map_err(explain)?;
            self.check_version(current, migrate)?;
            // A user who may not even read the version is not the one who upgrades.
            if let Some(current) = current {
                self.migrate_from(current).await.map_err(explain)?;
                let all = objects(&options(&self.config));
                // This service may have made it just now, or another one.
                if all.iter().any(|it| !standing.has(it.name)) {
                    standing = self.standing().await.map_err(explain)?;
                }
                self.mend(all, &standing).await.map_err(explain)?;
                self.keep_as_long_as_asked(&standing).await.map_err(explain)?;
                self.make_function().await.map_err(explain)?;
            }
        } else if standing.has("schema_version") {
            self.check_version(self.version().await.map_err(explain)?, migrate)?;
        }
        self.check_columns(&standing, migrate).await
    }

    async fn standing(&self) -> Result<Standing> {
        let tables = self
            .client
            .query("SELECT name, engine, engine_full FROM system.tables WHERE database = ?")
            .bind(&self.config.database)
            .fetch_all::<(String, String, String)>()
            .await?;
        let tables = tables.into_iter().map(|(name, engine, full)| (name, (engine, full)));
        Ok(Standing(tables.collect()))
    }

    /// Applies the migrations after `current`.
    async fn migrate_from(&self, current: u32) -> Result<()> {
        for migration in migrations(&options(&self.config)) {
            if migration.version <= current {
                continue;
            }
            for sql in migration.statements {
                self.run(sql).await?;
            }
            let note = self.fill("INSERT INTO {database}.schema_version (version, name) VALUES");
            self.run(format!("{note} ({}, '{}')", migration.version, migration.name)).await?;
        }
        Ok(())
    }

    /// Makes again what the migrations made and somebody dropped, or what they did not get to: tables,
    /// views and columns.
    ///
    /// A user does not see what it has no right on, and takes it for missing. So a right that lacks
    /// is no error here: what an insert needs is checked afterwards.
    async fn mend(&self, all: Vec<Object>, standing: &Standing) -> Result<()> {
        let columns = self.columns().await?;
        let (mut made, mut added, mut rollups) = (Vec::new(), Vec::new(), "");
        for object in all {
            let name = object.name;
            if standing.was_given_up(&object) {
                continue;
            }
            if !standing.has(name) {
                if self.run_if_allowed(object.create).await? {
                    made.push((name, object.filled_by.is_some()));
                }
                continue;
            }
            if standing.merge_tree(name).is_none() {
                continue;
            }
            let mut place = "FIRST".to_owned();
            for column in &object.columns {
                let there = columns.iter().find(|it| it.table == name && it.name == column.name);
                let definition = column.definition;
                let change = match there {
                    None => format!("ADD COLUMN IF NOT EXISTS {definition} {place}"),
                    Some(it) if is_outdated(name, column.name, &it.default_expression) => {
                        format!("MODIFY COLUMN {definition}")
                    }
                    Some(_) => String::new(),
                };
                let alter = self.fill(&format!("ALTER TABLE {{database}}.{name} {change}"));
                if !change.is_empty() && self.run_if_allowed(alter).await? && there.is_none() {
                    added.push(format!("{name}.{}", column.name));
                }
                place = format!("AFTER {}", column.name);
            }
        }
        if !made.is_empty() {
            // One that is only detached counts as there for the server, and is none that was made.
            let standing = self.standing().await?;
            for (name, is_rollup) in made.into_iter().filter(|(name, _)| standing.has(name)) {
                added.push(name.to_owned());
                if is_rollup {
                    rollups = "; a rollup lacks what was stored while it or its view was missing";
                }
            }
        }
        if !added.is_empty() {
            print(&format!(
                "made again what was missing in {}: {}{rollups}",
                self.config.database,
                added.join(", ")
            ));
        }
        Ok(())
    }

    /// Runs a statement, unless this user may not. Answers whether it did.
    async fn run_if_allowed(&self, sql: String) -> Result<bool> {
        match self.run(sql).await {
            Err(Error::BadResponse(text))
                if matches!(code(&text), Some(ACCESS_DENIED | READONLY)) =>
            {
                Ok(false)
            }
            result => result,
        }
    }

    /// Sets the ages at which rows are deleted, where they are others than asked for.
    async fn keep_as_long_as_asked(&self, standing: &Standing) -> Result<()> {
        let options = options(&self.config);
        for table in Retained::ALL {
            let engine = standing.merge_tree(table.table());
            let Some(change) = engine.and_then(|engine| table.change(engine, &options)) else {
                continue;
            };
            match self.execute(change).await {
                Err(Error::BadResponse(text)) if code(&text) == Some(BAD_TTL) => {
                    static TOLD: Once = Once::new();
                    TOLD.call_once(|| {
                        print(&format!(
                            "{}.{} has an age in words of somebody's own, which stays in force: take it out of the table's TTL if ACTIVITY_RETENTION and ACTIVITY_ROLLUP_RETENTION are to decide",
                            self.config.database,
                            table.table()
                        ));
                    });
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// Makes the function for quantiles of the rollup. It belongs to the whole server, so not
    /// everyone may, and not every service has functions; both do without it.
    async fn make_function(&self) -> Result<()> {
        let there = "system.functions WHERE name = 'activity_hist_quantile' AND ? != ''";
        if self.count(there).await.is_ok_and(|count| count > 0) {
            return Ok(());
        }
        match self.run(self.fill(HIST_QUANTILE)).await {
            Err(Error::BadResponse(text)) if code(&text).is_some() => Ok(()),
            result => result.map(drop),
        }
    }

    fn check_version(
        &self,
        current: Option<u32>,
        migrate: bool,
    ) -> std::result::Result<(), SinkError> {
        let database = &self.config.database;
        let remedy = if self.config.migrate {
            // Not here, or it would have been done.
            "upgrade them with the SQL that `cargo xtask schema --cluster` prints"
        } else {
            "upgrade them with ACTIVITY_MIGRATE=true or the SQL that `cargo xtask schema` prints"
        };
        match current {
            Some(current) if current > LATEST_VERSION => Err(SinkError::schema(format!(
                "the tables in {database} are at schema version {current}, this build knows {LATEST_VERSION}: upgrade tracing-activity in this service"
            ))),
            Some(current) if current < LATEST_VERSION && !migrate => {
                Err(SinkError::schema(format!(
                    "the tables in {database} are at schema version {current}, this build needs {LATEST_VERSION}: {remedy}"
                )))
            }
            _ => Ok(()),
        }
    }

    async fn check_columns(
        &self,
        standing: &Standing,
        migrate: bool,
    ) -> std::result::Result<(), SinkError> {
        let columns = self.columns().await.map_err(|error| self.place.explain(&error))?;
        let find = |table: &str, name: &str| {
            columns.iter().find(|it| it.table == table && it.name == name)
        };
        if columns.iter().all(|it| it.table != ACTIVITIES) {
            return Err(self.place.missing("no such table is visible to this user"));
        }
        for (name, kind) in COLUMNS {
            let how = match find(ACTIVITIES, name) {
                None => format!("there is no column {name}"),
                Some(it) if it.r#type != *kind => {
                    let how = format!("{name} is {}, not {kind}", it.r#type);
                    if migrate {
                        return Err(self.altered(name, kind, &how));
                    }
                    how
                }
                Some(_) => continue,
            };
            return Err(self.place.mismatch(ACTIVITIES, &how));
        }
        // A rollup that this user does not see, or that was given up, is no matter of an insert.
        for object in objects(&options(&self.config)) {
            let table = object.name;
            let seen = table != ACTIVITIES && columns.iter().any(|it| it.table == table);
            if !seen || standing.was_given_up(&object) {
                continue;
            }
            if let Some(it) = object.columns.iter().find(|it| find(table, it.name).is_none()) {
                let how = format!("there is no column {}", it.name);
                return Err(self.place.mismatch(table, &how));
            }
        }
        Ok(())
    }

    /// A column has another type, and this service would have upgraded what it can upgrade.
    fn altered(&self, name: &str, kind: &str, how: &str) -> SinkError {
        let table = self.fill(&format!("{{database}}.{ACTIVITIES}"));
        SinkError::schema(format!(
            "{}.{ACTIVITIES} was altered, {how}: name another database in ACTIVITY_DB, or run ALTER TABLE {table} MODIFY COLUMN {name} {kind}",
            self.config.database
        ))
    }

    async fn columns(&self) -> Result<Vec<Column>> {
        let sql =
            "SELECT table, name, type, default_expression FROM system.columns WHERE database = ?";
        self.client.query(sql).bind(&self.config.database).fetch_all().await
    }

    /// The version of the tables; `None` when this user may not know it.
    async fn version(&self) -> Result<Option<u32>> {
        let sql = self.fill("SELECT max(version) FROM {database}.schema_version");
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

    /// Runs a statement, without the settings it can do without where the server refuses them. Answers
    /// whether it did: what it makes may be there, if only detached.
    async fn run(&self, mut sql: String) -> Result<bool> {
        let mut left_out = Vec::new();
        loop {
            let Err(error) = self.execute(sql.clone()).await else { break };
            let Error::BadResponse(text) = &error else { return Err(error) };
            match code(text) {
                Some(TABLE_EXISTS | FUNCTION_EXISTS) => return Ok(false),
                Some(code) => match leave_out(&sql, code, text) {
                    Some((without, saving)) => {
                        sql = without;
                        left_out.push(format!("{}: {}", saving.setting, saving.costs));
                    }
                    None => return Err(error),
                },
                None => return Err(error),
            }
        }
        if !left_out.is_empty() {
            print(&format!(
                "the tables in {} are made without what this ClickHouse does not know or allow; {}",
                self.config.database,
                left_out.join("; ")
            ));
        }
        Ok(true)
    }

    fn fill(&self, template: &str) -> String {
        options(&self.config).fill(template)
    }

    async fn execute(&self, sql: String) -> Result<()> {
        self.client.query_raw(&sql).execute().await
    }
}
