//! [`StdoutSink`]: JSON lines.
//!
//! A line is the activity as JSON, with `data` as the JSON it holds and `trace_id` added. What a
//! client sent must not steer the terminal of whoever reads the log: every control character, C1
//! controls and line separators included, leaves as `\uXXXX`.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::ser::Formatter;
use uuid::Uuid;

use super::{Batch, BoxFuture, Sink, SinkError};
use crate::model::{Activity, TraceId};

/// How long to wait for a reader that is slow and a pipe that does not block.
const FULL_PIPE: Duration = Duration::from_millis(10);

/// Writes each activity as a line of JSON to standard output, or to any writer.
#[derive(Debug)]
pub struct StdoutSink<W = io::Stdout> {
    out: W,
    /// The batch under way. Kept over an error, so that its repetition neither repeats lines nor
    /// leaves one torn.
    unfinished: Option<Lines>,
}

#[derive(Debug)]
struct Lines {
    batch: Uuid,
    text: Vec<u8>,
    written: usize,
}

impl StdoutSink {
    /// Writes to standard output.
    #[must_use]
    pub fn new() -> Self {
        Self::to(io::stdout())
    }
}

impl Default for StdoutSink {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Write + Send> StdoutSink<W> {
    /// Writes to `out`.
    pub fn to(out: W) -> Self {
        Self { out, unfinished: None }
    }

    async fn write_lines(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let mut lines = match self.unfinished.take() {
            Some(lines) if lines.batch == batch.id() => lines,
            _ => Lines { batch: batch.id(), text: lines(batch)?, written: 0 },
        };
        loop {
            // One call writes all that is left, so other writers of standard output cannot come
            // between: it locks once a call.
            match write_on(&mut self.out, &lines.text, &mut lines.written) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unfinished = Some(lines);
                    tokio::time::sleep(FULL_PIPE).await;
                    let Some(again) = self.unfinished.take() else { return Ok(()) };
                    lines = again;
                }
                Err(error) if is_final(error.kind()) => {
                    return Err(SinkError::closed(format!("the log has no reader: {error}")));
                }
                Err(error) => {
                    self.unfinished = Some(lines);
                    return Err(SinkError::retryable(format!("cannot write the log: {error}")));
                }
            }
        }
    }
}

impl<W: Write + Send> Sink for StdoutSink<W> {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn write<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(self.write_lines(batch))
    }
}

