//! The reference: what `tracing`'s registry and this crate say they do, slowly and plainly.
//!
//! Of the registry: a thread's current span is the newest it entered and has not left, where
//! entering one again that it is in already does not count; a span closes when its last handle
//! and its last child are gone. Of this crate: a request outside of any activity begins one; what
//! happens below it belongs to it until it ends, by its span's close or because someone said so.

use std::collections::BTreeMap;

use tracing_activity::model::{Outcome, Value};

use crate::program::{Action, Field, Kind, Parent, Patch, Severity, Step, THREADS};

/// What an activity should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Expected {
    pub(crate) spans: Vec<ExpectedSpan>,
    pub(crate) events: Vec<ExpectedEvent>,
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    pub(crate) ekind: String,
    pub(crate) title: String,
    pub(crate) data: String,
    pub(crate) error: String,
    pub(crate) error_kind: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExpectedSpan {
    pub(crate) name: &'static str,
    pub(crate) parent: u32,
    pub(crate) error: &'static str,
    pub(crate) attributes: Vec<(String, Value)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExpectedEvent {
    pub(crate) span: u32,
    pub(crate) message: String,
    pub(crate) is_error: bool,
}

#[derive(Debug)]
struct Span {
    kind: Kind,
    parent: Option<usize>,
    /// Handles and children.
    references: usize,
    /// The activity it belongs to, if any.
    activity: Option<usize>,
    /// Its index in the activity's trace, if it is recorded there.
    index: Option<u32>,
}

#[derive(Debug, Default)]
struct Activity {
    root: usize,
    ended: bool,
    spans: Vec<ExpectedSpan>,
    panicked: Vec<bool>,
    events: Vec<ExpectedEvent>,
    /// From `activity.*` fields, then from patches.
    annotations: Data,
    imports: bool,
    data: Data,
    title: String,
    error: Option<(String, String)>,
    outcome: Option<Outcome>,
    status: u16,
}

/// A JSON object of numbers; a key stays where it was first set.
#[derive(Debug, Default, Clone)]
struct Data(Vec<(String, i64)>);

impl Data {
    fn set(&mut self, key: &str, value: i64) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    fn to_json(&self) -> String {
        let entries: Vec<String> =
            self.0.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
        if entries.is_empty() { String::new() } else { format!("{{{}}}", entries.join(",")) }
    }
}

#[derive(Debug)]
struct Future {
    span: usize,
    inner: usize,
    polls: u8,
    begun: bool,
}

/// What a step found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The span that it began.
    pub(crate) begun: Option<usize>,
    /// The activity that is current, where it looked.
    pub(crate) activity: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Reference {
    /// No trace is ever kept: of the children only annotated ones matter.
    traceless: bool,
    spans: Vec<Option<Span>>,
    stacks: [Vec<usize>; THREADS],
    /// The span of each guard; guards are left in any order.
    guards: [Vec<usize>; THREADS],
    futures: Vec<Option<Future>>,
    held: BTreeMap<usize, Option<usize>>,
    activities: Vec<Activity>,
    pub(crate) late_spans: u64,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Request => "request",
            Kind::Fine => "fine",
            Kind::Import => "import",
            Kind::FineImport => "fine import",
            Kind::FineRequest => "fine request",
            Kind::Consumer => "consumer",
            Kind::Client => "client",
        }
    }

    /// Whether the filter lets it pass, or its annotations do.
    fn is_recorded(self) -> bool {
        !matches!(self, Kind::Fine | Kind::FineRequest)
    }

    fn is_request(self) -> bool {
        !matches!(self, Kind::Plain | Kind::Fine | Kind::Client)
    }

    fn is_http(self) -> bool {
        matches!(self, Kind::Request | Kind::FineRequest)
    }

    fn is_annotated(self) -> bool {
        matches!(self, Kind::Import | Kind::FineImport)
    }
}

impl Reference {
    /// A reference of a layer that keeps no traces.
    pub(crate) fn traceless() -> Self {
        Self { traceless: true, ..Self::default() }
    }

