//! Every query of `docs/sql.md`, on the rows of the demo, with its answer checked.
//!
//! ```text
//! demo ──> rows ──> the query of the document ──> its answer
//!   │        │                                        │ equal?
//!   │        └──> plain SELECT ──> the same in Rust ──┤
//!   └──> ledger: what the customers did and saw ──────┘
//! ```
//!
//! A check asks the ledger where the customers can know the answer, and computes it from the plain
//! rows where only the service can (durations, spans). What both rest on, that the rows are what
//! the customers did, is a test of its own. A question without a check fails, and so does a check
//! without a question.

mod answer;
mod code;
mod ledger;
mod on_call;
mod operator;
mod product;
mod rows;
mod run;
mod spans;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use answer::Answer;
use run::Run;

/// Holds the answer to a question to what is true.
type Check = fn(&Run, &Answer);
type Checks = &'static [(&'static str, Check)];

const ALL: [Checks; 4] = [on_call::CHECKS, code::CHECKS, product::CHECKS, operator::CHECKS];

#[test]
fn every_question_has_a_check_and_every_check_a_question() {
    let questions = run::questions();
    let mut asked: Vec<&str> = questions.iter().map(|it| it.heading.as_str()).collect();
    let mut checked: Vec<&str> = ALL.iter().copied().flatten().map(|&(it, _)| it).collect();
    // Other pages say how many there are.
    let told = format!("{} questions", asked.len());
    assert!(run::document("README.md").contains(&told), "README.md does not say {told:?}");
    asked.sort_unstable();
    checked.sort_unstable();
    assert_eq!(asked, checked);
    asked.dedup();
    assert_eq!(asked.len(), questions.len(), "a heading stands twice");
}

#[test]
fn the_rows_are_what_the_customers_did() {
    let run = run::get();
    let mut did: BTreeMap<_, i64> = BTreeMap::new();
    for it in &run.ledger {
        let key = (it.revision.clone(), it.method.clone(), it.url(), it.status, it.outcome());
        *did.entry((key, it.error_kind(), it.row_user(), it.row_session())).or_default() += 1;
    }
    for it in &run.rows {
        let key = (
            it.site_revision.clone(),
            it.method.clone(),
            it.url.clone(),
            it.status,
            it.outcome.clone(),
        );
        let said = (it.error_kind.clone(), it.user_id.clone(), it.session_id.clone());
        *did.entry((key, said.0, said.1, said.2)).or_default() -= 1;
    }
    did.retain(|_, difference| *difference != 0);
    assert!(did.is_empty(), "sent and not stored (+), stored and not sent (-): {did:#?}");
    assert_eq!(run.rows.len(), run.ledger.len());
}

#[test]
fn the_demo_holds_what_the_questions_are_about() {
    let run = run::get();
    let sent = |method: &str, route: &str| {
        run.ledger.iter().filter(|it| it.method == method && it.route() == route).count()
    };
    assert!(sent("POST", "/checkout") > 20);
    assert!(sent("GET", "/search") > 20);
    assert!(run.ledger.iter().any(|it| it.outcome() == "server_fault" && it.status == 0));
    assert!(run.ledger.iter().any(|it| it.outcome() == "server_fault" && it.status == 500));
    assert!(run.ledger.iter().any(|it| it.left && it.method == "POST"));
    assert!(run.ledger.iter().any(ledger::Entry::waits_for_the_ferry));
}

#[test]
fn no_question_reads_what_its_time_or_its_keys_rule_out() {
    let run = run::get();
    for question in run::questions() {
        let plan = run.explain(&question);
        let reads = plan.matches(&format!("({}.activities)", run.database())).count();
        let by_time = plan.matches("(toStartOfFiveMinutes(when) in ").count();
        let by_id = plan.matches("Name: id_time").count();
        assert!(by_time + by_id >= reads, "{}\n{plan}", question.heading);
        let expected: &[&str] = match question.heading.as_str() {
            "What did this user do?" => &["Name: user"],
            "What happened to this object?" => &["Name: object", "(okind in ['product'"],
            "What was slow, and what did it wait for?" => &["Name: duration"],
            "What happened in this request?" => &["Name: id_time"],
            "How much was sold?" => &["(okind in ['order'", "(ekind in ['checkout'"],
            _ => &[],
        };
        for part in expected {
            assert!(plan.contains(part), "no {part:?} in\n{plan}");
        }
    }
}

#[test]
fn who_is_on_call_gets_right_answers() {
    all(on_call::CHECKS);
}

#[test]
fn who_wrote_the_code_gets_right_answers() {
    all(code::CHECKS);
}

#[test]
fn who_makes_the_product_gets_right_answers() {
    all(product::CHECKS);
}

#[test]
fn who_runs_it_gets_right_answers() {
    all(operator::CHECKS);
}

/// Every check, so that one failure hides no other.
fn all(checks: Checks) {
    let run = run::get();
    let failed: Vec<&str> = checks
        .iter()
        .filter(|(heading, check)| {
            let checked = catch_unwind(AssertUnwindSafe(|| {
                let answer = run.ask(heading, &[]);
                assert!(!answer.rows.is_empty(), "no row");
                check(run, &answer);
            }));
            if checked.is_err() {
                eprintln!("^ {heading}\n");
            }
            checked.is_err()
        })
        .map(|&(heading, _)| heading)
        .collect();
    assert!(failed.is_empty(), "wrong answers, each told above: {failed:#?}");
}
