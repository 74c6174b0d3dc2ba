//! `cargo xtask compat`: on which versions of ClickHouse the tables work, found out by trial.
//!
//! ```text
//! pip ─> library of a version ─ bridge.py ─┐
//!                                          ├─ HTTP ─ statements, the sink, the questions ─> a row
//! the engine of the tests ─────────────────┘
//! ```
//!
//! Older versions are published as Python modules. Each is a process of its own, since it may crash,
//! and speaks the part of ClickHouse's interface that we use, so that what is tried is the sink that
//! applications use, and not a copy of it. A version that cannot be had is a row that says so.

mod library;
mod report;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use library::Library;
use report::Row;

/// The libraries, oldest first. The last is of a version that is not out yet as a long-term one.
const LIBRARIES: [&str; 5] =
    ["chdb==3.1.2", "chdb==3.4.1", "chdb==3.7.2", "chdb-core==26.3.0", "chdb-core==26.9.0"];
/// How the engine of the tests is called among them: a whole server.
const SERVER: &str = "libchdb, a server";

/// Tries the tables on several versions of ClickHouse.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the rows to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Change nothing, and fail when docs/schema.md differs from the run
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut rows = Vec::new();
    for package in LIBRARIES {
        eprintln!("{package}:");
        let tried = Library::start(package).and_then(|library| {
            let outcome = trial::run(&library.server(), package)?;
            Ok((library.version.clone(), outcome))
        });
        rows.push(Row::new(package, tried));
    }
    eprintln!("{SERVER}:");
    rows.push(Row::new(SERVER, server()));
    rows.sort_by_key(Row::order);
    for row in &rows {
        println!("{}", row.line());
    }
    if let Some(path) = &args.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        let text = serde_json::to_string_pretty(&json!({ "versions": rows }))?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    document(&rows, args.check)
}

/// The same on the engine that the tests use.
fn server() -> Result<(String, trial::Outcome)> {
    let server = embedded_clickhouse::connect_or_start()?;
    let version = server.query("SELECT version()")?.trim().to_owned();
    let outcome = trial::run(&server, SERVER)?;
    Ok((version, outcome))
}

/// Writes the table of docs/schema.md, or compares it.
fn document(rows: &[Row], check: bool) -> Result<()> {
    if let Some(row) = rows.iter().find(|row| !row.was_tried()) {
        bail!("docs/schema.md stays as it is: {}", row.line());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema.md");
    let before = std::fs::read_to_string(&path).context("docs/schema.md cannot be read")?;
    let after = report::with_table(&before, &report::table(rows))?;
    if before == after {
        println!("docs/schema.md holds the current table");
    } else if check {
        bail!("the table of docs/schema.md is out of date: run `cargo xtask compat`");
    } else {
        std::fs::write(&path, after).context("docs/schema.md cannot be written")?;
        println!("wrote the table into docs/schema.md");
    }
    Ok(())
}
