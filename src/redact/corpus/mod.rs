//! How much is missed and how much is destroyed: a corpus of texts with secrets and of texts without,
//! and the figures of each kind of them.
//!
//! The texts are the products of templates, names and values, in an order that a seed decides, and
//! lines as applications write them. A secret is missed if any of it is left that tells it; a harmless
//! text is destroyed if it changed at all. `docs/redaction.md` has the figures.

mod harmless;
mod planted;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fastrand::Rng;

use super::Redactor;

/// A text with a secret in it.
struct Planted {
    kind: &'static str,
    text: String,
    /// What tells the secret: none of it may be left.
    secret: String,
}

/// A text without any.
struct Harmless {
    kind: &'static str,
    text: String,
}

/// Replaces what stands in `{}`: `{a20}` twenty letters and digits, `{x40}` hexadecimal digits, `{d16}`
/// digits, `{l8}` small letters, `{u8}` capitals and digits, `{uuid}`; `{4+15}` a number of so many
/// digits behind the 4, of which the last is right by Luhn. Other braces stay.
fn filled(template: &str, rng: &mut Rng) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let close = rest[open..].find('}').map_or(rest.len(), |it| open + it);
        let spec = rest.get(open + 1..close).unwrap_or_default();
        if let Some(value) = generated(spec, rng) {
            out.push_str(&rest[..open]);
            out.push_str(&value);
            rest = &rest[close + 1..];
        } else {
            out.push_str(&rest[..=open]);
            rest = &rest[open + 1..];
        }
    }
    out + rest
}

fn generated(spec: &str, rng: &mut Rng) -> Option<String> {
    if spec == "uuid" {
        return Some(filled("{x8}-{x4}-4{x3}-8{x3}-{x12}", rng));
    }
    if let Some((start, more)) = spec.split_once('+')
        && start.bytes().all(|it| it.is_ascii_digit())
    {
        return Some(with_check_digit(start, more.parse().ok()?, rng));
    }
    let alphabet: &[u8] = match spec.as_bytes().first()? {
        b'a' => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        b'x' => b"0123456789abcdef",
        b'd' => b"0123456789",
        b'l' => b"abcdefghijklmnopqrstuvwxyz",
        b'u' => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        _ => return None,
    };
    let count: usize = spec.get(1..)?.parse().ok()?;
    Some((0..count).map(|_| char::from(alphabet[rng.usize(..alphabet.len())])).collect())
}

/// A number that the check digit of cards is right for.
fn with_check_digit(start: &str, more: usize, rng: &mut Rng) -> String {
    let mut number = start.to_owned();
    (1..more).for_each(|_| number.push(rng.digit(10)));
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let digits = number.chars().rev().filter_map(|it| it.to_digit(10)).enumerate();
    let sum: u32 = digits.map(|(at, it)| if at % 2 == 0 { doubled(it) } else { it }).sum();
    number.push(char::from_digit((10 - sum % 10) % 10, 10).expect("a digit"));
    number
}

/// Of how many texts of each kind how many went wrong, and some of those.
#[derive(Default)]
struct Figures(BTreeMap<&'static str, (usize, Vec<String>)>);

impl Figures {
    fn count(&mut self, kind: &'static str, wrong: Option<String>) {
        let (all, which) = self.0.entry(kind).or_default();
        *all += 1;
        which.extend(wrong);
    }

    fn texts(&self) -> usize {
        self.0.values().map(|(all, _)| all).sum()
    }

    fn wrong(&self) -> usize {
        self.0.values().map(|(_, which)| which.len()).sum()
    }

    fn table(&self, title: &str) -> String {
        let mut out = format!("{title}: {} of {}\n", self.wrong(), self.texts());
        for (kind, (all, which)) in &self.0 {
            let _ = writeln!(out, "| {kind} | {all} | {} |", which.len());
            let step = which.len().div_ceil(12).max(1);
            for it in which.iter().step_by(step) {
                out.extend(["    ", it, "\n"]);
            }
        }
        out
    }
}

#[test]
fn secrets_of_the_corpus_go() {
    let redactor = Redactor::default();
    let mut figures = Figures::default();
    for Planted { kind, text, secret } in planted::all() {
        let mut left = text.clone();
        redactor.text(&mut left);
        let is_left = left.contains(&secret);
        figures.count(kind, is_left.then(|| format!("{text:?} -> {left:?}")));
    }
    let table = figures.table("missed");
    println!("{table}");
    assert!(figures.texts() >= 2_000, "{table}");
    // One in 200.
    assert!(figures.wrong() * 200 <= figures.texts(), "{table}");
}

#[test]
fn harmless_texts_of_the_corpus_stay() {
    let redactor = Redactor::default();
    let mut figures = Figures::default();
    for Harmless { kind, text } in harmless::all() {
        let mut left = text.clone();
        redactor.text(&mut left);
        let same = |a: &str, b: &str| {
            let json = |it: &str| serde_json::from_str::<serde_json::Value>(it).ok();
            a == b || json(a).is_some_and(|it| Some(it) == json(b))
        };
        figures.count(kind, (!same(&left, &text)).then(|| format!("{text:?} -> {left:?}")));
    }
    let table = figures.table("destroyed");
    println!("{table}");
    assert!(figures.texts() >= 2_000, "{table}");
    // One in 200.
    assert!(figures.wrong() * 200 <= figures.texts(), "{table}");
}
