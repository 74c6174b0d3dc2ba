//! From text to a [`SamplingPolicy`].
//!
//! One pass with a cursor: the position of every error is where the cursor stands. Columns count
//! bytes, the first is 1.

use std::collections::HashMap;
use std::str::FromStr;

use super::{
    Faults, Measure, Override, OverrideRule, SamplingPolicy, Selector, SelectorColumn, measured,
};
use crate::config::units::parse_duration;

/// What a rule may be.
const RULES: &str = "all, off, errors, faults, slow>DURATION, start>DURATION, total>DURATION, \
                     rate=SHARE, budget=NUMBER/s, ekind:NAME=SHARE, route:TEMPLATE>DURATION, \
                     route:TEMPLATE start>DURATION, always:ekind:NAME, never:route:TEMPLATE or \
                     drop:route:TEMPLATE";

const SHARE: &str = "a share from 0 to 1, such as 0.01";

/// Every word a rule can begin with, and how the rule is written.
const WORDS: [(&str, &str); 14] = [
    ("all", "all"),
    ("off", "off"),
    ("errors", "errors"),
    ("faults", "faults"),
    ("slow", "slow>DURATION"),
    ("start", "start>DURATION"),
    ("total", "total>DURATION"),
    ("rate", "rate=SHARE"),
    ("budget", "budget=NUMBER/s"),
    ("ekind", "ekind:NAME=SHARE or ekind:NAME>DURATION"),
    ("route", "route:TEMPLATE=SHARE or route:TEMPLATE>DURATION"),
    ("always", "always:ekind:NAME or always:route:TEMPLATE"),
    ("never", "never:ekind:NAME or never:route:TEMPLATE"),
    ("drop", "drop:ekind:NAME or drop:route:TEMPLATE"),
];

impl FromStr for SamplingPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut reader = Reader { text, at: 0, start: 0, seen: HashMap::new() };
        let mut policy = Self::OFF;
        loop {
            reader.rule(&mut policy)?;
            if reader.at == text.len() {
                break;
            }
            reader.at += 1;
        }
        reader.finish(policy)
    }
}

/// A rule that may stand once: what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Topic {
    Off,
    Slow,
    Start,
    Total,
    Rate,
    Budget,
    SelectorSlow(Selector),
    SelectorStart(Selector),
    SelectorTotal(Selector),
    SelectorRate(Selector),
    SelectorFate(Selector),
    SelectorDrop(Selector),
}

struct Reader<'a> {
    text: &'a str,
    /// Where reading goes on.
    at: usize,
    /// Where the rule begins that is being read.
    start: usize,
    /// What rules were about, and where they begin.
    seen: HashMap<Topic, usize>,
}

impl<'a> Reader<'a> {
    /// Reads one rule, up to the comma behind it or the end.
    fn rule(&mut self, policy: &mut SamplingPolicy) -> Result<(), String> {
        self.skip_space();
        self.start = self.at;
        let word = self.take_until(|c| matches!(c, ',' | '=' | '>' | ':' | '"'));
        match word {
            "all" => {
                self.end("all")?;
                self.once(Topic::Rate, "rate")?;
                policy.rate = 1.0;
                policy.faults = stronger(policy.faults, Faults::Server);
            }
            "off" => {
                self.end("off")?;
                self.once(Topic::Off, "off")?;
            }
            "errors" => {
                self.end("errors")?;
                policy.faults = stronger(policy.faults, Faults::Server);
            }
            "faults" => {
                self.end("faults")?;
                policy.faults = Faults::All;
            }
            "slow" => {
                self.sign('>', "slow>DURATION, such as slow>500ms")?;
                policy.slow = Some(self.duration()?);
                self.once(Topic::Slow, "slow")?;
            }
            "start" => {
                self.sign('>', "start>DURATION, such as start>500ms")?;
                policy.start = Some(self.duration()?);
                self.once(Topic::Start, "start")?;
            }
            "total" => {
                self.sign('>', "total>DURATION, such as total>1h")?;
                policy.total = Some(self.duration()?);
                self.once(Topic::Total, "total")?;
            }
            "rate" => {
                self.sign('=', "rate=SHARE, such as rate=0.01")?;
                policy.rate = self.share()?;
                self.once(Topic::Rate, "rate")?;
            }
            "budget" => {
                self.sign('=', "budget=NUMBER/s, such as budget=100/s")?;
                policy.budget = Some(self.per_second()?);
                self.once(Topic::Budget, "budget")?;
            }
            "ekind" | "route" => {
                self.at = self.start;
                let (selector, measure) = self.selector()?;
                let rule = self.override_rule(&selector, measure)?;
                policy.overrides.push(Override { selector, rule });
            }
            "always" | "never" => {
                self.sign(':', "always:ekind:NAME or never:route:TEMPLATE")?;
                self.skip_space();
                let (selector, _) = self.selector()?;
                self.end("always:ekind:NAME or never:route:TEMPLATE, with nothing behind it")?;
                let rule =
                    if word == "always" { OverrideRule::Always } else { OverrideRule::Never };
                self.once(
                    Topic::SelectorFate(selector.clone()),
                    &format!("always or never for {selector}"),
                )?;
                policy.overrides.push(Override { selector, rule });
            }
            "drop" => {
                self.sign(':', "drop:ekind:NAME or drop:route:TEMPLATE")?;
                self.skip_space();
                let (selector, _) = self.selector()?;
                self.end("drop:ekind:NAME or drop:route:TEMPLATE, with nothing behind it")?;
                let topic = Topic::SelectorDrop(selector.clone());
                self.once(topic, &format!("drop for {selector}"))?;
                policy.overrides.push(Override { selector, rule: OverrideRule::Drop });
            }
            _ => return Err(self.unknown(word)),
        }
        Ok(())
    }

