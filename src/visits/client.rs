//! What kind of client it is, by what it calls itself.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use isbot::Bots;

use crate::model::ClientKind;

/// Bytes of a user agent that are looked at.
const MAX_BYTES: usize = 512;

/// User agents that a thread remembers.
const REMEMBERED: usize = 1024;

/// What the list of the crate `isbot` lacks: the crawlers of language models, probes of orchestrators,
/// load balancers and monitors, and a scanner.
const MORE: [&str; 21] = [
    "gptbot",
    "oai-searchbot",
    "chatgpt-user",
    "claude-(?:web|user|searchbot)",
    "claudebot",
    "anthropic-ai",
    "perplexity(?:bot|-user)",
    "google-(?:extended|other)|googleother",
    "amazonbot",
    "bytespider",
    "ccbot",
    "meta-external(?:agent|fetcher)",
    "mistralai-user",
    "^kube-probe",
    "^elb-healthchecker|^googlehc|^healthcheck|uptime-?kuma",
    "blackbox.exporter|headlesschrome",
    "^cohere-ai",
    "^img2dataset",
    "^datadog/?synthetics",
    "^prometheus/|^consul health check",
    "nikto/",
];

/// What is on that list and is no program that comes by itself: the library by which applications of
/// Android call, and the name of a tablet.
const FEWER: [&str; 2] = ["okhttp", "m_bot_tab"];

/// Words by which a program says that it is one, also where a device's name should stand.
const SAY_SO: [&str; 8] =
    ["http", "@", "compatible", "crawl", "spider", "google", "bing", "preview"];

static BOTS: LazyLock<Bots> = LazyLock::new(|| {
    let mut bots = Bots::default();
    bots.append(&MORE);
    bots.remove(&FEWER);
    bots
});

thread_local! {
    static KNOWN: RefCell<HashMap<Box<str>, ClientKind>> = RefCell::default();
}

/// The kind of client that sends this `User-Agent`. Most come again and are remembered.
pub(crate) fn kind_of(user_agent: &str) -> ClientKind {
    let agent = &user_agent[..user_agent.floor_char_boundary(MAX_BYTES)];
    let known = KNOWN.try_with(|known| {
        let mut known = known.borrow_mut();
        if let Some(kind) = known.get(agent) {
            return *kind;
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let kind = classify(agent);
        known.insert(agent.into(), kind);
        kind
    });
    known.unwrap_or_else(|_| classify(agent))
}

fn classify(agent: &str) -> ClientKind {
    let agent = agent.trim();
    match agent {
        "" => ClientKind::Unknown,
        _ if BOTS.is_bot(&without_device(agent)) => ClientKind::Bot,
        _ if agent.starts_with("Mozilla/") || agent.starts_with("Opera/") => ClientKind::Browser,
        _ => ClientKind::Other,
    }
}

/// The text without the names of devices that hold `bot`, such as those of the makers Cubot and M Bot:
/// in the comment of Android, and in what applications of Facebook say of the device.
fn without_device(agent: &str) -> Cow<'_, str> {
    let holds_bot = |text: &str| text.to_ascii_lowercase().contains("bot");
    if !holds_bot(agent) || !agent.contains("Android") {
        return Cow::Borrowed(agent);
    }
    let mut out = String::with_capacity(agent.len());
    let mut rest = agent;
    while let Some(at) = rest.find(['(', '[']) {
        let (before, from) = rest.split_at(at);
        let end = from.find([')', ']']).unwrap_or(from.len());
        let (comment, behind) = from.split_at(end);
        let of_facebook = comment.starts_with("[FB");
        let of_android = comment.contains("Android") || before.trim_end().ends_with("Android");
        out.push_str(before);
        for (nth, part) in comment.split(';').enumerate() {
            let name = part.split(" Build/").next().unwrap_or_default();
            let is_device = if of_facebook {
                ["FBMF/", "FBBD/", "FBDV/"].iter().any(|it| name.starts_with(it))
            } else {
                of_android && !name.contains('/')
            };
            let says_so = || {
                let name = name.to_ascii_lowercase();
                SAY_SO.iter().any(|word| name.contains(word))
            };
            out.push_str(if nth == 0 { "" } else { ";" });
            if nth == 0 || !is_device || !holds_bot(name) || says_so() {
                out.push_str(part);
            }
        }
        rest = behind;
        if let Some(close) = rest.get(..1) {
            out.push_str(close);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
#[path = "agents.rs"]
mod agents;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_browsers_and_others_are_told_apart() {
        let mut wrong = Vec::new();
        for (agents, expected) in [
            (agents::BOTS, ClientKind::Bot),
            (agents::BROWSERS, ClientKind::Browser),
            (agents::OTHERS, ClientKind::Other),
            (&["", "  "], ClientKind::Unknown),
        ] {
            for agent in agents {
                // The second time it is remembered.
                let kinds = [kind_of(agent), kind_of(agent)];
                if kinds != [expected; 2] {
                    wrong.push(format!("{kinds:?}: {agent}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
        assert!(agents::BOTS.len() > 60 && agents::BROWSERS.len() > 60);
    }

    #[test]
    fn only_the_beginning_of_a_name_is_looked_at() {
        let browser = agents::BROWSERS[0];
        let long = format!("{browser}{}Googlebot", " é".repeat(9000));
        assert_eq!(kind_of(&long), ClientKind::Browser);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        for n in 0..3 * REMEMBERED {
            assert_eq!(kind_of(&format!("ShopApp/{n}")), ClientKind::Other);
        }
        assert!(KNOWN.with_borrow(HashMap::len) <= REMEMBERED);
    }
}
