//! The database: a few maps behind a lock, and queries that take as long as real ones.
//!
//! Every query is a span with the name OpenTelemetry gives it, operation and table.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::instrument;

use crate::Deploy;
use crate::error::ShopError;
use crate::latency::Latency;
use crate::payment::Receipt;

/// Something for sale.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Product {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) cents: u32,
    pub(crate) pictures: Vec<String>,
}

/// Somebody with an account.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Customer {
    pub(crate) id: String,
    pub(crate) admin: bool,
}

/// So many of one product, in a basket or an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) product: u32,
    pub(crate) quantity: u32,
}

/// Something sold.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Order {
    pub(crate) id: u32,
    pub(crate) customer: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) cents: u32,
    pub(crate) receipt: u64,
}

/// The tables and how slow they are.
pub(crate) struct Store {
    tables: Mutex<Tables>,
    latency: Latency,
    search_time: Duration,
}

#[derive(Default)]
struct Tables {
    products: HashMap<u32, Product>,
    stock: HashMap<u32, u32>,
    cache: HashMap<u32, Instant>,
    /// Session to customer; `None` for a stranger with a basket.
    sessions: HashMap<String, Option<String>>,
    baskets: HashMap<String, Vec<Line>>,
    orders: Vec<Order>,
}

const PRODUCTS: u32 = 40;
const CUSTOMERS: u32 = 200;
/// Was entered without a picture.
const WITHOUT_PICTURE: u32 = 13;
/// Of these there are only a few.
const LIMITED: [u32; 2] = [9, 21];
const CACHED_FOR: Duration = Duration::from_secs(2);

/// A query on an index, and one that reads a table.
const QUICK: Duration = Duration::from_micros(700);
const SCAN: Duration = Duration::from_millis(4);

