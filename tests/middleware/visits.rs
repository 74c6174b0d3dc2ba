//! Visits and trackers: real browsers' headers and real cookies, and a clock that can be set.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, ETAG, SET_COOKIE};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use tracing_activity::config::{Cookieless, Visits};
use tracing_activity::middleware::{Identity, IdentityLayer, RequestSpanLayer};
use tracing_activity::model::{Activity, ClientKind};
use tracing_activity::with_activity;

use crate::server::{Server, config};

const KEY: &str = "one-key-of-thirty-two-characters-or-more";
const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
const GOOGLEBOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
const MINUTE: u64 = 60;
const DAY: u64 = 86_400;
const MIDNIGHT: u64 = 20_834 * DAY;

/// A clock that stands until it is set.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn at(second: u64) -> Self {
        Self(Arc::new(AtomicU64::new(second)))
    }

    fn set(&self, second: u64) {
        self.0.store(second, Ordering::SeqCst);
    }

    fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Clone)]
struct CurrentUser(String);

impl Identity for CurrentUser {
    fn user_id(&self) -> Option<Cow<'_, str>> {
        Some(self.0.as_str().into())
    }
}

/// Believes a header, which is all that a test needs.
async fn authenticate(mut request: Request, next: Next) -> Response {
    if let Some(user) = request.headers().get("x-user") {
        let user = CurrentUser(user.to_str().unwrap().to_owned());
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

fn app() -> Router {
    Router::new()
        .route("/", get(|| async { ([(SET_COOKIE, "sid=7; Path=/")], "a page") }))
        .route("/api", get(|| async { "{}" }))
        .route("/logo.png", get(|| async { ([(CACHE_CONTROL, "public, max-age=60")], "png") }))
        .route("/cached", get(|| async { ([(CACHE_CONTROL, "max-age=60")], "a page") }))
        .route("/tagged", get(|| async { ([(ETAG, "\"1\"")], "a page") }))
        .route(
            "/logout",
            post(|| async {
                with_activity(|a| a.end_visit().event("logout"));
                "bye"
            }),
        )
        .layer(IdentityLayer::<CurrentUser>::new())
        .layer(from_fn(authenticate))
        .layer(RequestSpanLayer::new())
}

fn serve(visits: Visits, clock: &Clock) -> Server {
    let clock = clock.clone();
    let builder = tracing_activity::builder().config(config()).visits(visits);
    Server::axum_built(builder.clock(move || clock.now()), app)
}

fn with_cookies(keys: &str, clock: &Clock) -> Server {
    serve(Visits::Cookie(keys.parse().unwrap()), clock)
}

/// A browser that keeps its cookies.
struct Browser<'a> {
    server: &'a Server,
    cookies: Mutex<BTreeMap<String, String>>,
    agent: &'a str,
}

impl<'a> Browser<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, cookies: Mutex::default(), agent: CHROME }
    }

    /// Sends a request; keeps the cookies of the answer and gives their lines.
    fn ask(&self, method: &str, target: &str, destination: &str, headers: &str) -> Vec<String> {
        let cookies = self.cookies.lock().unwrap().iter().fold(String::new(), |line, it| {
            format!("{line}{}{}={}", if line.is_empty() { "cookie: " } else { "; " }, it.0, it.1)
        });
        let end = if cookies.is_empty() { "" } else { "\r\n" };
        let accept = if destination == "document" { "text/html,*/*;q=0.8" } else { "*/*" };
        let head = format!(
            "user-agent: {}\r\naccept: {accept}\r\nsec-fetch-dest: {destination}\r\n{headers}{cookies}{end}",
            self.agent
        );
        let answer = self.server.request(method, target, &head);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let lines = answer.lines().take_while(|line| !line.is_empty());
        let set: Vec<_> =
            lines.filter_map(|line| line.strip_prefix("set-cookie: ")).map(str::to_owned).collect();
        let mut cookies = self.cookies.lock().unwrap();
        for line in &set {
            let (name, rest) = line.split_once('=').unwrap();
            let (value, attributes) = rest.split_once(';').unwrap_or((rest, ""));
            if attributes.contains("Max-Age=0;") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        set
    }

    fn page(&self, target: &str) -> Vec<String> {
        self.ask("GET", target, "document", "")
    }

    fn fetch(&self) -> Vec<String> {
        self.ask("GET", "/api", "empty", "")
    }

    /// Changes a cookie's last character.
    fn tamper(&self, name: &str) {
        let mut cookies = self.cookies.lock().unwrap();
        let value = cookies.get_mut(name).unwrap();
        let last = value.pop().unwrap();
        value.push(if last == '0' { '1' } else { '0' });
    }
}

