//! The two cookies: what they hold, and the signature that makes it believed.
//!
//! A value is its parts and a signature, `~` between them. The signature is an HMAC-SHA-256
//! (RFC 2104) over the cookie's name and the parts, cut to 128 bits, in hexadecimal digits; the name
//! is in it so that one cookie cannot stand for the other.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use super::campaign::Campaign;
use crate::config::{Secret, VisitKeys};

/// The tracker's cookie and the visit's. A browser takes names that begin so only over HTTPS, from
/// the host itself and for all of its paths.
const TRACKER: &str = "__Host-at";
const VISIT: &str = "__Host-av";

/// How long a tracker lives from when it was minted, whatever happens; in seconds, as all times
/// here. Browsers keep no cookie for more than 400 days.
pub(super) const TRACKER_AGE: u64 = 395 * 86_400;

/// How long a visit may rest.
pub(super) const VISIT_IDLE: u64 = 30 * 60;

/// Bytes of a value that are looked at.
const MAX_BYTES: usize = 2048;

/// Cookies of one name that are tried: a browser sends one.
const MAX_TRIED: usize = 2;

/// The keys; the first signs.
pub(crate) struct Keys(Vec<Hmac<Sha256>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} ***)", self.0.len())
    }
}

/// A browser that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tracker {
    /// 32 hexadecimal digits.
    pub(super) id: String,
    pub(super) minted: u64,
}

/// What a browser does until it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) id: Uuid,
    pub(super) started: u64,
    /// When it was last heard of, to the minute.
    pub(super) last: u64,
    /// Stands for the user, once there is one.
    pub(super) user: String,
    pub(super) referer: String,
    pub(super) campaign: Campaign,
}

/// What a cookie held, and whether the key that signs now signed it.
#[derive(Debug)]
pub(super) struct Read<T> {
    pub(super) it: T,
    pub(super) is_current: bool,
}

impl Keys {
    pub(super) fn new(keys: &VisitKeys) -> Self {
        // HMAC takes keys of any length.
        let key = |key: &Secret| Hmac::new_from_slice(key.expose().as_bytes()).ok();
        Self(keys.iter().filter_map(key).collect())
    }

    pub(super) fn tracker(&self, cookies: &[&str]) -> Option<Read<Tracker>> {
        self.read(cookies, TRACKER, |parts| {
            let [id, minted] = parts.split('~').collect::<Vec<_>>().try_into().ok()?;
            Some(Tracker { id: id.to_owned(), minted: minted.parse().ok()? })
        })
    }

    pub(super) fn visit(&self, cookies: &[&str]) -> Option<Read<Visit>> {
        self.read(cookies, VISIT, |parts| {
            let parts = parts.split('~').collect::<Vec<_>>().try_into().ok()?;
            let [id, started, last, user, referer, click, campaign]: [&str; 7] = parts;
            Some(Visit {
                id: Uuid::parse_str(id).ok()?,
                started: started.parse().ok()?,
                last: last.parse().ok()?,
                user: user.to_owned(),
                referer: referer.to_owned(),
                campaign: Campaign { text: campaign.to_owned(), click: click.to_owned() },
            })
        })
    }

    /// The first cookie of this name whose signature holds.
    fn read<T>(
        &self,
        cookies: &[&str],
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Read<T>> {
        values(cookies, name).take(MAX_TRIED).find_map(|value| {
            let (parts, signature) = value.rsplit_once('~')?;
            let signature = Uuid::parse_str(signature).ok()?.into_bytes();
            let mut keys = self.0.iter();
            let at = keys.position(|key| {
                // The comparison takes the same time wherever they differ.
                with(key, name, parts).verify_truncated_left(&signature).is_ok()
            })?;
            Some(Read { it: parse(parts)?, is_current: at == 0 })
        })
    }

    /// The line of `Set-Cookie` for a tracker, with the time it has left.
    pub(super) fn set_tracker(&self, tracker: &Tracker, now: u64) -> Option<String> {
        let left = (tracker.minted + TRACKER_AGE).saturating_sub(now);
        self.set(TRACKER, &format!("{}~{}", tracker.id, tracker.minted), left)
    }

    /// The same for a visit, which lives on from now.
    pub(super) fn set_visit(&self, visit: &Visit) -> Option<String> {
        let Visit { id, started, last, user, referer, campaign } = visit;
        let (id, Campaign { text, click }) = (id.simple(), campaign);
        let parts = format!("{id}~{started}~{last}~{user}~{referer}~{click}~{text}");
        self.set(VISIT, &parts, VISIT_IDLE)
    }

    fn set(&self, name: &str, parts: &str, age: u64) -> Option<String> {
        let signature: [u8; 32] = with(self.0.first()?, name, parts).finalize().into_bytes().into();
        let mut short = [0; 16];
        short.copy_from_slice(&signature[..16]);
        Some(line(name, &format!("{parts}~{}", super::hex(short)), age))
    }
}

/// The line of `Set-Cookie` that makes a browser forget its visit.
pub(super) fn forget_visit() -> String {
    line(VISIT, "", 0)
}

fn with(key: &Hmac<Sha256>, name: &str, parts: &str) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(name.as_bytes());
    mac.update(&[0]);
    mac.update(parts.as_bytes());
    mac
}

