//! Recorded field values: one flat list and one text arena per activity.
//!
//! Values are copied as they arrive - integers as they are, text into the arena - so nothing is
//! allocated per field once the buffers have grown. Names are the callsite's own static text.

use std::fmt::{self, Write as _};

use tracing_core::field::{Field, Visit};

use super::callsite::{Callsite, Signal};
use super::evidence;
use super::outcome::Signals;
use super::panics::caught;
use crate::model::{TraceId, Value};
use crate::redact::Nature;

/// What a field belongs to: a span by its index, or an event by its index with this bit set.
pub(super) const EVENT: u32 = 1 << 31;

/// What the payload of a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    I64,
    U64,
    F64,
    Bool,
    /// A range of the text: start in the upper half, length in the lower.
    Text,
}

/// One value in 16 bytes. The name is the callsite's: the owner has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldRecord {
    pub(super) owner: u32,
    /// Index of the field in its callsite.
    field: u16,
    tag: Tag,
    payload: u64,
}

impl FieldRecord {
    /// The field's name, given the callsite of its owner.
    pub(super) fn name(&self, callsite: &Callsite) -> &'static str {
        callsite.field_name(self.field.into())
    }

    /// What its name says of its value, given the callsite of its owner.
    pub(super) fn nature(&self, callsite: &Callsite) -> Nature {
        callsite.nature(self.field.into())
    }
}

/// Bytes of a formatted status, outcome or error that are looked at.
const SIGNAL_BYTES: usize = 1024;

/// Fields and bytes that the root may have beyond the caps: they become columns, and come last.
const ROOT_FIELDS: usize = 64;
const ROOT_BYTES: usize = 16 << 10;

/// How much may be recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldLimits {
    pub(super) fields: usize,
    pub(super) field_bytes: usize,
    pub(super) row_bytes: usize,
}

/// The fields of one activity, or of one operation that has yet to reach it.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields {
    records: Vec<FieldRecord>,
    text: String,
    /// Something was cut or left out.
    pub(super) truncated: bool,
    /// A `Debug` or `Display` of the application panicked.
    pub(super) panicked: bool,
}

impl Fields {
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &FieldRecord> {
        self.records.iter()
    }

    /// All texts, one behind the other.
    pub(super) fn texts(&self) -> &str {
        &self.text
    }

