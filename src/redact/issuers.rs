//! Keys that their issuers mark: a beginning that nothing else has, and then letters and digits.
//!
//! The table has facts: which beginning, which characters follow, and from how many on it is one.
//! They are those that issuers document, and those that the rules of Gitleaks name (MIT licence,
//! `config/gitleaks.toml` of its repository); no expression is taken over. Where a key is longer, fewer
//! characters are asked for than it has: it may be cut.
//!
//! What follows must look drawn by lot: a digit in it, or letters of both cases. `sk-learn-pipelines`
//! is no key. A candidate is given up after as many characters as its rule asks for, so time is linear.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use super::SECRET;

/// Which characters follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Hexadecimal digits.
    Hex,
    /// Capitals and digits.
    Upper,
    /// Letters and digits.
    Alnum,
    /// Those of base64 in addresses: `-` and `_`, too.
    Url,
    /// Several such, with `.` between them.
    Dotted,
    /// Those of base64.
    Base64,
}

impl Tail {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
            Self::Base64 => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
            }
        }
    }
}

/// A beginning, what follows, and how much of it at least.
pub(super) type Issued = (&'static str, Tail, usize);

pub(super) const ISSUED: &[Issued] = {
    use Tail::{Alnum, Base64, Dotted, Hex, Upper, Url};
    &[
        // 1Password: service accounts, secret keys.
        ("ops_eyJ", Base64, 24),
        ("A3-", Url, 30),
        // Adobe, age, Airtable, Alibaba, Anthropic.
        ("p8e-", Alnum, 32),
        ("AGE-SECRET-KEY-1", Upper, 40),
        ("LTAI", Alnum, 17),
        ("sk-ant-", Url, 12),
        // Artifactory, Asana, Atlassian, AWS.
        ("AKCp", Alnum, 60),
        ("cmVmd", Alnum, 50),
        ("ATATT3", Base64, 24),
        ("ATCTT3", Base64, 24),
        ("ATBB", Alnum, 28),
        ("AKIA", Upper, 16),
        ("ASIA", Upper, 16),
        ("ABIA", Upper, 16),
        ("ACCA", Upper, 16),
        ("ABSK", Base64, 60),
        ("bedrock-api-key-", Base64, 20),
        ("amzn.mws.", Url, 30),
        // Brevo, Buildkite, Clojars, ClickHouse Cloud, Cloudflare, Contentful, Customer.io.
        ("xkeysib-", Url, 32),
        ("xsmtpsib-", Url, 32),
        ("bkua_", Hex, 32),
        ("CLOJARS_", Alnum, 40),
        ("4b1d", Alnum, 38),
        ("cfut_", Alnum, 32),
        ("cfat_", Alnum, 32),
        ("v1.0-", Url, 60),
        ("CFPAT-", Url, 32),
        ("cio_", Alnum, 24),
        // Databricks, DigitalOcean, Discord, Docker, Doppler, Duffel, Dynatrace.
        ("dapi", Hex, 32),
        ("dop_v1_", Hex, 32),
        ("doo_v1_", Hex, 32),
        ("dor_v1_", Hex, 32),
        ("dckr_pat_", Url, 20),
        ("dckr_oat_", Url, 20),
        ("dp.pt.", Alnum, 30),
        ("dp.st.", Dotted, 30),
        ("dp.ct.", Alnum, 30),
        ("dp.sa.", Alnum, 30),
        ("duffel_live_", Url, 24),
        ("duffel_test_", Url, 24),
        ("dt0c01.", Dotted, 40),
        ("dt0s01.", Dotted, 40),
        // EasyPost, ElevenLabs, Facebook, Figma, Flutterwave, Fly, Frame.io.
        ("EZAK", Alnum, 40),
        ("EZTK", Alnum, 40),
        ("EAAM", Alnum, 60),
        ("EAAC", Alnum, 60),
        ("EAAA", Url, 22),
        ("figd_", Url, 30),
        ("figu_", Url, 30),
        ("FLWSECK_TEST-", Url, 12),
        ("FLWSECK-", Url, 12),
        ("FLWPUBK_TEST-", Url, 12),
        ("fo1_", Url, 36),
        ("fm1r_", Base64, 60),
        ("fm1a_", Base64, 60),
        ("fm2_", Base64, 60),
        ("fio-u-", Base64, 40),
        // GitHub, GitLab.
        ("ghp_", Alnum, 20),
        ("gho_", Alnum, 20),
        ("ghu_", Alnum, 20),
        ("ghs_", Alnum, 20),
        ("ghr_", Alnum, 20),
        ("github_pat_", Url, 20),
        ("glpat-", Dotted, 16),
        ("glrt-", Dotted, 16),
        ("gldt-", Dotted, 16),
        ("glptt-", Hex, 32),
        ("glcbt-", Url, 20),
        ("glft-", Url, 16),
        ("glffct-", Url, 16),
        ("glimt-", Url, 20),
        ("glagent-", Url, 32),
        ("gloas-", Url, 32),
        ("glsoat-", Url, 16),
        ("GR1348941", Url, 16),
        // Google, Grafana, Groq.
        ("AIza", Url, 35),
        ("GOCSPX-", Url, 16),
        ("ya29.", Url, 20),
        ("1//0", Url, 40),
        ("glc_", Base64, 32),
        ("glsa_", Url, 32),
        ("gsk_", Alnum, 32),
        // Harness, HashiCorp, Heroku, HubSpot, Hugging Face.
        ("pat.", Dotted, 60),
        ("sat.", Dotted, 60),
        ("hvs.", Url, 20),
        ("hvb.", Url, 20),
        ("hvr.", Url, 20),
        ("HRKU-AA", Url, 40),
        ("pat-na1-", Url, 32),
        ("pat-eu1-", Url, 32),
        ("hf_", Alnum, 20),
        ("api_org_", Alnum, 30),
        // Infracost, JFrog, LangChain, Linear, LaunchDarkly, Mailgun, MailerSend, Mapbox.
        ("ico-", Alnum, 32),
        ("lsv2_pt_", Url, 32),
        ("lsv2_sk_", Url, 32),
        ("lin_api_", Alnum, 30),
        ("lin_oauth_", Hex, 40),
        ("sdk-", Url, 36),
        ("api-", Url, 36),
        ("key-", Hex, 32),
        ("pubkey-", Hex, 32),
        ("mlsn.", Hex, 40),
        ("sk.eyJ", Dotted, 30),
        // Netlify, New Relic, Notion, npm, NuGet, NVIDIA.
        ("nfp_", Alnum, 30),
        ("NRAK-", Upper, 24),
        ("NRJS-", Hex, 19),
        ("NRII-", Url, 30),
        ("NRAL-", Alnum, 30),
        ("ntn_", Alnum, 40),
        ("npm_", Alnum, 30),
        ("oy2", Alnum, 43),
        ("nvapi-", Url, 30),
        // Octopus, OpenAI, OpenRouter, OpenShift, Perplexity.
        ("API-", Upper, 26),
        ("sk-proj-", Url, 12),
        ("sk-svcacct-", Url, 12),
        ("sk-admin-", Url, 12),
        ("sk-None-", Url, 20),
        ("sk-or-v1-", Hex, 16),
        ("sk-", Alnum, 20),
        ("sess-", Alnum, 40),
        ("sha256~", Url, 40),
        ("pplx-", Alnum, 32),
        // PlanetScale, PostHog, Postman, Prefect, Pulumi, PyPI.
        ("pscale_tkn_", Dotted, 30),
        ("pscale_pw_", Dotted, 30),
        ("pscale_oauth_", Dotted, 30),
        ("phc_", Alnum, 32),
        ("phx_", Alnum, 32),
        ("PMAK-", Url, 40),
        ("pnu_", Alnum, 30),
        ("pnb_", Alnum, 30),
        ("pul-", Hex, 40),
        ("pypi-", Url, 24),
        // ReadMe, Render, Replicate, Resend, RubyGems.
        ("rdme_", Alnum, 60),
        ("rnd_", Alnum, 24),
        ("r8_", Alnum, 30),
        ("re_", Url, 30),
        ("rubygems_", Hex, 40),
        // Scaleway, Scalingo, SendGrid, Sendinblue, Sentry, SettleMint, Shippo, Shopify.
        ("SCW", Upper, 17),
        ("tk-us-", Url, 40),
        ("SG.", Dotted, 16),
        ("sntrys_", Base64, 40),
        ("sntryu_", Hex, 40),
        ("sm_aat_", Alnum, 16),
        ("sm_pat_", Alnum, 16),
        ("sm_sat_", Alnum, 16),
        ("shippo_live_", Hex, 30),
        ("shippo_test_", Hex, 30),
        ("shpat_", Hex, 16),
        ("shpca_", Hex, 16),
        ("shppa_", Hex, 16),
        ("shpss_", Hex, 16),
        // Slack, Sourcegraph, Square, Stripe, Supabase, Svix.
        ("xoxb-", Url, 10),
        ("xoxp-", Url, 10),
        ("xoxa-", Url, 10),
        ("xoxr-", Url, 10),
        ("xoxs-", Url, 10),
        ("xoxo-", Url, 10),
        ("xoxc-", Url, 10),
        ("xoxd-", Url, 10),
        ("xoxe-", Url, 10),
        ("xoxe.xox", Url, 20),
        ("xapp-", Url, 16),
        ("sgp_", Url, 40),
        ("sq0atp-", Url, 20),
        ("sq0csp-", Url, 30),
        ("sk_live_", Alnum, 10),
        ("sk_test_", Alnum, 10),
        ("sk_prod_", Alnum, 10),
        ("rk_live_", Alnum, 10),
        ("rk_test_", Alnum, 10),
        ("rk_prod_", Alnum, 10),
        ("sbp_", Hex, 32),
        ("sb_secret_", Url, 20),
        ("whsec_", Base64, 16),
        // Tailscale, Twilio, Typeform, Vercel, xAI, Yandex.
        ("tskey-", Url, 16),
        ("SK", Hex, 32),
        ("tfp_", Url, 40),
        ("vercel_", Alnum, 24),
        ("vcp_", Alnum, 24),
        ("xai-", Alnum, 40),
        ("t1.9euelZ", Base64, 30),
        ("AQVN", Url, 35),
    ]
};

/// What stands inside of a key, what before it and what behind, and how much of each at least.
pub(super) type Inner = (&'static str, Tail, usize, Tail, usize);

/// Telegram's bots, `MongoDB` Atlas, Azure's applications, `MaxMind`.
pub(super) const INNER: &[Inner] = &[
    (":AA", Tail::Alnum, 8, Tail::Url, 32),
    (".atlasv1.", Tail::Alnum, 14, Tail::Base64, 40),
    ("Q~", Tail::Dotted, 4, Tail::Dotted, 31),
    ("_mmk", Tail::Alnum, 29, Tail::Alnum, 0),
];

/// Puts a mark in place of each key that is known by what stands inside of it.
pub(super) fn replace_inner(text: &mut String) {
    for (inner, before, fewest, behind, least) in INNER {
        let bytes = text.as_bytes();
        let mut out = String::new();
        let (mut copied, mut at) = (0, 0);
        while let Some(found) = text[at..].find(inner).map(|it| at + it) {
            at = found + inner.len();
            let end = end(bytes, at, *behind, *least);
            let start = start(bytes, found, *before).max(copied);
            let end = if *least == 0 { Some(at) } else { end };
            if let Some(end) = end.filter(|_| found - start >= *fewest) {
                out.push_str(&text[copied..start]);
                out.push_str(SECRET);
                (copied, at) = (end, end);
            }
        }
        if copied > 0 {
            out.push_str(&text[copied..]);
            *text = out;
        }
    }
}

/// Where the characters begin that stand before this. No key has more than 64 of them there.
fn start(bytes: &[u8], at: usize, before: Tail) -> usize {
    at - bytes[..at].iter().rev().take(64).take_while(|it| before.has(**it)).count()
}

static BEGINNINGS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .build(ISSUED.iter().map(|(beginning, ..)| beginning))
        .expect("a few words fit into an automaton")
});

