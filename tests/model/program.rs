//! The language: what threads do to spans, and how such programs are drawn.
//!
//! A program is drawn as [`Draft`]s, which name spans and guards by a number modulo what there is,
//! so that every list of drafts means something and shrinks well. [`sequence`] and [`parallel`]
//! turn drafts into [`Step`]s, which name them for good and which a caller of `tracing` could have
//! written: a span is used while a handle to it is held, a guard is dropped where it was made.
//! They end with everything exited and dropped.

use std::ops::Range;

use proptest::prelude::*;
use proptest::strategy::Union;

/// Threads of a program.
pub(crate) const THREADS: usize = 4;

/// Spans that a thread of its own may begin.
const SPANS: usize = 30;

/// The callsites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing special.
    Plain,
    /// An HTTP request with status 200.
    Request,
    /// Too fine for the filter.
    Fine,
    /// A request by its `activity.*` fields.
    Import,
    /// Too fine for the filter, but annotated: recorded all the same.
    FineImport,
    /// An HTTP request too fine for the filter: recorded as the root and only as that.
    FineRequest,
    /// A request by the value of `otel.kind`.
    Consumer,
    /// No request by the value of `otel.kind`.
    Client,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    Contextual,
    Root,
    Explicit(usize),
}

/// A field to record; most are declared by some callsites only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Declared and empty.
    Late,
    /// Declared with a value.
    Again,
    Status,
    Data,
    Undeclared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Info,
    Error,
    /// Too fine for the filter.
    Fine,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Patch {
    Title(u8),
    Data(String, u8),
    Error(u8),
    ClientFault,
}

/// What one thread does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    New {
        span: usize,
        kind: Kind,
        parent: Parent,
    },
    Clone {
        span: usize,
    },
    Drop {
        span: usize,
    },
    Enter {
        span: usize,
    },
    /// Drops the guard at this place among the thread's guards.
    Exit {
        guard: usize,
    },
    /// A panic that passes through the newest guards of the thread.
    Unwind {
        guards: usize,
    },
    Record {
        span: usize,
        field: Field,
        value: u8,
    },
    Event {
        event: usize,
        severity: Severity,
        parent: Parent,
    },
    /// `with_activity`.
    Patch(Patch),
    /// Keeps `CurrentActivity::get()`.
    Hold {
        held: usize,
    },
    PatchHeld {
        held: usize,
        patch: Patch,
    },
    /// Finishes `CurrentActivity::get()`.
    Finish,
    FinishHeld {
        held: usize,
    },
    /// Makes a future inside of `span`. Its first poll begins the span `inner`; every poll gives
    /// an event, which is numbered by the `Poll`, and the last ends the future.
    Future {
        future: usize,
        span: usize,
        inner: usize,
        polls: u8,
    },
    Poll {
        future: usize,
        event: usize,
    },
    /// Drops a future, whether it is done or not.
    Cancel {
        future: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) thread: usize,
    pub(crate) action: Action,
}

/// What is done, without the choice of whom it is done to.
#[derive(Debug, Clone, Copy)]
enum Verb {
    New,
    Enter,
    Exit,
    Event,
    Drop,
    Record,
    Clone,
    Patch,
    Hold,
    PatchHeld,
    Finish,
    FinishHeld,
    Unwind,
    Future,
    Poll,
    Cancel,
}

/// A step as it is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft {
    thread: usize,
    verb: Verb,
    whom: u8,
    how: u8,
    value: u8,
}

pub(crate) fn drafts(lengths: Range<usize>) -> impl Strategy<Value = Vec<Draft>> {
    // Two threads do most, so that they meet.
    let thread = [(5, Just(0_usize)), (4, Just(1)), (1, Just(2)), (1, Just(3))];
    let thread = Union::new_weighted(thread.to_vec());
    let verb = Union::new_weighted(vec![
        (16, Just(Verb::New)),
        (14, Just(Verb::Enter)),
        (8, Just(Verb::Exit)),
        (8, Just(Verb::Event)),
        (5, Just(Verb::Drop)),
        (6, Just(Verb::Record)),
        (1, Just(Verb::Clone)),
        (4, Just(Verb::Patch)),
        (2, Just(Verb::Hold)),
        (2, Just(Verb::PatchHeld)),
        (1, Just(Verb::Finish)),
        (2, Just(Verb::FinishHeld)),
        (2, Just(Verb::Unwind)),
        (3, Just(Verb::Future)),
        (5, Just(Verb::Poll)),
        (1, Just(Verb::Cancel)),
    ]);
    let draft = (thread, verb, any::<u8>(), any::<u8>(), any::<u8>())
        .prop_map(|(thread, verb, whom, how, value)| Draft { thread, verb, whom, how, value });
    prop::collection::vec(draft, lengths)
}

/// The steps of threads that take turns.
pub(crate) fn sequence(drafts: &[Draft]) -> Vec<Step> {
    let mut planner = Planner::default();
    let mut steps: Vec<Step> = drafts.iter().flat_map(|draft| planner.steps(*draft)).collect();
    steps.extend(planner.clear());
    steps
}

