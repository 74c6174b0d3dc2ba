//! The migrations: numbered SQL files, filled in for one database.

use super::retention::Retained;

/// The table that holds which migrations were applied, made before any of them.
pub const VERSION_TABLE: &str = include_str!("sql/schema_version.sql");

/// The statement that makes the SQL function `activity_hist_quantile`. It belongs to the server and
/// not to the database, and needs a right of its own; nothing else here needs the function.
pub const HIST_QUANTILE: &str = include_str!("sql/hist_quantile.sql");

pub(super) const FILES: [(u32, &str, &str); 4] = [
    (1, "activities", include_str!("sql/0001_activities.sql")),
    (2, "activity_minutes", include_str!("sql/0002_activity_minutes.sql")),
    (3, "trace_shapes", include_str!("sql/0003_trace_shapes.sql")),
    (4, "activity_spans", include_str!("sql/0004_activity_spans.sql")),
];

/// The version that this build reads and writes.
pub const LATEST_VERSION: u32 = FILES[FILES.len() - 1].0;

/// The oldest ClickHouse on which all of it works, as `cargo xtask compat` tries it: year and month.
pub const OLDEST_SERVER: (u32, u32) = (25, 8);

/// Paths of one service in `trace_shapes`, of those seen in the last 30 days. Beyond it a new one
/// is counted as `other`.
pub const SHAPES_CAP: u32 = 10_000;

/// New paths of one service that one insert may bring; more are counted as `other`. The table may
/// so exceed the cap by this many.
pub const SHAPES_AT_ONCE: u32 = 1000;

/// What the SQL is filled in with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemaOptions {
    /// The database that holds the tables.
    pub database: String,
    /// Age in days at which rows of `activities` are deleted; `None` keeps them.
    pub retention_days: Option<u32>,
    /// The same of `activity_minutes` and `trace_shapes`.
    pub rollup_retention_days: Option<u32>,
    /// Name of the cluster whose every server gets the tables, replicated and sharded; `{cluster}`
    /// takes the name from the servers' macros. `None`: plain tables on one server.
    pub cluster: Option<String>,
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
/// let options = SchemaOptions {
///     database: "shop".to_owned(),
///     retention_days: Some(90),
///     ..SchemaOptions::default()
/// };
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
            statements: statements(sql)
                .filter(|sql| options.cluster.is_some() || !is_for_a_cluster(sql))
                .map(|sql| options.fill(sql))
                .collect(),
        })
        .collect()
}

impl SchemaOptions {
    /// The statement `template`, filled in. What is filled in is not looked at again, so a
    /// cluster may be called `{cluster}`.
    #[must_use]
    pub fn fill(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(start) = rest.find('{') {
            out.push_str(&rest[..start]);
            rest = &rest[start..];
            let known = rest.find('}').and_then(|end| Some((self.value(&rest[1..end])?, end)));
            let taken = if let Some((value, end)) = known {
                out.push_str(&value);
                end + 1
            } else {
                out.push('{');
                1
            };
            rest = &rest[taken..];
        }
        out + rest
    }

    /// What stands for `{name}` in the files.
    fn value(&self, name: &str) -> Option<String> {
        let cluster = self.cluster.as_deref();
        let if_cluster = |text: &str| cluster.map_or("", |_| text).to_owned();
        Some(match name {
            "database" => quoted(&self.database),
            "database_text" => text(&self.database),
            "cluster" => text(cluster.unwrap_or_default()),
            "on_cluster" => {
                cluster.map_or_else(String::new, |name| format!(" ON CLUSTER {}", text(name)))
            }
            "local" => if_cluster("_local"),
            "replicated" => if_cluster("Replicated"),
            // One table for all shards. Braces here are the servers' macros.
            "everywhere" => if_cluster(
                "('/clickhouse/tables/all_shards/{database}/{table}', '{shard}-{replica}')",
            ),
            "window" if cluster.is_some() => {
                "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800".to_owned()
            }
            // The second is what an engine that shares its parts goes by, which some services put in
            // the place of a plain one; a plain one does not look at it.
            "window" => {
                "non_replicated_deduplication_window = 10000, replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800".to_owned()
            }
            "activities_ttl" => Retained::Activities.clause(self),
            "minutes_ttl" => Retained::Minutes.clause(self),
            "shapes_ttl" => Retained::Shapes.clause(self),
            "shapes_cap" => SHAPES_CAP.to_string(),
            "shapes_at_once" => SHAPES_AT_ONCE.to_string(),
            _ => return None,
        })
    }
}

