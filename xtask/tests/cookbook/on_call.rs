//! Who is on call.

use std::collections::{BTreeMap, BTreeSet};

use crate::Checks;
use crate::answer::{
    Answer, count, group, number, quantile, quantile_exact, rounds_to, tally, text, texts, within,
};
use crate::ledger::Entry;
use crate::rows::Row;
use crate::run::Run;
use crate::spans;

pub(crate) const CHECKS: Checks = &[
    ("How is each route doing, minute by minute?", red),
    ("And over months?", red_from_the_rollup),
    ("Does a deploy fail more than the one before?", faults_by_deploy),
    ("Is it their fault or ours?", ways_to_fail),
    ("Which errors are there, since when, and do they go on?", errors),
    ("Whom does this error hit?", users_of_an_error),
    ("Are we fast enough?", apdex),
    ("How are the durations spread?", heatmap),
    ("How many requests ran at one time?", at_once),
    ("Which routes take the most time in total?", total_time),
    ("What was slow, and what did it wait for?", slow),
    ("What else happened around it?", around),
];

fn faults<'a>(rows: impl IntoIterator<Item = &'a Row>) -> u64 {
    rows.into_iter().filter(|it| it.outcome == "server_fault").count() as u64
}

fn durations<'a>(rows: &'a [&Row]) -> impl Iterator<Item = u64> + 'a {
    rows.iter().map(|it| it.duration)
}

fn starts<'a>(rows: &'a [&Row]) -> impl Iterator<Item = u64> + 'a {
    rows.iter().map(|it| it.start())
}

fn red(run: &Run, answer: &Answer) {
    let key = |row: &&Row| (row.minute.clone(), row.method.clone(), row.route.clone());
    let exact = group(run.rows.iter().filter(|it| !it.route.is_empty()), key);
    let told = answer
        .map(|row| (text(row, "minute"), text(row, "method"), text(row, "route")), Clone::clone);
    assert!(told.keys().eq(exact.keys()), "{:?}", told.keys());
    for (key, rows) in &exact {
        let told = &told[key];
        assert_eq!(count(told, "requests"), rows.len() as u64, "{key:?}");
        assert_eq!(count(told, "faults"), faults(rows.iter().copied()), "{key:?}");
        rounds_to(number(told, "p50_ms"), quantile(durations(rows), 0.5) / 1000.0, 2);
        rounds_to(number(told, "p99_ms"), quantile(durations(rows), 0.99) / 1000.0, 2);
        rounds_to(number(told, "p99_start_ms"), quantile(starts(rows), 0.99) / 1000.0, 2);
    }
    // And over all minutes, by what the customers did.
    let known = run.ledger.iter().filter(|it| !it.route().is_empty());
    let sent = tally(known.map(|it| (it.method.clone(), it.route().to_owned())));
    let mut stored: BTreeMap<_, u64> = BTreeMap::new();
    for row in &answer.rows {
        let key = (text(row, "method"), text(row, "route"));
        *stored.entry(key).or_default() += count(row, "requests");
    }
    assert_eq!(stored, sent);
}

fn red_from_the_rollup(run: &Run, answer: &Answer) {
    let known = run.rows.iter().filter(|it| !it.route.is_empty());
    let exact = group(known, |it| (it.minute.clone(), it.route.clone()));
    let told = answer.map(|row| (text(row, "minute"), text(row, "route")), Clone::clone);
    assert!(told.keys().eq(exact.keys()), "{:?}", told.keys());
    for (key, rows) in &exact {
        let told = &told[key];
        assert_eq!(count(told, "total"), rows.len() as u64, "{key:?}");
        assert_eq!(count(told, "faults"), faults(rows.iter().copied()), "{key:?}");
        for (column, p) in [("p50_ms", 0.5), ("p99_ms", 0.99)] {
            let exact = quantile_exact(durations(rows), p) / 1000.0;
            // Half of a bucket.
            within(number(told, column), exact, 0.0222);
        }
        let exact = quantile_exact(starts(rows), 0.99) / 1000.0;
        within(number(told, "p99_start_ms"), exact, 0.0222);
        let slowest = durations(rows).max().unwrap() as f64 / 1000.0;
        rounds_to(number(told, "slowest_ms"), slowest, 2);
    }
}