fn created(activities: &[Activity]) -> Vec<(bool, bool)> {
    activities.iter().map(|it| (it.visit_created, it.tracker_created)).collect()
}

#[test]
fn nothing_is_followed_unless_it_is_asked_for() {
    let server = Server::axum(config(), app);
    let set = Browser::new(&server).page("/?utm_source=news");
    assert_eq!(set, ["sid=7; Path=/"]);
    let activity = server.one();
    assert_eq!((&*activity.visit_id, &*activity.tracker_id, &*activity.campaign), ("", "", ""));
    assert_eq!(activity.client_kind, ClientKind::Browser, "what it is is known all the same");
}

#[test]
fn the_first_page_mints_a_tracker_and_a_visit_and_what_follows_is_theirs() {
    let clock = Clock::at(MIDNIGHT + 9 * 3600);
    let server = with_cookies(KEY, &clock);
    let browser = Browser::new(&server);
    let set = browser.page("/");
    assert_eq!(set.len(), 3, "the service's own cookie stays: {set:?}");
    for (name, age) in [("__Host-at=", 395 * DAY), ("__Host-av=", 30 * MINUTE)] {
        let line = set.iter().find(|line| line.starts_with(name)).unwrap();
        let attributes = format!("; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Lax");
        assert!(line.ends_with(&attributes), "{line}");
    }
    assert!(browser.fetch().is_empty(), "set again once a minute at most");
    clock.pass(MINUTE);
    let again = browser.fetch();
    assert!(again.len() == 1 && again[0].starts_with("__Host-av="), "{again:?}");
    let activities = server.activities(3);
    assert_eq!(created(&activities), [(true, true), (false, false), (false, false)]);
    let first = &activities[0];
    assert!(first.visit_id.parse::<tracing_activity::model::ActivityId>().is_ok());
    assert_eq!(first.tracker_id.len(), 32);
    for it in &activities {
        assert_eq!((&it.visit_id, &it.tracker_id), (&first.visit_id, &first.tracker_id));
    }
}

#[test]
fn parallel_first_requests_mint_one_visit() {
    let server = with_cookies(KEY, &Clock::at(MIDNIGHT));
    let browser = Browser::new(&server);
    let together = Barrier::new(21);
    std::thread::scope(|scope| {
        for n in 0..21 {
            let (browser, together) = (&browser, &together);
            let (target, destination) = match n {
                0 => ("/", "document"),
                1..10 => ("/logo.png", "image"),
                _ => ("/api", "empty"),
            };
            scope.spawn(move || {
                // None of them has a cookie yet.
                let alone = Browser::new(browser.server);
                together.wait();
                alone.ask("GET", target, destination, "");
                browser.cookies.lock().unwrap().extend(alone.cookies.into_inner().unwrap());
            });
        }
    });
    browser.fetch();
    let activities = server.activities(22);
    let minted: Vec<_> = activities.iter().filter(|it| it.visit_created).collect();
    assert_eq!(minted.len(), 1);
    assert_eq!(activities.iter().filter(|it| it.tracker_created).count(), 1);
    let last = activities.iter().find(|it| it.route == "/api" && !it.visit_id.is_empty()).unwrap();
    assert_eq!((&last.visit_id, last.visit_created), (&minted[0].visit_id, false), "confirmed");
}

#[test]
fn another_campaign_begins_a_visit_and_a_link_without_one_does_not() {
    let clock = Clock::at(MIDNIGHT);
    let server = with_cookies(KEY, &clock);
    let browser = Browser::new(&server);
    let from = "referer: https://blog.example/post?who=ana\r\n";
    browser.ask("GET", "/?utm_source=news&utm_medium=mail&q=x", "document", from);
    for target in ["/", "/?q=y", "/?utm_source=news&utm_medium=mail", "/?utm_source=ads"] {
        browser.page(target);
    }
    let activities = server.activities(5);
    let visits = created(&activities);
    assert_eq!(visits[0], (true, true));
    assert_eq!(visits[1..], [(false, false), (false, false), (false, false), (true, false)]);
    for it in &activities[..4] {
        assert_eq!(
            (&*it.campaign, &*it.visit_referer),
            ("utm_source=news&utm_medium=mail", "blog.example")
        );
        assert_eq!(it.visit_id, activities[0].visit_id);
    }
    let last = &activities[4];
    assert_eq!((&*last.campaign, &*last.visit_referer), ("utm_source=ads", ""));
    assert_ne!(last.visit_id, activities[0].visit_id);
    assert_eq!(last.tracker_id, activities[0].tracker_id);
}

