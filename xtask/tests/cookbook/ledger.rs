//! What the customers did and saw, and what follows from it for the row.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A request as its client knows it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    pub(crate) revision: String,
    pub(crate) visit: usize,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) referer: String,
    pub(crate) agent: String,
    body: String,
    session: String,
    pub(crate) status: u16,
    pub(crate) answer: Value,
    pub(crate) left: bool,
    began: u64,
    /// Who was logged in, the login of this very request included.
    #[serde(skip)]
    user: String,
}

/// The book, by the time of each request, with who was logged in.
pub(crate) fn read(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    entries.sort_by_key(|it| it.began);
    let mut users: BTreeMap<(String, usize), String> = BTreeMap::new();
    for it in &mut entries {
        let user = users.entry((it.revision.clone(), it.visit)).or_default();
        if it.path == "/login" && it.status == 200 {
            it.sent("user").as_str().unwrap().clone_into(user);
        }
        it.user.clone_from(user);
    }
    entries
}

impl Entry {
    /// The template that the shop's router matches; empty when none.
    pub(crate) fn route(&self) -> &'static str {
        let path = self.path.split('?').next().unwrap();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts[..] {
            [""] => "/",
            ["products", _] => "/products/{id}",
            ["orders", _] => "/orders/{id}",
            ["admin", "products", _, "price"] => "/admin/products/{id}/price",
            ["admin", "report"] => "/admin/report",
            ["basket", "items"] => "/basket/items",
            ["shipping", "quote"] => "/shipping/quote",
            ["search"] => "/search",
            ["catalogue.csv"] => "/catalogue.csv",
            ["login"] => "/login",
            ["basket"] => "/basket",
            ["checkout"] => "/checkout",
            ["healthz"] => "/healthz",
            _ => "",
        }
    }

    /// The address as it is stored: without what is asked for.
    pub(crate) fn url(&self) -> String {
        match self.path.split_once("?q=") {
            Some((path, _)) => format!("{path}?q=?"),
            None => self.path.clone(),
        }
    }

    pub(crate) fn outcome(&self) -> String {
        let outcome = match self.status {
            _ if self.left => "client_fault",
            // Whoever stays and is not answered was let down.
            0 | 500.. => "server_fault",
            400..500 => "client_fault",
            _ => "success",
        };
        outcome.to_owned()
    }

    pub(crate) fn error_kind(&self) -> String {
        let told = self.answer["error"].as_str();
        let kind = match self.outcome().as_str() {
            "server_fault" if self.status == 0 => "panic",
            "client_fault" if self.left => "client_disconnected",
            _ => told.unwrap_or_default(),
        };
        kind.to_owned()
    }

    /// Whether the handler looks who is asking.
    fn is_recognised(&self) -> bool {
        let blind = ["", "/search", "/catalogue.csv", "/shipping/quote", "/healthz"];
        !blind.contains(&self.route())
    }

    pub(crate) fn row_user(&self) -> String {
        if self.is_recognised() { self.user.clone() } else { String::new() }
    }

    pub(crate) fn row_session(&self) -> String {
        if self.is_recognised() { self.session.clone() } else { String::new() }
    }

    /// A value of the JSON that was sent.
    pub(crate) fn sent(&self, key: &str) -> Value {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body[key].clone()
    }

    /// The product it is about, as far as the handler could read it.
    pub(crate) fn product(&self) -> Option<String> {
        let number = |text: &str| text.parse::<u32>().ok().map(|it| it.to_string());
        match self.route() {
            "/products/{id}" => number(self.path.rsplit('/').next()?),
            "/admin/products/{id}/price" => number(self.path.split('/').nth(3)?),
            "/basket/items" => Some(self.sent("product").as_u64()?.to_string()),
            _ => None,
        }
    }

    pub(crate) fn is(&self, method: &str, route: &str) -> bool {
        self.method == method && self.route() == route
    }

    /// Islands are served by the courier who takes a second or two, and this client had the
    /// patience.
    pub(crate) fn waits_for_the_ferry(&self) -> bool {
        let postcode = self.sent("postcode");
        self.is("POST", "/shipping/quote")
            && !self.left
            && postcode.as_str().is_some_and(|it| it.starts_with("HS"))
    }
}
