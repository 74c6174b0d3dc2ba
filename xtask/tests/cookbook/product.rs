//! Who makes the product, and who helps its users.

use std::collections::{BTreeMap, BTreeSet};

use crate::Checks;
use crate::answer::{Answer, count, group, number, quantile_exact, rounds_to, tally, text, texts};
use crate::ledger::Entry;
use crate::rows::Row;
use crate::run::Run;

pub(crate) const CHECKS: Checks = &[
    ("What did this user do?", journey),
    ("What happened to this object?", history),
    ("Who are the busiest users?", busiest),
    ("Where do people give up?", funnel),
    ("Who could not pay, and came back?", came_back),
    ("How much was sold?", sold),
    ("What do people look for and not find?", searches),
    ("What is looked at and not bought?", looked_at),
    ("Where do people come from?", referers),
    ("Which clients are there?", clients),
    ("Who did not wait for the answer?", impatient),
    ("How long are sessions?", sessions),
    ("What is going on, in a few lines?", feed),
];

fn journey(run: &Run, answer: &Answer) {
    journey_of(run, answer, "u2");
    let of_u1 = run.ask("What did this user do?", &[("'u2'", "'u1'")]);
    journey_of(run, &of_u1, "u1");
}

/// What the user's visits did, each in its order. Visits at the same time interleave.
fn journey_of(run: &Run, answer: &Answer, user: &str) {
    let did = |session: String, method: &str, url: String, status: u64| {
        (session, format!("{method} {url} {status}"))
    };
    let sent = run.ledger.iter().filter(|it| it.row_user() == user);
    let sent = group(
        sent.map(|it| did(it.row_session(), &it.method, it.url(), u64::from(it.status))),
        |it| it.0.clone(),
    );
    let told = answer.rows.iter().map(|row| {
        did(text(row, "session_id"), &text(row, "method"), text(row, "url"), count(row, "status"))
    });
    assert_eq!(group(told, |it| it.0.clone()), sent, "{user}");
    assert!(!sent.is_empty());
    answer.ascends(|row| text(row, "when"));
}

fn history(run: &Run, answer: &Answer) {
    let about = run.ledger.iter().filter(|it| it.product().as_deref() == Some("1"));
    let sent = tally(about.map(|it| {
        let ekind = match it.route() {
            "/products/{id}" => "view_product",
            "/basket/items" => "add_to_basket",
            _ => "set_price",
        };
        (it.row_user(), ekind.to_owned(), it.outcome(), it.error_kind())
    }));
    let told = tally(answer.rows.iter().map(|row| {
        let how = (text(row, "outcome"), text(row, "error_kind"));
        (text(row, "user_id"), text(row, "ekind"), how.0, how.1)
    }));
    assert_eq!(told, sent);
    answer.ascends(|row| text(row, "when"));
}

fn busiest(run: &Run, answer: &Answer) {
    let known = run.ledger.iter().filter(|it| !it.row_user().is_empty());
    let sent = group(known, |it| it.row_user());
    let mut busiest: Vec<usize> = sent.values().map(Vec::len).collect();
    busiest.sort_unstable_by(|a, b| b.cmp(a));
    busiest.truncate(20);
    let told: Vec<usize> = answer.rows.iter().map(|row| count(row, "requests") as usize).collect();
    assert_eq!(told, busiest);
    for row in &answer.rows {
        let user = text(row, "user_id");
        let sent = &sent[&user];
        assert_eq!(count(row, "requests"), sent.len() as u64, "{user}");
        let sessions: BTreeSet<String> = sent.iter().map(|it| it.row_session()).collect();
        assert_eq!(count(row, "sessions"), sessions.len() as u64, "{user}");
        let faults = sent.iter().filter(|it| it.outcome() == "server_fault").count();
        assert_eq!(count(row, "our_faults"), faults as u64, "{user}");
        let last = run.rows.iter().rfind(|it| it.user_id == user).unwrap();
        assert_eq!(text(row, "last_seen"), last.when);
    }
}

fn funnel(run: &Run, answer: &Answer) {
    let is_step = |it: &Entry, step: u64| match step {
        0 => it.is("POST", "/basket/items") && it.outcome() == "success",
        1 => it.is("GET", "/basket"),
        2 => it.is("POST", "/checkout") && it.outcome() == "success",
        3 => it.is("GET", "/orders/{id}"),
        _ => false,
    };
    let known = run.ledger.iter().filter(|it| !it.row_session().is_empty());
    let mut reached: BTreeMap<String, u64> = BTreeMap::new();
    for it in known {
        let step = reached.entry(it.row_session()).or_default();
        *step += u64::from(is_step(it, *step));
    }
    let exact: Vec<u64> =
        (1..=4).map(|step| reached.values().filter(|it| **it >= step).count() as u64).collect();
    let told: Vec<u64> = answer.rows.iter().map(|row| count(row, "visitors")).collect();
    assert_eq!(told, exact);
    assert!(exact[0] > exact[2] && exact[2] > 0, "nobody gave up: {exact:?}");
    for (row, visitors) in answer.rows.iter().zip(&exact) {
        rounds_to(number(row, "percent"), 100.0 * *visitors as f64 / exact[0] as f64, 1);
    }
    assert_eq!(text(&answer.rows[2], "did"), "bought");
}

