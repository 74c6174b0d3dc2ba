//! gRPC-Web: trailers that come in the body, as its last frame.
//!
//! From gRPC's `PROTOCOL-WEB.md`: a frame is a byte of flags, the length in four bytes, and the
//! payload. The flag 0x80 marks the trailers, written as headers of HTTP/1.1 are; 0x01 says that the
//! payload is compressed by `grpc-encoding`. Of the type `-text` the body is base64, of however many
//! pieces, each padded by itself. A body's parts and frames begin and end anywhere.
//!
//! Messages are passed over, not kept. Of the trailers the beginning is.

use std::io::Read as _;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Buf;
use flate2::read::{GzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::copy::pieces;
use super::grpc::{MESSAGE, STATUS};

/// Bytes of trailers that are kept, also when they are compressed.
const MAX_TRAILERS: usize = 8 << 10;

const IS_TRAILERS: u8 = 0x80;
const IS_COMPRESSED: u8 = 0x01;

/// Characters that are decoded at a time.
const AT_ONCE: usize = 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The body of an answer on its way, in which trailers are looked for.
#[derive(Debug)]
pub(super) struct Body {
    /// Characters of base64 that are no whole four yet; `None` where the body is no text.
    text: Option<Vec<u8>>,
    encoding: Option<HeaderValue>,
    place: Place,
}

/// What comes next.
#[derive(Debug)]
enum Place {
    /// The rest of the beginning of a frame.
    Head { bytes: [u8; 5], len: usize },
    /// So many bytes of a message.
    Message(usize),
    /// So many bytes of the trailers, behind these.
    Trailers { left: usize, is_compressed: bool, bytes: Vec<u8> },
    /// Nothing more is looked at.
    Over(Over),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// The trailers were there.
    Told,
    /// This is no gRPC-Web, or cannot be read.
    Unreadable,
}

const START: Place = Place::Head { bytes: [0; 5], len: 0 };

impl Body {
    /// The body behind this head, by its type in base64 or not.
    pub(super) fn new(headers: &HeaderMap, is_text: bool) -> Self {
        let encoding = headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let is_plain = encoding.is_none_or(|it| it.eq_ignore_ascii_case(b"identity"));
        Self {
            text: is_text.then(Vec::new),
            encoding: headers.get("grpc-encoding").cloned(),
            place: if is_plain { START } else { Place::Over(Over::Unreadable) },
        }
    }

    /// Whether the body was such that nobody can tell how the call went.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self.place, Place::Over(Over::Unreadable))
    }

    /// Looks at a part of the body. Gives the trailers, once they are whole.
    pub(super) fn pass(&mut self, data: &impl Buf) -> Option<HeaderMap> {
        if matches!(self.place, Place::Over(_)) {
            return None;
        }
        let mut found = None;
        let all = pieces(data, |piece| {
            found = found.take().or_else(|| self.piece(piece));
        });
        if !all && found.is_none() {
            self.place = Place::Over(Over::Unreadable);
        }
        found
    }

    /// The body is over: what is left of base64 without its padding. Gives the trailers, if that made
    /// them whole.
    pub(super) fn end(&mut self) -> Option<HeaderMap> {
        let rest = self.text.as_mut().map(std::mem::take)?;
        self.decode(&rest)
    }

    fn piece(&mut self, piece: &[u8]) -> Option<HeaderMap> {
        let Some(mut rest) = self.text.take() else { return self.bytes(piece) };
        let mut found = None;
        let mut piece = piece;
        while !piece.is_empty() && !matches!(self.place, Place::Over(_)) {
            // Padding ends a piece of base64, and the next begins behind it.
            let run = piece.iter().take(AT_ONCE).position(|it| *it == b'=');
            let run = run.unwrap_or(piece.len().min(AT_ONCE)) & !3;
            if rest.is_empty() && run > 0 {
                found = self.decode(&piece[..run]);
                piece = &piece[run..];
                continue;
            }
            rest.push(piece[0]);
            piece = &piece[1..];
            if rest.len() == 4 {
                found = self.decode(&rest);
                rest.clear();
            }
        }
        self.text = Some(rest);
        found
    }

    fn decode(&mut self, text: &[u8]) -> Option<HeaderMap> {
        let mut bytes = [0; AT_ONCE / 4 * 3];
        if let Ok(len) = BASE64.decode_slice(text, &mut bytes) {
            self.bytes(&bytes[..len])
        } else {
            self.place = Place::Over(Over::Unreadable);
            None
        }
    }

    fn bytes(&mut self, mut data: &[u8]) -> Option<HeaderMap> {
        loop {
            match &mut self.place {
                Place::Over(_) => return None,
                Place::Head { bytes, len } => {
                    let (taken, rest) = data.split_at(data.len().min(5 - *len));
                    bytes[*len..*len + taken.len()].copy_from_slice(taken);
                    (*len, data) = (*len + taken.len(), rest);
                    if *len < 5 {
                        return None;
                    }
                    let [flags, length @ ..] = *bytes;
                    let left = u32::from_be_bytes(length) as usize;
                    self.place = if flags & IS_TRAILERS == 0 {
                        Place::Message(left)
                    } else {
                        let is_compressed = flags & IS_COMPRESSED != 0;
                        Place::Trailers { left, is_compressed, bytes: Vec::new() }
                    };
                }
                Place::Message(left) => {
                    let passed = data.len().min(*left);
                    (*left, data) = (*left - passed, &data[passed..]);
                    if *left > 0 {
                        return None;
                    }
                    self.place = START;
                }
                Place::Trailers { left, is_compressed, bytes } => {
                    let taken = &data[..data.len().min(*left)];
                    let room = MAX_TRAILERS.saturating_sub(bytes.len());
                    bytes.extend_from_slice(&taken[..taken.len().min(room)]);
                    *left -= taken.len();
                    if *left > 0 {
                        return None;
                    }
                    // Nothing behind them matters.
                    let plain = if *is_compressed {
                        decompressed(bytes, self.encoding.as_ref())
                    } else {
                        Some(std::mem::take(bytes))
                    };
                    let over = if plain.is_some() { Over::Told } else { Over::Unreadable };
                    self.place = Place::Over(over);
                    return plain.map(|plain| trailers(&plain));
                }
            }
        }
    }
}

