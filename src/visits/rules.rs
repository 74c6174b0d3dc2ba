//! When a visit or a tracker is new, and when a cookie is set again.
//!
//! | | tracker | visit |
//! |---|---|---|
//! | lives | 395 days from when it was minted | until it rests for 30 minutes, a day at most |
//! | new when | there is none, or its signature does not hold | the same; or it was too long ago; or a link names another campaign; or the user is another |
//!
//! New ones are minted only where somebody looks at a page: the scripts and images that a first page
//! asks for at once come without cookies, too, and each would mint another. Nothing is minted for
//! bots and for who objects, and nothing is set with an answer that a cache may give to others.

use uuid::Uuid;

use super::campaign::{Campaign, outside_referer, short_hash};
use super::cookie::{Keys, TRACKER_AGE, Tracker, VISIT_IDLE, Visit, forget_visit, has_visit};
use super::{Head, Mark, hex, random, seconds};
use crate::model::{ActivityId, Timestamp};

/// How old a visit may become.
const VISIT_AGE: u64 = 24 * 3600;

/// How often the visit's cookie is set again, at most.
const REISSUE: u64 = 60;

/// How far a cookie may be ahead of this replica's clock.
const SKEW: u64 = 300;

/// What the head of the answer says, and what the application said meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Answer<'a> {
    /// A cache may give it to others: see [`is_shared`].
    pub(crate) is_shared: bool,
    /// The user, where it is known.
    pub(crate) user: Option<&'a str>,
    /// The application ended the visit: somebody logged out.
    pub(crate) ends_visit: bool,
}

/// A visitor who came with or without cookies.
#[derive(Debug)]
pub(crate) struct Came {
    now: Timestamp,
    tracker: Option<Tracker>,
    visit: Option<Visit>,
    /// The tracker's cookie is to be signed by the key that signs now.
    resigns: bool,
    has_visit_cookie: bool,
    may_mint: bool,
    campaign: Campaign,
    referer: String,
}

impl Came {
    /// What the cookies say. `is_human` is asked where something might be minted.
    pub(super) fn new(keys: &Keys, head: &Head<'_>, is_human: impl FnOnce() -> bool) -> Self {
        let now = seconds(head.now);
        // Of a browser that objects, what it was given before is not read either.
        let cookies: &[&str] = if head.objects { &[] } else { &head.cookies };
        let tracker = keys.tracker(cookies).filter(|read| {
            let minted = read.it.minted;
            minted <= now + SKEW && now.saturating_sub(minted) < TRACKER_AGE
        });
        let visit = keys.visit(cookies).map(|read| read.it).filter(|visit| {
            visit.last <= now + SKEW
                && now.saturating_sub(visit.last) <= VISIT_IDLE
                && now.saturating_sub(visit.started) <= VISIT_AGE
        });
        let mut came = Self {
            now: head.now,
            resigns: tracker.as_ref().is_some_and(|read| !read.is_current),
            tracker: tracker.map(|read| read.it),
            visit,
            has_visit_cookie: has_visit(cookies),
            may_mint: head.navigates && !head.objects && is_human(),
            campaign: Campaign::default(),
            referer: String::new(),
        };
        if came.may_mint {
            came.campaign = Campaign::of(head.query.unwrap_or_default());
            came.referer = outside_referer(head.referer, head.host);
            let is_other = |visit: &Visit| came.campaign != visit.campaign;
            if came.campaign.is_present() && came.visit.as_ref().is_some_and(is_other) {
                came.visit = None;
            }
        }
        came
    }

    /// What the row says before anything is minted.
    pub(super) fn mark(&self) -> Mark {
        let mut mark = Mark {
            tracker_id: self.tracker.as_ref().map(|it| it.id.clone()).unwrap_or_default(),
            ..Mark::default()
        };
        if let Some(visit) = &self.visit {
            mark.visit_id = visit.id.to_string();
            mark.campaign.clone_from(&visit.campaign.text);
            mark.visit_referer.clone_from(&visit.referer);
        }
        mark
    }

