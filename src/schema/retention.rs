//! The ages at which rows are deleted and compressed better: which rules of a table's TTL are ours.
//!
//! An administrator may have rules of their own beside them: volumes, disks, other compression,
//! rows to delete sooner. A rule is ours if it says exactly what we say, and all others stay word
//! for word.

use super::migrations::SchemaOptions;

/// A table whose rows are deleted at an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retained {
    /// `activities`.
    Activities,
    /// `activity_minutes`.
    Minutes,
    /// `trace_shapes`.
    Shapes,
}

impl Retained {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Activities, Self::Minutes, Self::Shapes];

    /// The table's name.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Activities => "activities",
            Self::Minutes => "activity_minutes",
            Self::Shapes => "trace_shapes",
        }
    }

    /// The age in days that `options` ask for.
    #[must_use]
    pub const fn days(self, options: &SchemaOptions) -> Option<u32> {
        match self {
            Self::Activities => options.retention_days,
            Self::Minutes | Self::Shapes => options.rollup_retention_days,
        }
    }

    /// The statement that brings the table to the age that `options` ask for; `None` where it is
    /// there already. `engine` is the server's own text of the table's engine (`engine_full`).
    ///
    /// Rules that are not ours stay, and so does the second compression, which may have been taken
    /// out.
    ///
    /// ```
    /// use tracing_activity::schema::{Retained, SchemaOptions};
    /// let options = SchemaOptions { retention_days: Some(90), ..SchemaOptions::default() };
    /// let engine = "MergeTree ORDER BY x TTL toDateTime(when) + toIntervalDay(7) TO VOLUME 'cold'";
    /// let change = Retained::Activities.change(engine, &options).unwrap();
    /// assert!(change.ends_with("toDateTime(when) + toIntervalDay(7) TO VOLUME 'cold'"));
    /// assert!(change.contains("toDateTime(when) + toIntervalDay(90), "));
    /// ```
    #[must_use]
    pub fn change(self, engine: &str, options: &SchemaOptions) -> Option<String> {
        let before = ttl_rules(engine);
        let ages: Vec<u32> = before.iter().filter_map(|rule| self.age_in(rule)).collect();
        let wanted = self.days(options);
        if ages.iter().eq(wanted.iter()) {
            return None;
        }
        // In front: after the assignments of a `GROUP BY` it would read as one of them.
        let mut rules: Vec<String> = wanted.map(|days| self.delete(days)).into_iter().collect();
        let others = before.into_iter().filter(|rule| self.age_in(rule).is_none());
        rules.extend(others.map(str::to_owned));
        let change = if rules.is_empty() {
            "REMOVE TTL".to_owned()
        } else {
            format!("MODIFY TTL {}", rules.join(", "))
        };
        let table = options.fill(&format!("ALTER TABLE {{database}}.{}", self.table()));
        Some(format!("{table} {change}"))
    }

    /// The clause of a new table.
    pub(super) fn clause(self, options: &SchemaOptions) -> String {
        let recompress = match self {
            Self::Activities => {
                Some("toDateTime(when) + toIntervalDay(3) RECOMPRESS CODEC(ZSTD(6))".to_owned())
            }
            Self::Minutes | Self::Shapes => None,
        };
        let delete = self.days(options).map(|days| self.delete(days));
        let rules: Vec<String> = recompress.into_iter().chain(delete).collect();
        if rules.is_empty() { String::new() } else { format!("TTL {}", rules.join(", ")) }
    }

    const fn time(self) -> &'static str {
        match self {
            Self::Activities => "toDateTime(when)",
            Self::Minutes => "minute",
            Self::Shapes => "toDateTime(last_seen)",
        }
    }

    fn delete(self, days: u32) -> String {
        format!("{} + toIntervalDay({days})", self.time())
    }

    /// The age in days of a rule that is ours.
    fn age_in(self, rule: &str) -> Option<u32> {
        let days = rule.strip_prefix(self.time())?.strip_prefix(" + toIntervalDay(")?;
        days.strip_suffix(')')?.parse().ok()
    }
}

/// The rules in the server's text of a table's engine.
///
/// Assignments of a `GROUP BY` are parted, too. They stay in order, so nothing is lost by it.
fn ttl_rules(engine: &str) -> Vec<&str> {
    let Some(start) = top_level(engine, " TTL ").next() else { return Vec::new() };
    let ttl = &engine[start + " TTL ".len()..];
    let ttl = &ttl[..top_level(ttl, " SETTINGS ").next().unwrap_or(ttl.len())];
    split(ttl)
}

