//! Numbers of payment cards: digits of an issuer's range, of the length that it gives out today, whose
//! check digit is right (ISO/IEC 7812-1, the algorithm of Luhn).
//!
//! One in ten numbers has such a digit, so this is not enough. A number is taken for a card's if it is
//! written in a card's groups, or if a word beside it says so. A word that says what else it is, an order
//! or an id, keeps it. Where no word tells, only the commonest ranges are taken for cards.

use std::ops::Range;

/// The fewest digits of a card, and the most.
const LEAST: usize = 14;
const MOST: usize = 19;

/// `false` when there is no number of that length.
///
/// A stretch of digits and separators that could be one covers a byte at a multiple of the least
/// length: only those are looked at, and what stands around the few that are in such a stretch.
pub(super) fn may_hold(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = LEAST - 1;
    while let Some(byte) = bytes.get(at) {
        if is_part(*byte) {
            let start = bytes[..at].iter().rposition(|it| !is_part(*it)).map_or(0, |it| it + 1);
            let end = bytes[at..].iter().position(|it| !is_part(*it));
            let end = end.map_or(bytes.len(), |it| at + it);
            let digits = bytes[start..end].iter().filter(|it| it.is_ascii_digit()).count();
            if digits >= LEAST {
                return true;
            }
            at = end;
        }
        at += LEAST;
    }
    false
}

/// Whether a number in groups may have this byte in it.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_digit()
        || byte >= 0x80
        || matches!(byte, b' ' | b'-' | b'.' | b'+' | b'_' | b'/' | b'%' | b'\t')
}

/// Puts a mark in place of each card number. `name` is that of the field that has the text.
pub(super) fn replace(text: &mut String, name: Option<&str>) {
    let named = name.map_or(Told::Nothing, told_by_name);
    let mut out = String::new();
    let bytes = text.as_bytes();
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        // Numbers begin where no word or longer number goes on.
        let begins = bytes[at].is_ascii_digit()
            && !at.checked_sub(1).is_some_and(|before| is_word(bytes[before]))
            && !is_fraction(bytes, at);
        match begins.then(|| number_at(text, at, named)).flatten() {
            Some(range) => {
                out.push_str(&text[copied..range.start]);
                out.push_str(super::CARD);
                (at, copied) = (range.end, range.end);
            }
            None => at += 1,
        }
    }
    if copied > 0 {
        out.push_str(&text[copied..]);
        *text = out;
    }
}

/// Whether this integer is a card number. `name` is that of the field that has it.
pub(super) fn is_card(number: u64, name: Option<&str>) -> bool {
    let text = number.to_string();
    number_at(&text, 0, name.map_or(Told::Nothing, told_by_name)).is_some()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether this stands behind the point of a number.
fn is_fraction(bytes: &[u8], at: usize) -> bool {
    at >= 2 && bytes[at - 1] == b'.' && bytes[at - 2].is_ascii_alphanumeric()
}

/// What stands between two groups.
fn gap(bytes: &[u8]) -> usize {
    const GAPS: &[&[u8]] = &[
        b" - ",
        b"%20",
        b"\xc2\xa0",
        b"\xe2\x80\xaf",
        b"\xe2\x80\x87",
        b"\xe2\x80\x89",
        b"\xe2\x80\x91",
        b"\xe2\x80\x93",
        b"  ",
        b" ",
        b"-",
        b".",
        b"+",
        b"_",
        b"/",
        b"\t",
    ];
    GAPS.iter().find(|it| bytes.starts_with(it)).map_or(0, |it| it.len())
}

/// The longest card number that begins here. It looks at no more than 19 digits and what is between.
fn number_at(text: &str, start: usize, named: Told) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut digits = [0; MOST];
    // The lengths of the groups, and the gap that all of them have.
    let mut groups = [0; MOST + 1];
    let (mut group, mut between): (usize, Option<&[u8]>) = (0, None);
    let (mut count, mut at, mut found) = (0, start, None);
    while count < digits.len() {
        let Some(digit) = bytes.get(at).filter(|it| it.is_ascii_digit()) else { break };
        digits[count] = digit - b'0';
        count += 1;
        groups[group] += 1;
        at += 1;
        match bytes.get(at) {
            Some(next) if next.is_ascii_digit() => continue,
            Some(next) if next.is_ascii_alphabetic() => break,
            _ => {}
        }
        let gap = &bytes[at..at + gap(&bytes[at..])];
        let ends_in_word = gap == b"_"
            && !bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
            && bytes.get(at + 1).is_some();
        if count >= LEAST && !ends_in_word && luhn(&digits[..count]) {
            let number = Number { digits: &digits[..count], groups: &groups[..=group] };
            if number.is_card(text, start..at, named) {
                found = Some(start..at);
            }
        }
        if gap.is_empty() || between.is_some_and(|it| it != gap) {
            break;
        }
        between = Some(gap);
        group += 1;
        at += gap.len();
    }
    found
}