    /// What is new, and the cookies to set.
    pub(super) fn answer(
        mut self,
        keys: &Keys,
        answer: &Answer<'_>,
    ) -> (Option<Mark>, Vec<String>) {
        let mut lines = Vec::new();
        if answer.is_shared {
            return (None, lines);
        }
        let now = seconds(self.now);
        if answer.ends_visit {
            // What is to be another visit begins with the next page.
            lines.extend(self.has_visit_cookie.then(forget_visit));
            return (None, lines);
        }
        let (mut new_tracker, mut new_visit) = (false, false);
        if self.may_mint && self.tracker.is_none() {
            self.tracker = random().map(|id| Tracker { id: hex(id), minted: now });
            new_tracker = self.tracker.is_some();
        }
        if self.may_mint && self.visit.as_ref().is_none_or(|it| it.is_anothers(answer.user)) {
            let minted = self.mint(now);
            new_visit = minted.is_some();
            self.visit = minted;
        }
        let mut changed = new_visit;
        if let Some(visit) = &mut self.visit {
            changed |= visit.belongs_to(answer.user);
            if changed || now.saturating_sub(visit.last) >= REISSUE {
                visit.last = now.max(visit.last);
                lines.extend(keys.set_visit(visit));
            }
        }
        if let Some(tracker) = self.tracker.as_ref().filter(|_| new_tracker || self.resigns) {
            lines.extend(keys.set_tracker(tracker, now));
        }
        let mark = (new_tracker || new_visit).then(|| Mark {
            tracker_created: new_tracker,
            visit_created: new_visit,
            ..self.mark()
        });
        (mark, lines)
    }

    /// A visit that begins.
    fn mint(&mut self, now: u64) -> Option<Visit> {
        let id = ActivityId::new(self.now, u128::from_be_bytes(random()?) as u64);
        Some(Visit {
            id: Uuid::from_bytes(id.to_bytes()),
            started: now,
            last: now,
            user: String::new(),
            referer: std::mem::take(&mut self.referer),
            campaign: std::mem::take(&mut self.campaign),
        })
    }
}

impl Visit {
    /// What stands for a user in this visit, and in no other.
    fn stands_for(&self, user: &str) -> String {
        short_hash(&[&self.id.to_string(), user])
    }

    /// Whether the visit is known to be another user's.
    fn is_anothers(&self, user: Option<&str>) -> bool {
        user.is_some_and(|user| !self.user.is_empty() && self.user != self.stands_for(user))
    }

    /// The visit is this user's from now on, where it was nobody's. Tells whether it was.
    fn belongs_to(&mut self, user: Option<&str>) -> bool {
        let Some(user) = user.filter(|_| self.user.is_empty()) else { return false };
        self.user = self.stands_for(user);
        true
    }
}

/// Whether somebody looks at a page: a browser says so, or the client wants HTML. What is fetched
/// ahead is not looked at yet. A form that another site sends comes without the visitor's cookies,
/// which those of its answer would replace: so no form is a page, and the next page is.
pub(crate) fn is_navigation(
    method: &str,
    destination: Option<&str>,
    accept: Option<&str>,
    purpose: Option<&str>,
) -> bool {
    let looks = match destination {
        Some(destination) => destination == "document",
        None => accept.is_some_and(|it| it.contains("text/html")),
    };
    let ahead = purpose.is_some_and(|it| it.contains("prefetch") || it.contains("preview"));
    looks && !ahead && method == "GET"
}

/// What a list of cache directives says.
#[derive(Default)]
struct Directives {
    /// It says for how long an answer is fresh, or that it never is.
    freshness: bool,
    /// A cache may give the answer to others.
    shared: bool,
    /// No cache that many use may keep the cookies of the answer.
    private: bool,
}

