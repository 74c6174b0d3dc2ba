//! The code paths of the measured service: what a request does, as a tree of steps.
//!
//! An endpoint is written as text. `a(b c)` is `a` with `b` and `c` below it; an underscore is a
//! space; a step that begins with `?` is taken by one path and not by another, so an endpoint with
//! two of them has four paths. Repeated steps (`*`) are the N+1 that a loop makes.

use anyhow::{Result, ensure};

/// An endpoint: what it is called by, and what it does.
pub(crate) struct Endpoint {
    pub(crate) method: &'static str,
    pub(crate) route: &'static str,
    pub(crate) okind: &'static str,
    pub(crate) ekind: &'static str,
    pub(crate) title: &'static str,
    /// The middle of its duration, in milliseconds.
    pub(crate) millis: f64,
    steps: &'static str,
}

const fn endpoint(
    call: (&'static str, &'static str),
    what: (&'static str, &'static str, &'static str),
    millis: f64,
    steps: &'static str,
) -> Endpoint {
    let ((method, route), (okind, ekind, title)) = (call, what);
    Endpoint { method, route, okind, ekind, title, millis, steps }
}

/// What the visitors call. [`NEW`] came with the last deploy.
pub(crate) const ENDPOINTS: [Endpoint; 14] = [
    endpoint(
        ("GET", "/"),
        ("page", "home", "Home"),
        25.0,
        "authenticate(SELECT_sessions) load_home(cache_get_banners SELECT_products ?SELECT_news) recommend(GET_recommender) render_home ?track_visit",
    ),
    endpoint(
        ("GET", "/categories/{slug}"),
        ("category", "listed", "A category"),
        30.0,
        "authenticate(SELECT_sessions) list_category(cache_get_category ?SELECT_categories SELECT_products count_products) render_list ?prefetch",
    ),
    endpoint(
        ("GET", "/search"),
        ("search", "searched", "Search"),
        60.0,
        "authenticate(SELECT_sessions) search(parse_query POST_search_index rank(?SELECT_boosts)) render_results ?suggest(GET_suggester)",
    ),
    endpoint(
        ("GET", "/products/{id}"),
        ("product", "viewed", "A product"),
        35.0,
        "authenticate(SELECT_sessions) load_product(cache_get_product ?SELECT_products SELECT_stock) price(SELECT_prices) render_product ?similar(GET_recommender)",
    ),
    endpoint(
        ("POST", "/basket/items"),
        ("basket", "added", "Into the basket"),
        20.0,
        "authenticate(SELECT_sessions) add_item(SELECT_products SELECT_stock INSERT_basket_lines ?UPDATE_basket COMMIT) cache_del_basket",
    ),
    endpoint(
        ("GET", "/basket"),
        ("basket", "viewed", "The basket"),
        28.0,
        "authenticate(SELECT_sessions) load_basket(cache_get_basket *SELECT_basket_line) price_basket(SELECT_prices ?SELECT_vouchers) render_basket",
    ),
    endpoint(
        ("DELETE", "/basket/items/{id}"),
        ("basket", "removed", "Out of the basket"),
        18.0,
        "authenticate(SELECT_sessions) remove_item(BEGIN DELETE_basket_lines UPDATE_basket COMMIT) cache_del_basket price_basket(SELECT_prices) ?audit",
    ),
    endpoint(
        ("POST", "/checkout"),
        ("order", "checkout", "Checkout"),
        180.0,
        "authenticate(SELECT_sessions) place_order(reserve(UPDATE_stock) check_fraud(POST_fraud) pay(POST_gateway) INSERT_orders ?INSERT_vouchers_used) ?notify(POST_mail)",
    ),
    endpoint(
        ("GET", "/orders/{id}"),
        ("order", "viewed", "An order"),
        24.0,
        "authenticate(SELECT_sessions) load_order(SELECT_orders SELECT_order_lines SELECT_shipments ?GET_carrier) render_order(render_lines render_total)",
    ),
    endpoint(
        ("GET", "/orders"),
        ("order", "listed", "Orders"),
        40.0,
        "authenticate(SELECT_sessions) list_orders(SELECT_orders *SELECT_order_line count_orders) render_orders ?export",
    ),
    endpoint(
        ("POST", "/login"),
        ("account", "login", "Log in"),
        90.0,
        "check_rate(cache_get_rate) verify(SELECT_users hash_password ?second_factor) open_session(INSERT_sessions cache_set_session) merge_baskets(UPDATE_basket)",
    ),
    endpoint(
        ("POST", "/products/{id}/reviews"),
        ("product", "reviewed", "A review"),
        45.0,
        "authenticate(SELECT_sessions) review(SELECT_orders check_spam(POST_spam) INSERT_reviews ?UPDATE_products) cache_del_product queue_job",
    ),
    endpoint(
        ("POST", "/shipping/quote"),
        ("order", "quoted", "Shipping"),
        120.0,
        "authenticate(SELECT_sessions) quote(SELECT_basket_lines weigh GET_carrier ?GET_second_carrier choose) cache_set_quote render_quote",
    ),
    endpoint(
        ("POST", "/gifts"),
        ("gift", "redeemed", "A gift card"),
        55.0,
        "authenticate(SELECT_sessions) redeem_gift(SELECT_gift_cards UPDATE_gift_cards INSERT_ledger) price_basket(SELECT_prices) render_basket cache_del_basket",
    ),
];

/// The endpoint of the last deploy.
pub(crate) const NEW: usize = ENDPOINTS.len() - 1;

/// One step of a path.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// Index of the step it is below; the root is 0 and below itself.
    pub(crate) parent: usize,
    /// Made as often as a loop runs.
    pub(crate) repeated: bool,
    optional: bool,
}

