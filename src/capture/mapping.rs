//! From the record of a request to the columns of its row.
//!
//! This runs on the worker's thread. Fields of the root span give the columns by OpenTelemetry's
//! names, their deprecated aliases and what the frameworks use; `activity.*` fields of any span
//! come next, what the application said through `with_activity` wins. Secrets are taken out last,
//! but for those in `data`, whose values are cleaned before they become text.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value as Json;

use super::bridge::guarded;
use super::buffer::{Buffer, Sealed};
use super::cleaning::{clean, clean_trace, is_suspect};
use super::fields::{EVENT, FieldRecord};
use super::fingerprint::{fingerprint, shape};
use super::limits::{self, Cut};
use super::names::{Names, event_kind, is_annotated};
use super::patch::ActivityPatch;
use super::trace::{attribute, trace};
use crate::model::{Activity, Outcome};
use crate::pipeline::Seed;
use crate::redact::{Redactor, ip, path_of};
use crate::sampling::Decision;
use crate::visits::kind_of;

impl Seed for Buffer {
    fn bytes(&self) -> usize {
        Buffer::bytes(self)
    }

    fn discard(self: Box<Self>) {
        let shared = Arc::clone(&self.shared);
        shared.recycle(self);
    }

    fn into_activity(self: Box<Self>) -> Option<Activity> {
        let activity = activity(&self);
        if let (Some(seen), Some(activity)) = (&self.shared.on_shape, &activity)
            && let Some(shape) = shape(&self)
        {
            guarded(&self.shared.counters, || seen(activity, &shape));
        }
        let shared = Arc::clone(&self.shared);
        shared.recycle(self);
        match (&shared.filter, activity) {
            (Some(filter), Some(activity)) => filter(&activity).then_some(activity),
            (_, activity) => activity,
        }
    }
}

/// The activity that a sealed buffer records.
fn activity(buffer: &Buffer) -> Option<Activity> {
    let Sealed { verdict, decision, duration, head, late_end, .. } = buffer.sealed?;
    let shared = &buffer.shared;
    let mut activity = Activity {
        when: buffer.when,
        activity_id: buffer.id,
        duration: duration.div_ceil(1000),
        response_start: head.start.div_ceil(1000),
        outcome: verdict.outcome,
        status: buffer.signals.status(),
        service: shared.service.clone(),
        host: shared.host.clone(),
        site_version: shared.site_version,
        site_revision: shared.site_revision.clone(),
        remote_trace_id: buffer.signals.remote_trace,
        remote_parent_id: buffer.signals.remote_parent,
        parent_sampled: buffer.linked.is_some_and(|it| it.caller.is_some_and(|it| it.sampled)),
        trace_hash: fingerprint(buffer),
        incomplete: verdict.incomplete || buffer.fields.panicked || buffer.patch.incomplete,
        late_end,
        dropped_spans: buffer.dropped_spans,
        ..Activity::default()
    };
    let mut columns = Columns::default();
    for record in buffer.fields.iter() {
        columns.read(buffer, record, &mut activity);
    }
    columns.fill(buffer, &mut activity);
    let annotated = annotations(buffer);
    apply(annotated, buffer, &mut activity);
    if activity.truncated && !buffer.truncated {
        shared.counters.count_truncated();
    }
    activity.truncated |= buffer.truncated;
    fill_error(buffer, verdict.error_kind, &mut activity);
    fallbacks(buffer, &mut activity);
    activity.client_kind = kind_of(&activity.user_agent);
    let suspect = is_suspect(buffer);
    if suspect {
        clean(&shared.redactor, &mut activity);
    }
    if let Decision::Keep { reason, .. } = decision {
        activity.kept_because = Some(reason);
        activity.sample_weight = decision.weight();
        let mut trace = trace(buffer);
        if suspect {
            clean_trace(&shared.redactor, &mut trace);
        }
        activity.trace = Some(trace);
    }
    Some(activity)
}

/// What the root's fields say before it is known which of several names is there.
#[derive(Default)]
struct Columns<'a> {
    names: Names<'a>,
}

impl<'a> Columns<'a> {
    /// Reads a field of the root span. Among aliases the conventional name wins, else the last.
    fn read(&mut self, buffer: &'a Buffer, record: &FieldRecord, activity: &mut Activity) {
        if !buffer.is_request(record.owner) {
            return;
        }
        let text = || text(buffer, record);
        let stored = buffer.shared.http.address;
        let borrowed =
            || buffer.fields.text_of(record).map_or_else(|| Cow::Owned(text()), Cow::Borrowed);
        let alias = |column: &mut String| {
            if column.is_empty() {
                *column = text();
            }
        };
        match buffer.name_of(record) {
            "user_agent.original" => activity.user_agent = text(),
            "http.user_agent" | "user_agent" => alias(&mut activity.user_agent),
            "http.request.header.referer" | "http.referer" | "referer" => {
                alias(&mut activity.referer);
            }
            "client.address" => activity.ip = ip(&borrowed(), stored),
            "http.client_ip" | "remote_addr" | "remote.addr" | "network.peer.address"
                if activity.ip.is_none() =>
            {
                activity.ip = ip(&borrowed(), stored);
            }
            "user.id" => activity.user_id = text(),
            "enduser.id" => alias(&mut activity.user_id),
            "session.id" => activity.session_id = text(),
            // A status is no class: the column `status` has it, and an error event may know more.
            "error.type" if borrowed().bytes().all(|it| it.is_ascii_digit()) => {}
            "error.type" | "exception.type" => activity.error_kind = text(),
            "exception.message" => activity.error = text(),
            "otel.status_description" | "otel.status_message" | "error" => {
                alias(&mut activity.error);
            }
            name => self.names.read(buffer, record, name),
        }
    }

