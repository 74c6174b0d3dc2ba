//! The layer against a model of it: random programs of spans on four threads, run for real and
//! by a plain reference, must give the same activities.
//!
//! 256 programs a property, more by `PROPTEST_CASES`. A program that fails is shrunk and printed
//! as the steps that it takes.

mod interpreter;
mod program;
mod reference;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use tracing_activity::Stats;
use tracing_activity::config::SamplingPolicy;
use tracing_activity::model::{Activity, ActivityId, Level, Trace, Value};

use crate::interpreter::{Hands, Interpreter};
use crate::program::{Step, drafts, parallel, sequence};
use crate::reference::{Expected, ExpectedEvent, ExpectedSpan, Reference};

/// Runs a property, which fails with a text, over programs; prints the smallest that fails.
fn for_all<D: std::fmt::Debug, P>(
    interpreter: &Interpreter,
    strategy: impl proptest::strategy::Strategy<Value = D>,
    program: impl Fn(&D) -> P,
    show: impl Fn(&P) -> String,
    property: impl Fn(&P) -> Result<(), String>,
) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let (run, failed_at) = (Cell::new(0), Cell::new(0));
    let result = runner.run(&strategy, |drafts| {
        run.update(|run| run + 1);
        property(&program(&drafts)).map_err(|difference| {
            if failed_at.get() == 0 {
                failed_at.set(run.get());
            }
            interpreter.reset();
            TestCaseError::fail(difference)
        })
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, drafts)) => {
            let (run, program) = (failed_at.get(), show(&program(&drafts)));
            panic!("{reason}\nin the program, found at the {run}th,\n{program}")
        }
        Err(error) => panic!("{error}"),
    }
}

fn steps(steps: &[Step]) -> String {
    steps.iter().fold(String::new(), |mut text, Step { thread, action }| {
        let _ = writeln!(text, "  thread {thread}: {action:?}");
        text
    })
}

/// Compares, and says what differs.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, real: &T, expected: &T) -> Result<(), String> {
    if real == expected {
        return Ok(());
    }
    Err(format!("{what}\n  is        {real:?}\n  should be {expected:?}"))
}

/// Runs steps in turns on both sides; compares what each thread sees. Gives the real identities of
/// the reference's activities, as far as they were seen.
fn take_turns(
    interpreter: &Interpreter,
    reference: &mut Reference,
    steps: &[Step],
    mut hands: Hands,
    ids: &mut BTreeMap<usize, u64>,
) -> Result<(Hands, BTreeMap<usize, ActivityId>), String> {
    let mut activities = BTreeMap::new();
    for turn in steps.chunk_by(|a, b| a.thread == b.thread) {
        let thread = turn[0].thread;
        let actions = turn.iter().map(|step| step.action.clone()).collect();
        let seen;
        (hands, seen) = interpreter.turn(thread, actions, hands)?;
        for (step, seen) in turn.iter().zip(seen) {
            let found = reference.step(step);
            same(
                &format!("a beginning at {step:?}"),
                &seen.begun.is_some(),
                &found.begun.is_some(),
            )?;
            ids.extend(found.begun.zip(seen.begun));
            let current = reference.current(thread).map(|span| ids[&span]);
            same(&format!("the current span after {step:?}"), &seen.current, &current)?;
            let what = format!("the presence of an activity at {step:?}");
            same(&what, &seen.activity.is_some(), &found.activity.is_some())?;
            if let (Some(number), Some(id)) = (found.activity, seen.activity) {
                let known = *activities.entry(number).or_insert(id);
                same(&format!("the activity at {step:?}"), &id, &known)?;
            }
        }
    }
    Ok((hands, activities))
}

type Attributes = Vec<(String, Value)>;

