//! The tables of `docs/frameworks.md`.

use std::fmt::Write as _;

use anyhow::Result;

use super::judge::{Cell, Mark};
use super::{Behaviour, Row};

pub(super) const BEGIN: &str = "<!-- matrix:begin -->";
pub(super) const END: &str = "<!-- matrix:end -->";

/// A set-up in one line, for who looks on.
pub(super) fn line(row: &Row) -> String {
    let cells: Vec<String> = row.cells.iter().map(cell).collect();
    format!("| {} | {} | {} |", row.setup.framework, row.setup.emitter, cells.join(" | "))
}

/// What a cell says: that all is right, or what is not.
fn cell(cell: &Cell) -> String {
    let of = |wanted: Mark| {
        let columns = cell.columns.iter().filter(|(_, mark)| **mark == wanted);
        columns.map(|(column, _)| column.name()).collect::<Vec<_>>().join(", ")
    };
    match cell.mark() {
        Mark::Right => "right".to_owned(),
        Mark::Impossible => format!("no {}", of(Mark::Impossible)),
        Mark::Wrong if cell.columns.is_empty() => "**wrong**".to_owned(),
        Mark::Wrong => format!("**wrong: {}**", of(Mark::Wrong)),
    }
}

/// The tables of all set-ups.
pub(super) fn tables(rows: &[Row]) -> Result<String> {
    let mut text = String::new();
    table(&mut text, rows.iter().filter(|row| row.setup.counts))?;
    let cells: Vec<&Cell> =
        rows.iter().filter(|row| row.setup.counts).flat_map(|row| &row.cells).collect();
    let count = |mark| cells.iter().filter(|cell| cell.mark() == mark).count();
    let columns: Vec<Mark> = cells.iter().flat_map(|cell| cell.columns.values()).copied().collect();
    writeln!(
        text,
        "\nOf {} cells {} are right in every column; in {} the emitter leaves something untold. Of {} \
         columns in them {} are right.\n",
        cells.len(),
        count(Mark::Right),
        count(Mark::Impossible),
        columns.len(),
        columns.iter().filter(|mark| **mark == Mark::Right).count()
    )?;
    writeln!(text, "Beside these nine:\n")?;
    table(&mut text, rows.iter().filter(|row| !row.setup.counts))?;
    writeln!(text, "\nWhat is missing, and why:\n\n| who tells | column | when | why |")?;
    writeln!(text, "|---|---|---|---|")?;
    for row in rows {
        for untold in row.setup.untold {
            let when: Vec<&str> = untold.when.iter().map(|it| it.name()).collect();
            let when = if when.is_empty() { "always".to_owned() } else { when.join(", ") };
            let (framework, emitter) = (row.setup.framework, row.setup.emitter);
            let (column, why) = (untold.column.name(), untold.because);
            writeln!(text, "| {framework}, {emitter} | {column} | {when} | {why} |")?;
        }
    }
    Ok(text)
}

fn table<'a>(text: &mut String, rows: impl Iterator<Item = &'a Row>) -> Result<()> {
    let names: Vec<&str> = Behaviour::ALL.iter().map(|it| it.name()).collect();
    writeln!(text, "| framework | who tells | {} |", names.join(" | "))?;
    writeln!(text, "|---|---|{}", "---|".repeat(names.len()))?;
    for row in rows {
        writeln!(text, "{}", line(row))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Column;
    use super::*;

    #[test]
    fn a_cell_names_what_is_missing_and_what_is_wrong() {
        let columns = BTreeMap::from([
            (Column::Route, Mark::Impossible),
            (Column::Duration, Mark::Impossible),
            (Column::Status, Mark::Right),
        ]);
        let mut it = Cell { behaviour: Behaviour::Slow, columns, problems: Vec::new() };
        assert_eq!(cell(&it), "no route, duration");
        it.columns.insert(Column::Status, Mark::Wrong);
        assert_eq!(cell(&it), "**wrong: status**");
    }
}
