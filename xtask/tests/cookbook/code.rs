//! Who wrote the code.

use std::collections::{BTreeMap, BTreeSet};

use crate::answer::{
    Answer, count, group, number, quantile, quantile_weighted, rounds_to, tally, text, texts,
};
use crate::rows::Row;
use crate::run::Run;
use crate::{Checks, spans};

pub(crate) const CHECKS: Checks = &[
    ("Which code paths are new since the deploy?", new_paths),
    ("Which code paths have vanished?", vanished_paths),
    ("Which paths became slower with the deploy?", slower_paths),
    ("Which step of a route became slower?", slower_steps),
    ("Which spans are the slowest?", slowest_spans),
    ("What is the time of a route spent on?", own_time),
    ("Who asks the same thing again and again?", loops),
    ("Which errors are the same error?", error_groups),
    ("What happened in this request?", tree),
    ("Which requests had this value in a span?", with_attribute),
    ("What was logged as a warning?", warnings),
    ("What do the kept traces stand for?", weights),
];

/// The paths that one deploy took and the other did not, with how often.
fn paths_of_one(run: &Run, deploy: &str) -> BTreeMap<String, u64> {
    let of = |mine: bool| {
        let rows = run.rows.iter().filter(move |it| (it.site_revision == deploy) == mine);
        tally(rows.filter(|it| !it.trace_hash.is_empty()).map(|it| it.trace_hash.clone()))
    };
    let others = of(false);
    let mut mine = of(true);
    mine.retain(|hash, _| !others.contains_key(hash));
    mine
}

/// Orders that got as far as being placed: every one of them goes by the check for fraud in
/// deploy b and by none in deploy a.
fn placed(run: &Run, deploy: &str) -> u64 {
    let tried = run.ledger.iter().filter(|it| it.is("POST", "/checkout") && it.revision == deploy);
    let refused = ["not_logged_in", "invalid"];
    tried.filter(|it| !refused.contains(&it.error_kind().as_str())).count() as u64
}

fn checkouts(answer: &Answer) -> u64 {
    let rows = answer.rows.iter().filter(|row| text(row, "endpoint") == "POST /checkout");
    rows.map(|row| count(row, "requests")).sum()
}

fn new_paths(run: &Run, answer: &Answer) {
    let told = answer.map(|row| text(row, "trace_hash"), |row| count(row, "requests"));
    assert_eq!(told, paths_of_one(run, "deploy-b"));
    // The one thing that deploy b does anew.
    assert_eq!(checkouts(answer), placed(run, "deploy-b"));
    let shapes = answer.rows.iter().filter(|row| text(row, "endpoint") == "POST /checkout");
    let shapes: Vec<String> =
        shapes.map(|row| text(row, "shape")).filter(|it| !it.is_empty()).collect();
    assert!(!shapes.is_empty());
    assert!(shapes.iter().all(|it| it.contains("\n    check_for_fraud\n      SELECT orders")));
    for row in &answer.rows {
        let hash = text(row, "trace_hash");
        let rows: Vec<&Row> = run.rows.iter().filter(|it| it.trace_hash == hash).collect();
        assert_eq!(text(row, "first_seen"), rows[0].when);
        let faults = rows.iter().filter(|it| it.outcome == "server_fault").count();
        assert_eq!(count(row, "errors"), faults as u64);
        assert!(rows.iter().any(|it| it.activity_id == text(row, "example_id")));
    }
    answer.descends("requests");
}

fn vanished_paths(run: &Run, answer: &Answer) {
    let told = answer.map(|row| text(row, "trace_hash"), |row| count(row, "requests"));
    assert_eq!(told, paths_of_one(run, "deploy-a"));
    assert_eq!(checkouts(answer), placed(run, "deploy-a"));
    for row in &answer.rows {
        assert!(!text(row, "shape").contains("check_for_fraud"), "{row}");
        let hash = text(row, "trace_hash");
        let last = run.rows.iter().rfind(|it| it.trace_hash == hash).unwrap();
        assert_eq!(text(row, "last_seen"), last.when);
    }
    answer.descends("requests");
}

