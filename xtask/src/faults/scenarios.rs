//! The scenarios: what goes wrong, and what should come of it.

use std::time::Duration;

use embedded_clickhouse::Limits;
use embedded_clickhouse::proxy::{Action, Reply};

use super::rules::{
    Rule, always, at_most, during, error, every_other, everything_during, honest, lie_then_refuse,
    page, without_settings,
};

/// When a scenario is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything has met its fate.
    Settled,
    /// Everything was sent, and waits for a person.
    Waiting,
}

pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Whether it is one of the few of the short profile.
    pub(super) short: bool,
    pub(super) rule: Rule,
    /// A server of its own, with limits.
    pub(super) limits: Option<Limits>,
    /// What is done to the tables before.
    pub(super) sql: &'static str,
    pub(super) rows: u64,
    /// Bytes of text that a row has.
    pub(super) text: usize,
    /// In what time they come.
    pub(super) time: Duration,
    pub(super) timeout: Duration,
    pub(super) end: End,
    /// Rows that are given up, rightly.
    pub(super) failed: u64,
    pub(super) most_inserts: u64,
}

/// All scenarios, smaller where they are to be `short`.
#[allow(clippy::too_many_lines, reason = "a list, one scenario after another")]
pub(super) fn all(short: bool) -> Vec<Scenario> {
    let (rows, time) = if short { (1000, 1) } else { (4000, 4) };
    let outage = Duration::from_secs(if short { 1 } else { 15 });
    let scenario = |name, in_short, rule| Scenario {
        name,
        short: in_short,
        rule,
        limits: None,
        sql: "",
        rows,
        text: 64,
        time: Duration::from_secs(time),
        timeout: Duration::from_secs(30),
        end: End::Settled,
        failed: 0,
        most_inserts: 100,
    };
    let refused = |name, in_short, code| {
        scenario(name, in_short, during(outage, Action::Answer(error(code))))
    };
    let paged = |name, status| scenario(name, false, during(outage, Action::Answer(page(status))));
    let lied = |name, in_short, reply| scenario(name, in_short, every_other(Action::Lie(reply)));
    let mut list = vec![
        scenario("nothing goes wrong", true, honest()),
        // Errors that pass, or that a person repairs.
        refused("201 for a while", false, 201),
        refused("241 for a while", false, 241),
        refused("290 for a while", false, 290),
        refused("297 for a while", false, 297),
        refused("364 for a while", false, 364),
        refused("452 for a while", false, 452),
        refused("499 for a while", false, 499),
        refused("745 for a while", false, 745),
        refused("49 for a while", false, 49),
        refused("1000 for a while", false, 1000),
        refused("1001 for a while", true, 1001),
        refused("a code that nobody knows for a while", false, 54_321),
        // What is stored and said not to be.
        lied("stored, answered 1001", true, error(1001)),
        lied("stored, answered 49", false, error(49)),
        lied("stored, answered 117", false, error(117)),
        lied(
            "stored, answered 117 without the header",
            false,
            Reply::new(500, "Code: 117. DB::Exception: no"),
        ),
        lied("stored, answered 241", false, error(241)),
        lied("stored, answered 413", false, Reply::new(413, super::rules::TOO_LARGE)),
        lied("stored, answered 502", false, page(502)),
        lied("stored, answered 403", false, page(403)),
        scenario("stored and cut", false, every_other(Action::PassAndCut)),
        scenario("cut and not stored", false, every_other(Action::Cut)),
        scenario(
            "stored, answered 1001, then refused",
            true,
            lie_then_refuse(error(1001), 3, error(117)),
        ),
        scenario(
            "stored, cut, then too large",
            false,
            lie_then_refuse(page(504), 3, Reply::new(413, super::rules::TOO_LARGE)),
        ),
        // What is not stored and said to be.
        scenario(
            "200 with an error in its body",
            true,
            during(outage, Action::Answer(Reply { status: 200, ..error(241) })),
        ),
        scenario(
            "200 with an error in its body, no header",
            false,
            during(outage, Action::Answer(Reply { headers: vec![], status: 200, ..error(241) })),
        ),
        scenario("an empty 200", true, during(outage, Action::Answer(Reply::new(200, "")))),
        scenario(
            "200 with an account of no rows",
            false,
            during(
                outage,
                Action::Answer(
                    Reply::new(200, "").with("X-ClickHouse-Summary", r#"{"written_rows":"0"}"#),
                ),
            ),
        ),
        scenario("a page with 200", false, everything_during(outage, Action::Answer(page(200)))),
        scenario("200 that lost its headers", true, always(Action::Lie(Reply::new(200, "")))),
        // Pages of proxies.
        Scenario {
            text: 2048,
            most_inserts: 400,
            ..scenario("413 for more than 256 KiB", true, at_most(256 << 10))
        },
        paged("401 for a while", 401),
        paged("403 for a while", 403),
        paged("404 for a while", 404),
        paged("429 for a while", 429),
        paged("503 for a while", 503),
        scenario(
            "403 to everything for a while",
            false,
            everything_during(outage, Action::Answer(page(403))),
        ),
        // Answers without an end.
        scenario(
            "an answer of 1 GiB",
            false,
            during(
                outage / 4,
                Action::Answer(Reply { body: vec![b'x'; 1 << 20], times: 1024, ..page(500) }),
            ),
        ),
        scenario(
            "a 200 of 1 GiB to everything",
            true,
            everything_during(
                outage / 4,
                Action::Answer(Reply { body: vec![b'x'; 1 << 20], times: 1024, ..page(200) }),
            ),
        ),
        scenario(
            "headers of 8 MiB",
            false,
            during(outage / 4, Action::Answer(page(200).with("X-Flood", &"x".repeat(8 << 20)))),
        ),
        Scenario {
            timeout: Duration::from_secs(1),
            ..scenario(
                "an answer that drips",
                false,
                during(
                    outage / 4,
                    Action::Answer(Reply {
                        body: b"x".to_vec(),
                        times: 100_000,
                        pause: Duration::from_millis(50),
                        ..page(500)
                    }),
                ),
            )
        },
        scenario("a proxy that strips settings", false, without_settings()),
    ];
    // What the server itself refuses.
    list.extend([
        Scenario {
            limits: Some(Limits { inserts: Some((3, 5)), ..Limits::default() }),
            ..scenario("a quota of 3 inserts in 5 s", true, honest())
        },
        Scenario {
            limits: Some(Limits {
                pinned: vec![("async_insert".to_owned(), "1".to_owned())],
                ..Limits::default()
            }),
            end: End::Waiting,
            most_inserts: 5,
            ..scenario("a profile that pins async_insert", true, honest())
        },
        Scenario {
            limits: Some(Limits {
                settings: vec![("max_memory_usage".to_owned(), "40000000".to_owned())],
                ..Limits::default()
            }),
            rows: if short { 10_000 } else { 20_000 },
            text: 2048,
            most_inserts: 1000,
            ..scenario("max_memory_usage of 40 MB", false, honest())
        },
        Scenario {
            sql: "ALTER TABLE {db}.activities ADD CONSTRAINT picky CHECK status != 777",
            failed: 1,
            ..scenario("a row that a constraint refuses", true, honest())
        },
    ]);
    list
}
