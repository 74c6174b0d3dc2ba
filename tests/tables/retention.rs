//! Rules of an administrator in a table's TTL stay when our ages change.

use std::time::Duration;

use tracing_activity::sink::Sink as _;

use crate::database::{Db, wait};

const DAY: Duration = Duration::from_hours(24);

/// The rules of a table as the server prints them.
fn rules(db: &Db, table: &str) -> String {
    let sql = format!(
        "SELECT engine_full FROM system.tables WHERE database = '{{db}}' AND name = '{table}' FORMAT TSVRaw"
    );
    let engine = db.query(&sql);
    let Some((_, ttl)) = engine.split_once(" TTL ") else { return String::new() };
    ttl.rsplit_once(" SETTINGS ").unwrap().0.to_owned()
}

fn prepare(db: &Db, days: Option<u32>) {
    let it = std::mem::ManuallyDrop::new(db.with(|config| {
        config.retention = days.map(|days| DAY * days);
        config.rollup_retention = days.map(|days| DAY * days);
    }));
    wait(it.sink().prepare()).unwrap();
}

/// Ours, without an age and with one.
const RECOMPRESS: &str = "toDateTime(when) + toIntervalDay(3) RECOMPRESS CODEC(ZSTD(6))";

#[test]
fn rules_of_others_stay_whatever_the_age_becomes() {
    for own in [
        "toDateTime(when) + toIntervalDay(7) TO VOLUME 'default'",
        "toDateTime(when) + toIntervalDay(7) TO DISK 'default'",
        "toDateTime(when) + toIntervalDay(30) RECOMPRESS CODEC(ZSTD(12))",
        "toDateTime(when) + toIntervalDay(30) WHERE client_kind = 'bot'",
        "toDateTime(when) + toIntervalDay(30) WHERE route IN (', TTL x SETTINGS ', '/a')",
        "toDateTime(when) + toIntervalDay(30) TO VOLUME 'default', toDateTime(when) + toIntervalDay(31) WHERE user_id = ''",
        "toDateTime(when) + toIntervalDay(300) GROUP BY toStartOfFiveMinutes(when), okind, ekind SET duration = sum(duration), status = max(status)",
    ] {
        let db = Db::new();
        db.query(&format!("ALTER TABLE {{db}}.activities MODIFY TTL {own}, {RECOMPRESS}"));
        let told = rules(&db, "activities");
        let kept = told.replace(&format!(", {RECOMPRESS}"), "");
        for days in [Some(90), Some(30), None, None, Some(7)] {
            prepare(&db, days);
            let now = rules(&db, "activities");
            assert!(now.contains(&kept), "{days:?} days: {kept:?} is not in {now:?}");
            assert!(now.contains(RECOMPRESS), "{now}");
            let ours = days.map(|days| format!("toDateTime(when) + toIntervalDay({days})"));
            let rest = now.replace(&kept, "").replace(RECOMPRESS, "");
            let rest = rest.trim_matches([',', ' ']);
            assert_eq!(rest, ours.unwrap_or_default(), "{now}");
        }
    }
}

#[test]
fn rules_of_others_stay_in_the_rollups() {
    let db = Db::new();
    for (table, time) in [("activity_minutes", "minute"), ("trace_shapes", "toDateTime(last_seen)")]
    {
        let own = format!("{time} + toIntervalDay(60) TO VOLUME 'default'");
        db.query(&format!("ALTER TABLE {{db}}.{table} MODIFY TTL {own}"));
        for days in [Some(400), None] {
            prepare(&db, days);
            let now = rules(&db, table);
            assert!(now.contains(&own), "{now}");
            let ours = format!("{time} + toIntervalDay(400)");
            assert_eq!(now.split(", ").any(|rule| rule == ours), days.is_some(), "{now}");
        }
    }
}

/// A table has one age without a condition, or the server refuses it.
#[test]
fn an_age_in_other_words_stays_and_stops_no_service() {
    for own in ["toDateTime(when) + toIntervalYear(10)", "toDate(when) + toIntervalDay(60)"] {
        let db = Db::new();
        db.query(&format!("ALTER TABLE {{db}}.activities MODIFY TTL {RECOMPRESS}, {own}"));
        let before = rules(&db, "activities");
        assert!(before.contains(own), "{before}");
        for days in [Some(90), None, Some(7)] {
            prepare(&db, days);
            assert_eq!(rules(&db, "activities"), before);
        }
    }
}

#[test]
fn a_start_that_changes_no_age_changes_no_table() {
    let db = Db::new();
    let own = "toDateTime(when) + toIntervalDay(7) TO VOLUME 'default'";
    db.query(&format!(
        "ALTER TABLE {{db}}.activities MODIFY TTL {own}, toDateTime(when) + toIntervalDay(90)"
    ));
    let changed = "SELECT metadata_modification_time FROM system.tables WHERE database = '{db}' AND name = 'activities'";
    let (rules_before, before) = (rules(&db, "activities"), db.query(changed));
    prepare(&db, Some(90));
    assert_eq!((rules(&db, "activities"), db.query(changed)), (rules_before, before));
}