fn slower_paths(run: &Run, answer: &Answer) {
    let told = answer.map(|row| (text(row, "trace_hash"), text(row, "endpoint")), Clone::clone);
    let known = run.rows.iter().filter(|it| !it.trace_hash.is_empty());
    let paths = group(known, |it| (it.trace_hash.clone(), it.endpoint()));
    for (path, rows) in &paths {
        let (before, after): (Vec<&Row>, Vec<&Row>) =
            rows.iter().partition(|it| it.site_revision == "deploy-a");
        if before.len().min(after.len()) < 10 {
            assert!(!told.contains_key(path), "{path:?}");
            continue;
        }
        let median = |rows: &[&Row]| quantile(rows.iter().map(|it| it.duration), 0.5);
        let (earlier, now) = (median(&before), median(&after));
        let slower = now > 1.25 * earlier && now > earlier + 500.0;
        assert_eq!(told.contains_key(path), slower, "{path:?}: {earlier} and {now}");
        let Some(row) = told.get(path) else { continue };
        assert_eq!(count(row, "requests_before"), before.len() as u64);
        assert_eq!(count(row, "requests_after"), after.len() as u64);
        rounds_to(number(row, "before_us"), earlier, 2);
        rounds_to(number(row, "after_us"), now, 2);
        rounds_to(number(row, "times_slower"), now / earlier, 2);
    }
    assert!(told.keys().all(|path| paths.contains_key(path)));
    // What was planted: the search has lost an index.
    assert!(answer.rows.iter().any(|row| text(row, "endpoint") == "GET /search"));
    answer.descends("times_slower");
}

/// Durations and weights by the name of the span, in the kept traces of `rows`.
fn by_span<'a>(
    rows: impl IntoIterator<Item = &'a Row>,
    skip: usize,
) -> BTreeMap<String, Vec<(u64, u64, f64)>> {
    let kept = rows.into_iter().filter(|it| it.kept());
    let spans = kept.flat_map(|it| {
        let spans = it.span_name.iter().zip(&it.span_duration).skip(skip);
        spans.map(|(name, took)| (name.clone(), (*took, it.weight(), it.sample_weight)))
    });
    let mut by_span: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (name, span) in spans {
        by_span.entry(name).or_default().push(span);
    }
    by_span
}

fn slower_steps(run: &Run, answer: &Answer) {
    let of = |deploy: &str| {
        let rows = run.rows.iter().filter(|it| it.route == "/search" && it.site_revision == deploy);
        by_span(rows, 0)
    };
    let (before, after) = (of("deploy-a"), of("deploy-b"));
    let told = answer.map(|row| text(row, "span"), Clone::clone);
    let both: BTreeSet<_> = before.keys().filter(|it| after.contains_key(*it)).collect();
    assert!(told.keys().eq(both.iter().copied()), "{:?}", told.keys());
    for (span, row) in &told {
        for (spans, counted, median) in [
            (&before[span], "spans_before", "before_ms"),
            (&after[span], "spans_after", "after_ms"),
        ] {
            assert_eq!(count(row, counted), spans.len() as u64);
            let exact =
                quantile_weighted(spans.iter().map(|&(took, weight, _)| (took, weight)), 0.5);
            rounds_to(number(row, median), exact / 1000.0, 2);
        }
    }
    let query = &told["SELECT products"];
    // Four times as slow; but there are few traces of it, and the machine may be busy.
    assert!(number(query, "after_ms") > number(query, "before_ms"), "{query}");
    answer.ascends(|row| number(row, "before_ms") - number(row, "after_ms"));
}

fn slowest_spans(run: &Run, answer: &Answer) {
    let exact = by_span(&run.rows, 1);
    assert_eq!(answer.rows.len(), exact.len().min(20));
    let p95 = |spans: &[(u64, u64, f64)]| {
        quantile_weighted(spans.iter().map(|&(took, weight, _)| (took, weight)), 0.95)
    };
    for row in &answer.rows {
        let spans = &exact[&text(row, "span")];
        assert_eq!(count(row, "seen"), spans.len() as u64);
        rounds_to(number(row, "estimated"), spans.iter().map(|it| it.2).sum(), 0);
        rounds_to(number(row, "p95_ms"), p95(spans) / 1000.0, 2);
        let slowest = spans.iter().map(|it| it.0).max().unwrap();
        rounds_to(number(row, "slowest_ms"), slowest as f64 / 1000.0, 2);
    }
    answer.descends("p95_ms");
    let mut all: Vec<f64> = exact.values().map(|spans| p95(spans)).collect();
    all.sort_by(|a, b| b.total_cmp(a));
    rounds_to(number(&answer.rows[0], "p95_ms"), all[0] / 1000.0, 2);
}

