//! The rows that a query gave, and figures to compare them with.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde_json::Value;

pub(crate) struct Answer {
    pub(crate) rows: Vec<Value>,
}

impl Answer {
    /// A map of the rows: `key` of each to `value` of each. No key may come twice.
    pub(crate) fn map<K: Ord + Debug, V>(
        &self,
        key: impl Fn(&Value) -> K,
        value: impl Fn(&Value) -> V,
    ) -> BTreeMap<K, V> {
        let mut map = BTreeMap::new();
        for row in &self.rows {
            let key = key(row);
            assert!(!map.contains_key(&key), "{key:?} comes twice");
            map.insert(key, value(row));
        }
        map
    }

    /// Holds the rows to an order: `key` of each is not greater than that of the next.
    pub(crate) fn ascends<K: PartialOrd + Debug>(&self, key: impl Fn(&Value) -> K) {
        let keys: Vec<K> = self.rows.iter().map(key).collect();
        assert!(keys.is_sorted(), "not in order: {keys:?}");
    }

    pub(crate) fn descends(&self, column: &str) {
        self.ascends(|row| -number(row, column));
    }
}

/// A text column.
pub(crate) fn text(row: &Value, column: &str) -> String {
    row[column].as_str().unwrap_or_else(|| panic!("{column} is no text in {row}")).to_owned()
}

/// A column of numbers, which JSON quotes when they are wide and the server is old.
pub(crate) fn number(row: &Value, column: &str) -> f64 {
    let value = &row[column];
    let quoted = || value.as_str()?.parse().ok();
    value.as_f64().or_else(quoted).unwrap_or_else(|| panic!("{column} is no number in {row}"))
}

/// A column of counts.
pub(crate) fn count(row: &Value, column: &str) -> u64 {
    number(row, column) as u64
}

/// A column of texts.
pub(crate) fn texts(row: &Value, column: &str) -> Vec<String> {
    let values = row[column].as_array().unwrap_or_else(|| panic!("{column} is no list in {row}"));
    values.iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

/// Equal but for the rounding to so many digits, in which both sides may differ by one half.
pub(crate) fn rounds_to(told: f64, exact: f64, digits: i32) {
    let step = 10_f64.powi(-digits);
    assert!((told - exact).abs() <= 0.501 * step + exact.abs() * 1e-9, "{told} is not {exact}");
}

/// Within a share of what is exact.
pub(crate) fn within(told: f64, exact: f64, share: f64) {
    assert!((told - exact).abs() <= exact.abs() * share + 0.006, "{told} is not near {exact}");
}

/// How many there are of each.
pub(crate) fn tally<K: Ord>(keys: impl IntoIterator<Item = K>) -> BTreeMap<K, u64> {
    let mut tally = BTreeMap::new();
    for key in keys {
        *tally.entry(key).or_default() += 1;
    }
    tally
}

/// What belongs to each.
pub(crate) fn group<K: Ord, T>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> BTreeMap<K, Vec<T>> {
    let mut groups: BTreeMap<K, Vec<T>> = BTreeMap::new();
    for item in items {
        groups.entry(key(&item)).or_default().push(item);
    }
    groups
}

/// The quantile with a straight line between neighbours, as ClickHouse's `quantile` gives it.
pub(crate) fn quantile(values: impl IntoIterator<Item = u64>, p: f64) -> f64 {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    let at = p * (values.len() - 1) as f64;
    let (below, above) = (values[at.floor() as usize] as f64, values[at.ceil() as usize] as f64);
    below + (above - below) * at.fract()
}

/// The value that this share is less than: one that occurs, as `quantileExact` gives it.
pub(crate) fn quantile_exact(values: impl IntoIterator<Item = u64>, p: f64) -> f64 {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    let at = (p * values.len() as f64) as usize;
    values[at.min(values.len() - 1)] as f64
}

/// The first value up to which the weights make this share of all.
pub(crate) fn quantile_weighted(values: impl IntoIterator<Item = (u64, u64)>, p: f64) -> f64 {
    let mut values: Vec<(u64, u64)> = values.into_iter().collect();
    values.sort_unstable();
    let total: u64 = values.iter().map(|&(_, weight)| weight).sum();
    let enough = (p * total as f64).ceil() as u64;
    let mut so_far = 0;
    for (value, weight) in values {
        so_far += weight;
        if so_far >= enough {
            return value as f64;
        }
    }
    f64::NAN
}