    fn fill(&mut self, buffer: &'a Buffer, activity: &mut Activity) {
        self.names.settle(buffer);
        self.names.method.clone_into(&mut activity.method);
        activity.url = self.names.url(&buffer.shared.redactor);
        activity.referer = buffer.shared.redactor.url(&activity.referer);
        activity.route = self.names.route(buffer).into_owned();
    }
}

/// A field's value as text.
pub(super) fn text(buffer: &Buffer, record: &FieldRecord) -> String {
    if let Some(text) = buffer.fields.text_of(record) {
        text.to_owned()
    } else {
        let name = buffer.name_of(record);
        attribute(&buffer.shared.redactor, name, buffer.fields.value(record)).to_string()
    }
}

/// What `activity.*` fields say, in the order recorded.
fn annotations(buffer: &Buffer) -> ActivityPatch {
    let mut patch = ActivityPatch::default();
    if !is_annotated(buffer) {
        return patch;
    }
    let limits = &buffer.shared.limits;
    for record in buffer.fields.iter() {
        let Some(name) = buffer.name_of(record).strip_prefix("activity.") else { continue };
        let text = text(buffer, record);
        let new = ActivityPatch::default();
        let keep = |old: &Option<(String, String)>, at: usize| {
            old.as_ref().map_or(String::new(), |pair| [&pair.0, &pair.1][at].clone())
        };
        let new = match name {
            "title" => new.title(text),
            "okind" => new.object(text, keep(&patch.object, 1)),
            "oid" => new.object(keep(&patch.object, 0), text),
            "ekind" => new.event(text),
            "target_kind" => new.target(text, keep(&patch.target, 1)),
            "target_id" => new.target(keep(&patch.target, 0), text),
            "user_id" => new.actor(keep(&patch.actor, 0), text),
            "actor_kind" => new.actor(text, keep(&patch.actor, 1)),
            "on_behalf_of" => new.on_behalf_of(text),
            "session_id" => new.session(text),
            "app" => new.app(text, keep(&patch.app, 1)),
            "app_version" => new.app(keep(&patch.app, 0), text),
            "error" => ActivityPatch { error: Some(text), ..new },
            "error_kind" => new.error_kind(text),
            "outcome" => match text.parse::<Outcome>() {
                Ok(outcome) => new.outcome(outcome),
                Err(_) => ActivityPatch { incomplete: true, ..new },
            },
            "data" => match serde_json::from_str(&text) {
                Ok(Json::Object(map)) => {
                    map.into_iter().fold(new, |new, (key, value)| new.data(key, value))
                }
                _ => ActivityPatch { incomplete: true, ..new },
            },
            _ => match name.strip_prefix("data.") {
                Some(key) => new.data(key, buffer.fields.value(record)),
                None => continue,
            },
        };
        patch.merge(new, limits);
    }
    patch
}

/// Writes the annotations and then the application's patch over the columns.
fn apply(mut annotated: ActivityPatch, buffer: &Buffer, activity: &mut Activity) {
    let patch = &buffer.patch;
    let unlimited = super::fields::FieldLimits {
        fields: usize::MAX,
        field_bytes: usize::MAX,
        row_bytes: usize::MAX,
    };
    if patch.touched {
        annotated.merge(patch.clone(), &unlimited);
    }
    if !annotated.touched {
        return;
    }
    let ActivityPatch { title, object, target, event, mut data, error, error_kind, .. } = annotated;
    let ActivityPatch { outcome, actor, on_behalf_of, session, app, captured, visit, .. } =
        annotated;
    let mut cut = annotated.cut;
    let set = |column: &mut String, value: Option<String>| {
        if let Some(value) = value {
            *column = value;
        }
    };
    set(&mut activity.title, title);
    set(&mut activity.session_id, session);
    set(&mut activity.error, error);
    set(&mut activity.error_kind, error_kind);
    set(&mut activity.on_behalf_of, on_behalf_of);
    if let Some((okind, oid)) = object {
        (activity.okind, activity.oid) = (okind, oid);
    }
    if let Some((app, version)) = app {
        (activity.app, activity.app_version) = (app, version);
    }
    if let Some((kind, id)) = target {
        (activity.target_kind, activity.target_id) = (kind, id);
    }
    if let Some((kind, id)) = actor {
        (activity.actor_kind, activity.user_id) = (kind, id);
    }
    if let Some(visit) = visit {
        visit.fill(activity);
    }
    if let Some(outcome) = outcome {
        activity.outcome = outcome;
    }
    activity.incomplete |= annotated.incomplete;
    let redactor = &buffer.shared.redactor;
    let captured = captured.map(|captured| captured.fill(&buffer.shared, activity));
    let mut fields = Vec::new();
    if let Some(event) = event {
        activity.ekind = event.ekind;
        // What a type says of its fields holds, whoever else uses their names.
        data.retain(|(key, _)| !event.fields.iter().any(|(field, _)| field == key));
        fields = event.fields;
    }
    let data = fields.into_iter().chain(data).chain(captured.into_iter().flatten());
    let data = data.map(|(key, value)| redactor.entry(key, value));
    activity.data = json_object(data, redactor, &mut cut, buffer.shared.limits.row_bytes);
    if cut.count > 0 {
        activity.truncated = true;
        buffer.shared.counters.count_cut(cut.count);
    }
}

