//! The requests of the measurement: values vary as they do in a shop.

use tracing::field::Empty;
use tracing::{info, info_span};

const ROUTES: [(&str, &str, &str); 8] = [
    ("GET", "/products/{id}", "/products/"),
    ("GET", "/categories/{id}/products", "/categories/"),
    ("GET", "/basket", "/basket?b="),
    ("POST", "/basket/items", "/basket/items?product="),
    ("POST", "/orders", "/orders?basket="),
    ("GET", "/orders/{id}", "/orders/"),
    ("GET", "/search", "/search?q="),
    ("DELETE", "/basket/items/{id}", "/basket/items/"),
];
const TABLES: [&str; 6] = ["products", "prices", "stock", "orders", "customers", "baskets"];
const HOSTS: [&str; 3] = ["prices.internal", "stock.internal", "mail.internal"];

/// Numbers that look random and are the same in every run.
fn mixed(n: u64) -> u64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Serves the `n`th request: a root and eight spans of three fields each, one event, and a status
/// that comes late.
pub(crate) fn request(n: u64) {
    let random = mixed(n);
    let (method, route, prefix) = ROUTES[(random % 8) as usize];
    let id = (random >> 8) % 100_000;
    let root = info_span!(
        "request",
        http.request.method = method,
        http.route = route,
        url.path = format_args!("{prefix}{id}"),
        user.id = Empty,
        http.response.status_code = Empty,
    );
    root.in_scope(|| {
        for i in 0..4 {
            let random = mixed(random ^ i);
            let table = TABLES[(random % 6) as usize];
            info_span!("query", db.collection.name = table, db.rows = random >> 8 & 63, id)
                .in_scope(|| {
                    let host = HOSTS[(random % 3) as usize];
                    info_span!(
                        "call",
                        server.address = host,
                        key = format_args!("{table}:{id}"),
                        bytes = random >> 16 & 0xffff,
                    )
                    .in_scope(|| ());
                });
        }
        info!(amount_cents = random >> 32 & 0x3fff, "priced");
    });
    root.record("user.id", format_args!("u{}", random >> 20 & 0xffff));
    root.record("http.response.status_code", if random.is_multiple_of(50) { 404 } else { 200 });
}