/// The parts between commas that stand in no bracket and no quotes, without space around them.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut start = 0;
    let mut parts = Vec::new();
    for comma in top_level(text, ",").chain([text.len()]) {
        let part = text[start..comma].trim();
        if !part.is_empty() {
            parts.push(part);
        }
        start = comma + 1;
    }
    parts
}

/// Where `word` stands in `text` outside of brackets, quotes and comments.
fn top_level<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    let (mut depth, mut quote, mut at) = (0_usize, None, 0);
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let here = at;
            at += 1;
            match (quote, bytes[here]) {
                (Some(_), b'\\') => at += 1,
                (Some(quoted), byte) if byte == quoted => quote = None,
                (None, byte @ (b'\'' | b'`' | b'"')) => quote = Some(byte),
                (None, b'(' | b'[') => depth += 1,
                (None, b')' | b']') => depth = depth.saturating_sub(1),
                (None, b'-') if bytes[here..].starts_with(b"-- ") => {
                    let end = bytes[here..].iter().position(|&byte| byte == b'\n');
                    at = here + end.unwrap_or(bytes.len() - here);
                }
                (None, _) if depth == 0 && bytes[here..].starts_with(word.as_bytes()) => {
                    return Some(here);
                }
                _ => {}
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(days: Option<u32>) -> SchemaOptions {
        SchemaOptions {
            database: "shop".to_owned(),
            retention_days: days,
            rollup_retention_days: days.map(|days| days * 2),
            cluster: None,
        }
    }

    fn engine(clause: &str) -> String {
        format!("MergeTree PARTITION BY toDate(when) ORDER BY x {clause} SETTINGS a = ' TTL y'")
    }

    #[test]
    fn a_table_as_it_was_made_changes_only_with_its_age() {
        for table in Retained::ALL {
            for days in [None, Some(90)] {
                let engine = engine(&table.clause(&options(days)));
                assert_eq!(table.change(&engine, &options(days)), None, "{engine}");
                let change = table.change(&engine, &options(Some(30))).unwrap();
                let age = table.days(&options(Some(30))).unwrap();
                assert!(change.contains(&format!("{} + toIntervalDay({age})", table.time())));
                assert_eq!(
                    change.matches("toIntervalDay").count(),
                    1 + usize::from(table == Retained::Activities),
                    "{change}"
                );
            }
        }
        let minutes = engine(&Retained::Minutes.clause(&options(Some(90))));
        let change = Retained::Minutes.change(&minutes, &options(None)).unwrap();
        assert_eq!(change, "ALTER TABLE `shop`.activity_minutes REMOVE TTL");
    }

    #[test]
    fn what_reads_much_like_a_rule_of_ours_is_none() {
        for rule in [
            "toDateTime(when) + toIntervalDay(90) TO VOLUME 'cold'",
            "toDateTime(when) + toIntervalDay(90) WHERE a IN (1, 2)",
            "toDateTime(when) + toIntervalDay(90) RECOMPRESS CODEC(LZ4)",
            "toDateTime(when) + toIntervalMonth(3)",
            "minute + toIntervalDay(90)",
            "toDate(when) + toIntervalDay(90)",
            "toDateTime(when) + toIntervalDay(-1)",
        ] {
            assert_eq!(Retained::Activities.age_in(rule), None, "{rule}");
            let engine = engine(&format!("TTL {rule}, toDateTime(when) + toIntervalDay(9)"));
            let change = Retained::Activities.change(&engine, &options(None)).unwrap();
            assert_eq!(change, format!("ALTER TABLE `shop`.activities MODIFY TTL {rule}"));
        }
        assert_eq!(Retained::Activities.age_in("toDateTime(when) + toIntervalDay(90)"), Some(90));
    }

    #[test]
    fn quotes_and_brackets_hide_what_stands_in_them() {
        let text = "a + f(1, 2) WHERE b = ', \\', TTL ', `c, d` [1, 2], -- x, y\n \"e,\"";
        assert_eq!(
            split(text),
            ["a + f(1, 2) WHERE b = ', \\', TTL '", "`c, d` [1, 2]", "-- x, y\n \"e,\""]
        );
        assert_eq!(split(" , "), [""; 0]);
        let hidden = "MergeTree ORDER BY ` TTL ` TTL x + 1 WHERE y = ' SETTINGS ' SETTINGS z = 1";
        assert_eq!(ttl_rules(hidden), ["x + 1 WHERE y = ' SETTINGS '"]);
        assert!(ttl_rules("MergeTree ORDER BY when").is_empty());
    }
}
