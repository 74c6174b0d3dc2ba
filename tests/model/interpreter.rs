//! The interpreter: runs programs against the real layer, on real threads.
//!
//! The threads live as long as the interpreter. What a program holds - handles, futures - is in
//! [`Hands`], which the threads pass on like a baton: whose turn it is has it. Guards cannot leave
//! their thread and stay there.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::dispatcher::DefaultGuard;
use tracing::span::EnteredSpan;
use tracing::{Dispatch, Instrument as _, Span};
use tracing_activity::config::{Config, SamplingPolicy};
use tracing_activity::model::{Activity, ActivityId};
use tracing_activity::sink::MemorySink;
use tracing_activity::{CurrentActivity, ShutdownGuard, Stats, with_activity};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::program::{Action, Field, Kind, Parent, Patch, Severity, THREADS};
use crate::reference::{late, message, status};

/// Long enough for anything that is going to happen.
const DEADLINE: Duration = Duration::from_mins(1);

/// What a program holds.
#[derive(Default)]
pub(crate) struct Hands {
    spans: Vec<Vec<Span>>,
    futures: Vec<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    held: BTreeMap<usize, CurrentActivity>,
}

/// What a thread saw after an action.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// The registry's id of the span that was begun.
    pub(crate) begun: Option<u64>,
    /// The registry's id of the current span.
    pub(crate) current: Option<u64>,
    /// The activity that was found current, where it was looked for.
    pub(crate) activity: Option<ActivityId>,
}

/// What a thread is asked to do.
enum Turn {
    /// Some actions in order.
    Act(Vec<Action>, Hands),
    /// To leave every span, as the program failed.
    Reset,
}

/// The hands come back with what was seen; a panic that was not asked for is told.
type Answer = Result<(Hands, Vec<Seen>), String>;

struct Worker {
    turns: Sender<Turn>,
    answers: Receiver<Answer>,
    thread: JoinHandle<()>,
}

/// A subscriber with an activity layer, and threads under it.
pub(crate) struct Interpreter {
    workers: Vec<Worker>,
    guard: ShutdownGuard,
    sink: MemorySink,
    /// Spans that a failed program left in our hands are dropped under the subscriber.
    default: DefaultGuard,
}

impl Interpreter {
    pub(crate) fn new(sample: SamplingPolicy) -> Self {
        let mut config = Config::default();
        config.sample = sample;
        let sink = MemorySink::new();
        let builder = tracing_activity::builder().config(config).sink(sink.clone());
        let (layer, guard) = builder.build().unwrap();
        let dispatch = Dispatch::new(Registry::default().with(layer));
        let workers = (0..THREADS).map(|_| Worker::spawn(dispatch.clone())).collect();
        let default = tracing::dispatcher::set_default(&dispatch);
        Self { workers, guard, sink, default }
    }

    /// Puts this sampling policy in force.
    pub(crate) fn sample(&self, policy: SamplingPolicy) {
        self.guard.set_sampling(policy);
    }

    /// Has one thread do these actions.
    pub(crate) fn turn(&self, thread: usize, actions: Vec<Action>, hands: Hands) -> Answer {
        self.begin(thread, actions, hands);
        self.end(thread)
    }

    /// Has all threads do actions at once, each with hands of its own.
    pub(crate) fn all(&self, work: Vec<(Vec<Action>, Hands)>) -> Result<Vec<Hands>, String> {
        for (thread, (actions, hands)) in work.into_iter().enumerate() {
            self.begin(thread, actions, hands);
        }
        let answers: Vec<Answer> = (0..THREADS).map(|thread| self.end(thread)).collect();
        answers.into_iter().map(|answer| answer.map(|(hands, _)| hands)).collect()
    }

    /// Leaves what a failed program left behind.
    pub(crate) fn reset(&self) {
        for (thread, worker) in self.workers.iter().enumerate() {
            worker.turns.send(Turn::Reset).unwrap();
            // When it has done this it has left its spans.
            let _ = self.turn(thread, Vec::new(), Hands::default());
        }
    }

    fn begin(&self, thread: usize, actions: Vec<Action>, hands: Hands) {
        self.workers[thread].turns.send(Turn::Act(actions, hands)).unwrap();
    }

    fn end(&self, thread: usize) -> Answer {
        self.workers[thread].answers.recv_timeout(DEADLINE).expect("the thread is not stuck")
    }

