//! Numbers of payment cards: 13 to 19 digits of an issuer's range whose check digit is right
//! (ISO/IEC 7812-1, the algorithm of Luhn), written in one piece or in groups.

use std::ops::{Range, RangeInclusive};

const LENGTHS: RangeInclusive<usize> = 13..=19;

/// `false` when there is no number of that length.
///
/// A stretch of digits and separators that could be one covers a byte at a multiple of the least
/// length: only those are looked at, and what stands around the few that are in such a stretch.
pub(super) fn may_hold(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = LENGTHS.start() - 1;
    while let Some(byte) = bytes.get(at) {
        if is_part(*byte) {
            let start = bytes[..at].iter().rposition(|it| !is_part(*it)).map_or(0, |it| it + 1);
            let end = bytes[at..].iter().position(|it| !is_part(*it));
            let end = end.map_or(bytes.len(), |it| at + it);
            let digits = bytes[start..end].iter().filter(|it| it.is_ascii_digit()).count();
            if digits >= *LENGTHS.start() {
                return true;
            }
            at = end;
        }
        at += LENGTHS.start();
    }
    false
}

/// Whether a number in groups may have this byte in it.
fn is_part(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b' ' | b'-')
}

/// Puts a mark in place of each card number.
pub(super) fn replace(text: &mut String) {
    let mut out = String::new();
    let bytes = text.as_bytes();
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        // Numbers begin where no word or longer number goes on.
        let begins = bytes[at].is_ascii_digit()
            && !at.checked_sub(1).is_some_and(|before| is_word(bytes[before]));
        match begins.then(|| number_at(bytes, at)).flatten() {
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

/// Whether this integer is a card number.
pub(super) fn is_card(number: u64) -> bool {
    let text = number.to_string();
    number_at(text.as_bytes(), 0).is_some()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}

/// The longest card number that begins here. It looks at no more than 19 digits.
fn number_at(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let mut digits = [0; 19];
    let (mut count, mut at, mut found) = (0, start, None);
    while count < digits.len() {
        let Some(digit) = bytes.get(at).filter(|it| it.is_ascii_digit()) else { break };
        digits[count] = digit - b'0';
        count += 1;
        at += 1;
        match bytes.get(at) {
            Some(next) if next.is_ascii_digit() => continue,
            Some(next) if next.is_ascii_alphabetic() || *next == b'_' => break,
            _ => {}
        }
        if LENGTHS.contains(&count) && is_issued(&digits[..count]) && luhn(&digits[..count]) {
            found = Some(start..at);
        }
        // One separator between groups.
        if matches!(bytes.get(at), Some(b' ' | b'-')) {
            at += 1;
        }
    }
    found
}

/// Whether numbers of this beginning and length are given out: Visa, Mastercard, American
/// Express, Diners, Discover, JCB, `UnionPay`, Maestro.
fn is_issued(digits: &[u8]) -> bool {
    let first = |count: usize| digits[..count].iter().fold(0, |sum, it| sum * 10 + u32::from(*it));
    matches!(
        (first(4), digits.len()),
        (4000..=4999, 13 | 16 | 19)
            | (5100..=5599 | 2221..=2720, 16)
            | (3400..=3499 | 3700..=3799, 15)
            | (3000..=3059 | 3600..=3699 | 3800..=3999, 14..=19)
            | (3528..=3589 | 6011 | 6200..=6299 | 6440..=6599, 16..=19)
            | (5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763, 13..=19)
    )
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
        replace(&mut text);
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
        ] {
            assert!(may_hold(text), "{text}");
            assert_eq!(cards_out(text), expected);
        }
        assert!(is_card(4_111_111_111_111_111) && !is_card(4_111_111_111_111_112));
    }

    proptest! {
        #[test]
        fn the_first_look_sees_every_stretch_that_is_long_enough(text in "[0-9 a-]{0,60}|[0-9 -]{0,30}") {
            let mut digits = 0;
            let mut holds = false;
            for byte in text.bytes() {
                digits = if byte.is_ascii_digit() { digits + 1 } else if byte == b'a' { 0 } else { digits };
                holds |= digits >= 13;
            }
            prop_assert_eq!(may_hold(&text), holds);
        }
    }

    #[test]
    fn the_first_look_sees_the_shortest_stretch_at_every_place() {
        for before in 0..40 {
            for stretch in ["4111111111111", "4-1 1-1 1-1 1-1 1-1 1-1 1"] {
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
        ] {
            assert_eq!(cards_out(text), text);
        }
    }
}
