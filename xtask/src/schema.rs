//! `cargo xtask schema`: the SQL that makes the tables, for those who run it themselves.
//!
//! It is what the library applies when it starts, so a service with `ACTIVITY_MIGRATE=false` finds
//! what it expects. Running it again does no harm. With `--cluster` it is the same tables,
//! replicated and sharded.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tracing_activity::schema::{
    HIST_QUANTILE, SchemaOptions, VERSION_TABLE, leave_out, migrations,
};

/// What the tables are to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Database that holds the tables
    #[arg(long, value_name = "NAME", default_value = "activity")]
    database: String,
    /// Days after which rows are deleted; without it they stay
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    retention: Option<u32>,
    /// Days after which rows of the rollups are deleted; without it they stay
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    rollup_retention: Option<u32>,
    /// Cluster whose every server gets the tables; `{cluster}` takes it from the servers' macros
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Setting that only saves room or work, and that the server does not know; may be repeated
    #[arg(long, value_name = "SETTING")]
    without: Vec<String>,
    /// Write the script of docker-compose.yml instead, the Collector's tables included
    #[arg(long, conflicts_with_all = ["database", "retention", "rollup_retention", "cluster", "without"])]
    compose: bool,
    /// With `--compose`: change nothing, and fail when the script differs
    #[arg(long, requires = "compose")]
    check: bool,
}

/// The server's number for an unknown setting.
const UNKNOWN_SETTING: u32 = 115;
/// What docker-compose.yml runs when ClickHouse starts.
const COMPOSE: &str = "docker/clickhouse/init.sql";
/// Days that it keeps requests, and their rollups.
const COMPOSE_DAYS: (u32, u32) = (30, 365);

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.compose {
        return compose(args.check);
    }
    let options = SchemaOptions {
        database: args.database.clone(),
        retention_days: args.retention,
        rollup_retention_days: args.rollup_retention,
        cluster: args.cluster.clone(),
    };
    print!("{}", without(script(&options)?, &args.without)?);
    Ok(())
}

/// The script without some settings.
fn without(mut script: String, settings: &[String]) -> Result<String> {
    for setting in settings {
        let refusal = format!("unknown setting '{setting}'");
        script = match leave_out(&script, UNKNOWN_SETTING, &refusal) {
            Some((script, saving)) => {
                format!("-- Without {setting}: {}.\n\n{script}", saving.costs)
            }
            None => bail!("the tables have no setting {setting} that they can do without"),
        };
    }
    Ok(script)
}

/// Writes the script of docker-compose.yml, or compares it.
fn compose(check: bool) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(COMPOSE);
    let script = compose_script()?;
    if std::fs::read_to_string(&path).is_ok_and(|before| before == script) {
        println!("{COMPOSE} is current");
    } else if check {
        bail!("{COMPOSE} is out of date: run `cargo xtask schema --compose`");
    } else {
        std::fs::write(&path, script).with_context(|| format!("{COMPOSE} cannot be written"))?;
        println!("wrote {COMPOSE}");
    }
    Ok(())
}

fn compose_script() -> Result<String> {
    let options = SchemaOptions {
        database: "activity".to_owned(),
        retention_days: Some(COMPOSE_DAYS.0),
        rollup_retention_days: Some(COMPOSE_DAYS.1),
        cluster: None,
    };
    Ok(format!(
        "-- The tables of the ClickHouse in docker-compose.yml, written by `cargo xtask schema --compose`.\n\
         -- Each start runs it again, which does no harm.\n\n{}\n{}",
        script(&options)?,
        crate::collector::TABLES
    ))
}

/// Every statement in order, each version noted once it is reached.
pub(crate) fn script(options: &SchemaOptions) -> Result<String> {
    let mut text = String::new();
    for sql in ["CREATE DATABASE IF NOT EXISTS {database}{on_cluster}", VERSION_TABLE] {
        writeln!(text, "{};\n", options.fill(sql).trim())?;
    }
    for migration in migrations(options) {
        writeln!(text, "-- Version {}: {}\n", migration.version, migration.name)?;
        for sql in &migration.statements {
            writeln!(text, "{};\n", sql.trim())?;
        }
        let note = options.fill("INSERT INTO {database}.schema_version (version, name) VALUES");
        writeln!(text, "{note} ({}, '{}');\n", migration.version, migration.name)?;
    }
    writeln!(text, "{};", options.fill(HIST_QUANTILE).trim())?;
    Ok(text)
}

/// The statements of a script, each without its semicolon.
pub(crate) fn statements(script: &str) -> impl Iterator<Item = &str> {
    let statements = script.split_inclusive(";\n").map(|it| it.trim().trim_end_matches(';'));
    statements.filter(|sql| sql.lines().any(|line| !line.is_empty() && !line.starts_with("--")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SchemaOptions {
        SchemaOptions {
            database: "shop_log".to_owned(),
            retention_days: Some(90),
            rollup_retention_days: Some(730),
            cluster: None,
        }
    }

    #[test]
    fn the_script_names_the_database_everywhere_and_leaves_nothing_to_fill_in() {
        let script = script(&options()).unwrap();
        assert!(script.starts_with("CREATE DATABASE IF NOT EXISTS `shop_log`;\n"), "{script}");
        for part in ["toIntervalDay(90)", "toIntervalDay(730)", "(1, 'activities');"] {
            assert!(script.contains(part), "{part} in {script}");
        }
        for name in ["{database", "{on_cluster", "{cluster", "_ttl}"] {
            assert!(!script.contains(name), "{name} in {script}");
        }
    }

    #[test]
    fn on_a_cluster_every_statement_is_for_all_of_it() {
        let cluster = Some("prod".to_owned());
        let script = script(&SchemaOptions { cluster, ..options() }).unwrap();
        let creates = script.matches("CREATE ").count();
        assert_eq!(script.matches(" ON CLUSTER 'prod'").count(), creates, "{script}");
    }
    #[test]
    fn what_a_server_does_not_know_can_be_left_out() {
        let settings = ["string_serialization_version", "min_compress_block_size"];
        let settings = settings.map(str::to_owned);
        let script = without(script(&options()).unwrap(), &settings).unwrap();
        let said = script.lines().filter(|line| line.starts_with("-- Without ")).count();
        assert_eq!((said, script.matches("min_compress_block_size").count()), (2, 1), "{script}");
        let error = without(script, &["non_replicated_deduplication_window".to_owned()]);
        assert!(error.unwrap_err().to_string().contains("can do without"));
    }
}