    /// Heap memory held.
    pub(super) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<FieldRecord>() + self.text.capacity()
    }

    /// The text of a value, where it is text.
    pub(super) fn text_of(&self, record: &FieldRecord) -> Option<&str> {
        let start = (record.payload >> 32) as usize;
        let len = (record.payload & u64::from(u32::MAX)) as usize;
        (record.tag == Tag::Text).then(|| &self.text[start..start + len])
    }

    pub(super) fn value(&self, record: &FieldRecord) -> Value {
        match record.tag {
            Tag::I64 => Value::I64(record.payload.cast_signed()),
            Tag::U64 => Value::U64(record.payload),
            Tag::F64 => Value::F64(f64::from_bits(record.payload)),
            Tag::Bool => Value::Bool(record.payload != 0),
            Tag::Text => Value::Str(self.text_of(record).unwrap_or_default().into()),
        }
    }

    /// Adds the fields of a detached operation, which now belong to `owner`.
    pub(super) fn append(&mut self, other: &Fields, owner: u32, limits: &FieldLimits) {
        self.truncated |= other.truncated;
        self.panicked |= other.panicked;
        for record in &other.records {
            match other.text_of(record) {
                Some(text) => self.push_text(owner, record.field, text, limits),
                None => self.push(owner, record.field, record.tag, record.payload, limits),
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.text.clear();
        self.truncated = false;
        self.panicked = false;
    }

    /// Gives back lists of more than `keep` bytes.
    pub(super) fn shrink(&mut self, keep: usize) {
        let records = keep / size_of::<FieldRecord>();
        if self.records.capacity() > records {
            self.records.clear();
            self.records.shrink_to(records);
        }
        if self.text.capacity() > keep {
            self.records.clear();
            self.text.clear();
            self.text.shrink_to(keep);
        }
    }

    #[inline]
    fn push(&mut self, owner: u32, field: u16, tag: Tag, payload: u64, limits: &FieldLimits) {
        let record = FieldRecord { owner, field, tag, payload };
        let len = self.records.len();
        if len >= limits.fields && !(owner == 0 && len < limits.fields.saturating_add(ROOT_FIELDS))
        {
            self.truncated = true;
        } else if len < self.records.capacity() {
            self.records.push(record);
        } else {
            self.push_grown(record);
        }
    }

    #[cold]
    #[inline(never)]
    fn push_grown(&mut self, record: FieldRecord) {
        self.records.push(record);
    }

    /// Bytes that one more value of this owner may take.
    fn room(&self, owner: u32, limits: &FieldLimits) -> usize {
        let reserve = if owner == 0 { ROOT_BYTES } else { 0 };
        let row_bytes = limits.row_bytes.saturating_add(reserve);
        limits.field_bytes.min(row_bytes.saturating_sub(self.text.len()))
    }

    #[inline]
    fn push_text(&mut self, owner: u32, field: u16, text: &str, limits: &FieldLimits) {
        let start = self.text.len();
        if text.len() > limits.field_bytes || start + text.len() > limits.row_bytes {
            return self.push_cut(owner, field, text, limits);
        }
        // The copy last: nothing is kept across it.
        let range = (start as u64) << 32 | text.len() as u64;
        self.push(owner, field, Tag::Text, range, limits);
        self.text.push_str(text);
    }

    #[cold]
    #[inline(never)]
    fn push_cut(&mut self, owner: u32, field: u16, text: &str, limits: &FieldLimits) {
        let start = self.text.len();
        let room = self.room(owner, limits);
        self.truncated |= text.len() > room;
        self.text.push_str(&text[..text.floor_char_boundary(room)]);
        self.push_range(owner, field, start, limits);
    }

    #[inline]
    fn push_range(&mut self, owner: u32, field: u16, start: usize, limits: &FieldLimits) {
        let len = (self.text.len() - start) as u64;
        self.push(owner, field, Tag::Text, (start as u64) << 32 | len, limits);
    }

    /// Formats `value`, which is code of the application: it may be endless, fail or panic.
    fn push_format(
        &mut self,
        owner: u32,
        field: u16,
        value: fmt::Arguments<'_>,
        limits: &FieldLimits,
    ) {
        let start = self.text.len();
        let end = start + self.room(owner, limits);
        let mut writer = Bounded { text: &mut self.text, end, full: false };
        let written = caught(|| writer.write_fmt(value));
        self.truncated |= writer.full;
        if written.is_none() {
            self.text.truncate(start);
            self.panicked = true;
            return self.push_text(owner, field, "(formatting panicked)", limits);
        }
        self.push_range(owner, field, start, limits);
    }
}

/// Writes up to a bound and then tells the formatter to stop.
struct Bounded<'a> {
    text: &'a mut String,
    end: usize,
    full: bool,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.end.saturating_sub(self.text.len());
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        let cut = part.floor_char_boundary(room);
        self.text.push_str(&part[..cut]);
        self.full = true;
        Err(fmt::Error)
    }
}

/// Copies the fields of a span, event or late `record`, and notes the signals among them.
pub(super) struct Recorder<'a> {
    pub(super) fields: &'a mut Fields,
    pub(super) owner: u32,
    pub(super) limits: &'a FieldLimits,
    pub(super) callsite: &'static Callsite,
    /// Where signals go; `None` where there can be none.
    pub(super) signals: Option<&'a mut Signals>,
    /// Whether the status, too, is the request's: on its root, and in its framework's event. Of
    /// other spans only reserved fields count.
    pub(super) own: bool,
}

