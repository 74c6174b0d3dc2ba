//! The customers and what they will do, decided before the first of them comes.
//!
//! A plan is a pure function of its seed, and holds exactly as many requests as were asked for:
//! every [`Step`] is one request. The first visits are a tour of everything that can happen, so
//! that a short demo shows it too; after it chance decides.

use std::time::Duration;

use super::zipf::Zipf;

/// One person, or machine, with one connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Visit {
    /// When it begins, counted from the beginning of the deploy.
    pub(crate) starts: Duration,
    /// `User-Agent`.
    pub(crate) agent: &'static str,
    /// `Referer` of the first request.
    pub(crate) referer: Option<&'static str>,
    /// What it does, in this order.
    pub(crate) steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The pause before it.
    pub(crate) pause: Duration,
    pub(crate) call: Call,
}

/// What is asked, and how the client behaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    Get(String),
    Post {
        path: &'static str,
        json: String,
    },
    /// A `POST` to a path with a number in it.
    PostTo {
        path: String,
        json: String,
    },
    /// `GET` of where the last answer pointed to.
    Follow,
    /// `GET` of a page whose handler panics: the server hangs up instead of answering.
    GetBroken(String),
    /// `POST` by a client that leaves while the handler works.
    LeaveWaiting {
        path: &'static str,
        json: String,
    },
    /// `GET` by a client that leaves in the middle of the body.
    LeaveReading(&'static str),
}

/// How a plan is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Requests in all.
    pub(crate) requests: usize,
    /// Time over which visits begin.
    pub(crate) spread: Duration,
    pub(crate) seed: u64,
}

/// Draws the visits of one deploy.
pub(crate) fn visits(scale: Scale) -> Vec<Visit> {
    let mut draw = Draw::new(scale);
    let mut visits = Vec::new();
    let mut left = scale.requests;
    let mut tour = JOURNEYS.iter();
    while left > 0 {
        let (kind, journey) = match tour.next() {
            Some(&(kind, _, journey)) => (kind, journey),
            None => draw.journey(),
        };
        let mut steps = journey(&mut draw);
        steps.truncate(left);
        left -= steps.len();
        visits.push(Visit {
            starts: draw.start(),
            agent: draw.agent(kind),
            referer: (kind == Kind::Person).then(|| draw.referer()).flatten(),
            steps,
        });
    }
    visits
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Person,
    Robot,
    Probe,
}

type Journey = fn(&mut Draw) -> Vec<Step>;

/// What people do, how often in a hundred, and in which shape of steps.
const JOURNEYS: [(Kind, u32, Journey); 15] = [
    (Kind::Person, 22, browse),
    (Kind::Person, 14, search),
    (Kind::Person, 10, fill_a_basket),
    (Kind::Person, 22, buy),
    (Kind::Person, 3, buy_what_is_rare),
    (Kind::Person, 3, pay_badly),
    (Kind::Person, 3, forget_something),
    (Kind::Person, 2, snoop),
    (Kind::Person, 2, administrate),
    (Kind::Person, 3, leave_while_waiting),
    (Kind::Person, 1, wait_for_the_ferry),
    (Kind::Robot, 2, leave_while_reading),
    (Kind::Robot, 2, read_the_catalogue),
    (Kind::Robot, 6, scan),
    (Kind::Probe, 5, probe),
];

const PEOPLE: [&str; 5] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1",
    "ShopApp/3.2 (Android 16)",
    "ShopApp/3.3 (iOS 19.1)",
];
const ROBOTS: [&str; 2] = ["price-watch/1.4", "curl/8.16.0"];
const PROBE: &str = "load-balancer-probe/1.0";
const REFERERS: [&str; 3] =
    ["https://search.example/?q=teapot", "https://blog.example/gifts", "https://social.example/"];

/// Its page panics; the store says why.
const WITHOUT_PICTURE: u32 = 13;
/// Of these the store has only a few.
const LIMITED: [u32; 2] = [9, 21];
/// Test cards of the payment gateway.
const GOOD_CARD: &str = "4242424242424242";
const DECLINED_CARD: &str = "4000000000000002";
const BROKEN_CARD: &str = "4000000000000119";

/// Everything that is drawn by chance.
struct Draw {
    rng: fastrand::Rng,
    products: Zipf,
    customers: Zipf,
    spread: Duration,
    bursts: [f64; 3],
}

impl Draw {
    fn new(scale: Scale) -> Self {
        let mut rng = fastrand::Rng::with_seed(scale.seed);
        let bursts = std::array::from_fn(|_| 0.1 + 0.7 * rng.f64());
        Self {
            rng,
            products: Zipf::new(40, 1.1),
            customers: Zipf::new(200, 1.0),
            spread: scale.spread,
            bursts,
        }
    }

    fn journey(&mut self) -> (Kind, Journey) {
        let total: u32 = JOURNEYS.iter().map(|&(_, weight, _)| weight).sum();
        let mut at = self.rng.u32(..total);
        for (kind, weight, journey) in JOURNEYS {
            if at < weight {
                return (kind, journey);
            }
            at -= weight;
        }
        (Kind::Person, browse)
    }