impl Directives {
    fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        let whole: Vec<_> = lines.map(str::to_ascii_lowercase).collect();
        // Some fields are private: these, if the cookies are among them.
        all.private =
            whole.iter().any(|line| line.contains("private=") && line.contains("set-cookie"));
        for directive in whole.iter().flat_map(|line| line.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let positive = || value.trim().trim_matches('"').parse::<u64>().is_ok_and(|it| it > 0);
            match name.trim() {
                "private" if value.is_empty() => all.private = true,
                "no-store" => all.private = true,
                "no-cache" => all.freshness = true,
                "public" | "immutable" => all.shared = true,
                "max-age" | "s-maxage" => {
                    all.freshness = true;
                    all.shared |= positive();
                }
                "stale-while-revalidate" => all.shared |= positive(),
                _ => {}
            }
        }
        all
    }
}

/// Whether a cache may give an answer to others, by the values of its `Cache-Control`, of the headers
/// by which networks of caches are told otherwise, and of `Expires`. `is_kept` says that caches keep
/// answers of this kind unless they are told not to: they have a validator, or move for good.
pub(crate) fn is_shared<'a>(
    cache_control: impl Iterator<Item = &'a str>,
    for_networks: impl Iterator<Item = &'a str>,
    expires: Option<&str>,
    is_kept: bool,
) -> bool {
    // A network that knows its header obeys that one, whatever `Cache-Control` says.
    let (networks, said) = (Directives::of(for_networks), Directives::of(cache_control));
    networks.shared && !networks.private
        || !said.private
            && (said.shared
                || is_kept
                || !said.freshness
                    && expires.is_some_and(|it| !matches!(it.trim(), "" | "0" | "-1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "one-key-of-thirty-two-characters-or-more";
    const MINUTE: u64 = 60;
    const DAY: u64 = 86_400;
    /// A minute before midnight.
    const START: u64 = 1_800_057_540;

    /// A browser that keeps its cookies, and a clock.
    struct Browser {
        keys: Keys,
        now: u64,
        cookies: Vec<(String, String)>,
        user: Option<&'static str>,
    }

    impl Browser {
        fn new() -> Self {
            let keys = Keys::new(&KEY.parse().unwrap());
            Self { keys, now: START, cookies: Vec::new(), user: None }
        }

        #[allow(clippy::needless_pass_by_value, reason = "they are made for the call")]
        fn ask(&mut self, head: Head<'_>, answer: Answer<'_>) -> Mark {
            let line = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
            let line = line.collect::<Vec<_>>().join("; ");
            let now = Timestamp::from_micros((self.now * 1_000_000) as i64);
            let head = Head { now, cookies: vec![&line], host: Some("shop.example"), ..head };
            let came = Came::new(&self.keys, &head, || true);
            let before = came.mark();
            let (mark, lines) = came.answer(&self.keys, &Answer { user: self.user, ..answer });
            for line in lines {
                let (name, rest) = line.split_once('=').unwrap();
                let (value, rest) = rest.split_once(';').unwrap();
                self.cookies.retain(|(known, _)| known != name);
                if !rest.contains("Max-Age=0;") {
                    self.cookies.push((name.to_owned(), value.to_owned()));
                }
            }
            mark.unwrap_or(before)
        }

        fn page(&mut self, query: &str) -> Mark {
            self.ask(
                Head { navigates: true, query: Some(query), ..Head::default() },
                Answer::default(),
            )
        }

        fn fetch(&mut self) -> Mark {
            self.ask(Head::default(), Answer::default())
        }
    }

    #[test]
    fn a_visit_lives_while_it_does_not_rest_for_half_an_hour_and_midnight_is_no_end() {
        let mut browser = Browser::new();
        let first = browser.page("");
        assert!(first.visit_created && first.tracker_created);
        for _ in 0..10 {
            browser.now += 25 * MINUTE;
            let mark = browser.fetch();
            assert_eq!((&mark.visit_id, mark.visit_created), (&first.visit_id, false));
            assert_eq!((&mark.tracker_id, mark.tracker_created), (&first.tracker_id, false));
        }
        browser.now += 30 * MINUTE + 1;
        assert_eq!(browser.fetch().visit_id, "", "no page, no visit");
        let next = browser.page("");
        assert!(next.visit_created && !next.tracker_created);
        assert_ne!(next.visit_id, first.visit_id);
        assert_eq!(next.tracker_id, first.tracker_id);
    }

    #[test]
    fn a_visit_ends_after_a_day_and_a_tracker_after_395() {
        let mut browser = Browser::new();
        let first = browser.page("");
        for _ in 0..24 * 3 {
            browser.now += 20 * MINUTE;
            assert!(!browser.page("").visit_created);
        }
        browser.now += 1;
        assert!(browser.page("").visit_created);
        browser.now = START + 395 * DAY - 1;
        assert_eq!(browser.page("").tracker_id, first.tracker_id);
        browser.now += 1;
        assert!(browser.page("").tracker_created);
    }

    #[test]
    fn another_campaign_begins_a_visit_and_none_does_not() {
        let mut browser = Browser::new();
        let direct = browser.page("");
        let news = browser.page("utm_source=news");
        assert!(news.visit_created && !news.tracker_created);
        assert_ne!(news.visit_id, direct.visit_id);
        assert_eq!(news.campaign, "utm_source=news");
        for query in ["", "page=2", "utm_source=news", "utm_source=news&page=3", "utm_source="] {
            let mark = browser.page(query);
            assert_eq!((&mark.visit_id, mark.visit_created), (&news.visit_id, false), "{query}");
            assert_eq!(mark.campaign, "utm_source=news", "it is the visit's: {query}");
        }
        assert!(browser.page("utm_source=news&utm_campaign=may").visit_created);
        assert!(browser.page("gclid=a").visit_created);
        assert!(!browser.page("gclid=a").visit_created);
        assert!(browser.page("gclid=b").visit_created);
        let script = Head { query: Some("utm_source=other"), ..Head::default() };
        assert!(!browser.ask(script, Answer::default()).visit_created);
    }

    #[test]
    fn another_user_begins_a_visit_and_logging_in_does_not() {
        let mut browser = Browser::new();
        let first = browser.page("");
        for user in [Some("u1"), None, Some("u1")] {
            browser.user = user;
            assert_eq!(browser.page("").visit_id, first.visit_id, "{user:?}");
        }
        browser.user = Some("u2");
        assert_eq!(browser.fetch().visit_id, first.visit_id, "a script mints nothing");
        let second = browser.page("");
        assert!(second.visit_created && !second.tracker_created);
        browser.ask(Head::default(), Answer { ends_visit: true, ..Answer::default() });
        browser.user = None;
        assert_eq!(browser.fetch().visit_id, "");
        assert!(browser.page("").visit_created);
        let shown = format!("{:?}", browser.cookies);
        assert!(!shown.contains("u1") && !shown.contains("u2"), "{shown}");
    }

    #[test]
    fn where_it_came_from_is_kept_in_the_visit() {
        let mut browser = Browser::new();
        let from = |referer| Head { navigates: true, referer: Some(referer), ..Head::default() };
        let first = browser.ask(from("https://blog.example/post?x=y"), Answer::default());
        assert_eq!(first.visit_referer, "blog.example");
        let later = browser.ask(from("https://other.example/"), Answer::default());
        assert_eq!((later.visit_id, later.visit_referer), (first.visit_id, first.visit_referer));
    }

    #[test]
    fn a_cookie_is_set_again_once_a_minute_at_most() {
        let mut browser = Browser::new();
        browser.page("");
        let first = browser.cookies.clone();
        browser.now += 59;
        browser.page("");
        assert_eq!(browser.cookies, first);
        browser.now += 1;
        browser.fetch();
        let changed = |name: &str| {
            let value = |cookies: &[(String, String)]| {
                cookies.iter().find(|it| it.0 == name).unwrap().1.clone()
            };
            value(&browser.cookies) != value(&first)
        };
        assert!(changed("__Host-av") && !changed("__Host-at"));
    }

    #[test]
    fn keys_are_rotated_without_a_new_visit_or_tracker() {
        let mut browser = Browser::new();
        let first = browser.page("");
        let new = KEY.replace("one", "two");
        browser.keys = Keys::new(&format!("{new},{KEY}").parse().unwrap());
        browser.now += 2 * MINUTE;
        assert_eq!(browser.fetch().tracker_id, first.tracker_id);
        browser.keys = Keys::new(&new.parse().unwrap());
        let mark = browser.page("");
        assert_eq!((mark.visit_id, mark.tracker_id), (first.visit_id, first.tracker_id));
        assert!(!mark.visit_created && !mark.tracker_created);
    }

    #[test]
    fn only_pages_mint_and_only_with_answers_for_one_client() {
        let mut browser = Browser::new();
        browser.fetch();
        let page = || Head { navigates: true, ..Head::default() };
        browser.ask(Head { objects: true, ..page() }, Answer::default());
        browser.ask(page(), Answer { is_shared: true, ..Answer::default() });
        assert!(browser.cookies.is_empty());
        assert!(browser.page("").visit_created);
        browser.now += 5 * MINUTE;
        let before = browser.cookies.clone();
        let mark = browser.ask(Head { objects: true, ..page() }, Answer::default());
        assert_eq!(mark, Mark::default(), "who objects now is not followed any more");
        assert_eq!(browser.cookies, before);
        browser.ask(page(), Answer { is_shared: true, ..Answer::default() });
        assert_eq!(browser.cookies, before);
    }

    #[test]
    fn a_page_is_known_by_what_the_browser_says_and_else_by_what_it_wants() {
        let html = Some("text/html,application/xhtml+xml");
        for (method, destination, accept, purpose, expected) in [
            ("GET", Some("document"), html, None, true),
            ("POST", Some("document"), html, None, false),
            ("GET", None, html, None, true),
            ("GET", Some("iframe"), html, None, false),
            ("GET", Some("empty"), html, None, false),
            ("GET", Some("image"), None, None, false),
            ("GET", None, Some("*/*"), None, false),
            ("GET", None, None, None, false),
            ("HEAD", Some("document"), html, None, false),
            ("GET", Some("document"), html, Some("prefetch;prerender"), false),
        ] {
            let is = is_navigation(method, destination, accept, purpose);
            assert_eq!(is, expected, "{method} {destination:?} {accept:?} {purpose:?}");
        }
    }

    #[test]
    fn what_a_cache_may_give_to_others_is_known_by_its_head() {
        let shared = |control: &[&str], networks: &[&str], expires| {
            is_shared(control.iter().copied(), networks.iter().copied(), expires, false)
        };
        let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        for control in [
            "public",
            "max-age=60",
            "s-maxage=1",
            "Immutable",
            "no-cache, max-age=9",
            "max-age=0, stale-while-revalidate=60",
            "private=\"X-User\", max-age=60",
        ] {
            assert!(shared(&[control], &[], None), "{control}");
        }
        for control in [
            "",
            "no-cache",
            "no-store",
            "max-age=0",
            "private, max-age=60",
            "public, private",
            "private=\"X-User, Set-Cookie\", max-age=60",
        ] {
            assert!(!shared(&[control], &[], None), "{control}");
        }
        assert!(shared(&["no-cache", "public"], &[], None));
        for network in ["max-age=60", "s-maxage=60", "Max-Age=60", "public"] {
            assert!(shared(&[], &[network], None), "{network}");
            assert!(shared(&["private, no-store"], &[network], None), "{network}");
        }
        assert!(!shared(&[], &["no-store"], None) && !shared(&[], &["max-age=0"], None));
        assert!(shared(&[], &[], date) && !shared(&[], &[], Some("0")));
        assert!(!shared(&["no-cache"], &[], date), "the newer header counts");
        let kept =
            |control: &'static str| is_shared([control].into_iter(), [].into_iter(), None, true);
        for control in ["", "no-cache", "max-age=0"] {
            assert!(kept(control), "it may be kept, asked about, and given to others: {control}");
        }
        assert!(!kept("private") && !kept("no-store"));
    }
}
