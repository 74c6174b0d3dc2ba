//! The last look at a row before it leaves: no text of it holds a secret.
//!
//! Most rows hold none, which one look at the buffer's texts tells, since nearly every text of the
//! row is in it. Only the other rows are searched text by text.

use super::buffer::Buffer;
use super::patch::ActivityPatch;
use crate::model::{Activity, Trace, Value};
use crate::redact::Redactor;

/// Whether a text of this request may hold a secret.
pub(super) fn is_suspect(buffer: &Buffer) -> bool {
    let redactor = &buffer.shared.redactor;
    redactor.may_change(buffer.fields.texts())
        || buffer.panic_message.as_ref().is_some_and(|message| redactor.may_change(message))
        || buffer.patch.touched && is_patch_suspect(redactor, &buffer.patch)
}

fn is_patch_suspect(redactor: &Redactor, patch: &ActivityPatch) -> bool {
    let visit = patch.visit.iter().flat_map(|visit| [&visit.campaign, &visit.visit_referer]);
    patch.texts().chain(visit).any(|text| redactor.may_change(text))
}

/// Takes the secrets out of every text that the request or the application wrote.
pub(super) fn clean(redactor: &Redactor, activity: &mut Activity) {
    let Activity { url, referer, route, title, okind, ekind, error, error_kind, .. } = activity;
    for text in [url, referer, route, title, okind, ekind, error, error_kind] {
        redactor.text(text);
    }
    let Activity { user_agent, app, app_version, target_kind, actor_kind, .. } = activity;
    let Activity { campaign, visit_referer, .. } = activity;
    for text in [user_agent, app, app_version, target_kind, actor_kind, campaign, visit_referer] {
        redactor.text(text);
    }
    // What the application names as an id tells objects apart: a mark in its place would make one of
    // them all.
    let Activity { oid, user_id, session_id, target_id, on_behalf_of, .. } = activity;
    for id in [oid, user_id, session_id, target_id, on_behalf_of] {
        redactor.id(id);
    }
}

/// Takes the secrets out of the values and messages of a trace.
pub(super) fn clean_trace(redactor: &Redactor, trace: &mut Trace) {
    let spans = trace.spans.iter_mut().flat_map(|span| &mut span.attributes);
    let events = trace.events.iter_mut().flat_map(|event| {
        redactor.text(&mut event.message);
        &mut event.attributes
    });
    for (name, value) in spans.chain(events) {
        if let Value::Str(text) = value
            && redactor.may_change(text)
        {
            let mut cleaned = text.to_string();
            redactor.named_text(&mut cleaned, Some(name));
            *text = cleaned.into();
        }
    }
}