fn came_back(run: &Run, answer: &Answer) {
    let tried = |it: &&Entry| it.is("POST", "/checkout") && !it.row_user().is_empty();
    let failed = run.ledger.iter().filter(tried).filter(|it| it.outcome() != "success");
    let told = answer.map(|row| text(row, "user_id"), |row| count(row, "failures"));
    assert_eq!(told, tally(failed.map(Entry::row_user)));
    for row in &answer.rows {
        let user = text(row, "user_id");
        let tried: Vec<&Row> =
            run.rows.iter().filter(|it| it.user_id == user && it.ekind == "checkout").collect();
        let first = tried.iter().position(|it| it.outcome != "success").unwrap();
        assert_eq!(text(row, "first_failure"), tried[first].when);
        assert_eq!(text(row, "first_error"), tried[first].error_kind);
        let later = tried[first..].iter().any(|it| it.outcome == "success");
        assert_eq!(count(row, "came_back") == 1, later, "{user}");
    }
    let back: BTreeSet<u64> = answer.rows.iter().map(|row| count(row, "came_back")).collect();
    assert_eq!(back.len(), 2, "some come back and some do not");
}

fn sold(run: &Run, answer: &Answer) {
    for revision in ["deploy-a", "deploy-b"] {
        let sold = run
            .ledger
            .iter()
            .filter(|it| it.revision == revision && it.is("POST", "/checkout") && it.status == 201);
        let cents: Vec<u64> = sold.map(|it| it.answer["cents"].as_u64().unwrap()).collect();
        let hours: Vec<_> =
            answer.rows.iter().filter(|row| text(row, "site_revision") == revision).collect();
        let orders: u64 = hours.iter().map(|row| count(row, "orders")).sum();
        assert_eq!(orders, cents.len() as u64);
        let total: f64 = hours.iter().map(|row| number(row, "total")).sum();
        rounds_to(total, cents.iter().sum::<u64>() as f64 / 100.0, 2);
        for row in hours {
            rounds_to(number(row, "average"), number(row, "total") / number(row, "orders"), 2);
        }
    }
    let told = answer.map(|row| (text(row, "hour"), text(row, "site_revision")), |_| ());
    let orders = run.rows.iter().filter(|it| it.okind == "order" && it.ekind == "checkout");
    let exact: BTreeSet<_> = orders.map(|it| (it.hour.clone(), it.site_revision.clone())).collect();
    assert!(told.keys().eq(exact.iter()));
}

fn searches(run: &Run, answer: &Answer) {
    let mut exact: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for it in &run.ledger {
        if let Some(word) = it.path.strip_prefix("/search?q=") {
            let (searches, in_vain) = exact.entry(word.to_owned()).or_default();
            *searches += 1;
            *in_vain += u64::from(it.answer.as_array().unwrap().is_empty());
        }
    }
    let told =
        answer.map(|row| text(row, "word"), |row| (count(row, "searches"), count(row, "in_vain")));
    assert_eq!(told, exact);
    assert_eq!(text(&answer.rows[0], "word"), "quetzal", "nobody sells one");
}

fn looked_at(run: &Run, answer: &Answer) {
    let mut exact: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for it in &run.ledger {
        let Some(product) = it.product().filter(|_| !it.path.starts_with("/admin")) else {
            continue;
        };
        let (views, put) = exact.entry(product).or_default();
        *views += u64::from(it.route() == "/products/{id}");
        *put += u64::from(it.route() == "/basket/items" && it.outcome() == "success");
    }
    assert_eq!(answer.rows.len(), exact.len().min(50));
    for row in &answer.rows {
        let told = (count(row, "views"), count(row, "put_in_basket"));
        assert_eq!(told, exact[&text(row, "product")], "{row}");
    }
    answer.descends("views");
    let most = exact.values().map(|it| it.0).max().unwrap();
    assert_eq!(count(&answer.rows[0], "views"), most);
}

fn referers(run: &Run, answer: &Answer) {
    let site = |it: &Entry| it.referer.split('/').nth(2).unwrap().to_owned();
    let came = run.ledger.iter().filter(|it| !it.referer.is_empty());
    let told = answer.map(|row| text(row, "came_from"), |row| count(row, "arrivals"));
    assert_eq!(told, tally(came.clone().map(site)));
    let served = came.filter(|it| it.outcome() == "success");
    let told = answer.map(|row| text(row, "came_from"), |row| count(row, "served"));
    assert_eq!(told, tally(served.map(site)));
}

fn clients(run: &Run, answer: &Answer) {
    for (column, outcome) in
        [("requests", ""), ("their_faults", "client_fault"), ("our_faults", "server_fault")]
    {
        let mut sent = tally(run.ledger.iter().map(|it| it.agent.clone()));
        for it in &run.ledger {
            if !outcome.is_empty() && it.outcome() != outcome {
                *sent.get_mut(&it.agent).unwrap() -= 1;
            }
        }
        let told = answer.map(|row| text(row, "user_agent"), |row| count(row, column));
        assert_eq!(told, sent, "{column}");
    }
}

