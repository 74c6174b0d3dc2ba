//! What landed, found out by SQL that anybody could have typed.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Deserialize;

use super::database::Database;
use super::tree::{Trace, millis};

/// The whole report.
pub(crate) fn print(database: &Database) -> Result<()> {
    println!("\nRows by outcome\n{}", outcomes(database)?);
    println!("Slowest routes\n{}", routes(database)?);
    if let Some(failure) = failure(database)? {
        println!("A request that failed\n{failure}");
    }
    if let Some(paths) = new_paths(database)? {
        println!("New code paths in deploy b\n{paths}");
    }
    println!("Slower in deploy b\n{}", slower(database)?);
    Ok(())
}

#[derive(Deserialize)]
struct Group {
    outcome: String,
    error_kind: String,
    requests: u32,
}

fn outcomes(database: &Database) -> Result<String> {
    let rows: Vec<Group> = database.rows(
        "SELECT outcome, error_kind, toUInt32(count()) AS requests FROM {table} \
         GROUP BY outcome, error_kind ORDER BY outcome, requests DESC, error_kind",
    )?;
    let mut text = String::new();
    for group in rows.chunk_by(|a, b| a.outcome == b.outcome) {
        let requests: u32 = group.iter().map(|row| row.requests).sum();
        let kinds: Vec<String> = group
            .iter()
            .filter(|row| !row.error_kind.is_empty())
            .map(|row| format!("{} {}", row.error_kind, row.requests))
            .collect();
        let kinds = kinds.join(", ");
        let line = format!("  {:<14}{requests:>7}   {kinds}", group[0].outcome);
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(text)
}

#[derive(Deserialize)]
struct Route {
    endpoint: String,
    requests: u32,
    median: u32,
    p99: u32,
}

fn routes(database: &Database) -> Result<String> {
    let rows: Vec<Route> = database.rows(
        "SELECT concat(method, ' ', route) AS endpoint, toUInt32(count()) AS requests, \
         toUInt32(quantile(0.5)(duration)) AS median, toUInt32(quantile(0.99)(duration)) AS p99 \
         FROM {table} WHERE route != '' AND outcome = 'success' \
         GROUP BY endpoint ORDER BY p99 DESC LIMIT 4",
    )?;
    let mut text = String::new();
    for row in rows {
        writeln!(
            text,
            "  {:<24}{:>6} requests   median {:>10}   p99 {:>10}",
            row.endpoint,
            row.requests,
            millis(row.median),
            millis(row.p99)
        )?;
    }
    Ok(text)
}

#[derive(Deserialize)]
struct Failure {
    title: String,
    status: u16,
    error_kind: String,
    error: String,
    user_id: String,
    trace_id: String,
    #[serde(flatten)]
    trace: Trace,
}

/// The server fault with the most to tell.
fn failure(database: &Database) -> Result<Option<String>> {
    let rows: Vec<Failure> = database.rows(
        "SELECT concat(method, ' ', if(route = '', url, route)) AS title, status, error_kind, \
         error, user_id, trace_id, span_name, span_parent, span_start, span_duration, span_error, \
         event_span, event_level, event_message, event_fields \
         FROM {table} WHERE outcome = 'server_fault' AND notEmpty(span_name) \
         ORDER BY length(span_name) DESC, when LIMIT 1",
    )?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    let mut text = String::new();
    writeln!(text, "  status {}, {}: {}", row.status, row.error_kind, row.error)?;
    let user = if row.user_id.is_empty() { "nobody" } else { &row.user_id };
    writeln!(text, "  user {user}, trace {}", row.trace_id)?;
    for line in row.trace.render(&row.title).lines() {
        writeln!(text, "  {line}")?;
    }
    Ok(Some(text))
}

#[derive(Deserialize)]
struct Path {
    endpoint: String,
    status: u16,
    requests: u32,
    hash: String,
}

#[derive(Deserialize)]
struct Span {
    span: String,
}

/// Shapes of traces that no earlier deploy had. `None` when shapes are not recorded.
fn new_paths(database: &Database) -> Result<Option<String>> {
    let paths: Vec<Path> = database.rows(
        "SELECT any(concat(method, ' ', route)) AS endpoint, any(status) AS status, \
         toUInt32(count()) AS requests, trace_hash AS hash FROM {table} \
         WHERE trace_hash != '' GROUP BY trace_hash \
         HAVING min(site_version) = (SELECT max(site_version) FROM {table}) \
         ORDER BY requests DESC, hash LIMIT 6",
    )?;
    if paths.is_empty() {
        return Ok(None);
    }
    let spans: Vec<Span> = database.rows(
        "SELECT name AS span FROM {table} ARRAY JOIN span_name AS name GROUP BY name \
         HAVING min(site_version) = (SELECT max(site_version) FROM {table}) ORDER BY span",
    )?;
    let mut text = String::new();
    for path in paths {
        let hash = &path.hash[..path.hash.len().min(12)];
        writeln!(
            text,
            "  {:<24} {}   {:>5} requests   shape {hash}..",
            path.endpoint, path.status, path.requests
        )?;
    }
    let names: Vec<String> = spans.into_iter().map(|row| row.span).collect();
    if !names.is_empty() {
        writeln!(text, "  spans never seen before: {}", names.join(", "))?;
    }
    Ok(Some(text))
}

#[derive(Deserialize)]
struct Slower {
    endpoint: String,
    before: u32,
    after: u32,
}

fn slower(database: &Database) -> Result<String> {
    let rows: Vec<Slower> = database.rows(
        "WITH (SELECT max(site_version) FROM {table}) AS latest \
         SELECT concat(method, ' ', route) AS endpoint, \
         toUInt32(quantileIf(0.5)(duration, site_version != latest)) AS before, \
         toUInt32(quantileIf(0.5)(duration, site_version = latest)) AS after \
         FROM {table} WHERE outcome = 'success' AND route != '' GROUP BY endpoint \
         HAVING least(countIf(site_version = latest), countIf(site_version != latest)) >= 30 \
         AND after > before * 1.3 ORDER BY after / before DESC LIMIT 3",
    )?;
    let mut text = String::new();
    for row in rows {
        writeln!(
            text,
            "  {:<24} median {} -> {}",
            row.endpoint,
            millis(row.before),
            millis(row.after)
        )?;
    }
    if text.is_empty() {
        text.push_str("  nothing with enough requests to tell\n");
    }
    Ok(text)
}
