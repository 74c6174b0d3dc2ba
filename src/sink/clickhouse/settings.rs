//! Whether the settings of an insert reach the server: a proxy may take them away, and does it silently.

use super::INSERT_SETTINGS;
use super::http::{Client, Result};
use crate::warn::print;

/// The token of an insert, here only to see whether one arrives.
const TOKEN: (&str, &str) = ("insert_deduplication_token", "activity");

/// What follows where a setting is not in force.
const CONSEQUENCES: [(&str, &str); 7] = [
    ("insert_deduplication_token", "an insert that is repeated may be stored twice"),
    ("insert_deduplicate", "an insert that is repeated may be stored twice"),
    (
        "deduplicate_blocks_in_dependent_materialized_views",
        "the views, such as activity_minutes, may count a repeated insert twice",
    ),
    (
        "async_insert",
        "the server may lose rows that it said are stored, and store repeated ones twice",
    ),
    ("distributed_foreground_insert", "a cluster may lose rows that it said are stored"),
    (
        "input_format_native_allow_types_conversion",
        "a column of another type may be filled with wrong values",
    ),
    ("", "a batch may be stored in parts, of which a repeated insert doubles some"),
];

/// The names and values that the server knows of an insert's settings, asked as an insert is sent.
pub(super) async fn in_force(client: &Client) -> Result<Vec<(String, String)>> {
    let mut settings = INSERT_SETTINGS.to_vec();
    settings.push(TOKEN);
    let names: Vec<String> = settings.iter().map(|(name, _)| format!("'{name}'")).collect();
    let sql =
        format!("SELECT name, value FROM system.settings WHERE name IN ({})", names.join(", "));
    client.query(&sql).with_settings(&settings).fetch_all().await
}

/// The settings of an insert that are not in force, with what follows.
pub(super) fn missing(found: &[(String, String)]) -> Vec<String> {
    let wanted = |name: &str| {
        INSERT_SETTINGS.into_iter().chain([TOKEN]).find(|(it, _)| *it == name).map(|it| it.1)
    };
    let wrong = found.iter().filter(|(name, value)| wanted(name).is_some_and(|it| it != value));
    wrong
        .map(|(name, value)| {
            let consequence = CONSEQUENCES.iter().find(|(it, _)| it == name || it.is_empty());
            let consequence = consequence.map_or("", |it| it.1);
            format!("{name} is {value:?}: {consequence}")
        })
        .collect()
}

/// One line on standard error.
pub(super) fn warn(missing: &[String], origin: &str) {
    if missing.is_empty() {
        return;
    }
    print(&format!(
        "settings of an insert do not reach ClickHouse at {origin}: let the proxy pass them, or set them in the profile of ACTIVITY_USER ({})",
        missing.join("; ")
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_in_force_is_told_with_what_follows() {
        let mut found: Vec<(String, String)> = INSERT_SETTINGS
            .into_iter()
            .chain([TOKEN])
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert!(missing(&found).is_empty());
        assert!(missing(&[]).is_empty(), "an older server does not know them");
        for setting in &mut found {
            setting.1 = "other".to_owned();
        }
        let all = missing(&found);
        assert_eq!(all.len(), INSERT_SETTINGS.len() + 1);
        let views = all.iter().find(|it| it.starts_with("deduplicate_blocks")).unwrap();
        assert!(views.contains("activity_minutes") && views.contains("twice"), "{views}");
        assert!(all.iter().all(|it| it.contains(": ")), "{all:?}");
    }
}