fn own_time(run: &Run, answer: &Answer) {
    let mut exact: BTreeMap<String, f64> = BTreeMap::new();
    for it in run.rows.iter().filter(|it| it.route == "/checkout" && it.kept()) {
        for span in 0..it.span_name.len() {
            let own = spans::own_time(it, span) as f64 * it.sample_weight;
            *exact.entry(it.span_name[span].clone()).or_default() += own / 1000.0;
        }
    }
    let told = answer.map(|row| text(row, "span"), Clone::clone);
    assert!(told.keys().eq(exact.keys()), "{:?}", told.keys());
    let all: f64 = exact.values().sum();
    for (span, own) in &exact {
        rounds_to(number(&told[span], "own_ms"), *own, 0);
        rounds_to(number(&told[span], "percent"), 100.0 * own / all, 1);
    }
    answer.descends("own_ms");
}

fn loops(run: &Run, answer: &Answer) {
    // Repetitions of a span below one parent, and what they took together.
    let mut exact: BTreeMap<_, Vec<(u64, u64, f64)>> = BTreeMap::new();
    for it in run.rows.iter().filter(|it| it.kept()) {
        for parent in 0..it.span_name.len() {
            let children = group(spans::children(it, parent), |&span| it.span_name[span].clone());
            for (span, repeated) in children.into_iter().filter(|(_, spans)| spans.len() >= 4) {
                let took = repeated.iter().map(|&span| it.span_duration[span]).sum();
                let key = (it.method.clone(), it.route.clone(), span);
                let found = (repeated.len() as u64, took, it.sample_weight);
                exact.entry(key).or_default().push(found);
            }
        }
    }
    let key = |row: &_| (text(row, "method"), text(row, "route"), text(row, "span"));
    let told = answer.map(key, Clone::clone);
    assert!(told.keys().eq(exact.keys()), "{:?}", told.keys());
    for (key, loops) in &exact {
        let row = &told[key];
        assert_eq!(count(row, "loops"), loops.len() as u64);
        assert_eq!(count(row, "most"), loops.iter().map(|it| it.0).max().unwrap());
        rounds_to(number(row, "estimated"), loops.iter().map(|it| it.2).sum(), 0);
        let longest = loops.iter().map(|it| it.1).max().unwrap();
        rounds_to(number(row, "most_ms"), longest as f64 / 1000.0, 2);
    }
    // What was planted: the price of a basket is asked for line by line, and no basket has more
    // queries than lines.
    let largest = run.ledger.iter().filter_map(|it| it.answer["lines"].as_array()).map(Vec::len);
    let largest = largest.max().unwrap() as u64;
    let baskets = answer.rows.iter().filter(|row| {
        ["/basket", "/checkout"].contains(&text(row, "route").as_str())
            && text(row, "span") == "SELECT products"
    });
    let most: Vec<u64> = baskets.map(|row| count(row, "most")).collect();
    assert!(!most.is_empty() && most.iter().all(|it| (4..=largest).contains(it)), "{most:?}");
}

fn error_groups(run: &Run, answer: &Answer) {
    let failed = run.rows.iter().filter(|it| it.outcome == "server_fault");
    let exact = group(failed, |it| (it.trace_hash.clone(), it.error_kind.clone()));
    let told = answer.map(|row| (text(row, "trace_hash"), text(row, "error_kind")), Clone::clone);
    assert!(told.keys().eq(exact.keys()), "{:?}", told.keys());
    for (key, rows) in &exact {
        let (row, last) = (&told[key], rows[rows.len() - 1]);
        assert_eq!(count(row, "requests"), rows.len() as u64);
        let endpoints: BTreeSet<String> = rows.iter().map(|it| it.endpoint()).collect();
        assert_eq!(texts(row, "endpoints"), endpoints.into_iter().collect::<Vec<_>>());
        assert_eq!(text(row, "last_seen"), last.when);
        assert_eq!(text(row, "last_message"), last.error);
        assert_eq!(text(row, "last_example"), last.activity_id);
        let users: BTreeSet<_> =
            rows.iter().map(|it| &it.user_id).filter(|it| !it.is_empty()).collect();
        assert_eq!(count(row, "users"), users.len() as u64);
    }
    let sent = run.ledger.iter().filter(|it| it.outcome() == "server_fault").count() as u64;
    assert_eq!(answer.rows.iter().map(|row| count(row, "requests")).sum::<u64>(), sent);
}

