//! The hand-over of a buffer under a model checker, which decides at every lock and at every look
//! at the pending flag who runs next.
//!
//! Two threads work on one request, in the three ways that the layer has: inside of it with the
//! buffer in hand, with the buffer borrowed for a moment, and by operations sent. Every operation
//! begins a span of a name of its own, so that the sealed activity tells what was applied, how
//! often and in which order. A history, written as it happens, tells what must have been.

use std::sync::Arc;

use shuttle::sync::Mutex;
use tracing_core::Metadata;

use super::{End, Op, Root, Signals};
use crate::capture::buffer::Buffer;
use crate::capture::callsite::{Callsite, Role};
use crate::capture::fields::Fields;
use crate::capture::shared::{Parts, Shared};
use crate::config::{Config, SamplingPolicy};
use crate::model::Activity;
use crate::pipeline::{Counters, Queue};

/// Schedules tried of each program.
const SCHEDULES: usize = 5_000;

/// Spans that the workers begin.
const NAMES: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Begins(usize),
    Done(usize),
    FinishBegins,
    FinishDone,
}

/// How a worker reaches the buffer.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// It enters the request, works, and leaves.
    Inside,
    /// It borrows the buffer for each operation, or sends it.
    Beside,
    /// It only sends.
    Sending,
}

/// What the programs share. Made once: the parts are expensive and not what is tested.
#[derive(Clone)]
struct Stage {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    /// Of the spans by name, then of the root.
    callsites: Arc<[&'static Callsite]>,
}

impl Stage {
    fn new() -> Self {
        let config = Config { sample: SamplingPolicy::ALL, ..Config::default() };
        let (counters, queue) = (Arc::new(Counters::new()), Arc::new(Queue::new(&config.pipeline)));
        let shared =
            Shared::new(&config, Parts::default(), Arc::clone(&queue), Arc::clone(&counters));
        let callsite = |it: &'static Metadata<'static>| Role::new(it, &shared.config).callsite;
        let callsites = metadata().into_iter().map(callsite).collect();
        Self { shared, queue, counters, callsites }
    }

    fn root(&self) -> Arc<Root> {
        let callsite = self.callsites[NAMES];
        let mut buffer = self.shared.buffer();
        buffer.begin_span(u64::MAX, callsite, 0, self.shared.now());
        assert!(self.shared.admit(self.shared.now()));
        // Of its own: a thread would remember one of the pool beyond the schedule.
        let root = Arc::new(Root::new(Arc::clone(&self.shared)));
        root.begin(callsite, buffer);
        root
    }

    /// The operation that begins a span.
    fn begin(&self, name: usize) -> Op {
        Op::Begin {
            id: name as u64 + 1,
            callsite: self.callsites[name],
            ancestors: vec![u64::MAX],
            time: self.shared.now(),
            fields: Fields::default(),
            signals: Signals::default(),
        }
    }

