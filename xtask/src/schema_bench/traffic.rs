//! Requests of a shop as they are met in production: visitors who come with a browser, look
//! around, fill a basket and sometimes pay; each request with the spans of its code path.
//!
//! Everything is drawn from one seed, so two runs load the same.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use anyhow::Result;
use fastrand::Rng;
use tracing_activity::model::{
    Activity, ActivityId, EventRecord, KeepReason, Level, Outcome, SpanRecord, Timestamp, Trace,
    TraceHash, Value,
};

use super::paths::{ENDPOINTS, Endpoint, NEW, Step, paths};

/// Days the requests are spread over, one deploy each.
const DAYS: i64 = 4;
const DAY: i64 = 86_400_000_000;
/// Visitors at one time.
const VISITORS: usize = 300;
const USERS: u32 = 100_000;
const PRODUCTS: u32 = 20_000;

type Attributes = Vec<(Cow<'static, str>, Value)>;

/// Makes requests, one after another.
pub(crate) struct Traffic {
    rng: Rng,
    /// The paths of each endpoint.
    paths: Vec<Vec<Vec<Step>>>,
    visitors: Vec<Visitor>,
    agents: Vec<String>,
    begin: i64,
    gap: f64,
    made: u32,
    orders: u32,
}

/// Somebody with a browser.
#[derive(Clone)]
struct Visitor {
    user: Option<u32>,
    visit: String,
    tracker: String,
    agent: usize,
    ip: Ipv4Addr,
    left: u32,
    /// How far they are from a look around to an order.
    stage: usize,
    product: u32,
    order: u32,
    new: bool,
}

impl Traffic {
    /// `requests` requests over the days before `end`.
    pub(crate) fn new(requests: u32, end: Timestamp, seed: u64) -> Result<Self> {
        let mut rng = Rng::with_seed(seed);
        let agents = (0..120).map(|n| agent(n, &mut rng)).collect();
        let paths = ENDPOINTS.iter().map(paths).collect::<Result<Vec<_>>>()?;
        let gap = (DAYS * DAY) as f64 / f64::from(requests);
        let begin = end.as_micros() - DAYS * DAY;
        let mut traffic =
            Self { rng, paths, visitors: vec![], agents, begin, gap, made: 0, orders: 0 };
        traffic.visitors = (0..VISITORS).map(|_| traffic.visitor()).collect();
        Ok(traffic)
    }

    /// The time of the deploy on this day.
    fn deploy(&self, day: i64) -> Timestamp {
        // A `DateTime` has whole seconds.
        Timestamp::from_micros((self.begin + day * DAY) / 1_000_000 * 1_000_000)
    }

    fn visitor(&mut self) -> Visitor {
        let rng = &mut self.rng;
        // A few come all the time, most hardly ever.
        let user = f64::from(USERS).powf(rng.f64()) as u32;
        Visitor {
            user: (rng.u8(..10) < 6).then_some(user),
            visit: uuid(rng),
            tracker: uuid(rng),
            agent: rng.usize(..self.agents.len()),
            ip: Ipv4Addr::new(rng.u8(1..224), rng.u8(..), rng.u8(..), 0),
            left: rng.u32(3..14),
            stage: 0,
            product: 1,
            order: 0,
            new: true,
        }
    }

    /// What this visitor does next.
    fn next_endpoint(&mut self, visitor: &mut Visitor, last_deploy: bool) -> usize {
        let draw = self.rng.u32(..100);
        let at = match (visitor.stage, draw) {
            (_, 0..1) if last_deploy => NEW,
            (0, 0..30) => 0,
            (0, 30..50) | (1, 15..30) => 1,
            (0, 50..65) | (1, 0..15) => 2,
            (0, 65..70) => 10,
            (_, 70..72) => 9,
            (1, 30..45) | (2, 0..20) => 4,
            (2, 20..50) => 5,
            (2, 50..55) => 6,
            (2, 55..70) => 12,
            (2, 70..95) => 7,
            (3, 0..60) => 8,
            (3, 60..70) => 11,
            _ => 3,
        };
        if matches!(at, 3 | 4) {
            visitor.product = f64::from(PRODUCTS).powf(self.rng.f64()) as u32;
        }
        visitor.stage = match at {
            3 => visitor.stage.max(1),
            4 => 2,
            7 => {
                self.orders += 1;
                visitor.order = 100_000 + self.orders;
                3
            }
            _ => visitor.stage,
        };
        at
    }

    /// The next request.
    pub(crate) fn request(&mut self) -> Activity {
        let micros = self.begin + (f64::from(self.made) * self.gap) as i64;
        let micros = micros + (self.rng.f64() * self.gap) as i64;
        self.made += 1;
        let at = self.rng.usize(..VISITORS);
        let mut visitor = self.visitors[at].clone();
        let day = (micros - self.begin) / DAY;
        let endpoint = self.next_endpoint(&mut visitor, day == DAYS - 1);
        let activity = self.answer(&visitor, endpoint, Timestamp::from_micros(micros), day);
        visitor.new = false;
        visitor.left -= 1;
        self.visitors[at] = if visitor.left == 0 { self.visitor() } else { visitor };
        activity
    }

    fn answer(&mut self, visitor: &Visitor, at: usize, when: Timestamp, day: i64) -> Activity {
        let endpoint = &ENDPOINTS[at];
        let variant = self.rng.usize(..self.paths[at].len());
        let duration = (endpoint.millis * 1000.0 * (0.7 * normal(&mut self.rng)).exp()) as u64;
        let (outcome, status, failure) = match self.rng.u32(..1000) {
            0..15 => (Outcome::ServerFault, 500, ["timeout", "unavailable"][self.rng.usize(..2)]),
            15..45 => (Outcome::ClientFault, [400, 404, 409][self.rng.usize(..3)], ""),
            _ => (Outcome::Success, 200, ""),
        };
        let oid = match endpoint.okind {
            "product" => visitor.product.to_string(),
            "order" if visitor.order > 0 => visitor.order.to_string(),
            "category" => format!("c{}", visitor.product % 60),
            "basket" => visitor.visit[..12].to_owned(),
            _ => String::new(),
        };
        let steps = &self.paths[at][variant];
        let spans = spans(steps, duration, failure, visitor, &mut self.rng);
        let events = events(&spans, failure, &mut self.rng);
        let text = str::to_owned;
        Activity {
            when,
            activity_id: ActivityId::new(when, self.rng.u64(..)),
            duration,
            // Nearly all of it: answers are short.
            response_start: duration.saturating_sub(20 + duration % 37).max(1),
            outcome,
            status,
            method: text(endpoint.method),
            route: text(endpoint.route),
            url: url(endpoint, &oid),
            referer: if visitor.new { text("https://www.google.com/") } else { String::new() },
            title: text(endpoint.title),
            okind: text(endpoint.okind),
            oid,
            ekind: text(endpoint.ekind),
            data: data(endpoint, visitor, &mut self.rng),
            error: match failure {
                "" => String::new(),
                kind => format!("{} failed: {kind} after {duration} us", endpoint.ekind),
            },
            error_kind: text(failure),
            user_id: visitor.user.map_or_else(String::new, |user| format!("u{user}")),
            visit_id: visitor.visit.clone(),
            visit_created: visitor.new,
            tracker_id: visitor.tracker.clone(),
            ip: Some(visitor.ip.to_ipv6_mapped()),
            user_agent: self.agents[visitor.agent].clone(),
            app: text("web"),
            service: text("shop"),
            host: format!("web-{}", self.made / 5000 % 3),
            site_version: self.deploy(day),
            site_revision: format!("{:07x}", 0x00a1_b2c3 + day * 77_777),
            trace_hash: Some(hash(at, variant, failure)),
            kept_because: Some(KeepReason::Probabilistic),
            sample_weight: 1.0,
            trace: Some(Trace { spans, events }),
            ..Activity::default()
        }
    }
}

/// One hash for each path and each way it fails.
fn hash(endpoint: usize, variant: usize, failure: &str) -> TraceHash {
    let failed = ["", "timeout"].iter().position(|it| *it == failure).unwrap_or(2);
    let number = (endpoint * 64 + variant * 4 + failed) as u64;
    let mut rng = Rng::with_seed(number);
    TraceHash::from_bytes(std::array::from_fn(|_| rng.u8(..)))
}

fn spans(
    steps: &[Step],
    duration: u64,
    failure: &'static str,
    visitor: &Visitor,
    rng: &mut Rng,
) -> Vec<SpanRecord> {
    let mut spans: Vec<SpanRecord> = Vec::with_capacity(steps.len() + 6);
    // Where each step stands among the spans, and how much of it is used up.
    let mut places: Vec<(usize, u32)> = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        let times = if step.repeated { rng.usize(2..5) } else { 1 };
        let siblings = steps.iter().filter(|it| it.parent == step.parent).count().max(1);
        places.push((spans.len(), 0));
        for _ in 0..times {
            let (parent, start, duration) = if at == 0 {
                (0, 0, u32::try_from(duration).unwrap_or(u32::MAX))
            } else {
                let (place, used) = places[step.parent];
                let within = &spans[place];
                let share = f64::from(within.duration) / (siblings * times) as f64;
                let start = within.start + used + rng.u32(1..20);
                let took = (share * (0.4 + 0.55 * rng.f64())) as u32;
                places[step.parent].1 = used + (share as u32);
                (place as u32, start, took)
            };
            spans.push(SpanRecord {
                name: step.name.into(),
                target: target(step.name).into(),
                level: Level::Info,
                parent,
                start,
                duration,
                error: "".into(),
                attributes: if at == 0 {
                    of_request(rng)
                } else {
                    attributes(step.name, visitor, rng)
                },
            });
        }
    }
    if let Some(last) = spans.iter_mut().rev().find(|it| is_call(&it.name)) {
        last.error = failure.into();
    }
    spans
}