/// Whether there is such a key.
pub(super) fn holds(text: &str) -> bool {
    next(text, 0).is_some()
}

/// Puts a mark in place of each such key.
pub(super) fn replace(text: &mut String) {
    let mut out = String::new();
    let mut copied = 0;
    while let Some(found) = next(text, copied) {
        out.push_str(&text[copied..found.start]);
        out.push_str(SECRET);
        copied = found.end;
    }
    if copied > 0 {
        out.push_str(&text[copied..]);
        *text = out;
    }
}

/// The first key behind `at`.
fn next(text: &str, mut at: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    loop {
        let found = BEGINNINGS.find(Input::new(text).range(at..))?;
        let (_, tail, least) = ISSUED[found.pattern().as_usize()];
        let end = begins(bytes, found.start()).then(|| end(bytes, found.end(), tail, least));
        if let Some(end) = end.flatten() {
            return Some(found.start()..end);
        }
        at = found.start() + 1;
    }
}

/// Whether no word goes on here. An escaped line break before it has a letter.
fn begins(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|it| bytes[it]);
    match before(1) {
        Some(b'n' | b'r' | b't') if before(2) == Some(b'\\') => true,
        Some(byte) => !byte.is_ascii_alphanumeric() && byte != b'_',
        None => true,
    }
}