impl Store {
    pub(crate) fn new(seed: u64, deploy: Deploy) -> Self {
        const KINDS: [&str; 8] =
            ["teapot", "lamp", "chair", "notebook", "scarf", "kettle", "puzzle", "bicycle bell"];
        const COLOURS: [&str; 5] = ["green", "blue", "red", "yellow", "white"];
        let mut tables = Tables::default();
        for id in 1..=PRODUCTS {
            let (kind, colour) = (KINDS[id as usize % KINDS.len()], COLOURS[id as usize / 8 % 5]);
            let pictures =
                if id == WITHOUT_PICTURE { vec![] } else { vec![format!("/pictures/{id}.webp")] };
            let product =
                Product { id, name: format!("{colour} {kind}"), cents: 490 + id * 370, pictures };
            tables.products.insert(id, product);
            tables.stock.insert(id, if LIMITED.contains(&id) { 3 } else { 100_000 });
        }
        tables.orders.push(Order {
            id: 1,
            customer: "u1".to_owned(),
            lines: vec![Line { product: 1, quantity: 1 }],
            cents: 860,
            receipt: 1,
        });
        let search_time = if deploy == Deploy::B { SCAN * 4 } else { SCAN };
        Self { tables: Mutex::new(tables), latency: Latency::new(seed), search_time }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn product_ids() -> Range<u32> {
        1..PRODUCTS + 1
    }

    #[instrument(name = "SELECT products", skip(self))]
    pub(crate) async fn product(&self, id: u32) -> Result<Product, ShopError> {
        self.latency.pause(QUICK).await;
        let mut tables = self.tables();
        let product = tables.products.get(&id).cloned();
        let product = product.ok_or(ShopError::NotFound { kind: "product", id })?;
        tables.cache.insert(id, Instant::now());
        Ok(product)
    }

    /// The product when it was read a moment ago. Memory needs no span.
    pub(crate) fn cached_product(&self, id: u32) -> Option<Product> {
        let tables = self.tables();
        let read = tables.cache.get(&id)?;
        (read.elapsed() < CACHED_FOR).then(|| tables.products.get(&id).cloned())?
    }

    #[instrument(name = "SELECT products", skip_all, fields(order_by = "sales"))]
    pub(crate) async fn best_sellers(&self) -> Vec<Product> {
        self.latency.pause(SCAN).await;
        let tables = self.tables();
        (1..=5).filter_map(|id| tables.products.get(&id).cloned()).collect()
    }

    #[instrument(name = "SELECT products", skip_all, fields(bought = bought.len()))]
    pub(crate) async fn similar_to(&self, bought: &[Order]) -> Vec<Product> {
        self.latency.pause(SCAN).await;
        let tables = self.tables();
        let lines = bought.iter().flat_map(|order| &order.lines);
        lines
            .filter_map(|line| tables.products.get(&(line.product % PRODUCTS + 1)).cloned())
            .collect()
    }

    /// New in deploy C.
    #[instrument(name = "SELECT ratings", skip_all, fields(products = products.len()))]
    pub(crate) async fn ratings(&self, products: &[Product]) {
        self.latency.pause(QUICK).await;
    }

    #[instrument(name = "SELECT products", skip_all, fields(pattern = q))]
    pub(crate) async fn search(&self, q: &str) -> Vec<Product> {
        self.latency.pause(self.search_time).await;
        let tables = self.tables();
        let mut found: Vec<_> =
            tables.products.values().filter(|product| product.name.contains(q)).cloned().collect();
        found.sort_by_key(|product| product.id);
        found
    }

    #[instrument(name = "UPDATE products", skip(self))]
    pub(crate) async fn set_price(&self, id: u32, cents: u32) -> Result<Product, ShopError> {
        self.latency.pause(QUICK * 2).await;
        let mut tables = self.tables();
        let product = tables.products.get_mut(&id);
        let product = product.ok_or(ShopError::NotFound { kind: "product", id })?;
        product.cents = cents;
        Ok(product.clone())
    }

    #[instrument(name = "SELECT stock", skip(self))]
    pub(crate) async fn stock(&self, product: u32) -> u32 {
        self.latency.pause(QUICK).await;
        self.tables().stock.get(&product).copied().unwrap_or(0)
    }

    /// Takes what `line` asks for; `false` when there is not enough.
    #[instrument(name = "UPDATE stock", skip_all, fields(product = line.product))]
    pub(crate) async fn take_stock(&self, line: &Line) -> bool {
        self.latency.pause(QUICK * 2).await;
        let mut tables = self.tables();
        let left = tables.stock.get(&line.product).and_then(|left| left.checked_sub(line.quantity));
        left.map(|left| tables.stock.insert(line.product, left)).is_some()
    }

    #[instrument(name = "UPDATE stock", skip_all, fields(product = line.product))]
    pub(crate) async fn return_stock(&self, line: &Line) {
        self.latency.pause(QUICK * 2).await;
        *self.tables().stock.entry(line.product).or_default() += line.quantity;
    }

    #[instrument(name = "SELECT users", skip(self))]
    pub(crate) async fn customer(&self, id: &str) -> Option<Customer> {
        self.latency.pause(QUICK).await;
        let number: u32 = id.strip_prefix('u')?.parse().ok()?;
        let known = (1..=CUSTOMERS).contains(&number);
        known.then(|| Customer { id: id.to_owned(), admin: number == 1 })
    }

    /// Slow on purpose, as the check of a password must be.
    #[instrument(name = "verify password", skip_all)]
    pub(crate) async fn verify_password(&self, password: &str) -> bool {
        self.latency.pause(SCAN * 3).await;
        password == "swordfish"
    }

    #[instrument(name = "SELECT sessions", skip_all)]
    pub(crate) async fn customer_of(&self, session: &str) -> Option<Customer> {
        self.latency.pause(QUICK).await;
        let id = self.tables().sessions.get(session).cloned().flatten()?;
        let admin = id == "u1";
        Some(Customer { id, admin })
    }

    /// Opens a session for `customer`, which takes over the stranger's session and basket.
    #[instrument(name = "INSERT sessions", skip_all)]
    pub(crate) async fn open_session(&self, old: Option<String>, customer: &Customer) -> String {
        self.latency.pause(QUICK).await;
        let session = old.unwrap_or_else(|| self.new_session());
        self.tables().sessions.insert(session.clone(), Some(customer.id.clone()));
        session
    }

    #[instrument(name = "INSERT sessions", skip_all)]
    pub(crate) async fn open_anonymous_session(&self) -> String {
        self.latency.pause(QUICK).await;
        let session = self.new_session();
        self.tables().sessions.insert(session.clone(), None);
        session
    }

    /// A number that may be told, and a secret that may not.
    fn new_session(&self) -> String {
        format!("{:016x}.{:016x}", self.latency.number(), self.latency.number())
    }

    #[instrument(name = "SELECT basket_lines", skip_all)]
    pub(crate) async fn basket(&self, session: &str) -> Vec<Line> {
        self.latency.pause(QUICK).await;
        self.tables().baskets.get(session).cloned().unwrap_or_default()
    }

    #[instrument(name = "INSERT basket_lines", skip_all)]
    pub(crate) async fn add_to_basket(&self, session: &str, line: Line) {
        self.latency.pause(QUICK * 2).await;
        self.tables().baskets.entry(session.to_owned()).or_default().push(line);
    }

    #[instrument(name = "DELETE basket_lines", skip_all)]
    pub(crate) async fn empty_basket(&self, session: &str) {
        self.latency.pause(QUICK).await;
        self.tables().baskets.remove(session);
    }

    /// What a customer's card of loyalty takes off `cents`.
    #[instrument(name = "SELECT discounts", skip_all)]
    pub(crate) async fn discount(&self, customer: &str, cents: u32) -> u32 {
        self.latency.pause(QUICK).await;
        let orders = self.tables().orders.iter().filter(|order| order.customer == customer).count();
        cents / 100 * (orders as u32).min(10)
    }

    #[instrument(name = "INSERT orders", skip_all)]
    pub(crate) async fn insert_order(
        &self,
        customer: &Customer,
        lines: Vec<Line>,
        cents: u32,
        receipt: Receipt,
    ) -> Order {
        self.latency.pause(QUICK * 3).await;
        let mut tables = self.tables();
        let id = tables.orders.len() as u32 + 1;
        let order =
            Order { id, customer: customer.id.clone(), lines, cents, receipt: receipt.number };
        tables.orders.push(order.clone());
        order
    }

    #[instrument(name = "SELECT orders", skip(self))]
    pub(crate) async fn order(&self, id: u32) -> Result<Order, ShopError> {
        self.latency.pause(QUICK).await;
        let order = self.tables().orders.iter().find(|order| order.id == id).cloned();
        order.ok_or(ShopError::NotFound { kind: "order", id })
    }

    #[instrument(name = "SELECT orders", skip(self))]
    pub(crate) async fn bought_by(&self, customer: &str) -> Vec<Order> {
        self.latency.pause(SCAN).await;
        let tables = self.tables();
        tables.orders.iter().filter(|order| order.customer == customer).cloned().collect()
    }

    /// The sum of all orders. `takes` long, since it reads all of them.
    #[instrument(name = "SELECT orders", skip(self, takes))]
    pub(crate) async fn sum_orders(&self, group_by: &str, takes: Duration) -> u64 {
        self.latency.pause(takes).await;
        self.tables().orders.iter().map(|order| u64::from(order.cents)).sum()
    }

    /// How much like a thief a customer looks, from 0 to 100.
    #[instrument(name = "SELECT fraud_scores", skip(self))]
    pub(crate) async fn fraud_score(&self, customer: &str) -> u32 {
        self.latency.pause(SCAN * 2).await;
        let number: u32 = customer.trim_start_matches('u').parse().unwrap_or(0);
        number * 37 % 101
    }
}
