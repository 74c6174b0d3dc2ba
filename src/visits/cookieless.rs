//! Visitors without cookies: a keyed hash of what every request tells, under a salt of the day.
//!
//! At midnight the salt is another, and so is every hash. Who is in the midst of a visit then keeps
//! the hash of the day before until they rest for half an hour: both hashes are made, and the older
//! one holds if it was seen a moment ago. For that, the hashes of the last half hour of a day are
//! remembered, in memory and bounded.
//!
//! Where the salt of the day is not there - it is on its way, or the disk fails - those who are
//! remembered keep their hash, and all others have none: a hash of the day before would be another
//! visitor's as soon as the salt is there.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::campaign::{Campaign, outside_referer};
use super::cookie::VISIT_IDLE;
use super::salts::{Salt, Salts};
use super::{Head, Mark, hex, seconds};
use crate::config;
use crate::error::Error;
use crate::model::Timestamp;
use crate::warn;

const DAY: u64 = 86_400;

/// Visitors remembered around midnight. Beyond it the others begin anew, as all do at a restart.
const REMEMBERED: usize = 100_000;

type Hash = [u8; 16];

#[derive(Debug)]
pub(crate) struct Cookieless {
    site: String,
    salts: Salts,
    /// When each was last seen.
    seen: Mutex<HashMap<Hash, u64>>,
    /// How many those are: most of the day, none.
    remembered: AtomicUsize,
    has_warned: AtomicBool,
}

impl Cookieless {
    pub(super) fn new(
        config: &config::Cookieless,
        service: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let it = Self {
            site: config.site.clone().unwrap_or_else(|| service.to_owned()),
            salts: Salts::new(config.salts.clone()),
            seen: Mutex::default(),
            remembered: AtomicUsize::new(0),
            has_warned: AtomicBool::new(false),
        };
        it.salts.prepare(seconds(now)).map_err(|error| {
            let folder = config.salts.as_deref().unwrap_or("".as_ref()).display();
            let problem = format!("cannot keep salts in {folder}: {error}; expected a folder that this user may write to");
            config::ConfigError::without_value("ACTIVITY_VISIT_SALTS", problem)
        })?;
        Ok(it)
    }

    /// Has the salts that are needed soon.
    pub(super) fn prepare(&self, now: Timestamp) {
        self.forget_rested(seconds(now));
        match self.salts.prepare(seconds(now)) {
            Ok(()) => self.has_warned.store(false, Ordering::Relaxed),
            // Told once, until it works again: meanwhile new visitors have no identity.
            Err(_) if self.has_warned.swap(true, Ordering::Relaxed) => {}
            Err(error) => {
                warn::print(&format!(
                    "visitors cannot be told apart: ACTIVITY_VISIT_SALTS: {error}"
                ));
            }
        }
    }

    /// Forgets who rested. Away from requests: there may be many to look at.
    fn forget_rested(&self, now: u64) {
        if self.remembered.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, last| now.saturating_sub(*last) <= VISIT_IDLE);
        self.remembered.store(seen.len(), Ordering::Relaxed);
    }

    pub(super) fn mark(&self, head: &Head<'_>) -> Mark {
        let mut mark = Mark::default();
        if let (Some(address), Some(agent)) = (head.address, head.user_agent) {
            mark.tracker_id = self.visitor(seconds(head.now), address, agent).unwrap_or_default();
        }
        if head.navigates {
            mark.campaign = Campaign::of(head.query.unwrap_or_default()).text;
            mark.visit_referer = outside_referer(head.referer, head.host);
        }
        mark
    }

    fn visitor(&self, now: u64, address: IpAddr, agent: &str) -> Option<String> {
        let (today, before) = self.salts.at(now);
        let before = before.map(|salt| self.hash(&salt, address, agent));
        let is_late = DAY - now % DAY <= VISIT_IDLE;
        if !is_late
            && (before.is_none() || self.remembered.load(Ordering::Relaxed) == 0)
            && today.is_some()
        {
            return today.map(|salt| hex(self.hash(&salt, address, agent)));
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = before.filter(|hash| {
            let last = seen.get(hash);
            last.is_some_and(|last| now.saturating_sub(*last) <= VISIT_IDLE)
        });
        let hash = match (stays, today) {
            (Some(hash), _) => hash,
            (None, Some(salt)) => self.hash(&salt, address, agent),
            (None, None) => return None,
        };
        if is_late || stays.is_some() {
            remember(&mut seen, hash, now);
        }
        self.remembered.store(seen.len(), Ordering::Relaxed);
        Some(hex(hash))
    }

    fn hash(&self, salt: &Salt, address: IpAddr, agent: &str) -> Hash {
        let mut hash = [0; 16];
        // A key of any length will do.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt) else { return hash };
        for text in
            [self.site.as_bytes(), address.to_canonical().to_string().as_bytes(), agent.as_bytes()]
        {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text);
        }
        hash.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        hash
    }
}

fn remember(seen: &mut HashMap<Hash, u64>, hash: Hash, now: u64) {
    // Room is made away from requests.
    if seen.len() >= REMEMBERED && !seen.contains_key(&hash) {
        return;
    }
    let last = seen.entry(hash).or_insert(now);
    *last = now.max(*last);
}