#[test]
fn a_signature_that_does_not_hold_is_no_cookie() {
    let server = with_cookies(KEY, &Clock::at(MIDNIGHT));
    let browser = Browser::new(&server);
    browser.page("/");
    browser.tamper("__Host-av");
    browser.fetch();
    browser.page("/");
    browser.tamper("__Host-at");
    browser.page("/");
    browser.page("/");
    let activities = server.activities(5);
    let expected = [(true, true), (false, false), (true, false), (false, true), (false, false)];
    assert_eq!(created(&activities), expected);
    assert_eq!(activities[1].visit_id, "", "what a client invents is not believed");
    assert_eq!(activities[1].tracker_id, activities[0].tracker_id);
    assert_eq!(activities[3].visit_id, activities[2].visit_id);
    assert_ne!(activities[3].tracker_id, activities[2].tracker_id);
}

#[test]
fn a_cookie_of_the_application_that_is_no_ascii_hides_none() {
    let server = with_cookies(KEY, &Clock::at(MIDNIGHT));
    let browser = Browser::new(&server);
    browser.cookies.lock().unwrap().insert("Name".to_owned(), "Zoë".to_owned());
    browser.page("/");
    browser.page("/");
    assert_eq!(created(&server.activities(2)), [(true, true), (false, false)]);
}

#[test]
fn keys_are_changed_without_losing_anybody() {
    let clock = Clock::at(MIDNIGHT);
    let new = KEY.replace("one", "new");
    let before = with_cookies(KEY, &clock);
    let browser = Browser::new(&before);
    browser.page("/");
    let minted = before.one();
    clock.pass(5 * MINUTE);
    let mut cookies = browser.cookies.into_inner().unwrap();
    let (learnt, changed) = (format!("{KEY},{new}"), format!("{new},{KEY}"));
    // While they are changed, one replica has the new order and another still the old one.
    for keys in [&learnt, &changed, &learnt, &changed, &new] {
        clock.pass(5 * MINUTE);
        let server = with_cookies(keys, &clock);
        let browser = Browser { server: &server, cookies: Mutex::new(cookies), agent: CHROME };
        browser.page("/");
        let it = server.one();
        assert_eq!((&it.visit_id, &it.tracker_id), (&minted.visit_id, &minted.tracker_id));
        assert!(!it.visit_created && !it.tracker_created);
        cookies = browser.cookies.into_inner().unwrap();
    }
    let stranger = with_cookies(KEY, &clock);
    Browser { server: &stranger, cookies: Mutex::new(cookies), agent: CHROME }.page("/");
    assert!(stranger.one().tracker_created, "the old key is no key for what the new one signed");
}

#[test]
fn a_rest_of_half_an_hour_ends_a_visit_and_midnight_does_not() {
    let clock = Clock::at(MIDNIGHT - 20 * MINUTE);
    let server = with_cookies(KEY, &clock);
    let browser = Browser::new(&server);
    browser.page("/");
    clock.pass(29 * MINUTE);
    browser.page("/");
    clock.pass(30 * MINUTE + 1);
    browser.page("/");
    let visits = created(&server.activities(3));
    assert_eq!(visits, [(true, true), (false, false), (true, false)]);
}

#[test]
fn logging_out_and_another_user_end_a_visit_and_logging_in_does_not() {
    let server = with_cookies(KEY, &Clock::at(MIDNIGHT));
    let browser = Browser::new(&server);
    let page_of = |user: &str| browser.ask("GET", "/", "document", &format!("x-user: {user}\r\n"));
    browser.page("/");
    page_of("u1");
    page_of("u2");
    let set = browser.ask("POST", "/logout", "empty", "x-user: u2\r\n");
    assert!(set[0].starts_with("__Host-av=; Path=/; Max-Age=0;"), "{set:?}");
    browser.page("/");
    let activities = server.activities(5);
    let visits: Vec<bool> = activities.iter().map(|it| it.visit_created).collect();
    assert_eq!(visits, [true, false, true, false, true]);
    assert_eq!(activities[3].visit_id, activities[2].visit_id, "logging out is its last deed");
    assert!(activities.iter().all(|it| it.tracker_id == activities[0].tracker_id));
}

#[test]
fn bots_are_told_and_kept_and_get_no_cookie() {
    let server = with_cookies(KEY, &Clock::at(MIDNIGHT));
    for agent in [GOOGLEBOT, "curl/8.5.0", "kube-probe/1.31"] {
        let bot = Browser { agent, ..Browser::new(&server) };
        assert_eq!(bot.page("/"), ["sid=7; Path=/"], "{agent}");
    }
    let app = Browser { agent: "ShopApp/3.2 (iOS 18.0)", ..Browser::new(&server) };
    assert_eq!(app.fetch().len(), 0);
    let kinds: Vec<_> = server.activities(4).into_iter().map(|it| it.client_kind).collect();
    assert_eq!(kinds, [ClientKind::Bot, ClientKind::Bot, ClientKind::Bot, ClientKind::Other]);
}