struct Number<'a> {
    digits: &'a [u8],
    groups: &'a [usize],
}

impl Number<'_> {
    fn is_card(&self, text: &str, place: Range<usize>, named: Told) -> bool {
        let issued = issued(self.digits);
        let told = || {
            let told = told_around(text, place.clone());
            if told == Told::Nothing { named } else { told }
        };
        match (issued, self.groups) {
            (Issued::Never, _) => false,
            (_, [_]) => match told() {
                Told::Card => true,
                Told::Other => false,
                Told::Nothing => issued == Issued::Often,
            },
            (_, [4, 4, 4, 4 | 2] | [4, 4, 4, 4, 3] | [4, 6, 5 | 4]) => {
                !is_iban(text.as_bytes(), place.start) && told() != Told::Other
            }
            // Grouped as nobody groups them: single digits are a list.
            (_, groups) => groups.iter().all(|it| *it >= 2) && told() == Told::Card,
        }
    }
}

/// The groups behind a country and check digits, and maybe a bank.
fn is_iban(bytes: &[u8], start: usize) -> bool {
    let before = &bytes[start.saturating_sub(40)..start];
    let mut words = before.rsplit(|it| *it == b' ').filter(|it| !it.is_empty());
    words.by_ref().take(7).any(|word| {
        word.len() == 4
            && word[..2].iter().all(u8::is_ascii_uppercase)
            && word[2..].iter().all(u8::is_ascii_digit)
    })
}

/// What a word beside a number tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Card,
    Other,
    Nothing,
}

/// The nearest word before the number that tells, else the next ones behind it.
fn told_around(text: &str, place: Range<usize>) -> Told {
    let mut from = place.start.saturating_sub(48);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let before = &text[from..place.start];
    // Elements of a path: what holds them tells, as `orders` does.
    for word in words(before).rev().take(5) {
        let told = told_by(word);
        if told != Told::Nothing {
            return told;
        }
    }
    let mut to = (place.end + 24).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    let behind = &text[place.end..to];
    // Behind a comma something else is spoken of.
    let behind = behind.split([',', ';', '&', '\n', '{', '}']).next().unwrap_or_default();
    if words(behind).take(2).any(|it| told_by(it) == Told::Card) {
        Told::Card
    } else {
        Told::Nothing
    }
}

/// Words that tell of a card.
const CARD: &[&str] = &[
    "card",
    "cards",
    "cardno",
    "cardnumber",
    "cardnum",
    "ccnumber",
    "ccnum",
    "ccno",
    "pan",
    "cc",
    "credit",
    "debit",
    "creditcard",
    "visa",
    "mastercard",
    "amex",
    "discover",
    "jcb",
    "diners",
    "unionpay",
    "maestro",
    "paid",
    "pay",
    "payment",
    "charged",
    "charge",
    "kreditkarte",
    "karte",
    "carte",
    "tarjeta",
    "cvv",
    "cvc",
];