/// A program whose middle part is run by all threads at once.
#[derive(Debug, Clone)]
pub(crate) struct Parallel {
    /// Run in turns.
    pub(crate) before: Vec<Step>,
    /// Spans that every thread holds a handle of its own to.
    pub(crate) shared: Vec<usize>,
    pub(crate) threads: [Vec<Action>; THREADS],
    /// Run in turns with what a thread had in its hands.
    pub(crate) left: [Vec<Step>; THREADS],
    /// Run in turns with what was in hand before; leaves nothing open.
    pub(crate) after: Vec<Step>,
}

/// Threads that run freely after a common beginning. What they do is such that the order among
/// them cannot be told from the activities, but for the order of spans and events.
pub(crate) fn parallel(before: &[Draft], free: &[Draft]) -> Parallel {
    let mut planner = Planner::default();
    let before: Vec<Step> = before.iter().flat_map(|draft| planner.steps(*draft)).collect();
    let shared = planner.alive();
    let mut guards = std::mem::take(&mut planner.guards);
    let (mut threads, mut left) =
        ([const { Vec::new() }; THREADS], [const { Vec::new() }; THREADS]);
    for thread in 0..THREADS {
        let mut own = planner.beside(thread);
        own.guards[thread] = std::mem::take(&mut guards[thread]);
        let drafts = free.iter().filter(|draft| draft.thread == thread);
        let mut steps: Vec<Step> = drafts.flat_map(|draft| own.steps(*draft)).collect();
        if thread % 2 == 0 {
            steps.extend(own.clear());
        } else {
            // What these threads hold is dropped later and elsewhere.
            steps.extend(own.exit_all());
            left[thread] = own.clear();
        }
        threads[thread] = steps.into_iter().map(|step| step.action).collect();
    }
    let after = planner.clear();
    Parallel { before, shared, threads, left, after }
}

/// Keeps track of what a program holds.
#[derive(Default)]
struct Planner {
    /// Handles by span.
    spans: Vec<usize>,
    /// The span of each guard, by thread.
    guards: [Vec<usize>; THREADS],
    /// Whether each future is there and its polls left.
    futures: Vec<Option<u8>>,
    held: Range<usize>,
    events: usize,
    /// The first span that is this planner's own.
    first_own: usize,
    /// The thread, if it runs freely beside others.
    free_thread: Option<usize>,
}

impl Planner {
    /// A planner for a thread that runs freely. Its numbers are its own; of what there is it holds
    /// one handle to each span.
    fn beside(&self, thread: usize) -> Self {
        let apart = (thread + 1) * 1000;
        let mut spans: Vec<usize> = self.spans.iter().map(|it| usize::from(*it > 0)).collect();
        spans.resize(apart, 0);
        Self {
            spans,
            futures: vec![None; apart],
            held: apart..apart,
            events: apart,
            first_own: apart,
            free_thread: Some(thread),
            ..Self::default()
        }
    }

