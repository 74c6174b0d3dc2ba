//! A first look at a text: whether one of several words may be in it.
//!
//! An automaton takes one step a byte, and each waits for the last. This looks at how words begin,
//! and no byte waits for another: it takes a third of the time, and nearly every text holds nothing
//! that begins like a word.

/// How much of a word is looked at.
const BEGINNING: usize = 4;

/// Words of which a text may hold one, whatever their case.
#[derive(Debug)]
pub(super) struct Glance {
    /// By byte, and by its place in the beginning: a bit for every word that may have it there.
    /// Words that begin alike share their bits where there are more of them than bits.
    rows: Box<[[u64; BEGINNING]; 256]>,
}

impl Glance {
    /// Words in any case, and words in the one that they are written in.
    pub(super) fn new(words: &[&str], exact: &[&str]) -> Self {
        let mut rows = Box::new([[0; BEGINNING]; 256]);
        let any = words.iter().map(|word| (*word, false));
        let mut words: Vec<_> = any.chain(exact.iter().map(|word| (*word, true))).collect();
        words.sort_unstable_by_key(|(word, _)| word.to_ascii_lowercase());
        for (index, (word, exact)) in words.iter().enumerate() {
            let bit = 1 << (index * 64 / words.len());
            for place in 0..BEGINNING {
                match word.as_bytes().get(place) {
                    Some(byte) if *exact => rows[usize::from(*byte)][place] |= bit,
                    Some(byte) => {
                        rows[usize::from(byte.to_ascii_lowercase())][place] |= bit;
                        rows[usize::from(byte.to_ascii_uppercase())][place] |= bit;
                    }
                    // The word is shorter: whatever follows.
                    None => rows.iter_mut().for_each(|row| row[place] |= bit),
                }
            }
        }
        Self { rows }
    }

    /// `false` when none of the words is in the text.
    pub(super) fn may_find(&self, text: &str) -> bool {
        // Words of which the last one, two and three bytes are the beginning.
        let (mut one, mut two, mut three) = (0, 0, 0);
        // Behind the text, so that a short word at its end has something to follow it.
        let behind = [0; BEGINNING - 1];
        let mut found = |byte: &u8| {
            let row = &self.rows[usize::from(*byte)];
            let four = three & row[3];
            three = two & row[2];
            two = one & row[1];
            one = row[0];
            four != 0
        };
        text.as_bytes().iter().any(&mut found) || behind.iter().any(&mut found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_is_seen_wherever_it_stands_and_in_any_case() {
        let glance = Glance::new(&["gh", "key", "token", "://"], &["SK"]);
        for text in ["gh", "a gh", "xKEY", "keys", "a ToKeN b", "a://", "ggh", "aSK"] {
            assert!(glance.may_find(text), "{text}");
        }
        for text in ["", "g", "g h", "ke y", "to ken", ":/ /", "tok", "h\u{e9}g", "ask", "Sk"] {
            assert!(!glance.may_find(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_word_is_overlooked(
            words in prop::collection::vec("[a-cA-C_]{1,6}", 1..70),
            exact in prop::collection::vec("[a-cA-C_]{1,6}", 0..70),
            text in "[a-dA-D_]{0,40}",
        ) {
            let exact: Vec<&str> = exact.iter().map(String::as_str).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let lower = text.to_ascii_lowercase();
            let holds = words.iter().any(|word| lower.contains(&word.to_ascii_lowercase()));
            let holds = holds || exact.iter().any(|word| text.contains(word));
            prop_assert!(!holds || Glance::new(&words, &exact).may_find(&text));
        }
    }
}