    /// The activities that arrived since the last call, and the counters.
    pub(crate) fn delivered(&self) -> (Vec<Activity>, Stats) {
        assert!(self.guard.flush(DEADLINE), "{}", self.guard.stats());
        (self.sink.take(), self.guard.stats())
    }

    pub(crate) fn finish(self) -> Stats {
        for Worker { turns, thread, .. } in self.workers {
            drop(turns);
            thread.join().unwrap();
        }
        drop(self.default);
        let report = self.guard.shutdown(DEADLINE);
        assert!(report.complete, "{}", report.stats);
        report.stats
    }
}

impl Worker {
    fn spawn(dispatch: Dispatch) -> Self {
        let (turns, todo) = channel::<Turn>();
        let (done, answers) = channel();
        let thread = std::thread::spawn(move || {
            let _default = tracing::dispatcher::set_default(&dispatch);
            let mut guards = Vec::new();
            for turn in todo {
                let Turn::Act(actions, mut hands) = turn else {
                    guards.clear();
                    continue;
                };
                let run = AssertUnwindSafe(|| {
                    let seen = actions.iter().map(|it| hands.perform(it, &mut guards)).collect();
                    (hands, seen)
                });
                let answer = catch_unwind(run).map_err(|payload| {
                    guards.clear();
                    format!("panicked: {:?}", payload.downcast_ref::<String>())
                });
                let _ = done.send(answer);
            }
        });
        Self { turns, answers, thread }
    }
}

impl Hands {
    /// Hands with handles of their own to some of these spans.
    pub(crate) fn share(&self, spans: &[usize]) -> Self {
        let mut shared = Self::default();
        for span in spans {
            shared.keep(*span, self.spans[*span][0].clone());
        }
        shared
    }

    fn keep(&mut self, number: usize, span: Span) {
        self.spans.resize_with(self.spans.len().max(number + 1), Vec::new);
        self.spans[number].push(span);
    }

    fn span(&self, span: usize) -> &Span {
        &self.spans[span][0]
    }

    fn perform(&mut self, action: &Action, guards: &mut Vec<EnteredSpan>) -> Seen {
        let mut seen = Seen::default();
        match action {
            Action::New { span: number, kind, parent } => {
                let span = begin(*number, *kind, self.parent(*parent));
                seen.begun = span.id().map(|id| id.into_u64());
                self.keep(*number, span);
            }
            Action::Clone { span } => self.keep(*span, self.span(*span).clone()),
            Action::Drop { span } => drop(self.spans[*span].pop()),
            Action::Enter { span } => guards.push(self.span(*span).clone().entered()),
            Action::Exit { guard } => drop(guards.remove(*guard)),
            Action::Unwind { guards: count } => {
                let caught = catch_unwind(AssertUnwindSafe(|| {
                    let _scopes = Scopes(guards.split_off(guards.len() - count));
                    // Unlike `panic!` this prints nothing.
                    resume_unwind(Box::new(()));
                }));
                assert!(caught.is_err());
            }
            Action::Record { span, field, value } => {
                let (span, number) = (self.span(*span), i64::from(*value));
                match field {
                    Field::Late => span.record("late", late(*value)),
                    Field::Again => span.record("again", number),
                    Field::Status => {
                        span.record("http.response.status_code", i64::from(status(*value)))
                    }
                    Field::Data => span.record("activity.data.a", number),
                    Field::Undeclared => span.record("undeclared", number),
                };
            }
            Action::Event { event, severity, parent } => {
                log(*event, *severity, self.parent(*parent));
            }
            Action::Patch(patch) => {
                seen.activity = current();
                with_activity(|a| apply(patch, a));
            }
            Action::Hold { held } => {
                seen.activity = current();
                if let Some(activity) = CurrentActivity::get() {
                    self.held.insert(*held, activity);
                }
            }
            Action::PatchHeld { held, patch } => {
                if let Some(activity) = self.held.get(held) {
                    activity.patch(|a| apply(patch, a));
                }
            }
            Action::Finish => {
                seen.activity = current();
                if let Some(activity) = CurrentActivity::get() {
                    activity.finish();
                }
            }
            Action::FinishHeld { held } => {
                if let Some(activity) = self.held.get(held).cloned() {
                    activity.finish();
                }
            }
            Action::Future { future, span, inner, polls } => {
                let made = work(*inner, *polls).instrument(self.span(*span).clone());
                self.futures.resize_with(self.futures.len().max(future + 1), || None);
                self.futures[*future] = Some(Box::pin(made));
            }
            Action::Poll { future, event } => {
                EVENT.set(*event);
                BEGUN.set(None);
                let future = self.futures[*future].as_mut().expect("the future is there");
                let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                seen.begun = BEGUN.get();
            }
            Action::Cancel { future } => drop(self.futures[*future].take()),
        }
        seen.current = Span::current().id().map(|id| id.into_u64());
        seen
    }