    /// Does a step.
    pub(crate) fn step(&mut self, step: &Step) -> Found {
        let thread = step.thread;
        let mut found = Found::default();
        match &step.action {
            Action::New { span, kind, parent } => {
                self.new_span(thread, *span, *kind, *parent);
                found.begun = Some(*span);
            }
            Action::Clone { span } => self.span(*span).references += 1,
            Action::Drop { span } => self.release(*span),
            Action::Enter { span } => {
                self.span(*span).references += 1;
                self.guards[thread].push(*span);
                self.stacks[thread].push(*span);
            }
            Action::Exit { guard } => {
                let span = self.guards[thread].remove(*guard);
                self.exit(thread, span, false);
                self.release(span);
            }
            Action::Unwind { guards } => {
                for _ in 0..*guards {
                    let span = self.guards[thread].pop().unwrap();
                    self.exit(thread, span, true);
                    self.release(span);
                }
            }
            Action::Record { span, field, value } => self.record(*span, *field, *value),
            Action::Event { event, severity, parent } => {
                self.event(thread, *event, *severity, *parent);
            }
            Action::Patch(patch) => {
                let current = self.current_activity(thread);
                self.patch(current, patch);
                found.activity = current;
            }
            Action::Hold { held } => {
                let current = self.current_activity(thread);
                self.held.insert(*held, current);
                found.activity = current;
            }
            Action::PatchHeld { held, patch } => self.patch(self.held[held], patch),
            Action::Finish => {
                let current = self.current_activity(thread);
                self.end(current);
                found.activity = current;
            }
            Action::FinishHeld { held } => self.end(self.held[held]),
            Action::Future { future, span, inner, polls } => {
                self.span(*span).references += 1;
                let made = Future { span: *span, inner: *inner, polls: *polls, begun: false };
                self.futures.resize_with(self.futures.len().max(future + 1), || None);
                self.futures[*future] = Some(made);
            }
            Action::Poll { future, event } => found.begun = self.poll(thread, *future, *event),
            Action::Cancel { future } => self.cancel(*future),
        }
        found
    }

    /// The span that is current on a thread.
    pub(crate) fn current(&self, thread: usize) -> Option<usize> {
        let stack = &self.stacks[thread];
        let counts = |at: &usize| !stack[..*at].contains(&stack[*at]);
        Some(stack[(0..stack.len()).rev().find(counts)?])
    }

    /// Another handle to each of these spans is made.
    pub(crate) fn share(&mut self, spans: &[usize]) {
        for span in spans {
            self.span(*span).references += 1;
        }
    }

    /// What came of it, by activity.
    pub(crate) fn expected(&self) -> Vec<Expected> {
        assert!(self.spans.iter().all(Option::is_none), "everything is closed");
        self.activities.iter().map(Activity::expected).collect()
    }

    fn span(&mut self, span: usize) -> &mut Span {
        self.spans[span].as_mut().expect("the span is open")
    }

    fn current_activity(&self, thread: usize) -> Option<usize> {
        self.spans[self.current(thread)?].as_ref()?.activity
    }

    /// Whether a child of this kind is recorded.
    fn records(&self, kind: Kind) -> bool {
        if self.traceless { kind.is_annotated() } else { kind.is_recorded() }
    }

    fn parent(&self, thread: usize, parent: Parent) -> Option<usize> {
        match parent {
            Parent::Contextual => self.current(thread),
            Parent::Root => None,
            Parent::Explicit(span) => Some(span),
        }
    }

    /// The index of the nearest recorded span, this one included.
    fn nearest(&self, span: usize) -> u32 {
        let found = self.spans[span].as_ref().expect("the span is open");
        found.index.unwrap_or_else(|| self.nearest(found.parent.expect("the root is recorded")))
    }

