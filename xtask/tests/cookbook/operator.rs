//! Who runs it.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::Checks;
use crate::answer::{Answer, count, group, number, rounds_to, tally, text};
use crate::rows::Row;
use crate::run::Run;

pub(crate) const CHECKS: Checks = &[
    ("Which deploys are there?", deploys),
    ("Which traces are kept, and why?", reasons),
    ("Is anything cut or missing?", cut),
    ("Does the rollup agree with the rows?", agreement),
    ("How many code paths does a service have?", paths),
    ("How much room does it take?", room),
    ("Which days are kept?", days),
    ("Which columns take the room?", columns),
];

fn deploys(run: &Run, answer: &Answer) {
    let told: Vec<String> = answer.rows.iter().map(|row| text(row, "site_revision")).collect();
    assert_eq!(told, ["deploy-b", "deploy-a"]);
    let sent = tally(run.ledger.iter().map(|it| it.revision.clone()));
    for row in &answer.rows {
        let revision = text(row, "site_revision");
        assert_eq!(count(row, "requests"), sent[&revision]);
        assert_eq!((text(row, "service"), count(row, "hosts")), ("shop".to_owned(), 1));
        let of_it = |it: &&Row| it.site_revision == revision;
        assert_eq!(text(row, "first_seen"), run.rows.iter().find(of_it).unwrap().when);
        assert_eq!(text(row, "last_seen"), run.rows.iter().rfind(|it| of_it(it)).unwrap().when);
    }
    answer.ascends(|row| std::cmp::Reverse(text(row, "first_seen")));
}

fn reasons(run: &Run, answer: &Answer) {
    let reason = |it: &&Row| match it.kept_because.as_str() {
        "" => "(not kept)".to_owned(),
        reason => reason.to_owned(),
    };
    let exact = group(&run.rows, |it| (reason(it), it.outcome.clone()));
    let told = answer.map(|row| (text(row, "reason"), text(row, "outcome")), Clone::clone);
    assert!(told.keys().eq(exact.keys()), "{:?}", told.keys());
    for (key, rows) in &exact {
        assert_eq!(count(&told[key], "requests"), rows.len() as u64);
        let weight = rows.iter().map(|it| it.sample_weight).sum();
        rounds_to(number(&told[key], "stand_for"), weight, 1);
        let spans: usize = rows.iter().map(|it| it.span_name.len()).sum();
        rounds_to(number(&told[key], "spans"), spans as f64 / rows.len() as f64, 1);
    }
    // The demo keeps every fault of the server for its status.
    let faults = run.ledger.iter().filter(|it| it.outcome() == "server_fault").count() as u64;
    let of_faults: Vec<_> =
        answer.rows.iter().filter(|row| text(row, "outcome") == "server_fault").collect();
    assert_eq!(of_faults.len(), 1, "{of_faults:?}");
    assert_eq!(text(of_faults[0], "reason"), "status_code");
    assert_eq!(count(of_faults[0], "requests"), faults);
    rounds_to(number(of_faults[0], "stand_for"), faults as f64, 1);
}

fn cut(run: &Run, answer: &Answer) {
    let exact = group(&run.rows, |it| (it.service.clone(), it.host.clone()));
    let told = answer.map(|row| (text(row, "service"), text(row, "host")), Clone::clone);
    assert!(told.keys().eq(exact.keys()), "{:?}", told.keys());
    for (key, rows) in &exact {
        let row = &told[key];
        let those = |which: fn(&Row) -> bool| rows.iter().filter(|it| which(it)).count() as u64;
        assert_eq!(count(row, "requests"), run.ledger.len() as u64);
        assert_eq!(count(row, "cut"), those(|it| it.truncated));
        assert_eq!(count(row, "without_end"), those(|it| it.incomplete));
        assert_eq!(count(row, "ended_later"), those(|it| it.late_end));
        assert_eq!(count(row, "spans_lost"), rows.iter().map(|it| it.dropped_spans).sum::<u64>());
        let batches: BTreeSet<_> = rows.iter().map(|it| &it.batch_id).collect();
        assert_eq!(count(row, "batches"), batches.len() as u64);
        rounds_to(number(row, "rows_a_batch"), rows.len() as f64 / batches.len() as f64, 1);
    }
}

fn agreement(run: &Run, answer: &Answer) {
    let exact = tally(run.rows.iter().map(|it| it.hour.clone()));
    for column in ["requests_in_rows", "requests_in_rollup"] {
        assert_eq!(
            answer.map(|row| text(row, "hour"), |row| count(row, column)),
            exact,
            "{column}"
        );
    }
}