    fn parent(&self, parent: Parent) -> Place<'_> {
        match parent {
            Parent::Contextual => Place::Here,
            Parent::Root => Place::Nowhere,
            Parent::Explicit(span) => Place::Under(self.span(span)),
        }
    }
}

fn current() -> Option<ActivityId> {
    CurrentActivity::get().map(|it| it.id())
}

/// Scopes that are left from the inside out.
struct Scopes(Vec<EnteredSpan>);

impl Drop for Scopes {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

fn apply(patch: &Patch, to: tracing_activity::ActivityPatch) -> tracing_activity::ActivityPatch {
    match patch {
        Patch::Title(title) => to.title(title.to_string()),
        Patch::Data(key, value) => to.data(key, value),
        Patch::Error(value) => to.failure("told", value),
        Patch::ClientFault => to.outcome(tracing_activity::model::Outcome::ClientFault),
    }
}

std::thread_local! {
    /// The number of the event of the next poll.
    static EVENT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    /// The span that the poll began.
    static BEGUN: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// The future of a program.
async fn work(inner: usize, polls: u8) {
    let span = begin(inner, Kind::Plain, Place::Here);
    BEGUN.set(span.id().map(|id| id.into_u64()));
    let mut left = polls;
    let body = std::future::poll_fn(move |_| {
        log(EVENT.get(), Severity::Info, Place::Here);
        left -= 1;
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    body.instrument(span).await;
}

/// Where a span or event goes.
#[derive(Clone, Copy)]
enum Place<'a> {
    Here,
    Nowhere,
    Under(&'a Span),
}

fn begin(n: usize, kind: Kind, place: Place<'_>) -> Span {
    use tracing::field::Empty;
    let n = n as u64;
    macro_rules! make {
        ($level:ident, $name:literal $(, $field:literal = $value:expr)*) => {
            match place {
                Place::Here => {
                    tracing::$level!($name, n, again = -1, late = Empty $(, $field = $value)*)
                }
                Place::Nowhere => tracing::$level!(
                    parent: None, $name, n, again = -1, late = Empty $(, $field = $value)*
                ),
                Place::Under(span) => tracing::$level!(
                    parent: span, $name, n, again = -1, late = Empty $(, $field = $value)*
                ),
            }
        };
    }
    macro_rules! request {
        ($level:ident, $name:literal) => {
            make!($level, $name, "http.request.method" = "GET", "http.response.status_code" = 200)
        };
    }
    macro_rules! import {
        ($level:ident, $name:literal) => {
            make!($level, $name, "activity.ekind" = "import", "activity.data.a" = -1)
        };
    }
    match kind {
        Kind::Plain => make!(info_span, "plain"),
        Kind::Request => request!(info_span, "request"),
        Kind::Fine => make!(debug_span, "fine"),
        Kind::Import => import!(info_span, "import"),
        Kind::FineImport => import!(debug_span, "fine import"),
        Kind::FineRequest => request!(debug_span, "fine request"),
        Kind::Consumer => make!(info_span, "consumer", "otel.kind" = "consumer"),
        Kind::Client => make!(info_span, "client", "otel.kind" = "client"),
    }
}

fn log(event: usize, severity: Severity, place: Place<'_>) {
    let message = message(event);
    macro_rules! make {
        ($level:ident) => {
            match place {
                Place::Here => tracing::$level!("{message}"),
                Place::Nowhere => tracing::$level!(parent: None, "{message}"),
                Place::Under(span) => tracing::$level!(parent: span, "{message}"),
            }
        };
    }
    match severity {
        Severity::Info => make!(info),
        Severity::Error => make!(error),
        Severity::Fine => make!(debug),
    }
}