/// Where the key ends whose beginning ends here.
fn end(bytes: &[u8], start: usize, tail: Tail, least: usize) -> Option<usize> {
    let has = |it: &&u8| tail.has(**it);
    if bytes[start..].iter().take(least).filter(has).count() < least {
        return None;
    }
    // No more is read of what is left.
    let is_key = least == 0 || is_drawn(&bytes[start..start + least]);
    is_key.then(|| start + bytes[start..].iter().take_while(has).count())
}

/// Whether this looks drawn by lot: with a digit, or with letters of both cases.
pub(super) fn is_drawn(bytes: &[u8]) -> bool {
    let has = |is: fn(&u8) -> bool| bytes.iter().any(is);
    has(u8::is_ascii_digit) || has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn out(text: &str) -> String {
        let mut text = text.to_owned();
        replace(&mut text);
        text
    }

    fn drawn(tail: Tail, count: usize, rng: &mut Rng) -> String {
        let all: Vec<char> = (b'0'..=b'z')
            .filter(|it| tail.has(*it) && it.is_ascii_alphanumeric())
            .map(char::from)
            .collect();
        // A digit for certain.
        (0..count).map(|at| if at == 0 { '7' } else { all[rng.usize(..all.len())] }).collect()
    }

    #[test]
    fn a_key_of_each_issuer_goes_and_what_is_nearly_one_stays() {
        let mut rng = Rng::with_seed(5);
        assert!(ISSUED.len() >= 100);
        for (beginning, tail, least) in ISSUED {
            let key = format!("{beginning}{}", drawn(*tail, *least, &mut rng));
            for (text, expected) in [
                (format!("key {key}, gone"), "key [secret], gone".to_owned()),
                (key.clone(), "[secret]".to_owned()),
                (format!(r"a\n{key}"), r"a\n[secret]".to_owned()),
            ] {
                assert_eq!(out(&text), expected, "{text}");
                assert_eq!(out(&expected), expected);
            }
            let words = "abcdefgh".repeat(12)[..*least].to_owned();
            for text in [
                // One character less.
                key[..key.len() - 1].to_owned(),
                // Another character among them.
                format!("{}~{}", &key[..beginning.len() + 2], &key[beginning.len() + 2..]),
                // A word that goes on.
                format!("x{key}"),
                // Nothing that was drawn by lot.
                format!("{beginning}{}", if tail.has(b'a') { words } else { words.to_uppercase() }),
            ] {
                // Another rule may ask for less of the same beginning.
                let is_other = |it: &Issued| text.starts_with(it.0) && it.0 != *beginning;
                if !ISSUED.iter().any(is_other) {
                    assert_eq!(out(&text), text);
                }
            }
        }
    }

    #[test]
    fn no_beginning_is_listed_twice() {
        let mut all: Vec<&str> = ISSUED.iter().map(|it| it.0).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ISSUED.len());
    }
}
