//! The migrations: numbered SQL files, filled in for one database.

/// The table that holds which migrations were applied, made before any of them.
pub const VERSION_TABLE: &str = include_str!("sql/schema_version.sql");

const FILES: [(u32, &str, &str); 2] = [
    (1, "activities", include_str!("sql/0001_activities.sql")),
    (2, "activity_minutes", include_str!("sql/0002_activity_minutes.sql")),
];

/// The version that this build reads and writes.
pub const LATEST_VERSION: u32 = FILES[FILES.len() - 1].0;

/// What the SQL is filled in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaOptions {
    /// The database that holds the tables.
    pub database: String,
    /// Age in days at which rows of `activities` are deleted; `None` keeps them.
    pub retention_days: Option<u32>,
}

/// One step from a version to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The version reached by it, from 1.
    pub version: u32,
    /// What it is about.
    pub name: &'static str,
    /// Its statements, in order. Each may be run again.
    pub statements: Vec<String>,
}

/// Every migration, in order.
///
/// ```
/// use tracing_activity::schema::{SchemaOptions, migrations};
/// let options = SchemaOptions { database: "shop".to_owned(), retention_days: Some(90) };
/// let first = &migrations(&options)[0];
/// assert!(first.statements[0].contains("CREATE TABLE IF NOT EXISTS `shop`.activities"));
/// assert!(first.statements[0].contains("toIntervalDay(90)"));
/// ```
#[must_use]
pub fn migrations(options: &SchemaOptions) -> Vec<Migration> {
    FILES
        .into_iter()
        .map(|(version, name, sql)| Migration {
            version,
            name,
            statements: statements(sql).map(|sql| options.fill(sql)).collect(),
        })
        .collect()
}

impl SchemaOptions {
    /// The statement `template`, filled in.
    #[must_use]
    pub fn fill(&self, template: &str) -> String {
        template
            .replace("{database}", &quoted(&self.database))
            .replace("{activities_ttl}", &activities_ttl(self.retention_days))
    }
}

/// The ages at which rows of `activities` are compressed better, and deleted.
#[must_use]
pub fn activities_ttl(retention_days: Option<u32>) -> String {
    const RECOMPRESS: &str = "toDateTime(when) + toIntervalDay(3) RECOMPRESS CODEC(ZSTD(6))";
    match retention_days {
        Some(days) => format!("{RECOMPRESS}, toDateTime(when) + toIntervalDay({days})"),
        None => RECOMPRESS.to_owned(),
    }
}

/// The age in days at which rows are deleted, from the server's own text of a table's engine.
#[must_use]
pub fn retention_days_in(engine: &str) -> Option<u32> {
    let (_, ttl) = engine.split_once(" TTL ")?;
    let ttl = ttl.split(" SETTINGS ").next().unwrap_or(ttl);
    ttl.split(", ").filter(|rule| !rule.contains("RECOMPRESS")).find_map(|rule| {
        let (_, days) = rule.split_once("toIntervalDay(")?;
        days.split(')').next()?.parse().ok()
    })
}

/// An identifier as SQL takes it whatever it contains.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// The statements of a file: each ends with a semicolon at the end of a line.
fn statements(file: &str) -> impl Iterator<Item = &str> {
    file.split(";\n").map(str::trim).filter(|sql| !sql.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(retention_days: Option<u32>) -> SchemaOptions {
        SchemaOptions { database: "shop".to_owned(), retention_days }
    }

    #[test]
    fn versions_count_from_one_and_every_statement_can_run_again() {
        let all = migrations(&options(Some(90)));
        let versions: Vec<u32> = all.iter().map(|it| it.version).collect();
        assert_eq!(versions, (1..=LATEST_VERSION).collect::<Vec<_>>());
        for sql in all.iter().flat_map(|it| &it.statements) {
            assert!(sql.contains(" IF NOT EXISTS ") || sql.contains(" IF EXISTS "), "{sql}");
            assert!(!sql.contains("{database}") && !sql.contains("_ttl}"), "{sql}");
        }
    }

    #[test]
    fn every_table_has_a_window_for_deduplication() {
        for sql in migrations(&options(None)).iter().flat_map(|it| &it.statements) {
            if sql.contains("CREATE TABLE") {
                assert!(sql.contains("non_replicated_deduplication_window = 10000"), "{sql}");
            }
        }
    }

    #[test]
    fn a_hostile_database_name_stays_a_name() {
        assert_eq!(quoted("a`; DROP TABLE x; --\\"), "`a\\`; DROP TABLE x; --\\\\`");
    }

    #[test]
    fn retention_is_read_back_from_the_servers_text() {
        let engine = |days| {
            format!(
                "MergeTree PARTITION BY toDate(when) ORDER BY when TTL {} SETTINGS index_granularity = 8192",
                activities_ttl(days)
            )
        };
        assert_eq!(retention_days_in(&engine(Some(90))), Some(90));
        assert_eq!(retention_days_in(&engine(None)), None);
        assert_eq!(retention_days_in("MergeTree ORDER BY when"), None);
    }
}