    /// What stands behind a selector: a share or a length of time.
    fn override_rule(
        &mut self,
        selector: &Selector,
        measure: Option<Measure>,
    ) -> Result<OverrideRule, String> {
        let (rule, topic, name) = match self.peek() {
            Some('>') if measure == Some(Measure::Start) => {
                self.at += 1;
                let rule = OverrideRule::Start(self.duration()?);
                (rule, Topic::SelectorStart(selector.clone()), "start")
            }
            Some('>') if measure == Some(Measure::Total) => {
                self.at += 1;
                let rule = OverrideRule::Total(self.duration()?);
                (rule, Topic::SelectorTotal(selector.clone()), "total")
            }
            Some('=') => {
                self.at += 1;
                let rule = OverrideRule::Rate(self.share()?);
                (rule, Topic::SelectorRate(selector.clone()), "share")
            }
            Some('>') => {
                self.at += 1;
                let rule = OverrideRule::Slow(self.duration()?);
                (rule, Topic::SelectorSlow(selector.clone()), "duration")
            }
            _ => {
                let expected = format!(
                    "=SHARE or >DURATION behind {selector}, or start>DURATION or total>DURATION, or \
                     always:, never: or drop: before it"
                );
                return Err(self.problem(self.at, &expected));
            }
        };
        self.once(topic, &format!("{name} for {selector}"))?;
        Ok(rule)
    }

    /// A selector, and the measure that stands between it and a `>`.
    fn selector(&mut self) -> Result<(Selector, Option<Measure>), String> {
        const EXPECTED: &str = "ekind:NAME or route:TEMPLATE";
        let begin = self.at;
        let column = match self.take_until(|c| matches!(c, ',' | '=' | '>' | ':' | '"')) {
            "ekind" => SelectorColumn::Ekind,
            "route" => SelectorColumn::Route,
            word => {
                let hint =
                    near(word, &["ekind", "route"]).map(|it| format!("; did you mean {it}?"));
                let problem = format!("{EXPECTED}{}", hint.unwrap_or_default());
                return Err(self.problem(begin, &problem));
            }
        };
        self.sign(':', EXPECTED)?;
        self.skip_space();
        let (text, prefix, measure) = if self.peek() == Some('"') {
            let text = self.quoted()?;
            let prefix = self.peek() == Some('*');
            self.at += usize::from(prefix);
            self.skip_space();
            let behind = self.at;
            let measure = Measure::of(self.take_until(|c| !c.is_ascii_alphabetic()));
            self.skip_space();
            if self.peek() != Some('>') || measure.is_none() {
                self.at = behind;
            }
            (text, prefix, measure.filter(|_| self.at != behind))
        } else {
            let begin = self.at;
            let bare = self.take_until(|c| matches!(c, ',' | '=' | '>' | '"'));
            if bare.is_empty() {
                return Err(self.problem(begin, "a name behind the colon, or * for every one"));
            }
            let (bare, measure) =
                if self.peek() == Some('>') { measured(bare) } else { (bare, None) };
            match bare.strip_suffix('*') {
                Some(beginning) => (beginning.to_owned(), true, measure),
                None => (bare.to_owned(), false, measure),
            }
        };
        Ok((Selector { column, text, prefix }, measure))
    }

