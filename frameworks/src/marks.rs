//! Tables in a document that people write the rest of.

use anyhow::{Context as _, Result};

/// `text` with `table` between the lines `begin` and `end`.
pub(crate) fn between(text: &str, begin: &str, end: &str, table: &str) -> Result<String> {
    let marks = || format!("docs/frameworks.md needs the lines {begin} and {end}, in this order");
    let from = text.find(begin).with_context(marks)? + begin.len();
    let to = from + text[from..].find(end).with_context(marks)?;
    Ok(format!("{}\n\n{}\n\n{}", &text[..from], table.trim(), &text[to..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_table_stays() {
        let text = "# Title\n\n<a>\nold\n<b>\n\nmore\n";
        let once = between(text, "<a>", "<b>", "| a |\n").unwrap();
        assert_eq!(once, "# Title\n\n<a>\n\n| a |\n\n<b>\n\nmore\n");
        assert_eq!(between(&once, "<a>", "<b>", "| a |").unwrap(), once);
    }

    #[test]
    fn missing_marks_are_an_error_that_names_them() {
        for text in ["", "<a>", "<b> <a>"] {
            let error = between(text, "<a>", "<b>", "x").unwrap_err().to_string();
            assert!(error.contains("<a>") && error.contains("<b>"), "{error}");
        }
    }
}
