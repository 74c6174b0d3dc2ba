//! What people, robots and probes come for: each journey is a handful of requests that belong
//! together, and between them they take every path through the shop.

use super::draw::Draw;
use super::step::{Call, Step};

/// Who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Person,
    Robot,
    Probe,
}

pub(crate) type Journey = fn(&mut Draw) -> Vec<Step>;

/// Who does what, and how often in a hundred.
pub(crate) const JOURNEYS: [(Kind, u32, Journey); 15] = [
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

/// Of these the store has only a few.
const LIMITED: [u32; 2] = [9, 21];
/// Test cards of the payment gateway.
const GOOD_CARD: &str = "4242424242424242";
const DECLINED_CARD: &str = "4000000000000002";
const BROKEN_CARD: &str = "4000000000000119";

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
        price(draw, 5, 1),
    ]
}

fn administrate(draw: &mut Draw) -> Vec<Step> {
    let (product, cents) = (draw.product(), draw.rng.u32(500..5000));
    vec![
        draw.login("u1", PASSWORD),
        draw.get("/admin/report"),
        price(draw, product, cents),
        price(draw, product, 0),
        price(draw, 4711, cents),
        draw.get("/orders/1"),
    ]
}

fn price(draw: &mut Draw, product: u32, cents: u32) -> Step {
    draw.post(format!("/admin/products/{product}/price"), format!(r#"{{"cents":{cents}}}"#))
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
