//! The files, with their variables filled in as Docker, the Collector and Grafana do it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A YAML file as it stands.
pub(crate) fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// docker-compose.yml, with the variables of an `.env` file.
pub(crate) fn compose(env: impl Fn(&str) -> Option<String> + Copy) -> Value {
    map(&yaml("docker-compose.yml"), &|text| fill(text, "${", env))
}

/// docker-compose.yml without an `.env` file.
pub(crate) fn compose_by_default() -> Value {
    compose(|_| None)
}

/// A configuration of the Collector, with `env` as its environment.
pub(crate) fn collector(name: &str, env: impl Fn(&str) -> Option<String> + Copy) -> Value {
    map(&yaml(name), &|text| fill(text, "${env:", env))
}

/// `value` with every text in it replaced.
fn map(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => change(text).into(),
        Value::Array(items) => items.iter().map(|item| map(item, change)).collect(),
        Value::Object(pairs) => {
            pairs.iter().map(|(name, item)| (name.clone(), map(item, change))).collect()
        }
        other => other.clone(),
    }
}

/// Replaces `${NAME}` and `${NAME:-default}`, where `open` stands for `${`; `$$` is a dollar.
fn fill(text: &str, open: &str, env: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((inside, after)) =
            rest.strip_prefix(open).and_then(|rest| rest.split_once('}'))
        {
            let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
            out.push_str(&env(name).unwrap_or_else(|| default.to_owned()));
            rest = after;
        } else {
            panic!("{text:?} has a `$` that is no variable");
        }
    }
    out + rest
}

/// The names of the variables in `text`, each opened by `open`.
pub(crate) fn variables(text: &str, open: &str) -> Vec<String> {
    let is_name = |it: char| it.is_ascii_uppercase() || it.is_ascii_digit() || it == '_';
    let parts = text.split(open).skip(1);
    parts.map(|part| part.chars().take_while(|&it| is_name(it)).collect()).collect()
}

/// The environment of a service.
pub(crate) fn environment(compose: &Value, service: &str) -> BTreeMap<String, String> {
    let pairs = compose["services"][service]["environment"].as_object();
    let pairs = pairs.unwrap_or_else(|| panic!("{service} has no environment"));
    let text = |value: &Value| {
        // A bare number or truth value is easily misread: each is quoted.
        value.as_str().unwrap_or_else(|| panic!("{service}: {value} is no text")).to_owned()
    };
    pairs.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// What a service publishes: (port of the host, port of the container with its protocol).
pub(crate) fn ports(compose: &Value, service: &str) -> Vec<(String, String)> {
    let ports = compose["services"][service]["ports"].as_array();
    let ports = ports.into_iter().flatten().map(|port| port.as_str().unwrap());
    ports
        .map(|port| {
            let here = port.strip_prefix("127.0.0.1:");
            let here = here.unwrap_or_else(|| panic!("{service}: {port} is open to everyone"));
            let (outside, inside) = here.split_once(':').unwrap();
            (outside.to_owned(), inside.to_owned())
        })
        .collect()
}

/// The variable that holds the password of a user of users.xml.
pub(crate) fn clickhouse_user(name: &str) -> String {
    let users = text("docker/clickhouse/users.xml");
    let users = users.split_once("<users>").unwrap().1;
    let section = users
        .split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{name}>")))
        .unwrap_or_else(|| panic!("users.xml knows no {name}"))
        .0;
    section.split_once("from_env=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
}