fn tree(run: &Run, answer: &Answer) {
    let failed = |it: &&Row| it.outcome == "server_fault" && !it.span_name.is_empty();
    let it = run.rows.iter().rev().find(failed).unwrap();
    let exact = spans::tree(it);
    assert_eq!(answer.rows.len(), exact.len());
    for (row, (span, depth)) in answer.rows.iter().zip(exact) {
        assert_eq!(text(row, "span"), format!("{}{}", "  ".repeat(depth), it.span_name[span]));
        assert_eq!(text(row, "failed"), it.span_error[span]);
        rounds_to(number(row, "at_ms"), it.span_start[span] as f64 / 1000.0, 3);
        rounds_to(number(row, "took_ms"), it.span_duration[span] as f64 / 1000.0, 3);
    }
    // A checkout has more to show than a panic.
    let long = run.rows.iter().max_by_key(|it| it.span_name.len()).unwrap();
    let chosen = format!("WHERE activity_id = '{}'", long.activity_id);
    let condition =
        "WHERE when > now() - INTERVAL 1 DAY AND outcome = 'server_fault' AND notEmpty(span_name)";
    let answer = run.ask("What happened in this request?", &[(condition, &chosen)]);
    let names = answer.rows.iter().map(|row| text(row, "span").trim_start().to_owned());
    assert!(names.eq(spans::tree(long).iter().map(|&(span, _)| long.span_name[span].clone())));
}

fn with_attribute(run: &Run, answer: &Answer) {
    let has = |it: &&Row| {
        let mut pairs = it.attr_key.iter().zip(&it.attr_value);
        pairs.any(|(key, value)| key == "courier" && value == "ferry")
    };
    let exact: Vec<&str> =
        run.rows.iter().rev().filter(has).map(|it| it.activity_id.as_str()).collect();
    let told: Vec<String> = answer.rows.iter().map(|row| text(row, "activity_id")).collect();
    assert_eq!(
        told.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        exact.into_iter().collect()
    );
    answer.ascends(|row| std::cmp::Reverse(text(row, "when")));
    // Whoever waits for the ferry waits long enough for the trace to be kept.
    let ferries = run.ledger.iter().filter(|it| it.waits_for_the_ferry()).count();
    let long = answer.rows.iter().filter(|row| number(row, "duration_ms") > 850.0).count();
    assert_eq!(long, ferries);
    // The value alone is not enough: no search is for a ferry.
    let other = run.ask("Which requests had this value in a span?", &[("'courier'", "'q'")]);
    assert!(other.rows.is_empty(), "{:?}", other.rows);
}

fn warnings(run: &Run, answer: &Answer) {
    let mut exact: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for it in &run.rows {
        for (event, level) in it.event_level.iter().enumerate() {
            let said = &it.event_message[event];
            let message = if said.is_empty() { &it.event_fields[event] } else { said };
            if ["warn", "error"].contains(&level.as_str()) {
                exact.entry((level.clone(), message.clone())).or_default().push(it);
            }
        }
    }
    let told = answer.map(|row| (text(row, "level"), text(row, "message")), Clone::clone);
    assert!(told.keys().eq(exact.keys()), "{:?}", told.keys());
    for (key, rows) in &exact {
        let row = &told[key];
        assert_eq!(count(row, "times"), rows.len() as u64);
        let requests: BTreeSet<_> = rows.iter().map(|it| &it.activity_id).collect();
        assert_eq!(count(row, "requests"), requests.len() as u64);
        assert_eq!(text(row, "last_seen"), rows[rows.len() - 1].when);
        let routes: BTreeSet<String> = rows.iter().map(|it| it.route.clone()).collect();
        assert_eq!(texts(row, "routes"), routes.into_iter().collect::<Vec<_>>());
    }
    // A gateway that cannot be reached is tried again, and faults are kept with their traces.
    let failed = run.ledger.iter().filter(|it| it.error_kind() == "payment_unreachable").count();
    let again = &told[&("warn".to_owned(), "trying again".to_owned())];
    assert!(count(again, "requests") >= failed as u64, "{again}");
}

fn weights(run: &Run, answer: &Answer) {
    let sent = tally(run.ledger.iter().map(|it| (it.method.clone(), it.route().to_owned())));
    let key = |row: &_| (text(row, "method"), text(row, "route"));
    assert_eq!(answer.map(key, |row| count(row, "requests")), sent);
    let exact = group(&run.rows, |it| (it.method.clone(), it.route.clone()));
    let mut estimated = 0.0;
    for row in &answer.rows {
        let rows = &exact[&key(row)];
        assert_eq!(count(row, "kept"), rows.iter().filter(|it| it.kept()).count() as u64);
        let weight: f64 = rows.iter().map(|it| it.sample_weight).sum();
        rounds_to(number(row, "estimated"), weight, 1);
        estimated += weight;
    }
    // One in ten is kept at random: five standard deviations of that many draws.
    let total = run.ledger.len() as f64;
    assert!((estimated - total).abs() < 5.0 * (9.0 * total).sqrt(), "{estimated} for {total}");
}
