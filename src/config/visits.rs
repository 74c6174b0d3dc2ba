//! Whether visits are followed, and by what.

use std::path::PathBuf;
use std::str::FromStr;

use super::Secret;
use super::units::listed;

/// Whether it is found out which requests come from one visitor. `ACTIVITY_VISITS`.
///
/// `docs/visits.md` tells what each stores, here and in the browser.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Visits {
    /// It is not.
    #[default]
    Off,
    /// By a hash of address and user agent that holds for a day. Nothing is kept in the browser.
    Cookieless(Cookieless),
    /// By two signed cookies: one for the browser, one for the visit.
    Cookie(VisitKeys),
}

/// How visitors are told apart without cookies.
///
/// ```
/// use tracing_activity::config::{Cookieless, Visits};
/// let mut cookieless = Cookieless::default();
/// cookieless.site = Some("shop".to_owned());
/// let visits = Visits::Cookieless(cookieless);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Cookieless {
    /// The folder with the salts of the day, which the replicas of a service share. Default: none;
    /// each process makes salts of its own, in memory. `ACTIVITY_VISIT_SALTS`.
    pub salts: Option<PathBuf>,
    /// What the visitors visit: services with the same word and the same salts see the same
    /// visitors. Default: the service's name. `ACTIVITY_VISIT_SITE`.
    pub site: Option<String>,
}

/// The keys that sign cookies: the first signs, all are accepted.
///
/// To change the key, add a new one at the end, on every replica; then put it in front, on every
/// replica; take the old one away when the cookies it signed have been signed anew, which every
/// visit does.
///
/// ```
/// use tracing_activity::config::VisitKeys;
/// let keys: VisitKeys = "sixty-four-hexadecimal-digits-are-best,the-key-that-was-used-until-today"
///     .parse().unwrap();
/// assert_eq!(format!("{keys:?}"), "[***, ***]");
/// let error = "short".parse::<VisitKeys>().unwrap_err();
/// assert!(error.contains("at least 32 characters") && !error.contains("short"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct VisitKeys(Vec<Secret>);

impl std::fmt::Debug for VisitKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// The least length of a key.
const KEY_CHARS: usize = 32;

impl VisitKeys {
    /// The keys; the first signs.
    #[cfg(feature = "tower")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }
}

impl FromStr for VisitKeys {
    /// What is wrong; it never repeats a key.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let keys: Vec<&str> = listed(text)?.map(str::trim).collect();
        for (at, key) in keys.iter().enumerate() {
            let chars = key.chars().count();
            if chars < KEY_CHARS {
                return Err(format!(
                    "key {} of {} has {chars} characters; expected keys of at least {KEY_CHARS} characters, comma-separated, such as `openssl rand -hex 32` prints",
                    at + 1,
                    keys.len()
                ));
            }
        }
        Ok(Self(keys.into_iter().map(Secret::new).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_too_short_is_named_by_its_place_and_not_by_its_text() {
        let good = "k".repeat(KEY_CHARS);
        for (text, place) in [
            (String::new(), "key 1 of 1 has 0"),
            (format!("{good},hunter2"), "key 2 of 2 has 7"),
            (format!("{good},"), "key 2 of 2 has 0"),
        ] {
            let error = text.parse::<VisitKeys>().unwrap_err();
            assert!(error.starts_with(place), "{error}");
            assert!(!error.contains("hunter2") && !error.contains(&good), "{error}");
        }
        let keys: VisitKeys = format!(" {good} , {good}x").parse().unwrap();
        assert_eq!(format!("{keys:?}"), "[***, ***]");
    }
}
