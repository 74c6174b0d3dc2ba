//! The SQL of a document, asked of the rows of the demo: every block must run and answer.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::database::Database;

/// Runs every `sql` block of the Markdown file at `path`; gives how many there are.
///
/// # Errors
/// When a block does not run, or gives no row; and when there is none.
pub(crate) fn ask(database: &Database, path: &Path) -> Result<usize> {
    let document =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let blocks = blocks(&document);
    ensure!(!blocks.is_empty(), "{} has no block of SQL", path.display());
    for block in &blocks {
        let rows: Vec<Value> = database.ask(block).with_context(|| format!("asking\n{block}"))?;
        ensure!(!rows.is_empty(), "no answer to\n{block}");
    }
    Ok(blocks.len())
}

fn blocks(document: &str) -> Vec<&str> {
    let starts = document.split("```sql\n").skip(1);
    starts.filter_map(|rest| rest.split_once("```").map(|(block, _)| block)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_of_sql_are_asked() {
        let document = "a\n```sql\nSELECT 1\n```\nb\n```sh\nls\n```\n```sql\nSELECT 2\n```\n";
        assert_eq!(blocks(document), ["SELECT 1\n", "SELECT 2\n"]);
    }
}