    /// Text in double quotes, in which `\"` and `\\` stand for themselves.
    fn quoted(&mut self) -> Result<String, String> {
        let begin = self.at;
        let mut out = String::new();
        let mut chars = self.text[begin..].char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = begin + offset + 1;
                    return Ok(out);
                }
                '\\' => {
                    let escaped = chars.next().filter(|(_, c)| matches!(c, '"' | '\\'));
                    let Some((_, escaped)) = escaped else {
                        let at = begin + offset;
                        return Err(self.problem(at, "\\\" or \\\\ inside of quotes"));
                    };
                    out.push(escaped);
                }
                c => out.push(c),
            }
        }
        Err(self.problem(begin, "a closing \" for the quote that begins here"))
    }

    fn duration(&mut self) -> Result<std::time::Duration, String> {
        let (at, value) = self.value();
        parse_duration(value).map_err(|expected| self.value_problem(at, expected, value))
    }

    fn share(&mut self) -> Result<f64, String> {
        let (at, value) = self.value();
        let share = value.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share.ok_or_else(|| self.value_problem(at, SHARE, value))
    }

    fn per_second(&mut self) -> Result<f64, String> {
        let (at, value) = self.value();
        let number = value.strip_suffix("/s").and_then(|number| number.trim().parse::<f64>().ok());
        number.filter(|number| *number > 0.0 && number.is_finite()).ok_or_else(|| {
            self.value_problem(at, "traces per second above 0, such as 100/s or 0.5/s", value)
        })
    }

    /// What stands between here and the rule's end, and where.
    fn value(&mut self) -> (usize, &'a str) {
        self.skip_space();
        let at = self.at;
        (at, self.take_until(|c| c == ','))
    }

    fn value_problem(&self, at: usize, expected: &str, value: &str) -> String {
        let quote = "; a name that holds , = > or \" is written in double quotes";
        let hint = if value.contains(['=', '>', '"']) { quote } else { "" };
        self.problem(at, &format!("{expected}{hint}"))
    }

    /// The sign that the word must be followed by.
    fn sign(&mut self, sign: char, form: &str) -> Result<(), String> {
        if self.peek() != Some(sign) {
            return Err(self.problem(self.at, form));
        }
        self.at += 1;
        Ok(())
    }

    /// The rule must end here.
    fn end(&self, form: &str) -> Result<(), String> {
        match self.peek() {
            None | Some(',') => Ok(()),
            Some(_) => Err(self.problem(self.at, &format!("a comma or the end behind {form}"))),
        }
    }

    /// A rule about this may stand only once: of two it would not be clear which holds.
    fn once(&mut self, topic: Topic, name: &str) -> Result<(), String> {
        if let Some(first) = self.seen.get(&topic) {
            let column = first + 1;
            let expected = format!("one rule about {name}, and column {column} has it already");
            return Err(self.problem(self.start, &expected));
        }
        self.seen.insert(topic, self.start);
        Ok(())
    }

    fn unknown(&self, word: &str) -> String {
        let hint = near(word, &WORDS.map(|(word, _)| word))
            .and_then(|near| WORDS.iter().find(|(word, _)| *word == near))
            .map(|(_, form)| format!("; did you mean {form}?"));
        self.problem(self.start, &format!("{RULES}{}", hint.unwrap_or_default()))
    }

    /// The last checks: of the policy as a whole.
    fn finish(self, policy: SamplingPolicy) -> Result<SamplingPolicy, String> {
        let off = self.seen.get(&Topic::Off);
        if let Some(at) = off
            && policy.can_keep()
        {
            let column = at + 1;
            return Err(format!(
                "column {column}, \"off\": expected off alone, as other rules keep traces; remove \
                 off or the others"
            ));
        }
        let zero = self.seen.contains_key(&Topic::Rate);
        if off.is_none() && !zero && !policy.can_keep() {
            return Err(format!(
                "column 1, {:?}: expected a rule that keeps traces beside it, such as errors or \
                 rate=1; write off to keep none",
                self.text.trim().chars().take(100).collect::<String>()
            ));
        }
        Ok(policy)
    }

    fn problem(&self, at: usize, expected: &str) -> String {
        let rule = self.text[self.start..].split(',').next().unwrap_or_default().trim_end();
        let rule: String = rule.chars().take(100).collect();
        format!("column {}, {rule:?}: expected {expected}", at + 1)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The text up to the first character that ends it, without space around it.
    fn take_until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let taken = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += taken.len();
        taken.trim()
    }
}

fn stronger(a: Faults, b: Faults) -> Faults {
    match (a, b) {
        (Faults::All, _) | (_, Faults::All) => Faults::All,
        (Faults::Server, _) | (_, Faults::Server) => Faults::Server,
        (Faults::None, Faults::None) => Faults::None,
    }
}

/// The word that this one most likely should be.
fn near<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    // The words of others for the same thing.
    let meant = match word.to_ascii_lowercase().as_str() {
        "latency" => "slow",
        "duration" => "total",
        "response_start" | "ttfb" | "head" => "start",
        "probabilistic" | "ratio" | "sample" | "share" => "rate",
        "status_code" | "server_fault" | "server_faults" => "errors",
        "client_fault" | "client_faults" => "faults",
        "limit" | "rate_limiting" => "budget",
        "keep" | "always_sample" | "include" => "always",
        "exclude" | "ignore" => "never",
        "skip" | "hide" => "drop",
        "none" => "off",
        "event" | "kind" => "ekind",
        "path" => "route",
        _ => "",
    };
    let distance = |known: &&str| strsim::osa_distance(&word.to_ascii_lowercase(), known);
    let by_letters = words.iter().copied().min_by_key(distance).filter(|it| distance(it) <= 2);
    // Two letters of a word of three are no likeness.
    let by_letters = by_letters.filter(|it| distance(it) * 2 <= it.len() && !word.is_empty());
    words.iter().copied().find(|it| *it == meant).or(by_letters)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