fn decompressed(bytes: &[u8], encoding: Option<&HeaderValue>) -> Option<Vec<u8>> {
    let encoding = encoding?.to_str().ok()?;
    let (mut plain, most) = (Vec::new(), MAX_TRAILERS as u64);
    if encoding.eq_ignore_ascii_case("gzip") {
        GzDecoder::new(bytes).take(most).read_to_end(&mut plain).ok()?;
    } else if encoding.eq_ignore_ascii_case("deflate") {
        ZlibDecoder::new(bytes).take(most).read_to_end(&mut plain).ok()?;
    } else if encoding.eq_ignore_ascii_case("identity") {
        plain.extend_from_slice(bytes);
    } else {
        return None;
    }
    Some(plain)
}

/// What the trailers say of how the call went.
fn trailers(text: &[u8]) -> HeaderMap {
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        matches!(name.as_str(), STATUS | MESSAGE).then_some((name, value))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::engine::general_purpose::STANDARD as PADDED;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn frame(flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&[flags][..], &length, payload].concat()
    }

    /// What is found in a body that comes in these parts.
    fn found(
        headers: &[(&'static str, &str)],
        is_text: bool,
        parts: &[&[u8]],
    ) -> Option<HeaderMap> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let mut body = Body::new(&map, is_text);
        let found: Vec<_> = parts.iter().filter_map(|part| body.pass(part)).collect();
        assert!(found.len() <= 1, "{found:?}");
        found.into_iter().next().or_else(|| body.end())
    }

    fn status(headers: &HeaderMap) -> &str {
        headers[STATUS].to_str().unwrap()
    }

    #[test]
    fn names_are_read_whatever_their_case_and_blanks() {
        for text in [
            "grpc-status:5\r\ngrpc-message:no%20such user\r\n",
            "Grpc-Status: 5\r\nGRPC-MESSAGE: no%20such user",
            "other: 1\ngrpc-status : 5 \ngrpc-message:  no%20such user\n\n",
        ] {
            let body = frame(IS_TRAILERS, text.as_bytes());
            let headers = found(&[], false, &[&body]).unwrap();
            assert_eq!((status(&headers), headers.len()), ("5", 2), "{text}");
            assert_eq!(headers[MESSAGE], "no%20such user");
        }
    }

    #[test]
    fn compressed_trailers_are_read_where_their_encoding_is_known() {
        let text = b"grpc-status: 13\r\n";
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text).unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(text).unwrap();
        for (encoding, bytes) in
            [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())]
        {
            let body = frame(IS_TRAILERS | IS_COMPRESSED, &bytes);
            let headers = found(&[("grpc-encoding", encoding)], false, &[&body]).unwrap();
            assert_eq!(status(&headers), "13", "{encoding}");
            assert!(found(&[("grpc-encoding", "snappy")], false, &[&body]).is_none());
        }
        // A message may be compressed whatever the trailers are.
        let body = [frame(IS_COMPRESSED, b"x"), frame(IS_TRAILERS, text)].concat();
        assert_eq!(status(&found(&[], false, &[&body]).unwrap()), "13");
    }

    #[test]
    fn a_bomb_of_trailers_is_bounded() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(b"grpc-status: 3\r\n").unwrap();
        gzip.write_all(&vec![b'x'; 10 << 20]).unwrap();
        let body = frame(IS_TRAILERS | IS_COMPRESSED, &gzip.finish().unwrap());
        let mut map = HeaderMap::new();
        map.insert("grpc-encoding", "gzip".parse().unwrap());
        let mut read = Body::new(&map, false);
        // Cut short, and so unreadable or read as far as it goes.
        let _ = read.pass(&&body[..]);
        let long = [b"grpc-status: 3\r\n".to_vec(), vec![b'x'; 10 << 20]].concat();
        let body = frame(IS_TRAILERS, &long);
        assert_eq!(status(&found(&[], false, &[&body]).unwrap()), "3");
    }

    #[test]
    fn what_is_no_grpc_web_tells_nothing() {
        assert!(found(&[], false, &[b"hello, world"]).is_none());
        assert!(found(&[], true, &[b"!!!!"]).is_none());
        let body = frame(IS_TRAILERS, b"grpc-status: 0\r\n");
        assert!(found(&[("content-encoding", "br")], false, &[&body]).is_none());
        assert!(found(&[], false, &[&body[..body.len() - 1]]).is_none(), "it is cut short");
    }

    proptest! {
        #[test]
        fn trailers_are_found_however_the_body_is_cut(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..4),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
            code in 0_u16..17,
            is_text: bool,
            whole: bool,
            is_padded: bool,
        ) {
            let frames: Vec<_> = messages.iter().map(|it| frame(0, it)).collect();
            let last = frame(IS_TRAILERS, format!("grpc-status: {code}\r\n").as_bytes());
            let frames: Vec<_> = frames.into_iter().chain([last]).collect();
            let body = match (is_text, whole) {
                (false, _) => frames.concat(),
                // One piece of base64, or one for each frame.
                (true, true) => PADDED.encode(frames.concat()).into_bytes(),
                (true, false) => frames.iter().flat_map(|it| PADDED.encode(it).into_bytes()).collect(),
            };
            let end = body.iter().rposition(|it| is_padded || *it != b'=').map_or(0, |at| at + 1);
            let body = if is_text { &body[..end] } else { &body[..] };
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            at.extend([0, body.len()]);
            at.sort_unstable();
            let parts: Vec<_> = at.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
            let headers = found(&[], is_text, &parts);
            prop_assert_eq!(headers.as_ref().map(status), Some(&*code.to_string()));
        }

        #[test]
        fn any_bytes_are_read_or_given_up(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
            is_text: bool,
        ) {
            let mut body = Body::new(&HeaderMap::new(), is_text);
            for part in &parts {
                let _ = body.pass(&&part[..]);
            }
            let _ = body.end();
        }
    }
}
