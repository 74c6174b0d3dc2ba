//! Identifiers: newtypes over bytes with the field's usual text forms.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::Timestamp;

/// A text was not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseIdError {
    text: String,
    expected: &'static str,
}

/// The identity of an activity: a `UUIDv7` (RFC 9562), ordered by the time the request arrived.
///
/// The 12 bits after the milliseconds hold the fraction of the millisecond (method 3 of section
/// 6.2), so ids of one process sort by arrival down to a quarter of a microsecond.
///
/// ```
/// use tracing_activity::model::{ActivityId, Timestamp};
/// let id = ActivityId::new(Timestamp::from_micros(1_700_000_000_000_123), 7);
/// assert_eq!(id.to_string().parse::<ActivityId>().unwrap(), id);
/// assert_eq!(id.timestamp_millis(), 1_700_000_000_000);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ActivityId([u8; 16]);

impl ActivityId {
    /// The id of an activity that began at `when`, made unique by 62 bits of `random`.
    #[must_use]
    pub fn new(when: Timestamp, random: u64) -> Self {
        let micros = when.as_micros().max(0) as u64;
        let (millis, fraction) = (micros / 1000, micros % 1000);
        let sub_milli = (fraction * 4096 / 1000) & 0x0fff;
        let high = (millis << 16) | 0x7000 | sub_milli;
        let low = (random & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        Self(bytes)
    }

    /// The 16 bytes, most significant first.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The same id as a [`Uuid`].
    #[must_use]
    pub const fn to_uuid(self) -> Uuid {
        Uuid::from_bytes(self.0)
    }

    /// Milliseconds since the Unix epoch, as stored in the id.
    #[must_use]
    pub fn timestamp_millis(self) -> u64 {
        u64::from_be_bytes(first_eight(self.0)) >> 16
    }

    /// The trace id of a request that had no remote parent: the same 16 bytes.
    #[must_use]
    pub const fn to_trace_id(self) -> TraceId {
        TraceId(self.0)
    }
}

fn first_eight(bytes: [u8; 16]) -> [u8; 8] {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[..8]);
    out
}

impl fmt::Display for ActivityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_uuid(), f)
    }
}

impl fmt::Debug for ActivityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActivityId({self})")
    }
}

impl FromStr for ActivityId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text)
            .map(|uuid| Self(*uuid.as_bytes()))
            .map_err(|_| ParseIdError { text: text.to_owned(), expected: "a UUID" })
    }
}

impl Serialize for ActivityId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A type of `$n` bytes whose text form is lower-case hexadecimal.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $n:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; $n]);

        impl $name {
            /// The id made of these bytes, most significant first.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $n]) -> Self {
                Self(bytes)
            }

            /// The bytes, most significant first.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $n] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $n];
                parse_hex(text, &mut bytes)
                    .then_some(Self(bytes))
                    .ok_or_else(|| ParseIdError { text: text.to_owned(), expected: $expected })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

hex_id! {
    /// A W3C trace id: 16 bytes, 32 hexadecimal digits.
    ///
    /// ```
    /// use tracing_activity::model::TraceId;
    /// let id: TraceId = "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap();
    /// assert_eq!(id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    /// assert!("4bf9".parse::<TraceId>().is_err());
    /// ```
    TraceId, 16, "a trace id of 32 hexadecimal digits"
}

hex_id! {
    /// A W3C span id: 8 bytes, 16 hexadecimal digits.
    SpanId, 8, "a span id of 16 hexadecimal digits"
}

hex_id! {
    /// The structural fingerprint of a trace: 16 bytes, 32 hexadecimal digits.
    TraceHash, 16, "a trace hash of 32 hexadecimal digits"
}

fn parse_hex(text: &str, out: &mut [u8]) -> bool {
    let digits = text.as_bytes();
    if digits.len() != out.len() * 2 {
        return false;
    }
    for (pair, byte) in digits.chunks_exact(2).zip(out) {
        let digit = |d: u8| char::from(d).to_digit(16);
        match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => *byte = (high * 16 + low) as u8,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_arrival_within_a_millisecond() {
        let at = |micros| ActivityId::new(Timestamp::from_micros(micros), u64::MAX);
        let later = ActivityId::new(Timestamp::from_micros(1_700_000_000_000_001), 0);
        assert!(at(1_700_000_000_000_000) < later);
        assert!(later < at(1_700_000_000_000_999));
        assert!(
            at(1_700_000_000_000_999)
                < ActivityId::new(Timestamp::from_micros(1_700_000_000_001_000), 0)
        );
    }

    #[test]
    fn an_activity_id_is_a_valid_version_7_uuid() {
        let uuid =
            ActivityId::new(Timestamp::from_micros(1_700_000_000_123_456), u64::MAX).to_uuid();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn hex_ids_refuse_wrong_lengths_and_other_letters() {
        assert!("00f067aa0ba902b7".parse::<SpanId>().is_ok());
        assert!("00f067aa0ba902b".parse::<SpanId>().is_err());
        assert!("00f067aa0ba902bg".parse::<SpanId>().is_err());
        assert!("é0f067aa0ba902b".parse::<SpanId>().is_err());
    }
}