/// A JSON object of these entries in their order, or empty text. Entries beyond `max` bytes are
/// left out; what was cut is told in the last one, which is short and always there.
fn json_object(
    data: impl Iterator<Item = (String, Json)>,
    redactor: &Redactor,
    cut: &mut Cut,
    max: usize,
) -> String {
    let mut text = String::new();
    let mut push = |entry: &str| {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(entry);
        text.len()
    };
    let mut len = 1;
    for (key, value) in data {
        let entry = format!("{}:{value}", Json::from(&*key));
        if len + entry.len() + 2 > max {
            cut.left_out(&key, entry.len());
        } else {
            len = push(&entry);
        }
    }
    if let Some(told) = cut.told() {
        let (key, value) = redactor.entry(limits::KEY.to_owned(), told);
        push(&format!("{}:{value}", Json::from(key)));
    }
    if !text.is_empty() {
        text.push('}');
    }
    text
}

/// The error columns, from what the spans and events tell when the application did not.
fn fill_error(buffer: &Buffer, kind: &str, activity: &mut Activity) {
    if kind == "panic"
        && activity.error.is_empty()
        && let Some(message) = &buffer.panic_message
    {
        activity.error = message.to_string();
    }
    if activity.error.is_empty()
        && let Some((message, class)) = first_error(buffer)
    {
        activity.error = message;
        if activity.error_kind.is_empty() {
            activity.error_kind = class;
        }
    }
    if activity.error_kind.is_empty() {
        kind.clone_into(&mut activity.error_kind);
    }
    if activity.error_kind.is_empty()
        && activity.outcome == Outcome::ServerFault
        && let Some(status) = buffer.signals.fault()
    {
        activity.error_kind = status.to_string();
    }
}

/// Message and class of the request's first error event; a framework's own only when there is no
/// other, as it merely repeats the status.
fn first_error(buffer: &Buffer) -> Option<(String, String)> {
    let errors = || {
        let events = buffer.events.iter().enumerate();
        events.filter(|(_, event)| event.callsite.is_error)
    };
    let framework = |target: &str| target.starts_with("tower_http");
    let own = errors().find(|(_, event)| !framework(event.callsite.metadata.target()));
    let (index, _) = own.or_else(|| errors().next())?;
    let owner = EVENT | index as u32;
    let field = |names: &[&str]| {
        let mut records = buffer.fields.iter().rev();
        let found = records.find(|it| it.owner == owner && names.contains(&buffer.name_of(it)));
        found.map(|record| text(buffer, record))
    };
    let message = field(&["classification"]).or_else(|| field(&["message"])).unwrap_or_default();
    let cause = field(&["exception.message", "error", "err"]);
    let message = match cause {
        Some(cause) if message.is_empty() => cause,
        Some(cause) if !message.contains(&cause) => format!("{message}: {cause}"),
        _ => message,
    };
    Some((message, field(&["exception.type", "error.type"]).unwrap_or_default()))
}

/// The object of a request that no route served.
const UNROUTED: &str = "_OTHER";

/// Whether the path of a request without a route is the client's invention: nothing served it, or the
/// middleware, which knows the routes, knows of none.
fn is_anybodys(buffer: &Buffer, activity: &Activity) -> bool {
    let request = &buffer.spans[buffer.request as usize];
    request.callsite.told_by_middleware && !activity.method.is_empty()
        || (400..500).contains(&activity.status)
}

/// Object and event of a request that nobody annotated.
fn fallbacks(buffer: &Buffer, activity: &mut Activity) {
    if activity.okind.is_empty() && activity.oid.is_empty() {
        "site".clone_into(&mut activity.okind);
        activity.oid = match (activity.route.as_str(), path_of(&activity.url)) {
            ("", _) if is_anybodys(buffer, activity) => UNROUTED.to_owned(),
            ("", "") => "/".to_owned(),
            ("", path) => path.to_owned(),
            (route, _) => route.to_owned(),
        };
    }
    if activity.ekind.is_empty() {
        activity.ekind = event_kind(buffer, &activity.method, &activity.route).concat();
    }
}