fn paths(run: &Run, answer: &Answer) {
    let [row] = &answer.rows[..] else { panic!("one service") };
    let hashes = run.rows.iter().map(|it| &it.trace_hash).filter(|it| !it.is_empty());
    let distinct: BTreeSet<_> = hashes.clone().collect();
    assert_eq!(count(row, "paths"), distinct.len() as u64);
    assert_eq!(count(row, "total"), hashes.count() as u64);
    assert_eq!(count(row, "others"), 0);
    let last = run.rows.iter().rfind(|it| !it.trace_hash.is_empty()).unwrap();
    assert_eq!(text(row, "latest"), last.when);
}

/// What the parts of a table hold.
#[derive(Deserialize)]
struct Parts {
    rows: f64,
    bytes: f64,
    compressed: f64,
    count: f64,
}

fn parts(run: &Run, database: &str, table: &str) -> Parts {
    let sql = format!(
        "SELECT toFloat64(sum(rows)) AS rows, toFloat64(sum(bytes_on_disk)) AS bytes, \
         toFloat64(sum(data_compressed_bytes)) AS compressed, toFloat64(count()) AS count \
         FROM system.parts WHERE database = '{database}' AND table = '{table}' AND active"
    );
    run.select(&sql).pop().unwrap()
}

fn room(run: &Run, answer: &Answer) {
    let told = answer.map(|row| text(row, "table"), Clone::clone);
    let row = &told["activities"];
    assert_eq!(count(row, "total_rows"), run.ledger.len() as u64);
    rounds_to(number(row, "bytes_a_row"), number(row, "bytes") / number(row, "total_rows"), 1);
    for table in ["activities", "activity_minutes", "trace_shapes"] {
        // Merges may come between the two questions; rows of the rollups may become fewer.
        let (row, parts) = (&told[table], parts(run, run.database(), table));
        assert!(number(row, "total_rows") >= parts.rows && parts.rows > 0.0, "{row}");
        assert!(
            number(row, "bytes") < parts.bytes * 10.0 && parts.bytes < number(row, "bytes") * 10.0
        );
        assert!(!text(row, "size").is_empty());
    }
    answer.descends("bytes");
}

fn days(run: &Run, answer: &Answer) {
    let exact = tally(run.rows.iter().map(|it| it.day.clone()));
    assert_eq!(answer.map(|row| text(row, "day"), |row| count(row, "total_rows")), exact);
    assert!(answer.rows.iter().all(|row| count(row, "parts") >= 1));
}

/// The demo's table is too small to know the size of a column, so a copy is made that does.
fn columns(run: &Run, answer: &Answer) {
    let (table, copy) =
        (format!("{}.activities", run.database()), format!("{}_wide", run.database()));
    let stored = run.select::<serde_json::Value>(
        "SELECT name FROM system.columns WHERE database = currentDatabase() \
         AND table = 'activities' AND default_kind = ''",
    );
    let stored: BTreeSet<String> = stored.iter().map(|row| text(row, "name")).collect();
    run.execute(&format!("CREATE DATABASE {copy}"));
    run.execute(&format!("CREATE TABLE {copy}.activities AS {table}"));
    run.execute(&format!(
        "ALTER TABLE {copy}.activities MODIFY SETTING min_bytes_for_wide_part = 0, min_rows_for_wide_part = 0"
    ));
    run.execute(&format!("INSERT INTO {copy}.activities SELECT * FROM {table}"));
    run.execute(&format!("OPTIMIZE TABLE {copy}.activities FINAL"));
    let wide = run.ask_in(&copy, "Which columns take the room?", &[]);
    for answer in [answer, &wide] {
        let told = answer.map(|row| text(row, "column"), |row| number(row, "bytes"));
        assert!(told.keys().eq(stored.iter()), "{:?}", told.keys());
        answer.descends("bytes");
    }
    let parts = parts(run, &copy, "activities");
    let told: f64 = wide.rows.iter().map(|row| number(row, "bytes")).sum();
    rounds_to(told, parts.compressed, 0);
    assert!(told > 0.0 && parts.count >= 1.0);
    let ids = wide.rows.iter().position(|row| text(row, "column") == "activity_id");
    assert!(ids < Some(5), "ids compress to nothing less than most columns: {ids:?}");
    run.execute(&format!("DROP DATABASE {copy}"));
}
