//! Settings that only save room or work, and what it costs to do without.
//!
//! A server that is older, or that somebody else manages, may not know one or not allow it. Rows are
//! as right without it, so a statement is tried again without.

/// A setting that a table can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saving {
    /// Its name.
    pub setting: &'static str,
    /// What it costs to do without, as `docs/schema.md` has measured it.
    pub costs: &'static str,
}

/// All of them.
const ALL: [Saving; 4] = [
    Saving {
        setting: "string_serialization_version",
        costs: "rows take a tenth more room in their first three days, and merging them a third more work",
    },
    Saving {
        setting: "default_compression_codec",
        costs: "rows take a third more room in their first three days",
    },
    Saving {
        setting: "vertical_merge_algorithm_min_rows_to_activate",
        costs: "merging rows takes half as much work again",
    },
    Saving { setting: "min_compress_block_size", costs: "rows take half a byte more" },
];

/// The server's answers that a setting is not known, that its value is not, or that it is not for
/// this user to set.
const REFUSALS: [u32; 4] = [115, 36, 452, 472];

/// What to try instead of `sql`, which the server refused with the number `code` and the words
/// `text`: the same without the setting they name. `None` where it is none that can be done without.
///
/// ```
/// use tracing_activity::schema::leave_out;
/// let sql = "CREATE TABLE t (n Int8) ENGINE = MergeTree SETTINGS a = 1, default_compression_codec = 'ZSTD(1)'";
/// let (without, saving) = leave_out(sql, 115, "Unknown setting 'default_compression_codec'").unwrap();
/// assert_eq!(without, "CREATE TABLE t (n Int8) ENGINE = MergeTree SETTINGS a = 1");
/// assert!(saving.costs.contains("room"));
/// assert_eq!(leave_out(sql, 115, "Unknown setting 'a'"), None);
/// ```
#[must_use]
pub fn leave_out(sql: &str, code: u32, text: &str) -> Option<(String, Saving)> {
    let named = |it: &&Saving| names(text, it.setting) && names(sql, it.setting);
    let saving = ALL.iter().filter(|_| REFUSALS.contains(&code)).find(named)?;
    let mut without = sql.to_owned();
    while let Some(at) = find(&without, saving.setting) {
        without = cut(&without, at, saving.setting)?;
    }
    Some((without, *saving))
}

/// `sql` without the assignment to `setting` at `at`, nor the list it leaves empty.
fn cut(sql: &str, at: usize, setting: &str) -> Option<String> {
    let (before, rest) = (&sql[..at], sql[at + setting.len()..].strip_prefix(" = ")?);
    // Values are numbers, or texts without a quote in them.
    let end = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.find('\'')? + 2,
        None => rest.find(|it: char| !it.is_ascii_alphanumeric()).unwrap_or(rest.len()),
    };
    let after = &rest[end..];
    if let Some(before) = before.strip_suffix(", ") {
        return Some(format!("{before}{after}"));
    }
    if let Some(after) = after.strip_prefix(", ") {
        return Some(format!("{before}{after}"));
    }
    let (before, after) = match (before.strip_suffix(" SETTINGS ("), after.strip_prefix(')')) {
        (Some(before), Some(after)) => (before, after),
        _ => (before.trim_end().strip_suffix("SETTINGS")?.trim_end(), after),
    };
    Some(format!("{before}{after}"))
}

fn names(text: &str, setting: &str) -> bool {
    find(text, setting).is_some()
}

/// Where `setting` stands as a whole word.
fn find(text: &str, setting: &str) -> Option<usize> {
    let part_of_a_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    text.match_indices(setting).map(|(at, _)| at).find(|&at| {
        !text[..at].ends_with(part_of_a_word)
            && !text[at + setting.len()..].starts_with(part_of_a_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{SchemaOptions, objects};

    #[test]
    fn each_can_be_left_out_of_the_statements_by_itself_and_with_all_others() {
        let objects = objects(&SchemaOptions::default());
        let mut all = objects[0].create.clone();
        for saving in ALL {
            let text = format!("Unknown setting '{}': for storage", saving.setting);
            let (one, told) = leave_out(&objects[0].create, 115, &text).expect(saving.setting);
            assert_eq!(told, saving);
            let (fewer, _) = leave_out(&all, 115, &text).expect(saving.setting);
            all = fewer;
            for sql in [&one, &all] {
                assert!(!sql.contains(&format!("{} = ", saving.setting)), "{sql}");
                assert!(
                    !sql.contains(", ,") && !sql.contains("()") && !sql.contains(", \n"),
                    "{sql}"
                );
                assert!(sql.contains("SETTINGS non_replicated_deduplication_window = 10000"));
            }
        }
        assert!(all.contains("visit_id         String,\n"), "{all}");
        for object in &objects[1..] {
            assert!(ALL.iter().all(|it| !object.create.contains(it.setting)), "{}", object.name);
        }
    }

    #[test]
    fn an_only_setting_goes_with_its_list() {
        let text = "default_compression_codec";
        for (sql, without) in [
            (
                "a ORDER BY n SETTINGS default_compression_codec = 'x'\nCOMMENT 'y'",
                "a ORDER BY n\nCOMMENT 'y'",
            ),
            ("a SETTINGS default_compression_codec = 1, b = 2", "a SETTINGS b = 2"),
            ("a SETTINGS (default_compression_codec = 1), b", "a, b"),
        ] {
            assert_eq!(leave_out(sql, 36, text).unwrap().0, without);
        }
    }

    #[test]
    fn what_rows_depend_on_and_errors_of_another_kind_stay() {
        let sql = &objects(&SchemaOptions::default())[0].create;
        for (code, text) in [
            (115, "Unknown setting 'non_replicated_deduplication_window'"),
            (62, "Syntax error: failed at string_serialization_version"),
            (115, "Unknown setting 'old_string_serialization_version'"),
        ] {
            assert_eq!(leave_out(sql, code, text), None, "{text}");
        }
    }
}
