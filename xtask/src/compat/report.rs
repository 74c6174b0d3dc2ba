//! What is told of the versions: a line, an object of JSON and a row of the document each.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::trial::{Outcome, Tally};

const BEGIN: &str = "<!-- compat:begin -->";
const END: &str = "<!-- compat:end -->";

/// What came of a package.
pub(super) struct Row {
    package: &'static str,
    tried: Result<(String, Outcome)>,
}

impl Row {
    pub(super) const fn new(package: &'static str, tried: Result<(String, Outcome)>) -> Self {
        Self { package, tried }
    }

    pub(super) const fn was_tried(&self) -> bool {
        self.tried.is_ok()
    }

    /// The numbers of its version; those that were not tried come first.
    pub(super) fn order(&self) -> Vec<u32> {
        let version = self.tried.as_ref().map_or("", |(version, _)| version);
        version.split('.').filter_map(|it| it.parse().ok()).collect()
    }

    pub(super) fn line(&self) -> String {
        match &self.tried {
            Ok((version, it)) => format!(
                "{} ClickHouse {version} ({}): statements {}, inserts {}, questions {}{}",
                if it.works() { "ok    " } else { "not ok" },
                self.package,
                part(&it.statements),
                part(&it.inserts),
                part(&it.questions),
                first_failure(it)
            ),
            Err(error) => format!("not ok {}: not tried: {error:#}", self.package),
        }
    }

    pub(super) fn json(&self) -> Value {
        match &self.tried {
            Ok((version, it)) => json!({
                "package": self.package,
                "version": version,
                "ok": it.works(),
                "statements": passed(&it.statements),
                "settings_left_out": it.left_out,
                "inserts": passed(&it.inserts),
                "questions": passed(&it.questions),
                "reads_keys_of_data_json": it.reads_keys,
            }),
            Err(error) => json!({
                "package": self.package,
                "version": null,
                "ok": false,
                "error": format!("{error:#}"),
            }),
        }
    }
}

fn passed(it: &Tally) -> Value {
    let failed = it.failed.iter().map(|(what, error)| json!({ "what": what, "error": error }));
    json!({ "passed": it.passed, "total": it.total, "failed": failed.collect::<Vec<_>>() })
}

fn part(it: &Tally) -> String {
    format!("{}/{}", it.passed, it.total)
}

fn first_failure(it: &Outcome) -> String {
    let all = [&it.statements, &it.inserts, &it.questions];
    let first = all.iter().find_map(|it| it.failed.first());
    first.map_or_else(String::new, |(what, error)| format!("; {what}: {error}"))
}

/// The table of the document.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = "| ClickHouse | tried as | statements | left out | inserts, starts | questions | `data_json.key` |\n\
                    |---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let Ok((version, it)) = &row.tried else { continue };
        // The fourth number is that of a build.
        let version = version.split('.').take(3).collect::<Vec<_>>().join(".");
        let left_out: Vec<String> = it.left_out.iter().map(|it| format!("`{it}`")).collect();
        // Writing to memory does not fail.
        let _ = writeln!(
            text,
            "| {version} | {} | {} | {} | {} | {} | {} |",
            row.package,
            part(&it.statements),
            left_out.join(", "),
            part(&it.inserts),
            part(&it.questions),
            if it.reads_keys { "yes" } else { "no" }
        );
    }
    text
}

/// `text` with `table` between the marks.
pub(super) fn with_table(text: &str, table: &str) -> Result<String> {
    let marks = || format!("docs/schema.md needs the lines {BEGIN} and {END}, in this order");
    let begin = text.find(BEGIN).with_context(marks)? + BEGIN.len();
    let end = begin + text[begin..].find(END).with_context(marks)?;
    Ok(format!("{}\n{}\n{}", &text[..begin], table.trim(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn page(name: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name))
            .unwrap()
    }

    /// The rows of the document: version, and whether all passed.
    fn documented() -> Vec<(String, bool)> {
        let text = page("docs/schema.md");
        let (_, table) = text.split_once(BEGIN).unwrap();
        let (table, _) = table.split_once(END).unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| 2"));
        rows.map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let whole = |cell: &str| cell.split_once('/').is_some_and(|(passed, of)| passed == of);
            let works = [2, 4, 5].iter().all(|&at| whole(cells[at]));
            (cells[0].trim_start_matches("| ").to_owned(), works)
        })
        .collect()
    }

    #[test]
    fn the_pages_name_the_oldest_version_on_which_all_passed() {
        let rows = documented();
        assert_eq!(rows.len(), super::super::LIBRARIES.len() + 1);
        let oldest = rows.iter().position(|(_, works)| *works).expect("one that works");
        assert!(rows[oldest..].iter().all(|(_, works)| *works), "{rows:?}");
        let numbers: Vec<&str> = rows[oldest].0.split('.').take(2).collect();
        let (year, month) = tracing_activity::schema::OLDEST_SERVER;
        assert_eq!(numbers, [year.to_string(), month.to_string()]);
        let told = format!("ClickHouse {} or newer", numbers.join("."));
        for name in ["README.md", "docs/schema.md"] {
            let text = page(name).replace('\n', " ");
            assert!(text.contains(&told), "{name} does not say {told:?}");
        }
    }

    #[test]
    fn a_version_that_cannot_be_had_is_a_row_that_says_so() {
        let row = Row::new("chdb==0", Err(anyhow::anyhow!("pip cannot install chdb==0")));
        assert_eq!(row.json()["ok"], false);
        assert_eq!(row.json()["error"], "pip cannot install chdb==0");
        assert!(row.line().starts_with("not ok chdb==0"), "{}", row.line());
    }

    #[test]
    fn what_failed_is_told_with_the_words_of_the_server() {
        let mut outcome = Outcome::default();
        outcome.questions.total = 2;
        outcome.questions.passed = 1;
        outcome.questions.failed.push(("Which?".to_owned(), "Code: 46.".to_owned()));
        let row = Row::new("chdb==1", Ok(("25.1.2.3".to_owned(), outcome)));
        assert_eq!(row.json()["questions"]["failed"][0]["error"], "Code: 46.");
        assert!(row.line().ends_with("questions 1/2; Which?: Code: 46."), "{}", row.line());
        assert!(table(&[row]).contains("| 25.1.2 | chdb==1 | 0/0 |  | 0/0 | 1/2 | no |"));
    }
}