/// What is said while spans run: of each failure, and of a cache that had nothing.
fn events(spans: &[SpanRecord], failure: &'static str, rng: &mut Rng) -> Vec<EventRecord> {
    let mut events = vec![];
    for (at, span) in (0..).zip(spans) {
        let failed = !failure.is_empty() && span.error == failure;
        let missed = span.attributes.contains(&("cache.hit".into(), Value::Bool(false)));
        if !failed && !missed {
            continue;
        }
        let (level, message, attributes) = if failed {
            let message = format!("{} did not answer", span.name);
            let attempts = Value::I64(rng.i64(1..4));
            let kind = Value::Str(failure.into());
            (
                Level::Error,
                message,
                vec![("error.type".into(), kind), ("attempts".into(), attempts)],
            )
        } else {
            let age = Value::I64(rng.i64(..3600));
            (Level::Info, "not in the cache".to_owned(), vec![("age_s".into(), age)])
        };
        let time = span.start.saturating_add(rng.u32(..=span.duration));
        let target = span.target.clone();
        events.push(EventRecord { span: at, time, level, target, message, attributes });
    }
    events
}

/// What a request's own span tells beside the columns.
fn of_request(rng: &mut Rng) -> Attributes {
    let text = |text: &str| Value::Str(text.into());
    vec![
        ("otel.kind".into(), text("server")),
        ("url.scheme".into(), text("https")),
        ("server.address".into(), text("shop.example")),
        ("network.protocol.version".into(), text(if rng.u8(..5) > 0 { "2" } else { "1.1" })),
        ("http.response.body.size".into(), Value::I64(rng.i64(200..60_000))),
    ]
}