fn impatient(run: &Run, answer: &Answer) {
    let left = run.ledger.iter().filter(|it| it.left);
    let sent = tally(left.map(|it| (it.method.clone(), it.route().to_owned())));
    let key = |row: &_| (text(row, "method"), text(row, "route"));
    assert_eq!(answer.map(key, |row| count(row, "left")), sent);
    let rows = run.rows.iter().filter(|it| it.error_kind == "client_disconnected");
    let exact = group(rows, |it| (it.method.clone(), it.route.clone()));
    for row in &answer.rows {
        let median = quantile_exact(exact[&key(row)].iter().map(|it| it.duration), 0.5) / 1000.0;
        rounds_to(number(row, "median_ms"), median, 1);
        if text(row, "method") == "POST" {
            // They wait for a tenth of a second; the answer takes nine.
            assert!((95.0..900.0).contains(&median), "{row}");
        }
    }
}

fn sessions(run: &Run, answer: &Answer) {
    let known = run.ledger.iter().map(Entry::row_session).filter(|it| !it.is_empty());
    let sent = tally(tally(known).into_values());
    assert_eq!(answer.map(|row| count(row, "requests"), |row| count(row, "sessions")), sent);
    let known = run.rows.iter().filter(|it| !it.session_id.is_empty());
    let sessions = group(known, |it| it.session_id.clone());
    for row in &answer.rows {
        let of_that = sessions.values().filter(|it| it.len() as u64 == count(row, "requests"));
        let lengths: Vec<f64> =
            of_that.map(|it| (it[it.len() - 1].micros - it[0].micros) as f64 / 1e6).collect();
        let average = lengths.iter().sum::<f64>() / lengths.len() as f64;
        // Ends are cut to milliseconds.
        assert!((number(row, "average_seconds") - average).abs() < 0.0071, "{row}: {average}");
    }
}

fn feed(run: &Run, answer: &Answer) {
    entries_of(run, answer, 1_800_000, 86_400_000);
    // All that happens in the demo is within half an hour, so look closer.
    let gap = ("30 * 60 * 1000 AS gap", "200 AS gap");
    let longest = ("24 * 3600 * 1000 AS longest", "500 AS longest");
    let closer = run.ask("What is going on, in a few lines?", &[gap, longest, ("LIMIT 100", "")]);
    let (entries, cut) = entries_of(run, &closer, 200, 500);
    assert!(entries > answer.rows.len(), "a smaller gap makes more entries");
    assert!(cut > 0, "nobody was busy for longer than half a second");
}

/// Holds the feed to one made here; how many entries there are, and how many were cut by age.
fn entries_of(run: &Run, answer: &Answer, gap: i64, longest: i64) -> (usize, usize) {
    let known = run.rows.iter().filter(|it| !it.user_id.is_empty() && it.outcome == "success");
    let same = group(known, |it| (it.user_id.clone(), it.ekind.clone(), it.okind.clone()));
    let (mut exact, mut cut) = (BTreeMap::new(), 0);
    for (key, mut rows) in same {
        rows.sort_by(|a, b| (a.micros, &a.oid).cmp(&(b.micros, &b.oid)));
        let millis = |it: &Row| it.micros.div_euclid(1000);
        let (mut began, mut last, mut piece) = (0, i64::MIN / 2, 0);
        let mut entries: Vec<Vec<&Row>> = Vec::new();
        for it in rows {
            let now = millis(it);
            if now - last > gap {
                (began, piece) = (now, 0);
                entries.push(Vec::new());
            } else if (now - began) / longest != piece {
                piece = (now - began) / longest;
                cut += 1;
                entries.push(Vec::new());
            }
            last = now;
            entries.last_mut().unwrap().push(it);
        }
        for entry in entries {
            let mut objects: Vec<String> = Vec::new();
            for it in &entry {
                if !objects.contains(&it.oid) {
                    objects.push(it.oid.clone());
                }
            }
            objects.truncate(15);
            let ended = entry[entry.len() - 1].when.clone();
            let key = (key.clone(), entry[0].when.clone(), ended);
            exact.insert(key, (entry.len() as u64, objects));
        }
    }
    let told = answer.map(
        |row| {
            let key = (text(row, "user_id"), text(row, "ekind"), text(row, "okind"));
            (key, text(row, "began"), text(row, "ended"))
        },
        |row| (count(row, "times"), texts(row, "objects")),
    );
    for (key, entry) in &told {
        assert_eq!(Some(entry), exact.get(key), "{key:?}");
    }
    let limited = answer.rows.len() == 100;
    assert!(limited || told.len() == exact.len(), "{} of {}", told.len(), exact.len());
    answer.ascends(|row| std::cmp::Reverse(text(row, "ended")));
    let latest = exact.keys().map(|(_, _, ended)| ended).max();
    assert_eq!(Some(&text(&answer.rows[0], "ended")), latest);
    (told.len(), cut)
}
