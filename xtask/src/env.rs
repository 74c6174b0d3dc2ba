//! `cargo xtask env`: the README's table of environment variables, from the table they are read by.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tracing_activity::config::env::markdown_table;

/// Where the table goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing, and fail when the README differs
    #[arg(long)]
    check: bool,
}

const BEGIN: &str = "<!-- env:begin -->";
const END: &str = "<!-- env:end -->";

pub(crate) fn run(args: &Args) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let before = std::fs::read_to_string(&path).context("README.md cannot be read")?;
    let after = with_table(&before, &markdown_table())?;
    if before == after {
        println!("README.md holds the current table");
    } else if args.check {
        bail!("the table of README.md is out of date: run `cargo xtask env`");
    } else {
        std::fs::write(&path, after).context("README.md cannot be written")?;
        println!("wrote the table into README.md");
    }
    Ok(())
}

/// `text` with `table` between the marks.
fn with_table(text: &str, table: &str) -> Result<String> {
    let marks = || format!("README.md needs the lines {BEGIN} and {END}, in this order");
    let begin = text.find(BEGIN).with_context(marks)? + BEGIN.len();
    let end = begin + text[begin..].find(END).with_context(marks)?;
    Ok(format!("{}\n{}\n{}", &text[..begin], table.trim(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_replaced_and_the_rest_stays() {
        let text = format!("# Title\n\n{BEGIN}\nold\n{END}\n\nmore\n");
        let once = with_table(&text, "| a |\n").unwrap();
        assert_eq!(once, format!("# Title\n\n{BEGIN}\n| a |\n{END}\n\nmore\n"));
        assert_eq!(with_table(&once, "| a |\n").unwrap(), once);
    }

    #[test]
    fn missing_marks_are_an_error_that_names_them() {
        for text in ["", BEGIN, END] {
            let error = with_table(text, "x").unwrap_err().to_string();
            assert!(error.contains(BEGIN) && error.contains(END), "{error}");
        }
    }
}
