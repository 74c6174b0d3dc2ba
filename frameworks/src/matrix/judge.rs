//! Whether a row tells what the client saw.
//!
//! The truth is the client's: the status it got, the time it took. What the application did, such
//! as panicking, the behaviour says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::http::PATIENCE;
use super::observe::Observed;
use super::{Behaviour, Column};
use crate::app::{NESTED, PARTS, PAUSE, SPAWNED};
use crate::setups::tonic::NAME;
use crate::setups::{Protocol, Setup};

/// By how much a row may be longer than what its client saw: threads of a busy machine wait.
const SLACK: Duration = Duration::from_millis(400);

/// How a cell or a column of it turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Right,
    /// The emitter does not tell it, and says so in the table of set-ups.
    Impossible,
    Wrong,
}

/// A set-up under a behaviour.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) behaviour: Behaviour,
    pub(crate) columns: BTreeMap<Column, Mark>,
    /// What is not as expected, in words.
    pub(crate) problems: Vec<String>,
}

impl Cell {
    /// The worst of its columns.
    pub(crate) fn mark(&self) -> Mark {
        if !self.problems.is_empty() {
            return Mark::Wrong;
        }
        self.columns.values().copied().max().unwrap_or(Mark::Wrong)
    }
}

/// Holds what was recorded to what was seen.
pub(crate) fn judge(setup: &Setup, seen: &Observed) -> Cell {
    let behaviour = Behaviour::ALL[seen.behaviour];
    let mut cell = Cell { behaviour, columns: BTreeMap::new(), problems: Vec::new() };
    let [row] = &*seen.rows else {
        cell.problems.push(format!("{} rows instead of one", seen.rows.len()));
        return cell;
    };
    for (column, found) in columns(setup.protocol, behaviour, seen, row) {
        let untold = setup.untold.iter().any(|it| it.concerns(behaviour, column));
        let mark = match (&found, untold) {
            (Ok(()), false) => Mark::Right,
            (Err(_), true) => Mark::Impossible,
            (Ok(()), true) => {
                let name = column.name();
                cell.problems.push(format!("{name} is right, and listed as impossible"));
                Mark::Wrong
            }
            (Err(problem), false) => {
                cell.problems.push(format!("{}: {problem}", column.name()));
                Mark::Wrong
            }
        };
        cell.columns.insert(column, mark);
    }
    cell
}

type Found = Result<(), String>;

/// What each column says that this behaviour is about.
fn columns(
    protocol: Protocol,
    behaviour: Behaviour,
    seen: &Observed,
    row: &Value,
) -> Vec<(Column, Found)> {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let (path, route) = behaviour.target();
    let call = format!("{NAME}/{}", behaviour.call().0);
    let (method, path, route) = match protocol {
        Protocol::Grpc | Protocol::GrpcWeb => ("", format!("/{call}"), call),
        _ => ("GET", path.to_owned(), route.to_owned()),
    };
    let mut found = vec![
        (Column::Method, equal(&text("method"), method)),
        (Column::Route, equal(&text("route"), &route)),
        (Column::Url, equal(&text("url"), &path)),
        (Column::Status, equal(&row["status"].to_string(), &seen.status.to_string())),
        (Column::Outcome, outcome(behaviour, &text("outcome"), &text("error_kind"))),
        (Column::Duration, duration(behaviour, seen, row["duration"].as_u64().unwrap_or(0))),
    ];
    found.push((Column::Start, start(behaviour, protocol, seen, row)));
    if let Some(expected) = tree(behaviour) {
        found.push((Column::Tree, equal(&chain(row), &expected)));
    }
    found
}

