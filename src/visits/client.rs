//! What kind of client it is, by what it calls itself.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;

use isbot::Bots;

use crate::model::ClientKind;

/// Bytes of a user agent that are looked at.
const MAX_BYTES: usize = 512;

/// User agents that a thread remembers.
const REMEMBERED: usize = 1024;

/// What came after the list of the crate `isbot`: the crawlers of language models, and probes of
/// orchestrators and load balancers.
const NEWER: [&str; 16] = [
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
];

static BOTS: LazyLock<Bots> = LazyLock::new(|| {
    let mut bots = Bots::default();
    bots.append(&NEWER);
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
    if BOTS.is_bot(agent) {
        return if agent.is_empty() { ClientKind::Unknown } else { ClientKind::Bot };
    }
    match agent {
        "" => ClientKind::Unknown,
        _ if agent.starts_with("Mozilla/") || agent.starts_with("Opera/") => ClientKind::Browser,
        _ => ClientKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bots_browsers_and_others_are_told_apart() {
        const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
        for (agent, expected) in [
            ("", ClientKind::Unknown),
            ("  ", ClientKind::Unknown),
            (CHROME, ClientKind::Browser),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
                ClientKind::Browser,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
                ClientKind::Browser,
            ),
            (
                "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
                ClientKind::Bot,
            ),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
                ClientKind::Bot,
            ),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
                ClientKind::Bot,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36",
                ClientKind::Bot,
            ),
            (
                "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
                ClientKind::Bot,
            ),
            ("kube-probe/1.31", ClientKind::Bot),
            ("ELB-HealthChecker/2.0", ClientKind::Bot),
            ("curl/8.5.0", ClientKind::Bot),
            ("ShopApp/3.2 (iOS 18.0)", ClientKind::Other),
        ] {
            assert_eq!(kind_of(agent), expected, "{agent}");
            assert_eq!(kind_of(agent), expected, "remembered: {agent}");
        }
        // However long it is, only its beginning is looked at.
        assert_eq!(
            kind_of(&format!("{CHROME}{}Googlebot", " é".repeat(9000))),
            ClientKind::Browser
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        for n in 0..3 * REMEMBERED {
            assert_eq!(kind_of(&format!("ShopApp/{n}")), ClientKind::Other);
        }
        assert!(KNOWN.with_borrow(HashMap::len) <= REMEMBERED);
    }
}