/// An identifier as SQL takes it whatever it contains.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A text as SQL takes it whatever it contains.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Whether a statement makes what only a cluster has: a table over those of its servers.
pub(super) fn is_for_a_cluster(template: &str) -> bool {
    template.contains("{cluster}")
}

/// The statements of a file: each ends with a semicolon at the end of a line.
pub(super) fn statements(file: &str) -> impl Iterator<Item = &str> {
    file.split(";\n").map(str::trim).filter(|sql| !sql.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(retention_days: Option<u32>) -> SchemaOptions {
        SchemaOptions {
            database: "shop".to_owned(),
            retention_days,
            rollup_retention_days: retention_days.map(|days| days * 2),
            cluster: None,
        }
    }

    fn clustered() -> SchemaOptions {
        SchemaOptions { cluster: Some("{cluster}".to_owned()), ..options(Some(90)) }
    }

    fn all(options: &SchemaOptions) -> Vec<String> {
        migrations(options).into_iter().flat_map(|it| it.statements).collect()
    }

    #[test]
    fn versions_count_from_one_and_every_statement_can_run_again() {
        for options in [options(None), options(Some(90)), clustered()] {
            let versions: Vec<u32> = migrations(&options).iter().map(|it| it.version).collect();
            assert_eq!(versions, (1..=LATEST_VERSION).collect::<Vec<_>>());
            for sql in all(&options) {
                assert!(sql.contains(" IF NOT EXISTS "), "{sql}");
                for name in ["database}.", "local}", "on_cluster}", "window}", "_ttl}", "{shapes"] {
                    assert!(!sql.contains(name), "{name} in {sql}");
                }
            }
        }
    }

    #[test]
    fn every_table_has_a_window_for_deduplication() {
        for (options, window) in [
            (options(None), "non_replicated_deduplication_window = 10000"),
            (
                clustered(),
                "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800",
            ),
        ] {
            let merge_trees: Vec<String> =
                all(&options).into_iter().filter(|sql| sql.contains("MergeTree")).collect();
            assert_eq!(merge_trees.len(), 3);
            for sql in merge_trees {
                assert!(sql.contains(window), "{sql}");
            }
        }
    }

    #[test]
    fn on_a_cluster_every_statement_is_for_all_servers_and_every_table_is_replicated() {
        let all = all(&clustered());
        for sql in &all {
            assert!(sql.contains(" ON CLUSTER '{cluster}'"), "{sql}");
            let engine = sql.split("ENGINE = ").nth(1).unwrap_or("Replicated");
            assert!(["Replicated", "Distributed"].iter().any(|it| engine.starts_with(it)), "{sql}");
        }
        let distributed = all.iter().filter(|sql| sql.contains("Distributed('{cluster}', 'shop'"));
        assert_eq!(distributed.count(), 3);
        assert!(!self::all(&options(None)).iter().any(|sql| sql.contains("Distributed")));
    }

    #[test]
    fn hostile_names_stay_names_and_what_is_filled_in_is_not_filled_in_again() {
        assert_eq!(quoted("a`; DROP TABLE x; --\\"), "`a\\`; DROP TABLE x; --\\\\`");
        let options = SchemaOptions {
            database: "{local}'".to_owned(),
            cluster: Some("it's {window}".to_owned()),
            ..SchemaOptions::default()
        };
        assert_eq!(
            options.fill("{database} {database_text} {cluster} {unknown} {} {"),
            "`{local}'` '{local}\\'' 'it\\'s {window}' {unknown} {} {"
        );
    }
}