fn equal(found: &str, expected: &str) -> Found {
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

/// Whose fault it was, and for what the client cannot know, of which kind.
fn outcome(behaviour: Behaviour, outcome: &str, kind: &str) -> Found {
    let expected = match behaviour {
        Behaviour::NotFound | Behaviour::Leaves | Behaviour::LeavesMidway => "client_fault",
        Behaviour::Broken | Behaviour::Panic => "server_fault",
        _ => "success",
    };
    equal(outcome, expected)?;
    let fits = match behaviour {
        Behaviour::Panic => kind == "panic",
        Behaviour::Leaves | Behaviour::LeavesMidway => {
            matches!(kind, "cancelled" | "client_disconnected")
        }
        // The application may say more than the status does.
        Behaviour::NotFound | Behaviour::Broken => true,
        _ => kind.is_empty(),
    };
    if fits { Ok(()) } else { Err(format!("its error is of the kind {kind:?}")) }
}

/// How long it took: at least what the application waited, at most what the client saw.
fn duration(behaviour: Behaviour, seen: &Observed, micros: u64) -> Found {
    let found = Duration::from_micros(micros);
    let least = match behaviour {
        Behaviour::Slow => PAUSE * PARTS,
        Behaviour::Leaves => PATIENCE,
        Behaviour::LeavesMidway => PAUSE,
        _ => Duration::from_micros(1),
    };
    let most = SLACK
        + Duration::from_micros(match behaviour {
            // The server learns of it later than the client knows it.
            Behaviour::Leaves | Behaviour::LeavesMidway => seen.stored,
            _ => seen.took,
        });
    if (least..=most).contains(&found) {
        Ok(())
    } else {
        Err(format!("{found:?}, not between {least:?} and {most:?}"))
    }
}

/// When the answer began: never where there was none, else before it ended, and a stream long before.
fn start(behaviour: Behaviour, protocol: Protocol, seen: &Observed, row: &Value) -> Found {
    let micros = |name: &str| row[name].as_u64().unwrap_or(0);
    let (found, duration) = (micros("response_start"), micros("duration"));
    // A code of 0 is an answer, too.
    let is_call = matches!(protocol, Protocol::Grpc | Protocol::GrpcWeb);
    let broke = matches!(behaviour, Behaviour::Leaves | Behaviour::Panic);
    let is_answered = seen.status != 0 || is_call && !broke;
    let body = if behaviour == Behaviour::Slow { PAUSE * PARTS / 2 } else { Duration::ZERO };
    let most = duration.min(seen.took.saturating_sub(body.as_micros() as u64));
    match is_answered {
        false if found == 0 => Ok(()),
        true if (1..=most).contains(&found) => Ok(()),
        false => Err(format!("{found} us, though nothing was answered")),
        true => Err(format!("{found} us, not between 1 and {most}")),
    }
}

/// The spans that the application made, each with its parent.
fn tree(behaviour: Behaviour) -> Option<String> {
    match behaviour {
        Behaviour::Nested => Some(format!("request > {}", NESTED.join(" > "))),
        Behaviour::Spawned => Some(format!("request > {SPAWNED}")),
        _ => None,
    }
}

/// The spans of the application in the trace of `row`, from the request down to the last that
/// began. Spans of frameworks and emitters are left out.
fn chain(row: &Value) -> String {
    let spans = row["trace"]["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_ours = |span: &Value| {
        let target = span["target"].as_str().unwrap_or_default();
        target.starts_with("frameworks::app")
    };
    let Some(mut at) = spans.iter().rposition(is_ours) else { return "request".to_owned() };
    let mut names = Vec::new();
    while at != 0 {
        if is_ours(&spans[at]) {
            names.push(spans[at]["name"].as_str().unwrap_or_default());
        }
        at = spans[at]["parent"].as_u64().unwrap_or(0) as usize;
    }
    names.push("request");
    names.reverse();
    names.join(" > ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::setups::ALL;

    fn setup(key: &str) -> &'static Setup {
        ALL.iter().find(|it| it.key == key).unwrap()
    }

    fn row() -> Value {
        json!({
            "method": "GET", "route": "/users/{id}", "url": "/users/404", "status": 404,
            "outcome": "client_fault", "error_kind": "", "duration": 900, "response_start": 800,
        })
    }

    fn seen(rows: Vec<Value>) -> Observed {
        let behaviour = Behaviour::ALL.iter().position(|it| *it == Behaviour::NotFound).unwrap();
        Observed { behaviour, status: 404, took: 1000, stored: 2000, rows }
    }

    #[test]
    fn a_row_that_tells_what_the_client_saw_is_right() {
        let cell = judge(setup("axum"), &seen(vec![row()]));
        assert_eq!((cell.mark(), cell.problems), (Mark::Right, Vec::<String>::new()));
    }

    #[test]
    fn each_column_that_tells_something_else_is_wrong() {
        for (name, value) in [
            ("method", json!("POST")),
            ("route", json!("/users/404")),
            ("url", json!("/")),
            ("status", json!(200)),
            ("outcome", json!("success")),
            ("duration", json!(0)),
            ("duration", json!(10_000_000)),
            ("response_start", json!(0)),
            ("response_start", json!(901)),
        ] {
            let mut wrong = row();
            wrong[name] = value;
            let cell = judge(setup("axum"), &seen(vec![wrong]));
            assert_eq!(cell.mark(), Mark::Wrong);
            let name = if name == "response_start" { "start" } else { name };
            assert!(cell.problems[0].starts_with(name), "{:?}", cell.problems);
        }
    }

    #[test]
    fn no_row_and_two_rows_are_wrong() {
        for rows in [vec![], vec![row(), row()]] {
            assert_eq!(judge(setup("axum"), &seen(rows)).mark(), Mark::Wrong);
        }
    }

    #[test]
    fn what_is_listed_as_impossible_must_not_be_right() {
        let mut without = row();
        without["route"] = json!("");
        let cell = judge(setup("poem-tracing"), &seen(vec![without]));
        assert_eq!(cell.mark(), Mark::Impossible);
        let cell = judge(setup("poem-tracing"), &seen(vec![row()]));
        assert_eq!(cell.problems, ["route is right, and listed as impossible"]);
    }

    #[test]
    fn the_chain_leaves_out_the_spans_of_others() {
        let span = |name: &str, target: &str, parent: u32| json!({ "name": name, "target": target, "parent": parent });
        let spans = [
            span("HTTP request", "tower_http", 0),
            span("route", "framework", 0),
            span("checkout", "frameworks::app", 1),
            span("price", "frameworks::app", 2),
        ];
        assert_eq!(chain(&json!({ "trace": { "spans": spans } })), "request > checkout > price");
        assert_eq!(chain(&json!({})), "request");
    }
}
