//! ClickHouse's `RowBinary`: values one after another, as the documentation of the format has it
//! (<https://clickhouse.com/docs/interfaces/formats/RowBinary>).
//!
//! Written here and not left to the client library, because a batch's bytes are ours: the header
//! with names and types lets the server refuse a table that is not the one we know, and the same
//! bytes can be sent again or kept.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use uuid::Uuid;

/// A value of a column.
pub(super) trait Wire {
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! little_endian {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

little_endian!(i8, i64, u16, u32, u64, f32);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Wire for str {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_str().put(out);
    }
}

impl Wire for Cow<'_, str> {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_ref().put(out);
    }
}

impl<T: Wire + ?Sized> Wire for &T {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        for value in self {
            value.put(out);
        }
    }
}

/// A `FixedString(16)`.
impl Wire for [u8; 16] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Wire for Uuid {
    fn put(&self, out: &mut Vec<u8>) {
        let (high, low) = self.as_u64_pair();
        high.put(out);
        low.put(out);
    }
}

impl Wire for Ipv6Addr {
    fn put(&self, out: &mut Vec<u8>) {
        self.octets().put(out);
    }
}

/// A length in LEB128: seven bits a byte, the lowest first.
pub(super) fn put_length(length: usize, out: &mut Vec<u8>) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &impl Wire) -> Vec<u8> {
        let mut out = Vec::new();
        value.put(&mut out);
        out
    }

    #[test]
    fn values_are_written_as_the_format_has_them() {
        assert_eq!(bytes(&1_u16), [1, 0]);
        assert_eq!(bytes(&-2_i64), [254, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(bytes(&"é"), [2, 0xc3, 0xa9]);
        assert_eq!(bytes(&vec!["a", ""]), [2, 1, b'a', 0]);
        assert_eq!(bytes(&"x".repeat(300))[..3], [0xac, 0x02, b'x']);
        let uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        let expected = [
            0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa,
            0x99, 0x88,
        ];
        assert_eq!(bytes(&uuid), expected);
        assert_eq!(bytes(&Ipv6Addr::LOCALHOST)[15], 1);
    }
}