    fn new_span(&mut self, thread: usize, number: usize, kind: Kind, parent: Parent) {
        let parent = self.parent(thread, parent);
        let mut activity = None;
        if let Some(parent) = parent {
            self.span(parent).references += 1;
            activity = self.span(parent).activity;
        }
        let mut index = None;
        match (activity, parent) {
            (Some(activity), Some(parent)) if self.records(kind) => {
                if self.activities[activity].ended {
                    self.late_spans += 1;
                } else {
                    let parent = self.nearest(parent);
                    index = Some(self.activities[activity].begin(number, kind, parent));
                }
            }
            (None, _) if kind.is_request() => {
                let mut begun = Activity { root: number, ..Activity::default() };
                index = Some(begun.begin(number, kind, 0));
                begun.status = if kind.is_http() { 200 } else { 0 };
                activity = Some(self.activities.len());
                self.activities.push(begun);
            }
            _ => {}
        }
        self.spans.resize_with(self.spans.len().max(number + 1), || None);
        self.spans[number] = Some(Span { kind, parent, references: 1, activity, index });
    }

    /// A handle or a child of a span is gone.
    fn release(&mut self, number: usize) {
        let span = self.span(number);
        span.references -= 1;
        if span.references > 0 {
            return;
        }
        let (activity, parent) = (span.activity, span.parent);
        if activity.is_some_and(|activity| self.activities[activity].root == number) {
            self.end(activity);
        }
        self.spans[number] = None;
        if let Some(parent) = parent {
            self.release(parent);
        }
    }

    fn end(&mut self, activity: Option<usize>) {
        if let Some(activity) = activity {
            self.activities[activity].ended = true;
        }
    }

    /// The activity that records this span, while it runs, and the span's index.
    fn recorded(&mut self, span: usize) -> Option<(&mut Activity, u32)> {
        let span = self.spans[span].as_ref().expect("the span is open");
        let activity = &mut self.activities[span.activity?];
        if activity.ended { None } else { Some((activity, span.index?)) }
    }

    fn exit(&mut self, thread: usize, span: usize, panicking: bool) {
        let stack = &mut self.stacks[thread];
        let position = stack.iter().rposition(|it| *it == span).expect("it was entered");
        stack.remove(position);
        if let Some((activity, index)) = self.recorded(span) {
            activity.panicked[index as usize] |= panicking;
        }
    }

    fn record(&mut self, span: usize, field: Field, value: u8) {
        let kind = self.span(span).kind;
        let Some((activity, index)) = self.recorded(span) else { return };
        let is_root = index == 0;
        let mut set = |name, value| activity.spans[index as usize].set(name, value);
        match field {
            Field::Late => set("late", Value::Str(late(value).into())),
            Field::Again => set("again", Value::I64(value.into())),
            Field::Status if kind.is_http() => {
                set("http.response.status_code", Value::I64(status(value).into()));
                if is_root {
                    activity.status = status(value);
                }
            }
            Field::Data if kind.is_annotated() => {
                set("activity.data.a", Value::I64(value.into()));
                activity.annotations.set("a", value.into());
            }
            Field::Status | Field::Data | Field::Undeclared => {}
        }
    }

    fn event(&mut self, thread: usize, event: usize, severity: Severity, parent: Parent) {
        let Some(span) = self.parent(thread, parent) else { return };
        let Some(activity) = self.spans[span].as_ref().and_then(|span| span.activity) else {
            return;
        };
        if self.activities[activity].ended || severity == Severity::Fine {
            return;
        }
        let span = self.nearest(span);
        let is_error = severity == Severity::Error;
        let message = message(event);
        self.activities[activity].events.push(ExpectedEvent { span, message, is_error });
    }

    fn patch(&mut self, activity: Option<usize>, patch: &Patch) {
        let Some(activity) = activity else { return };
        let activity = &mut self.activities[activity];
        if activity.ended {
            return;
        }
        match patch {
            Patch::Title(title) => activity.title = title.to_string(),
            Patch::Data(key, value) => activity.data.set(key, (*value).into()),
            Patch::Error(value) => {
                activity.error = Some(("told".to_owned(), value.to_string()));
            }
            Patch::ClientFault => activity.outcome = Some(Outcome::ClientFault),
        }
    }

