//! ClickHouse's format `Native`: a batch as one block, column by column.
//!
//! A block is the number of columns and of rows, then for each column its name, its type and its
//! values. Numbers stand one after another, texts each with their length before them. A list
//! column is the running total of its lengths and then one column of all elements. A column of
//! few values (`LowCardinality`) is a dictionary and then an index for each value. The
//! documentation has the outline (<https://clickhouse.com/docs/interfaces/formats/Native>), the
//! server's `src/DataTypes/Serializations` the details.
//!
//! Written here and not left to the client library, because a batch's bytes are ours, because a
//! dictionary made here spares the server from looking up every value, and because the types in
//! the block let the server refuse a table that is not the one we know.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::net::Ipv6Addr;

use uuid::Uuid;

use crate::model::Value;

/// Memory that each part of a column keeps for the next batch.
const KEPT: usize = 1 << 20;

/// The values of one column, ready to be sent.
pub(super) trait Column {
    /// What stands before all values of a column, once however deep the column is.
    fn write_prefix(&self, _out: &mut Vec<u8>) {}

    fn write(&self, out: &mut Vec<u8>);

    /// Forgets the values, and gives back memory beyond the usual.
    fn clear(&mut self);
}

/// A column that takes values of this type.
pub(super) trait Push<T> {
    fn push(&mut self, value: T);
}

/// Values of a fixed size.
#[derive(Debug, Default)]
pub(super) struct Plain(Vec<u8>);

impl Column for Plain {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(KEPT);
    }
}

macro_rules! plain {
    ($($type:ty: $value:ident => $bytes:expr,)*) => {$(
        impl Push<$type> for Plain {
            #[inline]
            fn push(&mut self, $value: $type) {
                self.0.extend_from_slice(&$bytes);
            }
        }
    )*};
}

plain! {
    bool: value => [u8::from(value)],
    i8: value => value.to_le_bytes(),
    u16: value => value.to_le_bytes(),
    u32: value => value.to_le_bytes(),
    u64: value => value.to_le_bytes(),
    i64: value => value.to_le_bytes(),
    f32: value => value.to_le_bytes(),
    // A `FixedString(16)`.
    [u8; 8]: value => value,
    [u8; 16]: value => value,
    Ipv6Addr: value => value.octets(),
    // Two numbers of eight bytes.
    Uuid: value => swapped(value.as_u64_pair()),
}

fn swapped((high, low): (u64, u64)) -> [u8; 16] {
    (u128::from(low) << 64 | u128::from(high)).to_le_bytes()
}

/// Texts, each with its length before it.
#[derive(Debug, Default)]
pub(super) struct Texts(Vec<u8>);

impl Texts {
    /// Appends a text whose length is known only once it is written.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.push(0);
        write(&mut self.0);
        let length = self.0.len() - start - 1;
        if length < 0x80 {
            self.0[start] = length as u8;
        } else {
            let mut prefix = Vec::new();
            put_length(length, &mut prefix);
            self.0.splice(start..=start, prefix);
        }
    }
}

impl Column for Texts {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(KEPT);
    }
}

impl Push<&str> for Texts {
    #[inline]
    fn push(&mut self, text: &str) {
        put_text(text, &mut self.0);
    }
}

impl Push<&String> for Texts {
    fn push(&mut self, text: &String) {
        put_text(text, &mut self.0);
    }
}

impl Push<&Value> for Texts {
    fn push(&mut self, value: &Value) {
        match value {
            Value::Str(text) => put_text(text.as_str(), &mut self.0),
            // Writing to memory does not fail.
            other => self.push_with(|out| drop(write!(out, "{other}"))),
        }
    }
}

/// Values of which there are few different ones: a dictionary and an index for each.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// The dictionary as it is sent.
    keys: Vec<u8>,
    /// Texts in the dictionary.
    distinct: u32,
    indexes: Vec<u32>,
    known: HashMap<Box<str>, u32>,
    /// The last text that was looked up: many columns hold the same one in every row.
    last: (String, Option<u32>),
    /// The index of the empty text, which most columns hold mostly. It is never compared: by
    /// measurement a `memcmp` of no bytes at an address of nothing is slow on some processors.
    empty: Option<u32>,
    /// Names from the program's text, by their address: it tells them without a look at the bytes.
    names: Vec<Option<Name>>,
}