/// Words that tell of another number.
const OTHER: &[&str] = &[
    "id",
    "ids",
    "uid",
    "uuid",
    "guid",
    "oid",
    "order",
    "orders",
    "ean",
    "gtin",
    "upc",
    "isbn",
    "issn",
    "imei",
    "imsi",
    "iccid",
    "iban",
    "tracking",
    "track",
    "user",
    "users",
    "customer",
    "invoice",
    "ref",
    "reference",
    "account",
    "acct",
    "sku",
    "shipment",
    "parcel",
    "package",
    "snowflake",
    "message",
    "msg",
    "serial",
    "trace",
    "span",
    "ts",
    "timestamp",
    "time",
    "offset",
    "seq",
    "sequence",
    "batch",
    "ticket",
    "txn",
    "transaction",
    "barcode",
    "phone",
    "tel",
    "mobile",
    "device",
    "nonce",
    "session",
    "request",
    "req",
    "item",
    "items",
    "product",
    "job",
    "task",
    "event",
    "commit",
    "hash",
    "version",
    "lsn",
    "epoch",
    "key",
    "booking",
    "delivery",
    "on",
    "of",
    "actor",
    "behalf",
    "row",
    "rows",
    "count",
    "total",
    "bytes",
    "size",
    "no",
    "nr",
    "nanos",
    "micros",
    "millis",
    "ns",
    "us",
    "ms",
    "at",
    "issue",
    "case",
    "contract",
    "claim",
    "voucher",
    "coupon",
    "code",
    "tweet",
    "post",
    "channel",
    "guild",
    "in",
    "lot",
    "vin",
    "meter",
    "sensor",
    "port",
    "pid",
    "address",
    "index",
    "position",
    "from",
    "to",
    "iat",
    "exp",
];

fn told_by_name(name: &str) -> Told {
    let said = words(name).rev().map(told_by).find(|it| *it != Told::Nothing);
    said.unwrap_or(Told::Nothing)
}

/// Words, also those of `cardNumber` and `card_number`.
fn words(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split(|it: char| !it.is_ascii_alphabetic() && it != '#')
        .filter(|it| !it.is_empty())
        .flat_map(|word| {
            let bytes = word.as_bytes();
            let cut = (1..bytes.len())
                .rev()
                .find(|at| bytes[*at].is_ascii_uppercase() && bytes[*at - 1].is_ascii_lowercase());
            let (first, second) = word.split_at(cut.unwrap_or(0));
            [first, second].into_iter().filter(|it| !it.is_empty())
        })
}

fn told_by(word: &str) -> Told {
    // Those that say nothing beside a word that says more.
    let is_one_of = |list: &[&str]| list.iter().any(|it| it.eq_ignore_ascii_case(word));
    if is_one_of(CARD) {
        Told::Card
    } else if word == "#" {
        Told::Other
    } else if matches!(word, "no" | "nr" | "on" | "of" | "at" | "in" | "from" | "to" | "code") {
        // `card no. 4..`: whose number it is stands before.
        Told::Nothing
    } else if is_one_of(OTHER) {
        Told::Other
    } else {
        Told::Nothing
    }
}

/// How likely a number of this beginning and length is a card's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Issued {
    Never,
    /// There are such cards, and many other numbers of their length.
    Seldom,
    Often,
}

