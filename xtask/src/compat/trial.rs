//! What is tried on a version: the statements by hand, the sink, and the questions of the document.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use embedded_clickhouse::{Server, http};
use tracing_activity::config::{ClickHouse, Database, Secret};
use tracing_activity::schema::{SchemaOptions, leave_out};
use tracing_activity::sink::{Batch, ClickHouseSink, Sink as _};

use crate::schema::{script, statements};
use crate::schema_bench::traffic::Traffic;

/// Batches, and rows of each.
const BATCHES: u32 = 4;
const ROWS: u32 = 1000;
/// How long one insert, or making the tables, may take.
const PATIENCE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

/// How much of it passed, and what did not with the server's words.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) total: usize,
    pub(super) failed: Vec<(String, String)>,
}

impl Tally {
    fn count(&mut self, what: &str, result: Result<()>) {
        self.total += 1;
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => self.failed.push((what.to_owned(), excerpt(&format!("{error:#}")))),
        }
    }

    pub(super) const fn all(&self) -> bool {
        self.passed == self.total
    }
}

/// What came of a version.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Those of the script that `cargo xtask schema` prints.
    pub(super) statements: Tally,
    /// Settings that were left out for them to pass.
    pub(super) left_out: Vec<&'static str>,
    /// Batches that the sink wrote twice each, after it had made the tables.
    pub(super) inserts: Tally,
    /// Those of `docs/sql.md`.
    pub(super) questions: Tally,
    /// Whether `data_json.key` reads a key.
    pub(super) reads_keys: bool,
}

impl Outcome {
    pub(super) const fn works(&self) -> bool {
        self.statements.all() && self.inserts.all() && self.questions.all()
    }
}

/// Tries everything on `server`, in databases of its own.
///
/// # Errors
/// When the server does not answer any more.
pub(super) fn run(server: &Server, name: &str) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let suffix = std::process::id();
    let (by_hand, by_sink) = (format!("compat_script_{suffix}"), format!("compat_{suffix}"));
    apply(server, &by_hand, &mut outcome)?;
    insert(server, &by_sink, &mut outcome)?;
    for (heading, sql) in questions()? {
        let answer = ask(server, &by_sink, &sql).map(drop);
        outcome.questions.count(&heading, answer);
    }
    let key = "SELECT count() FROM activities WHERE data_json.total_cents IS NOT NULL";
    outcome.reads_keys = ask(server, &by_sink, key).is_ok_and(|it| it.trim() != "0");
    for database in [by_hand, by_sink] {
        server
            .query(&format!("DROP DATABASE IF EXISTS {database}"))
            .with_context(|| format!("{name} does not answer any more"))?;
    }
    Ok(outcome)
}

/// The script by hand, as an administrator runs it who takes out what the server does not know.
fn apply(server: &Server, database: &str, outcome: &mut Outcome) -> Result<()> {
    let options = SchemaOptions {
        database: database.to_owned(),
        retention_days: Some(90),
        rollup_retention_days: Some(730),
        cluster: None,
    };
    let script = script(&options)?;
    for sql in statements(&script) {
        let mut sql = sql.to_owned();
        let result = loop {
            let Err(text) = send(server, "", &sql) else { break Ok(()) };
            match code(&text).and_then(|code| leave_out(&sql, code, &text)) {
                Some((without, saving)) => {
                    outcome.left_out.push(saving.setting);
                    sql = without;
                }
                None => break Err(anyhow::anyhow!(text)),
            }
        };
        outcome.statements.count(first_line(&sql), result);
    }
    Ok(())
}

/// Requests through the sink that applications use.
fn insert(server: &Server, database: &str, outcome: &mut Outcome) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut config = config(server, database)?;
    let inserts = &mut outcome.inserts;
    // A second start with other ages and a view less mends and changes the tables.
    for (what, days) in [("the first start", 90), ("another start", 30)] {
        (config.retention, config.rollup_retention) = (Some(DAY * days), Some(DAY * days));
        let mut sink = ClickHouseSink::new(&config, PATIENCE);
        inserts.count(what, runtime.block_on(sink.prepare()).map_err(anyhow::Error::from));
        if days == 90 {
            let _ = server.query(&format!("DROP VIEW IF EXISTS {database}.activity_minutes_mv"));
        }
    }
    let mut sink = ClickHouseSink::new(&config, PATIENCE);
    let mut traffic = Traffic::new(BATCHES * ROWS, SystemTime::now().into(), 1)?;
    for nth in 1..=BATCHES {
        let rows = (0..ROWS).map(|_| traffic.request()).collect();
        let batch = Batch::new(rows, 0);
        let twice = (0..2).try_for_each(|_| runtime.block_on(sink.write(&batch)));
        let result = twice.map_err(anyhow::Error::from).and_then(|()| {
            let sql = "SELECT (SELECT count() FROM activities), (SELECT sum(requests) FROM activity_minutes), (SELECT sum(requests) FROM trace_shapes)";
            let stored = ask(server, database, sql)?;
            let rows = (nth * ROWS).to_string();
            let once = stored.split_whitespace().all(|count| count == rows);
            ensure!(once, "{rows} rows written twice are {} in the tables", stored.trim());
            Ok(())
        });
        inserts.count(&format!("batch {nth}"), result);
    }
    Ok(())
}

fn config(server: &Server, database: &str) -> Result<ClickHouse> {
    let Ok(Database::ClickHouse(mut config)) = server.url.parse() else {
        anyhow::bail!("{} is no address", server.url);
    };
    database.clone_into(&mut config.database);
    config.user.clone_from(&server.user);
    config.password = Secret::new(&*server.password);
    Ok(config)
}

/// The questions of the document with their headings.
fn questions() -> Result<Vec<(String, String)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql.md");
    let text = std::fs::read_to_string(path).context("docs/sql.md cannot be read")?;
    let sections = text.split("\n### ").skip(1);
    sections
        .map(|section| {
            let query = section.split_once("```sql\n").and_then(|(_, it)| it.split_once("```"));
            let (query, _) = query.with_context(|| format!("no query below {section:?}"))?;
            Ok((first_line(section).to_owned(), query.to_owned()))
        })
        .collect()
}

fn ask(server: &Server, database: &str, sql: &str) -> Result<String> {
    send(server, database, sql).map_err(anyhow::Error::msg)
}

/// The body of the answer, or the words of the refusal.
fn send(server: &Server, database: &str, sql: &str) -> Result<String, String> {
    let address = server.url.strip_prefix("http://").unwrap_or(&server.url);
    let database = [("database", database)];
    let parameters = if database[0].1.is_empty() { &[][..] } else { &database };
    let response = http::query(address, &server.user, &server.password, parameters, sql);
    match response {
        Ok(response) if response.status == 200 => Ok(response.body),
        Ok(response) => Err(response.body),
        Err(error) => Err(error.to_string()),
    }
}

/// The number in `Code: 60. DB::Exception: ..`.
fn code(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    rest.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok()
}

/// What a statement begins with, without the comments in front.
fn first_line(sql: &str) -> &str {
    sql.lines().find(|line| !line.is_empty() && !line.starts_with("--")).unwrap_or(sql)
}

fn excerpt(text: &str) -> String {
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_of_the_document_is_asked() {
        let questions = questions().unwrap();
        assert!(questions.len() > 40, "{}", questions.len());
        assert!(
            questions.iter().all(|(heading, sql)| heading.ends_with('?') && sql.contains("SELECT"))
        );
    }
}