fn owned(attributes: &[(std::borrow::Cow<'static, str>, Value)]) -> Attributes {
    attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
}

/// What arrived, in the words of the reference.
fn real(activity: &Activity) -> Expected {
    let none = Trace::default();
    let trace = activity.trace.as_ref().unwrap_or(&none);
    let span = |span: &tracing_activity::model::SpanRecord| ExpectedSpan {
        name: NAMES.iter().find(|name| **name == span.name).expect("it is one of ours"),
        parent: span.parent,
        error: ["", "panic", "error"].into_iter().find(|it| *it == span.error).unwrap(),
        attributes: owned(&span.attributes),
    };
    let event = |event: &tracing_activity::model::EventRecord| ExpectedEvent {
        span: event.span,
        message: event.message.clone(),
        is_error: event.level == Level::Error,
    };
    Expected {
        spans: trace.spans.iter().map(span).collect(),
        events: trace.events.iter().map(event).collect(),
        outcome: activity.outcome,
        status: activity.status,
        ekind: activity.ekind.clone(),
        title: activity.title.clone(),
        data: activity.data.clone(),
        error: activity.error.clone(),
        error_kind: activity.error_kind.clone(),
    }
}

const NAMES: [&str; 8] =
    ["plain", "request", "fine", "import", "fine import", "fine request", "consumer", "client"];

/// The number of the program's span that a recorded span is.
fn number(span: &ExpectedSpan) -> u64 {
    match span.attributes[0] {
        (_, Value::U64(number)) => number,
        _ => unreachable!("the first attribute is the number"),
    }
}

/// By the number of the root span.
fn by_root(activities: Vec<Expected>) -> BTreeMap<u64, Expected> {
    activities.into_iter().map(|it| (number(&it.spans[0]), it)).collect()
}

/// The counters must have moved by these activities, all of them stored, and by late spans.
fn counted(before: &Stats, after: &Stats, created: u64, late: u64) -> Result<(), String> {
    same("created", &(after.created - before.created), &created)?;
    same("stored", &(after.stored - before.stored), &created)?;
    same("late spans", &(after.late_spans - before.late_spans), &late)?;
    same("in flight", &after.in_flight(), &0)?;
    same("panics", &after.panics, &0)?;
    same("truncated", &after.truncated, &0)?;
    same("failed and dropped", &(after.failed + after.dropped.total()), &0)
}

/// What holds of every activity whatever the program.
fn sound(activity: &Activity) -> Result<(), String> {
    let trace = activity.trace.as_ref().expect("every trace is kept");
    for (index, span) in trace.spans.iter().enumerate() {
        if span.parent as usize > index.saturating_sub(1) {
            return Err(format!("span {index} stands before its parent {}", span.parent));
        }
        if span.start < trace.spans[span.parent as usize].start {
            return Err(format!("span {index} begins before its parent"));
        }
    }
    match trace.events.iter().find(|event| event.span as usize >= trace.spans.len()) {
        Some(event) => Err(format!("an event of no span: {event:?}")),
        None => Ok(()),
    }
}

#[test]
fn threads_that_take_turns_make_exactly_the_activities_of_the_reference() {
    let interpreter = Interpreter::new(SamplingPolicy::ALL);
    let check = |program: &Vec<Step>| {
        let (_, before) = interpreter.delivered();
        let mut reference = Reference::default();
        let (hands, mut ids) = (Hands::default(), BTreeMap::new());
        let (_, seen) = take_turns(&interpreter, &mut reference, program, hands, &mut ids)?;
        let expected = reference.expected();
        let (activities, after) = interpreter.delivered();
        counted(&before, &after, expected.len() as u64, reference.late_spans)?;
        for activity in &activities {
            sound(activity)?;
            let trace = activity.trace.as_ref().expect("every trace is kept");
            if !trace.spans.is_sorted_by_key(|it| it.start)
                || !trace.events.is_sorted_by_key(|it| it.time)
            {
                return Err("the trace is not in the order of time".to_owned());
            }
        }
        for (number, id) in seen {
            let root = self::number(&expected[number].spans[0]);
            let row = activities.iter().find(|it| it.activity_id == id);
            let found = row.map(|row| self::number(&real(row).spans[0]));
            same(&format!("the root of activity {number}"), &found, &Some(root))?;
        }
        let real = by_root(activities.iter().map(real).collect());
        for (root, expected) in by_root(expected) {
            same(&format!("activity of span {root}"), &real.get(&root), &Some(&expected))?;
        }
        Ok(())
    };
    for_all(
        &interpreter,
        drafts(0..80),
        |drafts| sequence(drafts),
        |program| steps(program),
        check,
    );
    interpreter.finish();
}

#[test]
fn threads_that_take_turns_fill_the_columns_where_no_trace_is_kept() {
    let interpreter = Interpreter::new(SamplingPolicy::OFF);
    let check = |program: &Vec<Step>| {
        let (_, before) = interpreter.delivered();
        let mut reference = Reference::traceless();
        let (hands, mut ids) = (Hands::default(), BTreeMap::new());
        let (_, seen) = take_turns(&interpreter, &mut reference, program, hands, &mut ids)?;
        let columns = |it: Expected| Expected { spans: Vec::new(), events: Vec::new(), ..it };
        let expected: Vec<Expected> = reference.expected().into_iter().map(columns).collect();
        let (activities, after) = interpreter.delivered();
        counted(&before, &after, expected.len() as u64, reference.late_spans)?;
        for (number, id) in seen {
            let row = activities.iter().find(|it| it.activity_id == id).map(real);
            same(&format!("activity {number}"), &row.as_ref(), &Some(&expected[number]))?;
        }
        let in_some_order = |rows: &mut dyn Iterator<Item = Expected>| {
            let mut rows: Vec<String> = rows.map(|row| format!("{row:?}")).collect();
            rows.sort();
            rows
        };
        let real = in_some_order(&mut activities.iter().map(real));
        same("the activities", &real, &in_some_order(&mut expected.into_iter()))
    };
    for_all(&interpreter, drafts(0..80), |it| sequence(it), |program| steps(program), check);
    interpreter.finish();
}

#[test]
fn a_policy_that_changes_under_way_loses_no_request_and_keeps_only_whole_traces() {
    // A layer follows its spans for good once it had to: each program has one of its own.
    let outer = Interpreter::new(SamplingPolicy::OFF);
    let kept = Cell::new(0);
    let policy = |keeps: bool| if keeps { SamplingPolicy::ALL } else { SamplingPolicy::OFF };
    let check = |(program, (born, switches)): &(Vec<Step>, (bool, Vec<bool>))| {
        let interpreter = Interpreter::new(policy(*born));
        let mut reference = Reference::default();
        let (mut hands, mut ids) = (Hands::default(), BTreeMap::new());
        let mut keeps = *born;
        for (step, switch) in program.iter().zip(switches.iter().chain(std::iter::repeat(&false))) {
            if *switch {
                keeps = !keeps;
                interpreter.sample(policy(keeps));
            }
            let step = std::slice::from_ref(step);
            (hands, _) = take_turns(&interpreter, &mut reference, step, hands, &mut ids)?;
        }
        let (activities, after) = interpreter.delivered();
        let columns = |it: Expected| Expected { spans: Vec::new(), events: Vec::new(), ..it };
        let in_some_order = |rows: &mut dyn Iterator<Item = Expected>| {
            let mut rows: Vec<String> = rows.map(|row| format!("{:?}", columns(row))).collect();
            rows.sort();
            rows
        };
        let real_rows = in_some_order(&mut activities.iter().map(real));
        let expected = reference.expected();
        same("the activities", &real_rows, &in_some_order(&mut expected.clone().into_iter()))?;
        same("in flight", &after.in_flight(), &0)?;
        same("panics and truncated", &(after.panics + after.truncated), &0)?;
        let expected = by_root(expected);
        for activity in activities.iter().filter(|it| it.trace.is_some()) {
            sound(activity)?;
            let real = real(activity);
            let root = number(&real.spans[0]);
            same(&format!("activity of span {root}"), &Some(&real), &expected.get(&root))?;
            kept.update(|kept| kept + 1);
        }
        interpreter.finish();
        Ok(())
    };
    for_all(
        &outer,
        (
            drafts(0..80),
            proptest::bool::ANY,
            proptest::collection::vec(proptest::bool::weighted(0.04), 160),
        ),
        |(drafts, born, switches)| (sequence(drafts), (*born, switches.clone())),
        |(program, (born, switches))| {
            let at = switches.iter().enumerate().filter(|(_, switch)| **switch);
            let at: Vec<usize> = at.map(|(step, _)| step).collect();
            format!("{}  born {born}, switched before the steps {at:?}\n", steps(program))
        },
        check,
    );
    // Some fifty in the usual number of cases: the comparison above is not an empty one.
    assert!(kept.get() > 10, "{} traces in all", kept.get());
    outer.finish();
}

/// What is left of an activity when nobody looks at the order.
#[derive(Debug, PartialEq)]
struct Unordered {
    /// Number of the parent, error, and attributes, by the span's number.
    spans: BTreeMap<u64, (u64, &'static str, Attributes)>,
    events: BTreeSet<(String, u64, bool)>,
    outcome: tracing_activity::model::Outcome,
    status: u16,
    ekind: String,
    has_error: bool,
    error_kind: String,
    data: BTreeMap<String, i64>,
}

fn unordered(activity: &Expected) -> Unordered {
    let number_of = |index: u32| number(&activity.spans[index as usize]);
    let spans = activity.spans.iter();
    let events = activity.events.iter();
    let mut data: BTreeMap<String, i64> = match activity.data.as_str() {
        "" => BTreeMap::new(),
        data => serde_json::from_str(data).expect("data is JSON"),
    };
    // Who annotated last is not known.
    data.entry("a".to_owned()).and_modify(|value| *value = 0);
    Unordered {
        spans: spans
            .map(|it| (number(it), (number_of(it.parent), it.error, it.attributes.clone())))
            .collect(),
        events: events.map(|it| (it.message.clone(), number_of(it.span), it.is_error)).collect(),
        outcome: activity.outcome,
        status: activity.status,
        ekind: activity.ekind.clone(),
        has_error: !activity.error.is_empty(),
        error_kind: activity.error_kind.clone(),
        data,
    }
}

#[test]
fn threads_that_run_freely_lose_and_misplace_nothing() {
    let interpreter = Interpreter::new(SamplingPolicy::ALL);
    let check = |program: &program::Parallel| {
        let (_, before) = interpreter.delivered();
        let mut reference = Reference::default();
        let mut ids = BTreeMap::new();
        let (hands, _) =
            take_turns(&interpreter, &mut reference, &program.before, Hands::default(), &mut ids)?;
        let work = |actions: &Vec<_>| (actions.clone(), hands.share(&program.shared));
        let theirs = interpreter.all(program.threads.iter().map(work).collect())?;
        for (thread, actions) in program.threads.iter().enumerate() {
            reference.share(&program.shared);
            for action in actions {
                reference.step(&Step { thread, action: action.clone() });
            }
        }
        // What the free threads began is not known by the registry's ids.
        let mut quietly = |steps: &[Step], mut hands: Hands| {
            for step in steps {
                reference.step(step);
                (hands, _) = interpreter.turn(step.thread, vec![step.action.clone()], hands)?;
            }
            Ok::<_, String>(())
        };
        for (left, hands) in program.left.iter().zip(theirs) {
            quietly(left, hands)?;
        }
        quietly(&program.after, hands)?;
        let expected = reference.expected();
        let (activities, after) = interpreter.delivered();
        counted(&before, &after, expected.len() as u64, reference.late_spans)?;
        activities.iter().try_for_each(sound)?;
        let real = by_root(activities.iter().map(real).collect());
        for (root, expected) in by_root(expected) {
            let real = real.get(&root).map(unordered);
            same(&format!("activity of span {root}"), &real, &Some(unordered(&expected)))?;
        }
        Ok(())
    };
    for_all(
        &interpreter,
        (drafts(1..30), drafts(0..80)),
        |(before, free)| parallel(before, free),
        |program| {
            let mut text = steps(&program.before);
            for (thread, actions) in program.threads.iter().enumerate() {
                let _ = writeln!(text, "  at once, thread {thread}: {actions:?}");
            }
            text + &steps(&program.left.concat()) + &steps(&program.after)
        },
        check,
    );
    interpreter.finish();
}