/// Whether numbers of this beginning and length are given out today: Visa, Mastercard, American
/// Express, Diners, Discover, JCB, `UnionPay`, Maestro. Visa's of 13 digits are no more.
fn issued(digits: &[u8]) -> Issued {
    let first = |count: usize| digits[..count].iter().fold(0, |sum, it| sum * 10 + u32::from(*it));
    match (first(4), digits.len()) {
        (4000..=4999 | 5100..=5599 | 2221..=2720 | 6011 | 6440..=6599, 16)
        | (3400..=3499 | 3700..=3799, 15) => Issued::Often,
        (4000..=4999 | 6011 | 6440..=6599, 19)
        | (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14..=16)
        | (3528..=3589 | 6200..=6299 | 8100..=8171, 16..=19)
        | (5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763, 14..=19) => Issued::Seldom,
        _ => Issued::Never,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let from_right = digits.iter().rev().enumerate();
    let sum: u32 = from_right
        .map(|(place, digit)| u32::from(if place % 2 == 1 { doubled(*digit) } else { *digit }))
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cards_out(text: &str) -> String {
        let mut text = text.to_owned();
        replace(&mut text, None);
        text
    }

    #[test]
    fn numbers_of_cards_are_found_however_they_are_grouped() {
        for (text, expected) in [
            ("card 4111111111111111 refused", "card [card] refused"),
            ("4111 1111 1111 1111", "[card]"),
            ("4111-1111-1111-1111, 12/29", "[card], 12/29"),
            ("3782 822463 10005.", "[card]."),
            ("5555555555554444/6011111111111117", "[card]/[card]"),
            ("4111 1111 1111 1111 737", "[card] 737"),
            ("17 4111111111111111", "17 [card]"),
            ("4111.1111.1111.1111", "[card]"),
            ("4111\u{a0}1111\u{a0}1111\u{a0}1111", "[card]"),
            ("4111  1111  1111  1111", "[card]"),
            ("4111+1111+1111+1111", "[card]"),
            ("n=4111%201111%201111%201111&a=1", "n=[card]&a=1"),
            ("4111_1111_1111_1111", "[card]"),
            ("4111/1111/1111/1111", "[card]"),
            ("4111 1111 1111 1111 110", "[card]"),
            ("visa 4111111111111111110", "visa [card]"),
            ("diners 36000000000008", "diners [card]"),
            ("cc 41 11 11 11 11 11 11 11", "cc [card]"),
        ] {
            assert!(may_hold(text), "{text}");
            assert_eq!(cards_out(text), expected);
        }
        assert!(is_card(4_111_111_111_111_111, None) && !is_card(4_111_111_111_111_112, None));
        assert!(is_card(4_111_111_111_111_111, Some("cardNumber")));
        assert!(!is_card(4_111_111_111_111_111, Some("order_id")));
        assert!(!is_card(4_111_111_111_111_111_110, Some("n")));
    }

    proptest! {
        #[test]
        fn the_first_look_sees_every_stretch_that_is_long_enough(text in "[0-9 a-]{0,60}|[0-9 -]{0,30}") {
            let mut digits = 0;
            let mut holds = false;
            for byte in text.bytes() {
                digits = if byte.is_ascii_digit() { digits + 1 } else if byte == b'a' { 0 } else { digits };
                holds |= digits >= LEAST;
            }
            prop_assert_eq!(may_hold(&text), holds);
        }
    }

    #[test]
    fn the_first_look_sees_the_shortest_stretch_at_every_place() {
        for before in 0..40 {
            for stretch in ["41111111111111", "4-1 1-1 1-1 1-1 1-1 1-1 1-1"] {
                let text = ["a".repeat(before), stretch.to_owned(), "a".to_owned()].concat();
                assert!(may_hold(&text), "{text}");
                assert!(!may_hold(&text.replacen('4', "a", 1)), "a digit less: {text}");
            }
        }
    }

    #[test]
    fn other_numbers_stay() {
        for text in [
            "4111111111111112",
            "1700000000000000",
            "01a1ff9b844572d08e45f0e1405902d0",
            "a4111111111111111",
            "4111111111111111a",
            "0.4111111111111111",
            "41111111111111111111",
            "2026-11-21 18:30:00",
            "0000000000000000",
            "order 4111111111111111 shipped",
            "/orders/4111111111111111/items",
            "{\"order_id\":4111111111111111}",
            "orderId: 4111111111111111",
            "4111111111111111110",
            "36000000000008",
            "EAN 4006381333931, 4222222222222",
            "FR14 2004 4111 1111 1111 1111",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "imei 378282246310005",
        ] {
            assert_eq!(cards_out(text), text);
        }
    }
}