    /// An activity that was kept.
    fn pick_held(&self, whom: u8) -> Option<usize> {
        Some(self.held.start + usize::from(whom).checked_rem(self.held.len())?)
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.spans.len()).filter(|span| self.spans[*span] > 0).collect()
    }

    /// One of the spans that a handle is held to, 0 being the newest and new ones more likely.
    fn pick(&self, whom: u8) -> Option<usize> {
        let alive = self.alive();
        let back = (usize::from(whom) * usize::from(whom) * alive.len()) >> 16;
        alive.into_iter().rev().nth(back)
    }

    fn pick_future(&self, whom: u8) -> Option<usize> {
        let there: Vec<usize> =
            (0..self.futures.len()).filter(|it| self.futures[*it].is_some()).collect();
        Some(there[usize::from(whom).checked_rem(there.len())?])
    }

    fn new_span(&mut self, handles: usize) -> Option<usize> {
        (self.spans.len() < self.first_own + SPANS).then(|| {
            self.spans.push(handles);
            self.spans.len() - 1
        })
    }

    fn parent(&self, whom: u8, how: u8) -> Parent {
        match how % 8 {
            0..=4 => Parent::Contextual,
            5 => Parent::Root,
            _ => self.pick(whom).map_or(Parent::Contextual, Parent::Explicit),
        }
    }

    fn patch(&self, how: u8, value: u8) -> Patch {
        match self.free_thread {
            Some(thread) => Patch::Data(format!("{thread}.{}", how % 3), value),
            None => match how % 8 {
                0..=4 => Patch::Data(format!("{}", how % 3), value),
                5 => Patch::Title(value),
                6 => Patch::Error(value),
                _ => Patch::ClientFault,
            },
        }
    }

    /// What a draft comes to. Where it moves the thread, an event often tells where to.
    fn steps(&mut self, draft: Draft) -> Vec<Step> {
        let mut steps: Vec<Step> = self.step(draft).into_iter().collect();
        let moves = matches!(
            draft.verb,
            Verb::Enter | Verb::Exit | Verb::Unwind | Verb::Poll | Verb::Cancel
        );
        if moves && draft.value >= 96 && !steps.is_empty() {
            steps.push(self.probe(draft.thread));
        }
        steps
    }

    fn step(&mut self, draft: Draft) -> Option<Step> {
        let Draft { thread, verb, whom, how, value } = draft;
        let action = match verb {
            Verb::New => {
                let parent = self.parent(whom, how);
                let kind = match value % 20 {
                    0..=7 => Kind::Plain,
                    8..=11 => Kind::Request,
                    12..=14 => Kind::Fine,
                    15 => Kind::Import,
                    16 => Kind::FineImport,
                    17 => Kind::FineRequest,
                    18 => Kind::Consumer,
                    _ => Kind::Client,
                };
                Action::New { span: self.new_span(1)?, kind, parent }
            }
            Verb::Enter => {
                let entered = &self.guards[thread];
                let again = usize::from(whom).checked_rem(entered.len()).map(|it| entered[it]);
                // Sometimes one that the thread is in already.
                let span = match again {
                    Some(span) if how >= 144 && self.spans[span] > 0 => span,
                    _ => self.pick(whom)?,
                };
                self.guards[thread].push(span);
                Action::Enter { span }
            }
            Verb::Exit => {
                let guards = &mut self.guards[thread];
                // Mostly in the order of a stack.
                let back = if how < 160 { 0 } else { usize::from(whom) % guards.len().max(1) };
                let guard = guards.len().checked_sub(1 + back)?;
                guards.remove(guard);
                Action::Exit { guard }
            }
            Verb::Unwind => {
                let guards = &mut self.guards[thread];
                let count = (1 + usize::from(how) % 3).min(guards.len());
                guards.truncate(guards.len() - count);
                Action::Unwind { guards: count }
            }
            Verb::Event => {
                let severity = match value % 8 {
                    0..=4 => Severity::Info,
                    5 | 6 => Severity::Error,
                    _ => Severity::Fine,
                };
                Action::Event { event: self.event(), severity, parent: self.parent(whom, how) }
            }
            Verb::Drop => {
                let span = self.pick(whom)?;
                self.spans[span] -= 1;
                Action::Drop { span }
            }
            Verb::Clone => {
                let span = self.pick(whom)?;
                self.spans[span] += 1;
                Action::Clone { span }
            }
            Verb::Record => {
                let field = match how % 8 {
                    0 | 1 => Field::Late,
                    2 | 3 => Field::Again,
                    4 | 5 => Field::Status,
                    6 => Field::Data,
                    _ => Field::Undeclared,
                };
                // Of a field of a common span nobody knows who records last.
                let span = self.pick(whom).filter(|span| *span >= self.first_own)?;
                Action::Record { span, field, value }
            }
            Verb::Patch => Action::Patch(self.patch(how, value)),
            Verb::Hold => {
                self.held.end += 1;
                Action::Hold { held: self.held.end - 1 }
            }
            Verb::PatchHeld => {
                Action::PatchHeld { held: self.pick_held(whom)?, patch: self.patch(how, value) }
            }
            // What others do to an activity that is finished beside them nobody knows.
            Verb::Finish | Verb::FinishHeld if self.free_thread.is_some() => return None,
            Verb::Finish => Action::Finish,
            Verb::FinishHeld => Action::FinishHeld { held: self.pick_held(whom)? },
            Verb::Future => {
                let span = self.pick(whom)?;
                let polls = 1 + value % 3;
                let inner = self.new_span(0)?;
                self.futures.push(Some(polls));
                Action::Future { future: self.futures.len() - 1, span, inner, polls }
            }
            Verb::Poll => {
                let future = self.pick_future(whom)?;
                let polls = self.futures[future].as_mut().filter(|polls| **polls > 0)?;
                *polls -= 1;
                Action::Poll { future, event: self.event() }
            }
            Verb::Cancel => {
                let future = self.pick_future(whom)?;
                self.futures[future] = None;
                Action::Cancel { future }
            }
        };
        Some(Step { thread, action })
    }

    fn event(&mut self) -> usize {
        self.events += 1;
        self.events
    }

    /// An event that tells where a thread is.
    fn probe(&mut self, thread: usize) -> Step {
        let (severity, parent) = (Severity::Info, Parent::Contextual);
        Step { thread, action: Action::Event { event: self.event(), severity, parent } }
    }

    fn exit_all(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (thread, guards) in std::mem::take(&mut self.guards).into_iter().enumerate() {
            for guard in (0..guards.len()).rev() {
                steps.push(Step { thread, action: Action::Exit { guard } });
                steps.push(self.probe(thread));
            }
        }
        steps
    }

    /// Leaves and drops everything.
    fn clear(&mut self) -> Vec<Step> {
        let mut steps = self.exit_all();
        for (future, polls) in std::mem::take(&mut self.futures).into_iter().enumerate() {
            let step = Step { thread: future % THREADS, action: Action::Cancel { future } };
            steps.extend(polls.map(|_| step));
        }
        for (span, handles) in std::mem::take(&mut self.spans).into_iter().enumerate() {
            let step = Step { thread: span % THREADS, action: Action::Drop { span } };
            steps.extend(std::iter::repeat_n(step, handles));
        }
        steps
    }
}