#[test]
fn only_a_page_for_one_client_mints() {
    let server = with_cookies(KEY, &Clock::at(MIDNIGHT));
    let browser = Browser::new(&server);
    for (method, target, destination, headers) in [
        ("HEAD", "/", "document", ""),
        ("GET", "/", "iframe", ""),
        ("GET", "/cached", "document", ""),
        ("GET", "/tagged", "document", ""),
        ("POST", "/logout", "document", ""),
        ("GET", "/logo.png", "image", ""),
        ("GET", "/", "document", "sec-purpose: prefetch\r\n"),
        ("GET", "/", "document", "sec-gpc: 1\r\n"),
    ] {
        let set = browser.ask(method, target, destination, headers);
        let own: Vec<_> = set.iter().filter(|line| line.starts_with("__Host")).collect();
        assert!(own.is_empty(), "{method} {target} {destination} {headers} {own:?}");
    }
    let activities = server.activities(8);
    assert!(activities.iter().all(|it| it.visit_id.is_empty() && it.tracker_id.is_empty()));
    // A client that takes no cookies mints with every page: nothing confirms those visits.
    Browser::new(&server).page("/");
    Browser::new(&server).page("/");
    let activities = server.activities(10);
    let minted: Vec<_> = activities.iter().filter(|it| it.visit_created).collect();
    assert_eq!(minted.len(), 2);
    assert_ne!(minted[0].visit_id, minted[1].visit_id);
}

#[test]
fn without_cookies_a_visitor_is_known_by_the_day_and_midnight_splits_no_visit() {
    let clock = Clock::at(MIDNIGHT - 10 * MINUTE);
    let server = serve(Visits::Cookieless(Cookieless::default()), &clock);
    let browser = Browser::new(&server);
    assert_eq!(browser.page("/?utm_source=news"), ["sid=7; Path=/"]);
    for minute in [5, 30, 55] {
        clock.set(MIDNIGHT + minute * MINUTE);
        browser.fetch();
    }
    let other =
        Browser { agent: "Mozilla/5.0 (X11; rv:143.0) Firefox/143.0", ..Browser::new(&server) };
    other.fetch();
    clock.set(MIDNIGHT + 12 * 3600);
    browser.fetch();
    Browser { agent: GOOGLEBOT, ..Browser::new(&server) }.page("/");
    let activities = server.activities(7);
    let ids: Vec<&str> = activities.iter().map(|it| &*it.tracker_id).collect();
    assert_eq!(ids[0].len(), 32);
    assert_eq!(ids[..4], [ids[0]; 4], "in the midst of a visit");
    assert!(ids[4] != ids[0], "another browser");
    assert!(ids[5] != ids[0] && ids[5].len() == 32, "another day");
    assert_eq!(ids[6], "", "a bot is no visitor");
    assert_eq!(activities[0].campaign, "utm_source=news");
    assert!(activities.iter().all(|it| it.visit_id.is_empty() && !it.tracker_created));
    let shown = format!("{activities:?}");
    assert!(!shown.contains("127.0.0.1"), "the address is in no row");
}

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn replicas_that_share_salts_know_the_same_visitors_and_old_salts_are_deleted() {
    let name = format!("activity-salts-{}-{:x}", std::process::id(), fastrand::u64(..));
    let folder = Folder(std::env::temp_dir().join(name));
    let clock = Clock::at(MIDNIGHT + 3600);
    let mut cookieless = Cookieless::default();
    cookieless.salts = Some(folder.0.clone());
    let seen = |cookieless: &Cookieless| {
        let server = serve(Visits::Cookieless(cookieless.clone()), &clock);
        Browser::new(&server).fetch();
        server.one().tracker_id
    };
    let first = seen(&cookieless);
    assert_eq!(seen(&cookieless), first);
    assert_ne!(seen(&Cookieless::default()), first, "salts of its own");
    cookieless.site = Some("another".to_owned());
    assert_ne!(seen(&cookieless), first, "another site's visitor");
    let files = || std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(files(), 1);
    clock.pass(2 * DAY);
    seen(&cookieless);
    assert_eq!(files(), 1, "48 hours after its day began the old salt is gone");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_of_setting_up() {
    let mut cookieless = Cookieless::default();
    cookieless.salts = Some("/proc/no/such/folder".into());
    let builder = tracing_activity::builder().config(config());
    let error = builder.visits(Visits::Cookieless(cookieless)).build().unwrap_err().to_string();
    assert!(error.contains("ACTIVITY_VISIT_SALTS: cannot keep salts in /proc/no/such"), "{error}");
}