fn target(name: &str) -> &'static str {
    match name {
        "request" => "shop::http",
        name if name.starts_with("cache") => "shop::cache",
        name if is_call(name) && name.starts_with(['G', 'P']) => "shop::client",
        name if is_call(name) => "shop::store",
        _ => "shop::handlers",
    }
}

/// Whether a step leaves the process: to the database or to another service.
fn is_call(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_uppercase())
}

/// What the span of a step tells, by OpenTelemetry's conventions.
fn attributes(name: &'static str, visitor: &Visitor, rng: &mut Rng) -> Attributes {
    let text = |text: &str| Value::Str(text.into());
    let (verb, what) = name.split_once(' ').unwrap_or((name, ""));
    match target(name) {
        "shop::store" => vec![
            ("otel.kind".into(), text("client")),
            ("db.system.name".into(), text("postgresql")),
            ("db.operation.name".into(), text(verb)),
            ("db.collection.name".into(), text(what)),
            ("db.response.returned_rows".into(), Value::I64(rng.i64(0..40))),
        ],
        "shop::client" => vec![
            ("otel.kind".into(), text("client")),
            ("http.request.method".into(), text(verb)),
            (
                "server.address".into(),
                Value::Str(format!("{}.internal", what.replace(' ', "-")).into()),
            ),
            (
                "url.full".into(),
                Value::Str(format!("http://{what}.internal/v1/{}", visitor.product).into()),
            ),
            ("http.response.status_code".into(), Value::I64(200)),
        ],
        "shop::cache" => vec![
            ("cache.key".into(), Value::Str(format!("{what}:{}", visitor.product).into())),
            ("cache.hit".into(), Value::Bool(rng.u8(..4) > 0)),
        ],
        _ => vec![("product".into(), Value::I64(i64::from(visitor.product)))],
    }
}