#[cfg(test)]
mod tests {
    use super::super::random;
    use super::*;

    const MIDNIGHT: u64 = 20_834 * DAY;
    const MINUTE: u64 = 60;

    fn cookieless(site: &str) -> Cookieless {
        let config = config::Cookieless::default();
        Cookieless::new(&config, site, Timestamp::default()).unwrap()
    }

    fn ana(it: &Cookieless, now: u64) -> String {
        it.visitor(now, "192.0.2.7".parse().unwrap(), "Mozilla/5.0 A").unwrap()
    }

    #[test]
    fn a_visitor_is_the_same_all_day_and_another_the_next() {
        let it = cookieless("shop");
        let morning = ana(&it, MIDNIGHT + 1);
        assert_eq!(ana(&it, MIDNIGHT + DAY - 2 * VISIT_IDLE), morning);
        assert_ne!(ana(&it, MIDNIGHT + DAY + 12 * 3600), morning);
        let bob = it.visitor(MIDNIGHT + 1, "192.0.2.8".parse().unwrap(), "Mozilla/5.0 A");
        let cleo = it.visitor(MIDNIGHT + 1, "192.0.2.7".parse().unwrap(), "Mozilla/5.0 C");
        assert!(bob.unwrap() != morning && cleo.unwrap() != morning);
        let mapped = it.visitor(MIDNIGHT + 1, "::ffff:192.0.2.7".parse().unwrap(), "Mozilla/5.0 A");
        assert_eq!(mapped.unwrap(), morning);
        assert_ne!(ana(&cookieless("shop"), MIDNIGHT + 1), morning, "salts are random");
    }

    #[test]
    fn midnight_does_not_split_who_is_in_the_midst_of_a_visit() {
        let it = cookieless("shop");
        let evening = ana(&it, MIDNIGHT - 25 * MINUTE);
        for minute in [1, 20, 45, 70, 95] {
            assert_eq!(ana(&it, MIDNIGHT + minute * MINUTE), evening, "{minute}");
        }
        let next = ana(&it, MIDNIGHT + 126 * MINUTE);
        assert_ne!(next, evening, "after a rest it is the next day's");
        assert_eq!(ana(&it, MIDNIGHT + 127 * MINUTE), next);
    }

    #[test]
    fn who_was_not_there_before_midnight_is_the_new_days_at_once() {
        let it = cookieless("shop");
        let early = ana(&it, MIDNIGHT - 40 * MINUTE);
        let late = ana(&it, MIDNIGHT + 5 * MINUTE);
        assert_ne!(early, late);
        assert_eq!(ana(&it, MIDNIGHT + 3600 * 20), late);
    }

    #[test]
    fn without_the_salt_of_the_day_only_who_is_remembered_has_an_identity() {
        let folder = std::env::temp_dir().join(format!("activity-{}", hex(random().unwrap())));
        let config = config::Cookieless { salts: Some(folder.clone()), site: None };
        let at = |second: u64| Timestamp::from_micros((second * 1_000_000) as i64);
        let it = Cookieless::new(&config, "shop", at(MIDNIGHT - 12 * 3600)).unwrap();
        let bob = |now| it.visitor(now, "192.0.2.8".parse().unwrap(), "Mozilla/5.0 A");
        assert!(bob(MIDNIGHT - 35 * MINUTE).is_some());
        let evening = ana(&it, MIDNIGHT - 10 * MINUTE);
        let date = format!("{:.10}", at(MIDNIGHT).to_string());
        let file = folder.join(format!("{date}.salt"));
        std::fs::write(&file, "mud").unwrap();
        it.prepare(at(MIDNIGHT + MINUTE));
        assert_eq!(bob(MIDNIGHT + 5 * MINUTE), None);
        assert_eq!(ana(&it, MIDNIGHT + 5 * MINUTE), evening);
        assert_eq!(ana(&it, MIDNIGHT + 30 * MINUTE), evening);
        let rested =
            it.visitor(MIDNIGHT + 61 * MINUTE, "192.0.2.7".parse().unwrap(), "Mozilla/5.0 A");
        assert_eq!(rested, None);
        std::fs::remove_file(&file).unwrap();
        it.prepare(at(MIDNIGHT + 62 * MINUTE));
        let next = ana(&it, MIDNIGHT + 62 * MINUTE);
        assert!(next != evening && bob(MIDNIGHT + 62 * MINUTE).is_some_and(|bob| bob != next));
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn what_is_remembered_around_midnight_is_bounded() {
        let it = cookieless("shop");
        for n in 0..REMEMBERED as u32 + 100 {
            it.visitor(MIDNIGHT - MINUTE, std::net::Ipv4Addr::from(n).into(), "M").unwrap();
        }
        assert_eq!(it.seen.lock().unwrap().len(), REMEMBERED);
        // A request forgets nobody: that is done apart from them.
        ana(&it, MIDNIGHT + 5 * 3600);
        assert_eq!(it.seen.lock().unwrap().len(), REMEMBERED);
        it.prepare(Timestamp::from_micros(((MIDNIGHT + 5 * 3600) * 1_000_000) as i64));
        assert!(it.seen.lock().unwrap().is_empty());
    }
}