fn faults_by_deploy(run: &Run, answer: &Answer) {
    let told: Vec<_> = answer.rows.iter().map(|row| text(row, "site_revision")).collect();
    assert_eq!(told, ["deploy-b", "deploy-a"]);
    for row in &answer.rows {
        let revision = text(row, "site_revision");
        let sent: Vec<_> = run.ledger.iter().filter(|it| it.revision == revision).collect();
        let of = |outcome: &str| sent.iter().filter(|it| it.outcome() == outcome).count() as u64;
        assert_eq!(count(row, "requests"), sent.len() as u64);
        for (faults, percent, outcome) in [
            ("our_faults", "our_percent", "server_fault"),
            ("their_faults", "their_percent", "client_fault"),
        ] {
            assert_eq!(count(row, faults), of(outcome));
            rounds_to(number(row, percent), 100.0 * of(outcome) as f64 / sent.len() as f64, 2);
        }
    }
}

fn ways_to_fail(run: &Run, answer: &Answer) {
    let failed = run.ledger.iter().filter(|it| it.outcome() != "success");
    let sent = tally(failed.map(|it| {
        let way = (it.outcome(), it.method.clone(), it.route().to_owned());
        (way, u64::from(it.status), it.error_kind())
    }));
    let told = answer.map(
        |row| {
            let way = (text(row, "outcome"), text(row, "method"), text(row, "route"));
            (way, count(row, "status"), text(row, "error_kind"))
        },
        |row| count(row, "requests"),
    );
    assert_eq!(told, sent);
    answer.ascends(|row| (text(row, "outcome") != "server_fault", -number(row, "requests")));
}

fn errors(run: &Run, answer: &Answer) {
    let failed = run.ledger.iter().filter(|it| it.outcome() == "server_fault");
    let sent = tally(failed.clone().map(Entry::error_kind));
    let told = answer.map(|row| text(row, "error_kind"), |row| count(row, "requests"));
    assert_eq!(told, sent);
    for row in &answer.rows {
        let kind = text(row, "error_kind");
        let hit = failed.clone().filter(|it| it.error_kind() == kind).map(Entry::row_user);
        let users: BTreeSet<String> = hit.filter(|it| !it.is_empty()).collect();
        assert_eq!(count(row, "users"), users.len() as u64, "{kind}");
        let rows: Vec<&Row> = run
            .rows
            .iter()
            .filter(|it| it.outcome == "server_fault" && it.error_kind == kind)
            .collect();
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        assert_eq!(text(row, "first_seen"), first.when);
        assert_eq!(text(row, "last_seen"), last.when);
        assert_eq!(text(row, "last_message"), last.error);
        assert_eq!(text(row, "last_example"), last.activity_id);
        let routes: BTreeSet<String> = rows.iter().map(|it| it.route.clone()).collect();
        assert_eq!(texts(row, "routes"), routes.into_iter().collect::<Vec<_>>());
    }
}

fn users_of_an_error(run: &Run, answer: &Answer) {
    let hit = |kind: &str| {
        let failed = run.ledger.iter().filter(|it| it.error_kind() == kind);
        tally(failed.map(Entry::row_user))
    };
    let users = |answer: &Answer| answer.map(|row| text(row, "user_id"), |row| count(row, "times"));
    assert_eq!(users(answer), hit("payment_unreachable"));
    for row in &answer.rows {
        let mut whens = run.rows.iter().filter(|it| {
            it.error_kind == "payment_unreachable" && it.user_id == text(row, "user_id")
        });
        let first = whens.next().unwrap();
        assert_eq!(text(row, "first_time"), first.when);
        assert_eq!(text(row, "last_time"), whens.next_back().unwrap_or(first).when);
    }
    let heading = "Whom does this error hit?";
    let other = run.ask(heading, &[("'payment_unreachable'", "'card_declined'")]);
    assert_eq!(users(&other), hit("card_declined"));
}

fn apdex(run: &Run, answer: &Answer) {
    let key = |it: &&Row| (it.method.clone(), it.route.clone());
    let exact = group(run.rows.iter().filter(|it| !it.route.is_empty()), key);
    let told = answer.map(|row| (text(row, "method"), text(row, "route")), Clone::clone);
    assert!(told.keys().eq(exact.keys()));
    for (key, rows) in &exact {
        let points = rows.iter().map(|it| match it.duration {
            _ if it.outcome == "server_fault" => 0.0,
            0..=25_000 => 1.0,
            25_001..=100_000 => 0.5,
            _ => 0.0,
        });
        rounds_to(number(&told[key], "apdex"), points.sum::<f64>() / rows.len() as f64, 3);
        assert_eq!(count(&told[key], "requests"), rows.len() as u64);
    }
    answer.ascends(|row| number(row, "apdex"));
}

fn heatmap(run: &Run, answer: &Answer) {
    let octave = |it: &Row| it.duration.max(1).ilog2();
    let exact = tally(run.rows.iter().map(|it| (it.minute.clone(), octave(it))));
    let told = answer.map(
        |row| (text(row, "minute"), (number(row, "from_ms") * 1000.0).log2().round() as u32),
        |row| count(row, "requests_in_bucket"),
    );
    assert_eq!(told, exact);
}