fn url(endpoint: &Endpoint, oid: &str) -> String {
    let url = endpoint.route.replace("{id}", oid).replace("{slug}", oid);
    if endpoint.ekind == "searched" { url + "?q=?&page=?" } else { url }
}

fn data(endpoint: &Endpoint, visitor: &Visitor, rng: &mut Rng) -> String {
    match endpoint.ekind {
        "checkout" => format!(
            "{{\"total_cents\":{},\"items\":{},\"currency\":\"EUR\"}}",
            rng.u32(500..30_000),
            rng.u32(1..9)
        ),
        "searched" => {
            format!("{{\"query\":\"w{}\",\"hits\":{}}}", rng.u32(..3000), rng.u32(..200))
        }
        "added" => format!("{{\"product\":{},\"quantity\":{}}}", visitor.product, rng.u32(1..4)),
        _ => String::new(),
    }
}

fn agent(n: u32, rng: &mut Rng) -> String {
    let system = [
        "Windows NT 10.0; Win64; x64",
        "Macintosh; Intel Mac OS X 10_15_7",
        "X11; Linux x86_64",
        "Linux; Android 14; Pixel 8",
        "iPhone; CPU iPhone OS 18_1 like Mac OS X",
    ][n as usize % 5];
    let version = 110 + rng.u32(..30);
    format!(
        "Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.{}.0 Safari/537.36",
        rng.u32(..200)
    )
}

fn uuid(rng: &mut Rng) -> String {
    let (high, low) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff
    )
}

/// About normal, with mean 0 and variance 1.
fn normal(rng: &mut Rng) -> f64 {
    (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn traffic_is_what_production_sees() {
        let count = 20_000;
        let mut traffic = Traffic::new(count, Timestamp::from_micros(40 * DAY), 1).unwrap();
        let rows: Vec<Activity> = (0..count).map(|_| traffic.request()).collect();
        let share = |of: fn(&Activity) -> bool| {
            rows.iter().filter(|it| of(it)).count() as f64 / f64::from(count)
        };
        let faults = share(|it| it.outcome == Outcome::ServerFault);
        assert!((0.01..0.02).contains(&faults), "{faults}");
        let orders = share(|it| it.ekind == "checkout");
        assert!((0.02..0.2).contains(&orders), "{orders}");
        let spans = |it: &Activity| it.trace.as_ref().map_or(0, |trace| trace.spans.len());
        let mean = rows.iter().map(spans).sum::<usize>() as f64 / f64::from(count);
        assert!((9.0..10.5).contains(&mean), "{mean}");
        let new = rows.iter().filter(|it| it.ekind == "redeemed").map(|it| it.site_version);
        assert_eq!(new.collect::<BTreeSet<_>>(), BTreeSet::from([traffic.deploy(DAYS - 1)]));
        let last = rows.last().unwrap().when.as_micros();
        assert!((last - 40 * DAY).abs() < DAY / 100, "{last}");
    }

    #[test]
    fn a_hash_stands_for_what_the_spans_are() {
        let mut traffic = Traffic::new(50_000, Timestamp::from_micros(40 * DAY), 2).unwrap();
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..50_000 {
            let row = traffic.request();
            let spans = row.trace.unwrap().spans;
            let path: BTreeSet<(Cow<'static, str>, Cow<'static, str>)> =
                spans.into_iter().map(|it| (it.name, it.error)).collect();
            let path = (row.route, row.method, path);
            let hash = row.trace_hash.unwrap();
            assert_eq!(seen.entry(path).or_insert(hash), &hash);
        }
        let hashes: BTreeSet<_> = seen.values().collect();
        assert_eq!(hashes.len(), seen.len(), "no hash for two paths");
    }
}
