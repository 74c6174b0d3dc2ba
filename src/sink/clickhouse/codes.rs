//! What ClickHouse's error codes mean for an insert: one table, `codes.txt`.
//!
//! Its names are those of the server's own list, see
//! <https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp>; a test holds them
//! to a real server. It is read when an error is, which is rare, and not before.

/// What an error code means for an insert of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// The server takes no more for now: the batch waits longer.
    Busy,
    /// A smaller insert may succeed.
    Large,
    /// Something failed for the moment, and the rows may be stored: the batch is sent again.
    Passing,
    /// The tables are not as this build needs them.
    Schema,
    /// The user is refused, or lacks a right.
    Rights,
    /// A person has to repair the server, a setting, the table or a view.
    Configuration,
    /// A row will never be accepted: only for these the batch is searched for it.
    Data,
    /// Nobody knows: the batch waits and is sent again, more and more slowly.
    Unknown,
}

impl Class {
    const ALL: [(&'static str, Self); 8] = [
        ("busy", Self::Busy),
        ("large", Self::Large),
        ("passing", Self::Passing),
        ("schema", Self::Schema),
        ("rights", Self::Rights),
        ("configuration", Self::Configuration),
        ("data", Self::Data),
        ("unknown", Self::Unknown),
    ];
}

const TABLE: &str = include_str!("codes.txt");

/// A line of the table, its code and name, with its group. Two of them are for people.
struct Entry {
    code: u32,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for people, and for the tests that hold it")
    )]
    name: &'static str,
    class: Class,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for people, and for the tests that hold it")
    )]
    reason: &'static str,
}

fn entries() -> impl Iterator<Item = Entry> {
    let mut group = (Class::Unknown, "");
    TABLE.lines().filter_map(move |line| {
        if let Some(line) = line.strip_prefix("  ") {
            let (code, name) = line.split_once(' ')?;
            return Some(Entry { code: code.parse().ok()?, name, class: group.0, reason: group.1 });
        }
        let (class, reason) = line.split_once(": ")?;
        let (_, class) = Class::ALL.into_iter().find(|(name, _)| *name == class)?;
        group = (class, reason);
        None
    })
}

/// What `code` means; of a code that the table does not hold, nothing is known.
pub(super) fn class(code: u32) -> Class {
    entries().find(|it| it.code == code).map_or(Class::Unknown, |it| it.class)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn every_code_of_the_table_is_there_once_with_a_name_and_a_reason() {
        let mut seen = HashSet::new();
        for Entry { code, name, reason, .. } in entries() {
            assert!(seen.insert(code), "{code} twice");
            assert!(name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit()));
            assert!(reason.len() > 20, "{code}: {reason}");
        }
        let lines = TABLE.lines().filter(|it| it.starts_with("  ")).count();
        let groups = TABLE.lines().filter(|it| it.contains(": ") && !it.starts_with('#')).count();
        assert_eq!((seen.len(), lines), (lines, 724), "a line that is not read");
        let reasons: HashSet<&str> = entries().map(|it| it.reason).collect();
        assert_eq!(reasons.len(), groups, "a group of another class, or two for one reason");
    }

    #[test]
    fn a_code_means_what_it_has_been_seen_to_mean() {
        for (class_of, codes) in [
            (Class::Busy, &[201, 202, 252, 243, 290, 364, 439, 745][..]),
            (Class::Large, &[241, 158, 307, 396]),
            (Class::Passing, &[3, 159, 209, 210, 242, 286, 297, 319, 425, 499, 999]),
            (Class::Schema, &[60, 81, 16]),
            (Class::Rights, &[192, 193, 194, 497, 516, 164]),
            (Class::Configuration, &[115, 452, 395, 43]),
            (Class::Data, &[6, 26, 27, 38, 41, 53, 72, 117, 469, 676, 691]),
            // The extremes, and what the table does not hold.
            (Class::Unknown, &[0, 49, 1000, 1001, 1002, 5, 778_000, u32::MAX]),
            (Class::Passing, &[1009]),
            (Class::Configuration, &[1]),
        ] {
            for code in codes {
                assert_eq!(class(*code), class_of, "{code}");
            }
        }
    }

    #[test]
    fn the_documentation_holds_the_table() {
        let mut text = String::new();
        for (name, wanted) in Class::ALL {
            let mut reason = "";
            for it in entries().filter(|it| it.class == wanted) {
                if it.reason == reason {
                    let _ = write!(text, ", {}", it.code);
                } else {
                    reason = it.reason;
                    let _ = write!(text, " |\n| `{name}` | {reason} | {}", it.code);
                }
            }
        }
        let table = format!("| class | why | codes |\n|---|---|---{text} |\n");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/delivery.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("<!-- codes: begin -->\n").unwrap();
        let (there, after) = rest.split_once("<!-- codes: end -->").unwrap();
        if there != table {
            let page = format!("{before}<!-- codes: begin -->\n{table}<!-- codes: end -->{after}");
            std::fs::write(path, page).unwrap();
            panic!("docs/delivery.md held another table of codes; it was written anew");
        }
    }

    /// Held to a real server by `tests/delivery.rs`, which reads the same file.
    #[test]
    fn the_names_are_the_servers() {
        let of = |code| entries().find(|it| it.code == code).map(|it| it.name);
        assert_eq!(of(252), Some("TOO_MANY_PARTS"));
        assert_eq!(of(1001), Some("STD_EXCEPTION"));
    }
}