impl Recorder<'_> {
    /// A value that may be a status.
    #[inline]
    fn integer(&mut self, field: &Field, tag: Tag, payload: u64, value: i64) {
        // Apart, so that the usual way keeps nothing across a call.
        if self.signals.is_some() {
            return self.signal_and_push(field, tag, payload, value);
        }
        self.fields.push(self.owner, index(field), tag, payload, self.limits);
    }

    #[inline(never)]
    fn signal_and_push(&mut self, field: &Field, tag: Tag, payload: u64, value: i64) {
        self.number(field, value);
        self.fields.push(self.owner, index(field), tag, payload, self.limits);
    }

    #[inline(never)]
    fn signal_and_push_text(&mut self, field: &Field, text: &str) {
        self.named(field, text);
        self.fields.push_text(self.owner, index(field), text, self.limits);
    }

    fn number(&mut self, field: &Field, value: i64) {
        let Some(signals) = self.signals.as_deref_mut() else { return };
        match self.callsite.signal(field.index()) {
            _ if !self.own => {}
            Signal::Status(rank) => signals.set_status(rank, u16::try_from(value).ok()),
            Signal::GrpcStatus => signals.set_grpc(u16::try_from(value).ok()),
            _ => {}
        }
    }

    fn named(&mut self, field: &Field, text: &str) {
        let signal = self.callsite.signal(field.index());
        let Some(signals) = self.signals.as_deref_mut() else { return };
        match signal {
            Signal::SaidOutcome => signals.said = text.parse().ok().or(signals.said),
            Signal::SaidError => signals.said_error = true,
            Signal::OtelKind => signals.set_kind(text),
            Signal::Serving => signals.serves |= evidence::tells(field.name(), text),
            Signal::None => {}
            _ if !self.own => {}
            Signal::Status(rank) => signals.set_status(rank, leading_number(text)),
            Signal::GrpcStatus => signals.set_grpc(leading_number(text)),
            Signal::OtelStatus => signals.otel_error = text.eq_ignore_ascii_case("error"),
            Signal::TraceId => signals.remote_trace = text.parse::<TraceId>().ok(),
            Signal::Failure => signals.failed = true,
        }
    }

    fn format(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        if self.signals.is_none() || self.callsite.signal(field.index()) == Signal::None {
            self.fields.push_format(self.owner, index(field), value, self.limits);
            return;
        }
        // Formatted apart: the caps of the row must not hide what it says.
        let apart = FieldLimits { fields: 1, field_bytes: SIGNAL_BYTES, row_bytes: SIGNAL_BYTES };
        let mut fields = Fields::default();
        fields.push_format(self.owner, index(field), value, &apart);
        self.fields.panicked |= fields.panicked;
        self.named(field, &fields.text);
        self.fields.push_text(self.owner, index(field), &fields.text, self.limits);
    }
}

/// The number a status such as `200 OK` begins with.
fn leading_number(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The field's index. A callsite has at most 32 fields by the macros' limit.
fn index(field: &Field) -> u16 {
    field.index() as u16
}

impl Visit for Recorder<'_> {
    #[inline]
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.integer(field, Tag::I64, value.cast_unsigned(), value);
    }

    #[inline]
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.integer(field, Tag::U64, value, i64::try_from(value).unwrap_or(-1));
    }

    #[inline]
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.push(self.owner, index(field), Tag::F64, value.to_bits(), self.limits);
    }

    #[inline]
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push(self.owner, index(field), Tag::Bool, value.into(), self.limits);
    }

    #[inline]
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.signals.is_some() {
            return self.signal_and_push_text(field, value);
        }
        self.fields.push_text(self.owner, index(field), value, self.limits);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.format(field, format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.format(field, format_args!("{value:?}"));
    }
}

/// An error and its sources, `: ` between them.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        // A source that names itself would never end; the writer's bound stops it too.
        for _ in 0..64 {
            let Some(error) = source else { break };
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