    /// One visit in three comes in a burst: a newsletter went out.
    fn start(&mut self) -> Duration {
        let uniform = self.rng.f64();
        let share = if self.rng.u32(..3) == 0 {
            self.bursts[self.rng.usize(..self.bursts.len())] + uniform * 0.03
        } else {
            uniform
        };
        self.spread.mul_f64(share)
    }

    fn agent(&mut self, kind: Kind) -> &'static str {
        match kind {
            Kind::Person => PEOPLE[self.rng.usize(..PEOPLE.len())],
            Kind::Robot => ROBOTS[self.rng.usize(..ROBOTS.len())],
            Kind::Probe => PROBE,
        }
    }

    fn referer(&mut self) -> Option<&'static str> {
        let which = self.rng.usize(..REFERERS.len() * 2);
        REFERERS.get(which).copied()
    }

    fn product(&mut self) -> u32 {
        self.products.draw(&mut self.rng)
    }

    /// Anyone but the administrator, `u1`.
    fn customer(&mut self) -> String {
        format!("u{}", self.customers.draw(&mut self.rng).max(2))
    }

    /// `call` after a while of looking at the page, short as in a film.
    fn step(&mut self, call: Call) -> Step {
        let pause = Duration::from_millis(90).mul_f64(-self.rng.f64().max(1e-3).ln());
        Step { pause, call }
    }

    fn get(&mut self, path: impl Into<String>) -> Step {
        self.step(Call::Get(path.into()))
    }

    fn post(&mut self, path: &'static str, json: impl Into<String>) -> Step {
        self.step(Call::Post { path, json: json.into() })
    }

    fn view(&mut self) -> Step {
        let id = self.product();
        let path = format!("/products/{id}");
        self.step(if id == WITHOUT_PICTURE { Call::GetBroken(path) } else { Call::Get(path) })
    }

    fn login(&mut self, user: &str, password: &str) -> Step {
        self.post("/login", format!(r#"{{"user":"{user}","password":"{password}"}}"#))
    }

    fn add(&mut self, product: u32, quantity: u32) -> Step {
        self.post("/basket/items", format!(r#"{{"product":{product},"quantity":{quantity}}}"#))
    }

    fn pay(&mut self, card: &str) -> Step {
        self.post("/checkout", format!(r#"{{"card":"{card}"}}"#))
    }
}

const PASSWORD: &str = "swordfish";

fn browse(draw: &mut Draw) -> Vec<Step> {
    let mut steps = vec![draw.get("/")];
    for _ in 0..draw.rng.usize(1..5) {
        steps.push(draw.view());
    }
    if draw.rng.u32(..4) == 0 {
        steps.push(draw.get("/"));
    }
    steps
}

fn search(draw: &mut Draw) -> Vec<Step> {
    const WORDS: [&str; 8] =
        ["teapot", "lamp", "kettle", "bell", "green", "puzle", "scraf", "quetzal"];
    let mut steps = Vec::new();
    for _ in 0..draw.rng.usize(1..4) {
        let word = WORDS[draw.rng.usize(..WORDS.len())];
        steps.push(draw.get(format!("/search?q={word}")));
        steps.push(draw.view());
    }
    steps
}

fn fill_a_basket(draw: &mut Draw) -> Vec<Step> {
    let mut steps = vec![draw.view()];
    for _ in 0..draw.rng.usize(1..5) {
        let (product, quantity) = (draw.product(), draw.rng.u32(1..4));
        steps.push(draw.add(product, quantity));
    }
    steps.push(draw.get("/basket"));
    steps
}

fn buy(draw: &mut Draw) -> Vec<Step> {
    let customer = draw.customer();
    let mut steps = vec![draw.get("/"), draw.login(&customer, PASSWORD), draw.get("/")];
    for _ in 0..draw.rng.usize(1..6) {
        let (product, quantity) = (draw.product(), draw.rng.u32(1..3));
        steps.push(draw.add(product, quantity));
    }
    steps.push(draw.get("/basket"));
    steps.push(draw.post("/shipping/quote", r#"{"postcode":"EH1 1AA"}"#));
    let card = if draw.rng.u32(..20) == 0 { DECLINED_CARD } else { GOOD_CARD };
    steps.push(draw.pay(card));
    steps.push(draw.step(Call::Follow));
    steps
}

/// Everyone wants the last three, so someone is told so in the shop and someone at the till.
fn buy_what_is_rare(draw: &mut Draw) -> Vec<Step> {
    let customer = draw.customer();
    let product = LIMITED[draw.rng.usize(..LIMITED.len())];
    vec![
        draw.login(&customer, PASSWORD),
        draw.add(product, 2),
        draw.add(product, 1),
        draw.add(product, 1),
        draw.pay(GOOD_CARD),
    ]
}

fn pay_badly(draw: &mut Draw) -> Vec<Step> {
    let customer = draw.customer();
    let product = draw.product();
    vec![
        draw.login(&customer, PASSWORD),
        draw.add(product, 1),
        draw.pay(DECLINED_CARD),
        draw.pay(BROKEN_CARD),
        draw.pay(GOOD_CARD),
        draw.step(Call::Follow),
        // The whole basket at a price that deploy B finds odd.
        draw.add(40, 20),
        draw.pay(GOOD_CARD),
    ]
}

fn forget_something(draw: &mut Draw) -> Vec<Step> {
    let customer = draw.customer();
    vec![
        draw.get("/basket"),
        draw.pay(GOOD_CARD),
        draw.login(&customer, "password1"),
        draw.login("nobody", PASSWORD),
        draw.login(&customer, PASSWORD),
        draw.pay(GOOD_CARD),
        draw.add(3, 0),
        draw.add(4711, 1),
        draw.get("/search"),
        draw.post("/shipping/quote", r#"{"postcode":""}"#),
        draw.post("/shipping/quote", r#"{"postcode":"#),
    ]
}

fn snoop(draw: &mut Draw) -> Vec<Step> {
    let customer = draw.customer();
    vec![
        draw.get("/orders/1"),
        draw.get("/admin/report"),
        draw.login(&customer, PASSWORD),
        draw.get("/admin/report"),
        draw.get("/orders/1"),
        draw.get("/orders/999999"),
        draw.step(price(5, 1)),
    ]
}

fn administrate(draw: &mut Draw) -> Vec<Step> {
    let (product, cents) = (draw.product(), draw.rng.u32(500..5000));
    vec![
        draw.login("u1", PASSWORD),
        draw.get("/admin/report"),
        draw.step(price(product, cents)),
        draw.step(price(product, 0)),
        draw.step(price(4711, cents)),
        draw.get("/orders/1"),
    ]
}

fn price(product: u32, cents: u32) -> Call {
    Call::PostTo {
        path: format!("/admin/products/{product}/price"),
        json: format!(r#"{{"cents":{cents}}}"#),
    }
}

fn leave_while_waiting(draw: &mut Draw) -> Vec<Step> {
    let json = r#"{"postcode":"HS2 0XZ"}"#.to_owned();
    vec![draw.get("/"), draw.step(Call::LeaveWaiting { path: "/shipping/quote", json })]
}

fn wait_for_the_ferry(draw: &mut Draw) -> Vec<Step> {
    vec![draw.post("/shipping/quote", r#"{"postcode":"HS2 0XZ"}"#), draw.get("/")]
}

fn leave_while_reading(draw: &mut Draw) -> Vec<Step> {
    vec![draw.step(Call::LeaveReading("/catalogue.csv"))]
}

fn read_the_catalogue(draw: &mut Draw) -> Vec<Step> {
    vec![draw.get("/catalogue.csv")]
}

fn scan(draw: &mut Draw) -> Vec<Step> {
    let page = format!("/products/{}", 100 + draw.rng.u32(..900));
    vec![
        draw.get("/wp-login.php"),
        draw.get("/.env"),
        draw.get(page),
        draw.get("/products/%27%20OR%201=1"),
        draw.get("/checkout"),
    ]
}

fn probe(draw: &mut Draw) -> Vec<Step> {
    vec![draw.get("/healthz")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(requests: usize, seed: u64) -> Scale {
        Scale { requests, spread: Duration::from_secs(10), seed }
    }

    #[test]
    fn a_plan_has_exactly_the_requests_asked_for() {
        for requests in [0, 1, 2, 57, 2000, 2001] {
            let steps: usize = visits(scale(requests, 3)).iter().map(|it| it.steps.len()).sum();
            assert_eq!(steps, requests);
        }
    }

    #[test]
    fn a_plan_is_a_function_of_its_seed() {
        assert_eq!(visits(scale(500, 1)), visits(scale(500, 1)));
        assert_ne!(visits(scale(500, 1)), visits(scale(500, 2)));
    }

    #[test]
    fn a_plan_of_a_hundred_requests_holds_every_manner_of_leaving() {
        let visits = visits(scale(100, 1));
        let calls = || visits.iter().flat_map(|visit| &visit.steps).map(|step| &step.call);
        assert!(calls().any(|call| matches!(call, Call::LeaveWaiting { .. })));
        assert!(calls().any(|call| matches!(call, Call::LeaveReading(_))));
        assert!(calls().any(|call| matches!(call, Call::Follow)));
    }

    #[test]
    fn visits_begin_within_the_time_given() {
        assert!(visits(scale(2000, 1)).iter().all(|it| it.starts <= Duration::from_secs(10)));
    }

    #[test]
    fn a_broken_page_is_never_asked_for_as_if_it_would_answer() {
        let broken = format!("/products/{WITHOUT_PICTURE}");
        for visit in visits(scale(4000, 1)) {
            assert!(visit.steps.iter().all(|step| step.call != Call::Get(broken.clone())));
        }
    }
}
