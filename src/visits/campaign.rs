//! What a link says of where it stood: `utm` parameters, click identifiers, the referring page.

use sha2::{Digest as _, Sha256};
use url::Url;
use url::form_urlencoded::{self, Serializer};

/// The parameters that are kept, in the order they are written.
const UTM: [&str; 6] =
    ["utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id"];

/// Parameters by which advertisers know each single click. Which it was is kept, its value is not.
const CLICKS: [&str; 11] = [
    "gclid",
    "gbraid",
    "wbraid",
    "dclid",
    "fbclid",
    "msclkid",
    "ttclid",
    "twclid",
    "li_fat_id",
    "yclid",
    "rdt_cid",
];

/// Characters kept of one value, and bytes of all of them as they are written.
const VALUE_CHARS: usize = 64;
const MAX_BYTES: usize = 800;

/// Parameters of a query that are looked at.
const MAX_PARAMETERS: usize = 100;

/// Bytes of a referring host.
const HOST_BYTES: usize = 128;

/// What a link says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Campaign {
    /// The parameters as a query, always in the same order; empty when there is none.
    pub(super) text: String,
    /// Stands for the click's identifier: equal where that is equal.
    pub(super) click: String,
}

impl Campaign {
    /// What the query says.
    pub(super) fn of(query: &str) -> Self {
        let mut values: [Option<String>; UTM.len()] = Default::default();
        let mut click = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()).take(MAX_PARAMETERS) {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            if let Some(at) = UTM.iter().position(|utm| *utm == name) {
                values[at].get_or_insert_with(|| {
                    let cut: String = value.chars().take(VALUE_CHARS).collect();
                    cut.trim_end().to_owned()
                });
            } else if let Some(name) = CLICKS.iter().find(|click| **click == name) {
                click.get_or_insert_with(|| (*name, short_hash(&[value])));
            }
        }
        let mut text = Serializer::new(String::new());
        let names = UTM.into_iter().zip(&values);
        for (name, value) in names.filter_map(|(name, value)| Some((name, value.as_deref()?))) {
            text.append_pair(name, value);
        }
        if let Some((name, _)) = &click {
            text.append_pair("click", name);
        }
        let mut text = text.finish();
        if text.len() > MAX_BYTES {
            // At the end of a parameter.
            text.truncate(text[..MAX_BYTES].rfind('&').unwrap_or(0));
        }
        Self { text, click: click.map(|(_, hash)| hash).unwrap_or_default() }
    }

    /// The link said something.
    pub(super) fn is_present(&self) -> bool {
        !self.text.is_empty()
    }
}

/// The host of the page that a link stood on, unless that is this site's own.
pub(super) fn outside_referer(referer: Option<&str>, host: Option<&str>) -> String {
    let Some(url) = referer.and_then(|it| Url::parse(it).ok()) else { return String::new() };
    let from = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https" | "android-app"));
    let own = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    match from {
        // What else a host may hold has a meaning in cookies.
        Some(from)
            if !from.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._[]:".contains(&it)) =>
        {
            String::new()
        }
        Some(from) if !own.is_some_and(|own| own.eq_ignore_ascii_case(from)) => {
            let mut from = from.to_ascii_lowercase();
            from.truncate(from.floor_char_boundary(HOST_BYTES));
            from
        }
        _ => String::new(),
    }
}

/// Eight bytes that stand for texts, in hexadecimal digits.
pub(super) fn short_hash(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    crate::model::SpanId::from_bytes(first).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_parameters_stand_in_one_order_whatever_the_links() {
        let text = |query: &str| Campaign::of(query).text;
        assert_eq!(
            text("utm_campaign=x%26y&page=2&utm_source=news+letter&utm_source=late"),
            "utm_source=news+letter&utm_campaign=x%26y"
        );
        let long = format!("utm_source={}+{}", "a".repeat(63), "b".repeat(63));
        assert_eq!(text(&long), format!("utm_source={}", "a".repeat(63)));
        let wide = "\u{1f30d}".repeat(64);
        assert!(
            text(&format!("utm_campaign={wide}&utm_id={wide}")).starts_with("utm_campaign=%F0")
        );
        for nothing in ["", "page=2", "utm_source=", "utm_source=%20", "UTM_SOURCE=x"] {
            assert!(!Campaign::of(nothing).is_present(), "{nothing}");
        }
    }

    #[test]
    fn of_a_click_its_kind_is_kept_and_a_hash_of_its_identifier() {
        let [one, same, other] = ["gclid=abc", "x=1&gclid=abc", "gclid=abd"].map(Campaign::of);
        assert_eq!((&*one.text, &one), ("click=gclid", &same));
        assert_ne!(one, other);
        assert!(!format!("{one:?}").contains("abc"));
    }

    #[test]
    fn a_page_of_ones_own_refers_to_nothing() {
        for (referer, host, expected) in [
            ("https://blog.example/a?b=c", "shop.example", "blog.example"),
            ("https://Shop.Example/a", "shop.example:8080", ""),
            ("http://shop.example:8080/a", "shop.example", ""),
            ("android-app://com.example.mail/", "shop.example", "com.example.mail"),
            ("android-app://com;x~y/", "shop.example", ""),
            ("about:blank", "shop.example", ""),
            ("no url", "shop.example", ""),
        ] {
            assert_eq!(outside_referer(Some(referer), Some(host)), expected, "{referer}");
        }
        assert_eq!(outside_referer(None, None), "");
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_bounded_and_fits_into_a_cookie(
            query in "(utm_(source|medium|campaign|term|content|id)=\\PC{0,300}&){0,9}",
        ) {
            let campaign = Campaign::of(&query);
            prop_assert!(campaign.text.len() <= MAX_BYTES);
            let fits = |it: u8| it.is_ascii_alphanumeric() || b"*-._+%&=".contains(&it);
            prop_assert!(campaign.text.bytes().all(fits), "{}", campaign.text);
            // What is written says the same when it is read again.
            prop_assert_eq!(&Campaign::of(&campaign.text).text, &campaign.text);
        }
    }
}