    /// The activities sealed since the last call.
    fn sealed(&self) -> Vec<Activity> {
        let seeds = std::iter::from_fn(|| self.queue.pop());
        seeds.map(|(_, seed)| seed.into_activity().expect("nothing is filtered")).collect()
    }
}

/// Metadata of spans whose names are numbers, and of the root.
fn metadata() -> [&'static Metadata<'static>; NAMES + 1] {
    macro_rules! of {
        ($($name:literal)*) => {
            [$(tracing::info_span!($name).metadata().expect("the span is enabled")),*]
        };
    }
    tracing::subscriber::with_default(
        tracing_subscriber::Registry::default(),
        || of!("0" "1" "2" "3" "4" "5" "root"),
    )
}

/// Does the worker's operations in its way, one after the other.
fn work(
    stage: &Stage,
    root: &Root,
    history: &Mutex<Vec<Moment>>,
    way: Way,
    names: impl Iterator<Item = usize>,
) {
    let note = |moment| history.lock().unwrap().push(moment);
    let mut held: Option<Box<Buffer>> = match way {
        Way::Inside => root.check_out(),
        Way::Beside | Way::Sending => None,
    };
    for name in names {
        note(Moment::Begins(name));
        let op = stage.begin(name);
        root.catch_up(&mut held);
        let borrowed = || if matches!(way, Way::Beside) { root.borrow() } else { None };
        if let Some(buffer) = &mut held {
            buffer.apply(op);
        } else if let Some(mut buffer) = borrowed() {
            buffer.apply(op);
        } else {
            root.send(op);
        }
        note(Moment::Done(name));
    }
    if let Some(buffer) = held {
        root.check_in(buffer);
    }
}

/// Two workers and `finishers` of one request; what must hold of the activity.
fn program(stage: &Stage, ways: [Way; 2], finishers: usize) {
    let (root, history) = (stage.root(), Arc::new(Mutex::new(Vec::new())));
    let late_before = stage.counters.snapshot(0).late_spans;
    let mut threads = Vec::new();
    for (worker, way) in ways.into_iter().enumerate() {
        let (stage, root, history) = (stage.clone(), Arc::clone(&root), Arc::clone(&history));
        threads.push(shuttle::thread::spawn(move || {
            // It comes twice, with a time between in which the buffer is at home.
            for visit in 0..2 {
                let first = worker * NAMES / 2 + visit * 2;
                let count = if visit == 0 { 2 } else { 1 };
                work(&stage, &root, &history, way, first..first + count);
            }
        }));
    }
    for _ in 0..finishers {
        let (stage, root, history) = (stage.clone(), Arc::clone(&root), Arc::clone(&history));
        threads.push(shuttle::thread::spawn(move || {
            history.lock().unwrap().push(Moment::FinishBegins);
            root.finish(stage.shared.now(), End::Finished);
            history.lock().unwrap().push(Moment::FinishDone);
        }));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    // Where nobody said that it is finished its span closes.
    root.finish(stage.shared.now(), End::Closed);
    drop(root);
    let late = stage.counters.snapshot(0).late_spans - late_before;
    check(&stage.sealed(), &history.lock().unwrap(), late);
}

/// Two workers of one request that is given up meanwhile, for good or not, and then finished.
fn given_up(stage: &Stage, ways: [Way; 2], last: bool) {
    let (root, history) = (stage.root(), Arc::new(Mutex::new(Vec::new())));
    let mut threads = Vec::new();
    for (worker, way) in ways.into_iter().enumerate() {
        let (stage, root, history) = (stage.clone(), Arc::clone(&root), Arc::clone(&history));
        threads.push(shuttle::thread::spawn(move || {
            let first = worker * NAMES / 2;
            work(&stage, &root, &history, way, first..first + NAMES / 2);
        }));
    }
    for _ in 0..2 {
        let (stage, root) = (stage.clone(), Arc::clone(&root));
        threads.push(shuttle::thread::spawn(move || root.abandon(stage.shared.now(), 0, last)));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    root.finish(stage.shared.now(), End::Finished);
    drop(root);
    let sealed = stage.sealed();
    let (late, first): (Vec<_>, Vec<_>) = sealed.iter().partition(|it| it.late_end);
    assert_eq!((first.len(), late.len()), (1, usize::from(!last)), "{sealed:#?}");
    assert!(first[0].incomplete);
    for it in late {
        let trace = it.trace.as_ref().expect("every trace is kept");
        assert_eq!((it.activity_id, trace.spans.len()), (first[0].activity_id, NAMES + 1));
    }
}

fn check(sealed: &[Activity], history: &[Moment], late: u64) {
    assert_eq!(sealed.len(), 1, "one seal");
    let trace = sealed[0].trace.as_ref().expect("every trace is kept");
    let names: Vec<usize> =
        trace.spans[1..].iter().map(|span| span.name.parse().expect("a number")).collect();
    let at = |moment: Moment| history.iter().position(|it| *it == moment);
    let place = |name: usize| names.iter().position(|it| *it == name);
    for name in 0..NAMES {
        let times = names.iter().filter(|it| **it == name).count();
        assert!(times <= 1, "{name} was applied {times} times: {names:?}");
        let finish = (at(Moment::FinishBegins), at(Moment::FinishDone));
        if finish.0.is_none_or(|finish| at(Moment::Done(name)) < Some(finish)) {
            assert_eq!(times, 1, "{name} was done before the finish: {names:?} of {history:?}");
        }
        if finish.1.is_some_and(|finish| at(Moment::Begins(name)) > Some(finish)) {
            assert_eq!(times, 0, "{name} began after the finish: {names:?} of {history:?}");
        }
        for later in 0..NAMES {
            if at(Moment::Done(name)) < at(Moment::Begins(later))
                && let (Some(name), Some(later)) = (place(name), place(later))
            {
                assert!(name < later, "the order is lost: {names:?} of {history:?}");
            }
        }
    }
    assert_eq!(names.len() as u64 + late, NAMES as u64, "every span is recorded or counted");
}

/// Tries schedules at random and such as need few but well-placed switches.
fn explore(ways: [Way; 2], finishers: usize) {
    explore_all(move |stage| program(stage, ways, finishers));
}

fn explore_all(program: impl Fn(&Stage) + Clone + Send + Sync + 'static) {
    let stage = Stage::new();
    let run = {
        let stage = stage.clone();
        move || program(&stage)
    };
    // Looking for secrets takes more stack than the checker's threads have.
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 20;
        config
    };
    let random = shuttle::scheduler::RandomScheduler::new(SCHEDULES);
    shuttle::Runner::new(random, config()).run(run.clone());
    let pct = shuttle::scheduler::PctScheduler::new(4, SCHEDULES);
    shuttle::Runner::new(pct, config()).run(run);
    assert_eq!(stage.counters.snapshot(0).dropped.total(), 0);
}

#[test]
fn two_threads_inside_of_a_request_lose_and_reorder_nothing() {
    explore([Way::Inside, Way::Inside], 0);
}

#[test]
fn threads_inside_and_beside_a_request_lose_and_reorder_nothing() {
    explore([Way::Inside, Way::Beside], 0);
    explore([Way::Beside, Way::Beside], 0);
    explore([Way::Inside, Way::Sending], 0);
}

#[test]
fn a_finish_from_elsewhere_divides_what_is_recorded_from_what_is_late() {
    explore([Way::Inside, Way::Inside], 1);
    explore([Way::Inside, Way::Beside], 1);
    explore([Way::Sending, Way::Beside], 1);
}

#[test]
fn of_two_who_finish_a_request_one_seals_it() {
    explore([Way::Inside, Way::Sending], 2);
}

#[test]
fn a_request_that_is_given_up_has_its_row_and_one_of_its_end_whoever_is_inside() {
    for last in [false, true] {
        explore_all(move |stage| given_up(stage, [Way::Inside, Way::Inside], last));
        explore_all(move |stage| given_up(stage, [Way::Inside, Way::Beside], last));
        explore_all(move |stage| given_up(stage, [Way::Sending, Way::Beside], last));
    }
}