/// A text that lasts as long as the program, so its address and length stand for it.
#[derive(Debug, Clone, Copy)]
struct Name {
    address: usize,
    length: usize,
    index: u32,
}

/// Places for names. A power of two; a program has a few hundred names of spans and fields.
const NAMES: usize = 128;

impl Symbols {
    fn index(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return self.index_of_empty();
        }
        if let Some(&index) = self.known.get(text) {
            return index;
        }
        self.known.insert(text.into(), self.distinct);
        self.add(text)
    }

    fn index_of_empty(&mut self) -> u32 {
        if let Some(index) = self.empty {
            return index;
        }
        let index = self.add("");
        self.empty = Some(index);
        index
    }

    fn add(&mut self, text: &str) -> u32 {
        put_text(text, &mut self.keys);
        self.distinct += 1;
        self.distinct - 1
    }

    fn index_of_name(&mut self, name: &'static str) -> u32 {
        let (address, length) = (name.as_ptr() as usize, name.len());
        if self.names.is_empty() {
            self.names.resize(NAMES, None);
        }
        let place = (address ^ address >> 7 ^ length << 3) % NAMES;
        if let Some(known) = self.names[place]
            && (known.address, known.length) == (address, length)
        {
            return known.index;
        }
        let index = self.index(name);
        self.names[place] = Some(Name { address, length, index });
        index
    }
}

impl Column for Symbols {
    fn write_prefix(&self, out: &mut Vec<u8>) {
        // The version of the encoding.
        out.extend_from_slice(&1_u64.to_le_bytes());
    }

    fn write(&self, out: &mut Vec<u8>) {
        /// The dictionary stands in the block, and replaces any before.
        const OWN_DICTIONARY: u64 = 1 << 9 | 1 << 10;
        if self.indexes.is_empty() {
            return;
        }
        let width = match self.distinct {
            0..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        };
        for number in [OWN_DICTIONARY | width, u64::from(self.distinct)] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&(self.indexes.len() as u64).to_le_bytes());
        let indexes = self.indexes.iter();
        match width {
            0 => out.extend(indexes.map(|index| *index as u8)),
            1 => out.extend(indexes.flat_map(|index| (*index as u16).to_le_bytes())),
            _ => out.extend(indexes.flat_map(|index| index.to_le_bytes())),
        }
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.keys.shrink_to(KEPT);
        self.distinct = 0;
        self.indexes.clear();
        self.indexes.shrink_to(KEPT / size_of::<u32>());
        self.known.clear();
        self.known.shrink_to(KEPT / 64);
        self.last.1 = None;
        self.empty = None;
        self.names.clear();
    }
}

impl Push<&str> for Symbols {
    fn push(&mut self, text: &str) {
        let index = match &self.last {
            _ if text.is_empty() => self.index_of_empty(),
            (last, Some(index)) if last == text => *index,
            _ => {
                let index = self.index(text);
                self.last.0.clear();
                self.last.0.push_str(text);
                self.last.1 = Some(index);
                index
            }
        };
        self.indexes.push(index);
    }
}

impl Push<&String> for Symbols {
    fn push(&mut self, text: &String) {
        self.push(text.as_str());
    }
}

impl Push<&Cow<'static, str>> for Symbols {
    #[inline]
    fn push(&mut self, text: &Cow<'static, str>) {
        let index = match text {
            Cow::Borrowed(name) => self.index_of_name(name),
            Cow::Owned(text) => self.index(text),
        };
        self.indexes.push(index);
    }
}

/// A list in each row.
#[derive(Debug, Default)]
pub(super) struct Lists<C> {
    /// The number of elements up to the end of each list.
    ends: Vec<u8>,
    total: u64,
    elements: C,
}

impl<C: Column> Column for Lists<C> {
    fn write_prefix(&self, out: &mut Vec<u8>) {
        self.elements.write_prefix(out);
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ends);
        self.elements.write(out);
    }

    fn clear(&mut self) {
        self.ends.clear();
        self.ends.shrink_to(KEPT);
        self.total = 0;
        self.elements.clear();
    }
}