fn line(name: &str, value: &str, age: u64) -> String {
    format!("{name}={value}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Lax")
}

/// Whether a browser sent a cookie of the visit, whatever it holds.
pub(super) fn has_visit(cookies: &[&str]) -> bool {
    values(cookies, VISIT).next().is_some()
}

/// The values of the cookies of this name.
fn values<'a>(cookies: &'a [&'a str], name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = cookies.iter().flat_map(|line| line.split(';'));
    pairs.filter_map(move |pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name && value.len() <= MAX_BYTES).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(text: &str) -> Keys {
        Keys::new(&text.parse().unwrap())
    }

    const ONE: &str = "one-key-of-thirty-two-characters-or-more";
    const TWO: &str = "two-key-of-thirty-two-characters-or-more";

    fn sent(line: &str) -> &str {
        line.split(';').next().unwrap()
    }

    fn tracker() -> Tracker {
        Tracker { id: "0af7651916cd43dd8448eb211c80319c".to_owned(), minted: 1_800_000_000 }
    }

    fn visit() -> Visit {
        Visit {
            id: Uuid::from_u128(7),
            started: 1_800_000_000,
            last: 1_800_000_060,
            user: "b7ad6b7169203331".to_owned(),
            referer: "blog.example".to_owned(),
            campaign: Campaign::of("utm_source=a~b;c, d&gclid=x"),
        }
    }

    #[test]
    fn what_is_set_is_read_back_from_among_other_cookies() {
        let keys = keys(ONE);
        let (tracker, visit) = (tracker(), visit());
        let [a, b] =
            [keys.set_tracker(&tracker, 1_800_000_000).unwrap(), keys.set_visit(&visit).unwrap()];
        let line = format!("sid=x; {}; theme=dark;{}", sent(&a), sent(&b));
        for cookies in [vec![&*line], vec!["sid=x", sent(&a), sent(&b)]] {
            assert_eq!(keys.tracker(&cookies).unwrap().it, tracker);
            assert_eq!(keys.visit(&cookies).unwrap().it, visit);
        }
        let attributes = "; Path=/; Max-Age=34128000; Secure; HttpOnly; SameSite=Lax";
        assert!(a.starts_with("__Host-at=") && a.ends_with(attributes), "{a}");
        assert!(b.ends_with("; Path=/; Max-Age=1800; Secure; HttpOnly; SameSite=Lax"), "{b}");
        let later = keys.set_tracker(&tracker, 1_800_000_000 + 100 * 86_400).unwrap();
        assert!(later.contains("Max-Age=25488000;"), "it does not slide: {later}");
    }

    #[test]
    fn old_keys_are_accepted_and_the_first_signs() {
        let old = keys(ONE).set_visit(&visit()).unwrap();
        let rotated = keys(&format!("{TWO},{ONE}"));
        assert!(!rotated.visit(&[sent(&old)]).unwrap().is_current);
        let new = rotated.set_visit(&visit()).unwrap();
        assert!(rotated.visit(&[sent(&new)]).unwrap().is_current);
        assert!(keys(ONE).visit(&[sent(&new)]).is_none());
        assert!(keys(TWO).visit(&[sent(&new)]).is_some());
    }

    #[test]
    fn one_cookie_cannot_stand_for_the_other() {
        let keys = keys(ONE);
        let line = keys.set_tracker(&tracker(), 0).unwrap();
        let value = sent(&line).strip_prefix("__Host-at=").unwrap();
        assert!(keys.read(&[&format!("__Host-at={value}")], TRACKER, |_| Some(())).is_some());
        assert!(keys.read(&[&format!("__Host-av={value}")], VISIT, |_| Some(())).is_none());
    }

    proptest! {
        #[test]
        fn a_changed_value_is_no_value(at: prop::sample::Index, to in 33_u8..127) {
            let keys = keys(ONE);
            let line = keys.set_visit(&visit()).unwrap();
            let mut bytes = sent(&line).as_bytes().to_vec();
            let at = "__Host-av=".len() + at.index(bytes.len() - "__Host-av=".len());
            // A digit of the signature in the other case is the same digit.
            prop_assume!(!bytes[at].eq_ignore_ascii_case(&to));
            bytes[at] = to;
            let text = String::from_utf8(bytes).unwrap();
            prop_assert!(keys.visit(&[&text]).is_none(), "{}", text);
        }

        #[test]
        fn any_cookies_are_read_or_not(text in "(__Host-a[tv]=)?\\PC{0,200}") {
            let keys = keys(ONE);
            prop_assert!(keys.tracker(&[&text]).is_none() && keys.visit(&[&text]).is_none());
        }
    }
}
