//! What is copied of bodies and headers as they pass: the start, and what is listed.

use std::io::IoSlice;

use bytes::Buf;
use http::{HeaderMap, HeaderValue};

use crate::capture::CapturedBody;
use crate::config::{HeaderNames, MediaTypes};

/// An empty copy, where this type is listed. Compressed bytes say nothing to anybody, and what is
/// secret in them cannot be found.
pub(super) fn wanted(
    types: &MediaTypes,
    content_type: &str,
    encoding: Option<&HeaderValue>,
) -> Option<CapturedBody> {
    let is_plain = encoding.is_none_or(|it| it.as_bytes().eq_ignore_ascii_case(b"identity"));
    (is_plain && types.contains(content_type))
        .then(|| CapturedBody { content_type: content_type.to_owned(), ..CapturedBody::default() })
}

/// Copies what fits of a frame, which stays as it is.
pub(super) fn append(body: &mut CapturedBody, data: &impl Buf, max_bytes: usize) {
    let all = pieces(data, |piece| body.extend(piece, max_bytes));
    body.truncated |= !all;
}

/// Looks at the pieces of a frame, which stays as it is. `false` when it has more of them than are
/// looked at.
pub(super) fn pieces(data: &impl Buf, mut look: impl FnMut(&[u8])) -> bool {
    let mut pieces = [IoSlice::new(&[]); 16];
    let count = data.chunks_vectored(&mut pieces);
    let mut seen = 0;
    for piece in &pieces[..count] {
        look(piece);
        seen += piece.len();
    }
    seen == data.remaining()
}

/// The listed headers among these. Of several lines the first stands.
pub(super) fn listed(names: &HeaderNames, headers: &HeaderMap) -> Vec<(String, String)> {
    let value = |name: &str| {
        let value = headers.get(name)?.as_bytes();
        Some((name.to_owned(), String::from_utf8_lossy(value).into_owned()))
    };
    names.iter().filter_map(value).collect()
}