fn write_on(out: &mut impl Write, text: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < text.len() {
        match out.write(&text[*written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => *written += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

fn is_final(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::WriteZero | ErrorKind::ConnectionReset)
}

fn lines(batch: &Batch) -> Result<Vec<u8>, SinkError> {
    let mut text = Vec::with_capacity(batch.bytes());
    for activity in batch.rows() {
        write_line(activity, &mut text)
            .map_err(|error| SinkError::rejected(format!("cannot be written as JSON: {error}")))?;
    }
    Ok(text)
}

#[derive(Serialize)]
struct Line<'a> {
    trace_id: TraceId,
    #[serde(flatten)]
    activity: &'a Activity,
}

fn write_line(activity: &Activity, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let start = out.len();
    write_json(&Line { trace_id: activity.trace_id(), activity }, out)?;
    if serde_json::from_str::<IgnoredAny>(&activity.data).is_ok() {
        embed_data(&activity.data, start, out)?;
    }
    out.push(b'\n');
    Ok(())
}

/// Replaces the text of the field `data` by the JSON in it.
///
/// The name is found by its bytes: within any text a quotation mark follows a backslash, so a
/// comma, a mark, the name and a mark can only be the field itself.
fn embed_data(data: &str, start: usize, out: &mut Vec<u8>) -> serde_json::Result<()> {
    const NAME: &[u8] = b",\"data\":";
    let Some(at) = out[start..].windows(NAME.len()).position(|bytes| bytes == NAME) else {
        return Ok(());
    };
    let value = start + at + NAME.len();
    let mut text = Vec::new();
    write_json(data, &mut text)?;
    out.splice(value..value + text.len(), one_line(data).into_bytes());
    Ok(())
}

/// Valid JSON without blanks between its parts and without characters that steer a terminal.
///
/// Numbers keep their spelling: parsing them would round the large ones.
fn one_line(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for c in json.chars() {
        match c {
            '"' if !escaped => in_text = !in_text,
            ' ' | '\t' | '\n' | '\r' if !in_text => continue,
            _ => {}
        }
        escaped = in_text && c == '\\' && !escaped;
        if is_hostile(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

fn write_json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, Printable))
}

/// Beyond what JSON itself escapes: DEL, the C1 controls and the two line separators.
fn is_hostile(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

/// Compact JSON whose text prints as it reads.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_hostile) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const HOSTILE: &str =
        "a\r\n\u{1b}[2J\u{9b}31m\u{7f}\u{85}\u{2028}\u{2029}\0\"\\,\"data\":\"é🦀";

    fn text_of(activity: &Activity) -> String {
        let mut out = Vec::new();
        write_line(activity, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn whatever_a_client_sent_is_one_line_that_steers_no_terminal_and_reads_back() {
        let activity = Activity {
            method: HOSTILE.to_owned(),
            user_agent: HOSTILE.to_owned(),
            data: HOSTILE.to_owned(),
            ..Activity::default()
        };
        let line = text_of(&activity);
        let (body, rest) = line.split_once('\n').unwrap();
        assert_eq!(rest, "");
        assert!(!body.contains(|c: char| c.is_control() || is_hostile(c)), "{body:?}");
        let json: Value = serde_json::from_str(body).unwrap();
        for field in ["method", "user_agent", "data"] {
            assert_eq!(json[field], HOSTILE);
        }
        assert_eq!(json["trace_id"], activity.trace_id().to_string());
        assert_eq!(json["outcome"], "success");
    }

    #[test]
    fn data_is_embedded_as_the_json_it_is() {
        let data =
            "{ \"a\\\"}\" : [1, 12345678901234567890123],\n \"b c\":\"\u{85}\u{9b}x \\\\\" }";
        let line = text_of(&Activity { data: data.to_owned(), ..Activity::default() });
        assert!(
            line.contains(
                r#","data":{"a\"}":[1,12345678901234567890123],"b c":"\u0085\u009bx \\"},"error":"#
            ),
            "{line}"
        );
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["data"], serde_json::from_str::<Value>(data).unwrap());
        for text in ["", "{", "{} {}", &"[".repeat(10_000)] {
            let line = text_of(&Activity { data: text.to_owned(), ..Activity::default() });
            assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["data"], text);
        }
    }

    /// A writer that takes a few bytes at a time and fails now and then.
    struct Shaky {
        out: Vec<u8>,
        failures: Vec<ErrorKind>,
    }

    impl Write for Shaky {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.out.len() % 100 >= 90
                && let Some(kind) = self.failures.pop()
            {
                return Err(kind.into());
            }
            let n = bytes.len().min(7);
            self.out.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_repeated_batch_goes_on_where_it_was_interrupted() {
        let rows = (0..3).map(|status| Activity { status, ..Activity::default() }).collect();
        let batch = Batch::new(rows, 0);
        let expected = lines(&batch).unwrap();
        let failures = vec![ErrorKind::StorageFull, ErrorKind::WouldBlock, ErrorKind::Interrupted];
        let mut sink = StdoutSink::to(Shaky { out: Vec::new(), failures });
        let error = wait(sink.write(&batch)).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        wait(sink.write(&batch)).unwrap();
        assert_eq!(sink.out.out, expected);
        assert_eq!(sink.out.failures, []);
    }

    #[test]
    fn a_log_without_a_reader_is_an_error_and_not_a_panic() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let batch = Batch::new(vec![Activity::default()], 0);
        let error = wait(StdoutSink::to(Broken).write(&batch)).unwrap_err();
        assert!(error.is_closed(), "{error}");
    }
}
