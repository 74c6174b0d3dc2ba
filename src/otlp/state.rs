//! The member `ot` of `tracestate`, by OpenTelemetry's `trace/tracestate-handling.md` and
//! `trace/tracestate-probability-sampling.md`: `th`, the threshold that a trace was kept by, and
//! `rv`, the random value that takes the place of the trace id's.

use opentelemetry::trace::TraceState;

use crate::sampling::Rate;

/// The key of OpenTelemetry's own member.
const OT: &str = "ot";

/// Hexadecimal digits of 56 bits.
const DIGITS: usize = 14;

/// What `ot` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ot {
    pub(super) threshold: Option<u64>,
    pub(super) random_value: Option<u64>,
}

impl Ot {
    /// Reads the member; what is malformed counts as absent.
    pub(super) fn of(state: &TraceState) -> Self {
        let mut ot = Self::default();
        for (key, value) in state.get(OT).into_iter().flat_map(entries) {
            match key {
                "th" => ot.threshold = threshold(value),
                "rv" => ot.random_value = random_value(value),
                _ => {}
            }
        }
        ot
    }

    /// The chance that the threshold stands for, unless it contradicts R: who sampled by it would not
    /// have kept this trace.
    pub(super) fn rate(&self, randomness: u64) -> Option<Rate> {
        let rate = Rate::from_threshold(self.threshold?)?;
        rate.keeps(randomness).then_some(rate)
    }
}

/// The state with this threshold, or with none; everything else stays.
pub(super) fn with_threshold(state: &TraceState, threshold: Option<u64>) -> TraceState {
    let mut value = threshold.map(|it| format!("th:{}", digits(it))).unwrap_or_default();
    for (key, rest) in state.get(OT).into_iter().flat_map(entries).filter(|it| it.0 != "th") {
        if !value.is_empty() {
            value.push(';');
        }
        value.push_str(key);
        value.push(':');
        value.push_str(rest);
    }
    let changed = if !value.is_empty() {
        state.insert(OT, value)
    } else if state.get(OT).is_some() {
        state.delete(OT)
    } else {
        return state.clone();
    };
    // What was read from a header and has a threshold too many is worse than nothing.
    changed.or_else(|_| state.delete(OT)).unwrap_or_default()
}

fn entries(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(';').filter_map(|entry| entry.split_once(':'))
}

fn threshold(text: &str) -> Option<u64> {
    let value = hex(text)?;
    Some(value << (4 * (DIGITS - text.len())))
}

fn random_value(text: &str) -> Option<u64> {
    if text.len() == DIGITS { hex(text) } else { None }
}

fn hex(text: &str) -> Option<u64> {
    let is_digit = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    let usable = (1..=DIGITS).contains(&text.len()) && text.bytes().all(is_digit);
    if usable { u64::from_str_radix(text, 16).ok() } else { None }
}

/// A threshold, without the zeros at its end.
fn digits(threshold: u64) -> String {
    let all = format!("{threshold:014x}");
    match all.trim_end_matches('0') {
        "" => "0".to_owned(),
        some => some.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(text: &str) -> TraceState {
        text.parse().unwrap()
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let ot = Ot::of(&state("ot=th:c;rv:d9a0c7e1b2f344,other=1"));
        assert_eq!(ot.threshold, Some(0xc0_0000_0000_0000));
        assert_eq!(ot.random_value, Some(0xd9_a0c7_e1b2_f344));
        assert!((ot.rate(0xd0_0000_0000_0000).unwrap().probability() - 0.25).abs() < f64::EPSILON);
        // A trace below the threshold was not kept by it.
        assert_eq!(ot.rate(0xb0_0000_0000_0000), None);
    }

    #[test]
    fn what_is_malformed_counts_as_absent() {
        for text in ["ot=th:C", "ot=th:", "ot=th:123456789abcdef", "ot=th", "ot=rv:12", "x=th:c"] {
            assert_eq!(Ot::of(&state(text)), Ot::default(), "{text}");
        }
    }

    #[test]
    fn erasing_a_threshold_leaves_the_random_value_and_the_others() {
        let erased = with_threshold(&state("a=b,ot=th:8;rv:d9a0c7e1b2f344;x:y"), None);
        assert_eq!(erased.get("ot"), Some("rv:d9a0c7e1b2f344;x:y"));
        assert_eq!(erased.get("a"), Some("b"));
        assert_eq!(with_threshold(&state("a=b,ot=th:8"), None).header(), "a=b");
        assert_eq!(with_threshold(&TraceState::NONE, None), TraceState::NONE);
    }

    proptest! {
        #[test]
        fn a_threshold_that_is_written_is_read_back(value in 0..1_u64 << 56, zeros in 0..14_u32) {
            let value = value >> (4 * zeros) << (4 * zeros);
            let written = with_threshold(&state("ot=rv:0123456789abcd;th:f"), Some(value));
            let ot = Ot::of(&written);
            prop_assert_eq!(ot.threshold, Some(value));
            prop_assert_eq!(ot.random_value, Some(0x01_2345_6789_abcd));
        }

        #[test]
        fn any_state_can_be_given_a_threshold(text in "[a-z0-9:;=, ]{0,60}") {
            if let Ok(state) = text.parse::<TraceState>() {
                let given = with_threshold(&state, Some(7));
                let threshold = Ot::of(&given).threshold;
                prop_assert!(threshold.is_none() || threshold == Some(7));
            }
        }
    }
}