fn at_once(run: &Run, answer: &Answer) {
    let [row] = &answer.rows[..] else { panic!("one service on one host") };
    assert_eq!(count(row, "requests"), run.ledger.len() as u64);
    // How many ran when each of them began.
    let running = |at: i64, touching: bool| {
        let run_then = run
            .rows
            .iter()
            .filter(|it| it.micros <= at && if touching { it.end() >= at } else { it.end() > at });
        run_then.count() as u64
    };
    let peak = |touching| run.rows.iter().map(|it| running(it.micros, touching)).max().unwrap();
    let told = count(row, "at_once");
    assert!((peak(false)..=peak(true)).contains(&told), "{told}, not {}", peak(false));
    let since = text(row, "since");
    let at = run.rows.iter().find(|it| it.when == since).expect("it began with a request").micros;
    assert!((running(at, false)..=running(at, true)).contains(&told), "not since {since}");
}

fn total_time(run: &Run, answer: &Answer) {
    let sent = tally(run.ledger.iter().map(|it| (it.method.clone(), it.route().to_owned())));
    let key = |row: &_| (text(row, "method"), text(row, "route"));
    assert_eq!(answer.map(key, |row| count(row, "requests")), sent);
    let seconds = |rows: &[&Row]| rows.iter().map(|it| it.duration).sum::<u64>() as f64 / 1e6;
    let all = seconds(&run.rows.iter().collect::<Vec<_>>());
    let exact = group(&run.rows, |it| (it.method.clone(), it.route.clone()));
    for row in &answer.rows {
        let own = seconds(&exact[&key(row)]);
        rounds_to(number(row, "seconds"), own, 3);
        rounds_to(number(row, "percent"), 100.0 * own / all, 2);
    }
    answer.descends("seconds");
}

fn slow(run: &Run, answer: &Answer) {
    let mut exact: Vec<&Row> =
        run.rows.iter().filter(|it| it.duration > 250_000 && !it.span_name.is_empty()).collect();
    exact.sort_by_key(|it| std::cmp::Reverse(it.duration));
    exact.truncate(50);
    let durations = answer.rows.iter().map(|row| (number(row, "duration_ms") * 1000.0).round());
    assert!(durations.eq(exact.iter().map(|it| it.duration as f64)));
    let ids: BTreeSet<String> = answer.rows.iter().map(|row| text(row, "activity_id")).collect();
    for row in &answer.rows {
        let id = text(row, "activity_id");
        let it = run.rows.iter().find(|it| it.activity_id == id).unwrap();
        let leaves = spans::leaves(it);
        let waits = texts(row, "waited_for");
        assert_eq!(waits.len(), leaves.len().min(3));
        for (wait, (took, _)) in waits.iter().zip(leaves) {
            let (name, told) = wait.trim_end_matches(" ms").rsplit_once(' ').unwrap();
            rounds_to(told.parse().unwrap(), took as f64 / 1000.0, 1);
            assert!(spans::leaves(it).contains(&(took, name)), "{wait}");
        }
    }
    // What was planted: the ferry to the islands takes most of a second or more.
    let ferries = run.ledger.iter().filter(|it| it.waits_for_the_ferry()).count();
    let told = answer.rows.iter().filter(|row| {
        text(row, "route") == "/shipping/quote"
            && number(row, "duration_ms") > 850.0
            && texts(row, "waited_for")[0].starts_with("GET courier.example ")
    });
    assert_eq!(told.count(), ferries);
    assert_eq!(ids.len(), answer.rows.len());
}

fn around(run: &Run, answer: &Answer) {
    let that = run.rows.iter().rev().find(|it| it.outcome == "server_fault").unwrap();
    let near = |it: &&Row| (it.micros - that.micros).abs() <= 1_000_000 && it.host == that.host;
    let exact: Vec<String> =
        run.rows.iter().filter(near).map(|it| it.activity_id.clone()).take(1000).collect();
    let told: Vec<String> = answer.rows.iter().map(|row| text(row, "activity_id")).collect();
    assert_eq!(told, exact);
    for row in &answer.rows {
        let is_that = text(row, "activity_id") == that.activity_id;
        assert_eq!(count(row, "is_that") == 1, is_that);
        let it = run.rows.iter().find(|it| it.activity_id == text(row, "activity_id")).unwrap();
        let after = (it.micros - that.micros) as f64 / 1000.0;
        // Milliseconds are cut before they are subtracted.
        assert!((number(row, "after_ms") - after).abs() <= 1.0, "{row}");
        assert_eq!(text(row, "url"), it.url);
        assert_eq!(text(row, "user_id"), it.user_id);
    }
}