/// The paths of `endpoint`, each in the order its steps begin; the first step is the request.
pub(crate) fn paths(endpoint: &Endpoint) -> Result<Vec<Vec<Step>>> {
    let steps = parse(endpoint.steps)?;
    let optional: Vec<usize> = (0..steps.len()).filter(|at| steps[*at].optional).collect();
    Ok((0..1_usize << optional.len())
        .map(|chosen| {
            let left_out = |at: usize| {
                optional.iter().position(|it| *it == at).is_some_and(|bit| chosen >> bit & 1 == 0)
            };
            without(&steps, left_out)
        })
        .collect())
}

fn parse(text: &str) -> Result<Vec<Step>> {
    let root = Step { name: "request", parent: 0, repeated: false, optional: false };
    let (mut steps, mut open) = (vec![root], vec![0]);
    let mut word = String::new();
    for letter in text.chars().chain([' ']) {
        if !matches!(letter, '(' | ')' | ' ') {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            let name = word.trim_start_matches(['?', '*']).replace('_', " ");
            steps.push(Step {
                name: Box::leak(name.into_boxed_str()),
                parent: open[open.len() - 1],
                repeated: word.contains('*'),
                optional: word.contains('?'),
            });
            word.clear();
        }
        match letter {
            '(' => open.push(steps.len() - 1),
            ')' => drop(open.pop()),
            _ => {}
        }
        ensure!(!open.is_empty(), "too many brackets are closed in {text}");
    }
    ensure!(open.len() == 1, "a bracket stays open in {text}");
    Ok(steps)
}

/// `steps` but for those, and for what is below them.
fn without(steps: &[Step], left_out: impl Fn(usize) -> bool) -> Vec<Step> {
    let mut places: Vec<Option<usize>> = Vec::new();
    let mut taken = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let parent = if at == 0 { Some(0) } else { places[step.parent] };
        let place = parent.filter(|_| !left_out(at)).map(|parent| {
            taken.push(Step { parent, ..step.clone() });
            taken.len() - 1
        });
        places.push(place);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(steps: &[Step]) -> Vec<(&str, usize)> {
        steps.iter().map(|step| (step.name, step.parent)).collect()
    }

    #[test]
    fn optional_steps_are_taken_by_half_of_the_paths_with_all_below_them() {
        let steps = parse("a(b_c ?d(e)) *f").unwrap();
        let all = [("request", 0), ("a", 0), ("b c", 1), ("d", 1), ("e", 3), ("f", 0)];
        assert_eq!(names(&steps), all);
        assert_eq!(
            names(&without(&steps, |at| at == 3)),
            [("request", 0), ("a", 0), ("b c", 1), ("f", 0)]
        );
        assert!(parse("a(b").is_err() && parse("a)").is_err());
    }

    #[test]
    fn there_are_about_forty_paths_of_nine_or_ten_spans() {
        let all: Vec<_> = ENDPOINTS.iter().flat_map(|it| paths(it).unwrap()).collect();
        assert!((36..=46).contains(&all.len()), "{}", all.len());
        let spans: usize = all.iter().map(Vec::len).sum();
        let mean = spans as f64 / all.len() as f64;
        assert!((8.5..=12.0).contains(&mean), "{mean}");
    }
}
