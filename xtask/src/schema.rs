//! `cargo xtask schema`: the SQL that makes the tables, for those who run it themselves.
//!
//! It is what the library applies when it starts, so a service with `ACTIVITY_MIGRATE=false` finds
//! what it expects. Running it again does no harm.

use std::fmt::Write as _;

use anyhow::Result;
use tracing_activity::schema::{SchemaOptions, VERSION_TABLE, migrations};

/// What the tables are to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Database that holds the tables
    #[arg(long, value_name = "NAME", default_value = "activity")]
    database: String,
    /// Days after which rows are deleted; without it they stay
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    retention: Option<u32>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let options = SchemaOptions { database: args.database.clone(), retention_days: args.retention };
    print!("{}", script(&options)?);
    Ok(())
}

/// Every statement in order, each version noted once it is reached.
fn script(options: &SchemaOptions) -> Result<String> {
    let mut text = String::new();
    for sql in ["CREATE DATABASE IF NOT EXISTS {database}", VERSION_TABLE] {
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
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_names_the_database_everywhere_and_leaves_nothing_to_fill_in() {
        let options = SchemaOptions { database: "shop_log".to_owned(), retention_days: Some(90) };
        let script = script(&options).unwrap();
        assert!(script.starts_with("CREATE DATABASE IF NOT EXISTS `shop_log`;\n"), "{script}");
        assert!(script.contains("toIntervalDay(90)"), "{script}");
        assert!(script.contains("(1, 'activities');"), "{script}");
        assert!(!script.contains("{database}"), "{script}");
    }
}