impl<C> Lists<C> {
    /// Appends an element to the list of this row.
    #[inline]
    pub(super) fn push_element<T>(&mut self, element: T)
    where
        C: Push<T>,
    {
        self.elements.push(element);
        self.total += 1;
    }

    /// Ends the list of this row.
    #[inline]
    pub(super) fn end(&mut self) {
        self.ends.extend_from_slice(&self.total.to_le_bytes());
    }
}

impl<C: Push<T>, T, I: IntoIterator<Item = T>> Push<I> for Lists<C> {
    #[inline]
    fn push(&mut self, list: I) {
        for element in list {
            self.push_element(element);
        }
        self.end();
    }
}

/// Appends a text with its length before it.
#[inline]
pub(super) fn put_text(text: &str, out: &mut Vec<u8>) {
    put_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// A length in LEB128: seven bits a byte, the lowest first.
#[inline]
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

    fn bytes(column: &impl Column) -> Vec<u8> {
        let mut out = Vec::new();
        column.write_prefix(&mut out);
        column.write(&mut out);
        out
    }

    fn eight(numbers: &[u64]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn values_of_a_fixed_size_stand_one_after_another() {
        let mut column = Plain::default();
        column.push(1_u16);
        column.push(-2_i64);
        column.push(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff));
        column.push(Ipv6Addr::LOCALHOST);
        let mut expected = vec![1, 0, 254, 255, 255, 255, 255, 255, 255, 255];
        expected.extend([0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00]);
        expected.extend([0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88]);
        expected.extend([[0; 15].as_slice(), &[1]].concat());
        assert_eq!(bytes(&column), expected);
    }

    #[test]
    fn texts_have_their_length_before_them_whenever_it_is_known() {
        let (mut known, mut late) = (Texts::default(), Texts::default());
        for text in ["", "é", &"x".repeat(127), &"y".repeat(128), &"z".repeat(20_000), "end"] {
            known.push(text);
            late.push_with(|out| out.extend_from_slice(text.as_bytes()));
        }
        assert_eq!(bytes(&known), bytes(&late));
        assert_eq!(bytes(&known)[..4], [0, 2, 0xc3, 0xa9]);
    }

    #[test]
    fn a_repeated_text_is_in_the_dictionary_once() {
        static NAME: &str = "name";
        let mut column = Symbols::default();
        for _ in 0..2 {
            column.push("a");
            column.push("");
            column.push("a");
            column.push("a");
            column.push(&Cow::Borrowed(NAME));
            column.push(&Cow::Owned(NAME.to_owned()));
            column.push(&Cow::Borrowed(NAME));
            column.push(&Cow::Borrowed(&NAME[..1]));
            let dictionary = [1, b'a', 0, 4, b'n', b'a', b'm', b'e', 1, b'n'];
            let indexes = [0, 1, 0, 0, 2, 2, 2, 3];
            let expected =
                [&eight(&[1, 0x600, 4])[..], &dictionary, &eight(&[8]), &indexes].concat();
            assert_eq!(bytes(&column), expected);
            column.clear();
            assert_eq!(bytes(&column), eight(&[1]));
        }
    }

    #[test]
    fn indexes_are_as_wide_as_the_dictionary_needs() {
        for (distinct, width, size) in [(256, 0, 1), (257, 1, 2), (65_536, 1, 2), (65_537, 2, 4)] {
            let mut column = Symbols::default();
            for n in 0..distinct {
                column.push(&n.to_string());
            }
            let out = bytes(&column);
            assert_eq!(out[8..16], (0x600_u64 | width).to_le_bytes());
            let last = (distinct - 1) as u32;
            assert_eq!(out[out.len() - size..], last.to_le_bytes()[..size]);
        }
    }

    #[test]
    fn lists_are_the_ends_of_each_and_then_all_elements() {
        let mut column = Lists::<Lists<Plain>>::default();
        column.push([vec![1_i8], vec![2, 3]]);
        column.push(Vec::<Vec<i8>>::new());
        column.push([vec![4_i8]]);
        let expected = [eight(&[2, 2, 3, 1, 3, 4]), vec![1, 2, 3, 4]].concat();
        assert_eq!(bytes(&column), expected);
    }
}
