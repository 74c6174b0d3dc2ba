//! The questions of `docs/visits.md`, asked of the real ClickHouse.
#![cfg(feature = "clickhouse")]

mod database;

use tracing_activity::model::{Activity, ActivityId, ClientKind, Timestamp};
use tracing_activity::sink::{Batch, Sink as _};

use self::database::{Db, activity, wait};

/// The statements in the document, in order.
fn statements() -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/visits.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```sql\n").skip(1).map(|it| it.split("```").next().unwrap());
    let named = |it: &str| {
        it.replace("FROM activities", "FROM {db}.activities")
            .replace("TABLE activities", "TABLE {db}.activities")
    };
    blocks.map(|it| named(it.trim())).collect()
}

/// A request in the minute after the beginning of 2027-01-15.
fn at(minute: i64) -> Activity {
    let when = Timestamp::from_micros((1_799_971_200 + minute * 60) * 1_000_000);
    Activity {
        when,
        activity_id: ActivityId::new(when, fastrand::u64(..)),
        client_kind: ClientKind::Browser,
        ekind: "view".to_owned(),
        ..activity(200)
    }
}

fn visit(minute: i64, visit: &str, campaign: &str) -> Activity {
    Activity {
        visit_id: visit.to_owned(),
        campaign: campaign.to_owned(),
        visit_referer: "blog.example".to_owned(),
        ..at(minute)
    }
}

fn visitor(minute: i64, tracker: &str) -> Activity {
    Activity { tracker_id: tracker.to_owned(), ..at(minute) }
}

fn ask(rows: Vec<Activity>, statement: usize) -> String {
    let db = Db::new();
    wait(db.sink().write(&Batch::new(rows, 0))).unwrap();
    db.query(&statements()[statement])
}

#[test]
fn a_visit_is_confirmed_by_a_second_row_and_bots_do_not_count() {
    let bot = Activity { client_kind: ClientKind::Bot, ..visit(1, "b", "") };
    let rows = vec![visit(1, "v1", ""), visit(2, "v1", ""), visit(3, "v2", ""), bot, at(5)];
    assert_eq!(ask(rows, 0), "2027-01-15\t2\t1");
}

#[test]
fn campaigns_are_told_with_their_visits_and_what_came_of_them() {
    let bought = Activity { ekind: "checkout".to_owned(), ..visit(9, "v1", "utm_source=news") };
    let rows = vec![
        visit(1, "v1", "utm_source=news"),
        bought,
        visit(2, "v2", "utm_source=news"),
        visit(3, "v3", "utm_source=ads&utm_campaign=may"),
    ];
    assert_eq!(ask(rows, 1), "news\t\tblog.example\t2\t1\nads\tmay\tblog.example\t1\t0");
}

#[test]
fn visits_without_cookies_lie_between_rests_of_half_an_hour() {
    let campaign = Activity { campaign: "utm_source=news".to_owned(), ..visitor(60, "ana") };
    let rows = vec![
        visitor(0, "ana"),
        visitor(30, "ana"),
        campaign,
        visitor(10, "bob"),
        visitor(91, "ana"),
        visitor(92, "ana"),
    ];
    let day = "2027-01-15 ";
    let expected = [
        format!("ana\t{day}00:00:00.000000\t{day}01:00:00.000000\t3\tutm_source=news"),
        format!("bob\t{day}00:10:00.000000\t{day}00:10:00.000000\t1\t"),
        format!("ana\t{day}01:31:00.000000\t{day}01:32:00.000000\t2\t"),
    ];
    let answer = ask(rows, 2);
    let answer: Vec<&str> = answer.lines().map(str::trim_end).collect();
    assert_eq!(answer, expected.each_ref().map(|line| line.trim_end()));
}

#[test]
fn what_is_known_of_somebody_can_be_deleted() {
    let db = Db::new();
    let tracker = "0af7651916cd43dd8448eb211c80319c";
    let user = Activity { user_id: "u17".to_owned(), ..at(2) };
    let rows = vec![visitor(1, tracker), user, visitor(3, "another")];
    wait(db.sink().write(&Batch::new(rows, 0))).unwrap();
    db.query(&format!("{} SETTINGS mutations_sync = 1", statements()[3]));
    assert_eq!(db.query("SELECT tracker_id FROM {db}.activities"), "another");
    assert_eq!(statements().len(), 4);
}