    /// Gives the span that the poll began.
    fn poll(&mut self, thread: usize, number: usize, event: usize) -> Option<usize> {
        let mut future = self.futures[number].take().expect("the future is there");
        self.stacks[thread].push(future.span);
        let first = !std::mem::replace(&mut future.begun, true);
        if first {
            self.new_span(thread, future.inner, Kind::Plain, Parent::Contextual);
        }
        self.stacks[thread].push(future.inner);
        self.event(thread, event, Severity::Info, Parent::Contextual);
        self.exit(thread, future.inner, false);
        future.polls -= 1;
        if future.polls == 0 {
            self.release(future.inner);
        }
        self.exit(thread, future.span, false);
        let begun = first.then_some(future.inner);
        self.futures[number] = Some(future);
        begun
    }

    fn cancel(&mut self, number: usize) {
        // The spans are entered to drop what is inside of them, which is nothing to be seen.
        let future = self.futures[number].take().expect("the future is there");
        if future.begun && future.polls > 0 {
            self.release(future.inner);
        }
        self.release(future.span);
    }
}

impl ExpectedSpan {
    fn set(&mut self, name: &str, value: Value) {
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }
}

impl Activity {
    fn begin(&mut self, number: usize, kind: Kind, parent: u32) -> u32 {
        let mut span =
            ExpectedSpan { name: kind.name(), parent, error: "", attributes: Vec::new() };
        span.set("n", Value::U64(number as u64));
        span.set("again", Value::I64(-1));
        match kind {
            Kind::Request | Kind::FineRequest => {
                span.set("http.request.method", Value::Str("GET".into()));
                span.set("http.response.status_code", Value::I64(200));
            }
            Kind::Import | Kind::FineImport => {
                span.set("activity.ekind", Value::Str("import".into()));
                span.set("activity.data.a", Value::I64(-1));
                self.imports = true;
                self.annotations.set("a", -1);
            }
            Kind::Consumer => span.set("otel.kind", Value::Str("consumer".into())),
            Kind::Client => span.set("otel.kind", Value::Str("client".into())),
            Kind::Plain | Kind::Fine => {}
        }
        self.spans.push(span);
        self.panicked.push(false);
        self.spans.len() as u32 - 1
    }

    fn expected(&self) -> Expected {
        assert!(self.ended, "its root is closed");
        let mut spans = self.spans.clone();
        for (index, span) in spans.iter_mut().enumerate() {
            let failed = |it: &ExpectedEvent| it.span as usize == index && it.is_error;
            span.error = match () {
                () if self.panicked[index] => "panic",
                () if self.events.iter().any(failed) => "error",
                () => "",
            };
        }
        let root_panicked = self.panicked[0];
        let error_event = self.events.iter().find(|event| event.is_error);
        let judged = match self.status {
            500.. => Outcome::ServerFault,
            400.. => Outcome::ClientFault,
            _ if root_panicked => Outcome::ServerFault,
            0 if error_event.is_some() || self.error.is_some() => Outcome::ServerFault,
            _ => Outcome::Success,
        };
        let outcome = self.outcome.unwrap_or(judged);
        let (mut error_kind, mut error) = self.error.clone().unwrap_or_default();
        if let Some(event) = error_event
            && error.is_empty()
        {
            error.clone_from(&event.message);
        }
        if error_kind.is_empty() {
            error_kind = match () {
                () if root_panicked && self.status < 400 => "panic".to_owned(),
                () if outcome == Outcome::ServerFault && self.status != 0 => {
                    self.status.to_string()
                }
                () => String::new(),
            };
        }
        let ekind = match (self.imports, self.status) {
            (true, _) => "import",
            (false, 0) => self.spans[0].name,
            (false, _) => "GET",
        };
        // Annotations stand before what the application said, which wins.
        let mut data = self.annotations.clone();
        for (key, value) in &self.data.0 {
            data.set(key, *value);
        }
        Expected {
            spans,
            events: self.events.clone(),
            outcome,
            status: self.status,
            ekind: ekind.to_owned(),
            title: self.title.clone(),
            data: data.to_json(),
            error,
            error_kind,
        }
    }
}

/// The text recorded for a number.
pub(crate) fn late(value: u8) -> String {
    "v".repeat(usize::from(value % 40))
}

pub(crate) fn status(value: u8) -> u16 {
    [200, 404, 500][usize::from(value % 3)]
}

pub(crate) fn message(event: usize) -> String {
    format!("event {event}")
}
