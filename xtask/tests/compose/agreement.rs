//! What one file says of another is true.

use std::collections::BTreeSet;

use serde_json::Value;
use tracing_activity::Config;
use tracing_activity::config::Database;
use tracing_activity::config::env::VARIABLES;

use crate::files::{
    clickhouse_user, collector, compose, compose_by_default, environment, ports, root, text,
    variables, yaml,
};

/// Every service with its name.
fn services(compose: &Value) -> Vec<(String, Value)> {
    let services = compose["services"].as_object().unwrap();
    services.iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

fn mounts(service: &Value) -> Vec<(String, String)> {
    let volumes = service["volumes"].as_array().into_iter().flatten();
    let volumes = volumes.map(|volume| volume.as_str().unwrap().to_owned());
    volumes
        .map(|volume| {
            let mut parts = volume.split(':');
            (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned())
        })
        .collect()
}

/// `host` and `port` of an address.
fn host_and_port(address: &str) -> (String, String) {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap();
    let (host, port) = authority.rsplit_once(':').unwrap_or_else(|| panic!("{address}: no port"));
    (host.to_owned(), port.to_owned())
}

#[test]
fn every_path_that_is_mounted_or_copied_exists() {
    let compose = compose_by_default();
    let volumes = compose["volumes"].as_object().unwrap();
    let mut files = 0;
    for (name, service) in services(&compose) {
        for (source, _) in mounts(&service) {
            if let Some(path) = source.strip_prefix("./") {
                assert!(root().join(path).is_file(), "{name} mounts {path}, which is not there");
                files += 1;
            } else {
                assert!(volumes.contains_key(&source), "{name} mounts {source}, an unknown volume");
            }
        }
    }
    assert_eq!(files, 4, "a mount is written in a way that this test does not see");
    let build = &compose["services"]["demo"]["build"];
    assert_eq!(build["context"], ".");
    let dockerfile = text(build["dockerfile"].as_str().unwrap());
    assert!(dockerfile.contains("COPY . ."));
    assert!(
        root().join("examples/shop/main.rs").is_file() && dockerfile.contains("--example shop")
    );
}

#[test]
fn every_image_is_pinned_and_the_collector_is_of_the_version_that_is_tested() {
    let compose = compose_by_default();
    for (name, service) in services(&compose) {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let (_, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        let digits = tag.split('.').filter(|part| part.parse::<u32>().is_ok()).count();
        assert!(digits >= 2, "{image} may be another one tomorrow");
    }
    let tested = yaml("collector-config/builder.yaml")["dist"]["version"].clone();
    let image = compose["services"]["collector"]["image"].as_str().unwrap();
    assert!(image.ends_with(&format!(":{}", tested.as_str().unwrap())), "{image}, not {tested}");
    let plugin = &environment(&compose, "grafana")["GF_PLUGINS_PREINSTALL_SYNC"];
    let (name, version) = plugin.split_once('@').unwrap();
    assert_eq!(version.split('.').count(), 3, "{plugin}");
    assert_eq!(yaml("docker/grafana/datasources.yaml")["datasources"][0]["type"], name);
    let minimum = text("Cargo.toml");
    let minimum = minimum.split_once("rust-version = \"").unwrap().1.split_once('"').unwrap().0;
    assert!(text("docker/demo.Dockerfile").contains(&format!("FROM rust:{minimum}-")), "{minimum}");
}

#[test]
fn what_others_build_on_is_healthy_or_done_before_they_start() {
    let compose = compose_by_default();
    let known: BTreeSet<String> = services(&compose).into_iter().map(|(name, _)| name).collect();
    for (name, service) in services(&compose) {
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            assert!(known.contains(other), "{name} depends on {other}, which is no service");
            let checked = compose["services"][other]["healthcheck"]["test"].is_array();
            let ends = compose["services"][other]["restart"].is_null();
            match how["condition"].as_str().unwrap() {
                "service_healthy" => assert!(checked, "nobody asks {other} how it is"),
                "service_completed_successfully" => assert!(ends, "{other} never ends"),
                // Its image has no shell, so another service asks.
                "service_started" => {
                    assert_eq!((name.as_str(), other.as_str()), ("collector-ready", "collector"));
                }
                condition => panic!("{name}: {condition}"),
            }
        }
    }
    for name in ["clickhouse", "grafana", "demo"] {
        assert!(compose["services"][name]["healthcheck"].is_object(), "{name} is not checked");
    }
}

#[test]
fn every_password_is_one_that_clickhouse_was_told_whatever_it_is() {
    // Each variable of an `.env` file has a value of its own.
    let compose = compose(|name| Some(format!("secret of {name}")));
    let server = environment(&compose, "clickhouse");
    let (mut seen, mut passwords) = (BTreeSet::new(), BTreeSet::new());
    let source = &yaml("docker/grafana/datasources.yaml")["datasources"][0];
    let (grafana, grafana_password) = (
        source["jsonData"]["username"].as_str().unwrap(),
        source["secureJsonData"]["password"].as_str().unwrap().strip_prefix('$').unwrap(),
    );
    let demo = environment(&compose, "demo");
    let collector = environment(&compose, "collector");
    for (service, user, password) in [
        ("demo", demo["ACTIVITY_USER"].as_str(), "ACTIVITY_PASSWORD"),
        ("collector", &collector["CLICKHOUSE_USER"], "CLICKHOUSE_PASSWORD"),
        ("grafana", grafana, grafana_password),
    ] {
        let password = &environment(&compose, service)[password];
        assert_eq!(*password, server[&clickhouse_user(user)], "{service} as {user}");
        assert!(password.starts_with("secret of "), "{service}: {password}");
        assert!(seen.insert(user.to_owned()), "{service} shares a user");
        assert!(passwords.insert(password.clone()), "{service} shares a password");
    }
    assert!(!seen.contains(&server["CLICKHOUSE_USER"]), "somebody is the administrator");
}

#[test]
fn everybody_finds_clickhouse_by_its_name_and_the_port_of_the_protocol() {
    let compose = compose_by_default();
    let published: Vec<String> =
        ports(&compose, "clickhouse").into_iter().map(|(_, inside)| inside).collect();
    let demo = host_and_port(&environment(&compose, "demo")["ACTIVITY_DB"]);
    assert_eq!(demo, ("clickhouse".to_owned(), "8123".to_owned()));
    let collector_env = environment(&compose, "collector");
    let exporter =
        collector("collector-config/production.yaml", |name| collector_env.get(name).cloned());
    let exporter = &exporter["exporters"]["clickhouse"];
    assert_eq!(exporter["endpoint"], "tcp://clickhouse:9000");
    assert_eq!(exporter["username"], "collector");
    assert_eq!(exporter["password"], collector_env["CLICKHOUSE_PASSWORD"].as_str());
    let source = &yaml("docker/grafana/datasources.yaml")["datasources"][0];
    assert_eq!(source["jsonData"]["host"], "clickhouse");
    assert_eq!(source["jsonData"]["protocol"], "native");
    assert_eq!(source["jsonData"]["port"], 9000);
    for port in ["8123", "9000"] {
        assert!(published.iter().any(|it| it == port), "{port} in {published:?}");
    }
    // The databases that they name are made.
    let script = text("docker/clickhouse/init.sql");
    assert!(script.contains("CREATE DATABASE IF NOT EXISTS `activity`;"));
    assert!(script.contains("CREATE DATABASE IF NOT EXISTS otel;"));
    assert_eq!(exporter["database"], "otel");
    assert_eq!(source["jsonData"]["defaultDatabase"], "activity");
}

#[test]
fn the_collector_listens_where_compose_and_its_neighbours_expect_it() {
    let compose = compose_by_default();
    let env = environment(&compose, "collector");
    let file = "collector-config/production.yaml";
    let config = collector(file, |name| env.get(name).cloned());
    let published: BTreeSet<String> =
        ports(&compose, "collector").into_iter().map(|(_, inside)| inside).collect();
    let port = |address: &Value| {
        let (host, port) = host_and_port(address.as_str().unwrap());
        assert_eq!(host, "0.0.0.0", "{address} is not reached from other containers");
        port
    };
    let protocols = &config["receivers"]["otlp"]["protocols"];
    let metrics = &config["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"];
    let health = port(&config["extensions"]["health_check"]["endpoint"]);
    let listens = BTreeSet::from([
        port(&protocols["grpc"]["endpoint"]),
        port(&protocols["http"]["endpoint"]),
        format!("{}/udp", port(&config["receivers"]["statsd"]["endpoint"])),
        metrics["prometheus"]["port"].as_str().unwrap().to_owned(),
        health.clone(),
    ]);
    assert_eq!(published, listens);
    let asks = compose["services"]["collector-ready"]["command"][2].as_str().unwrap();
    assert!(asks.contains(&format!("http://collector:{health}/")), "{asks}");
    // What compose sets is read, and what is read is set or has a default.
    let text = text(file);
    let read: BTreeSet<String> = variables(&text, "${env:").into_iter().collect();
    for name in env.keys().filter(|name| *name != "GOMEMLIMIT") {
        assert!(read.contains(name), "{name} is set and never read");
    }
    for name in &read {
        assert!(env.contains_key(name) || text.contains(&format!("${{env:{name}:-")), "{name}");
    }
    // Both configurations read the same variables, but for what only one of them has.
    let development = variables(&self::text("collector-config/development.yaml"), "${env:");
    let only_here = ["COLLECTOR_STORAGE", "COLLECTOR_QUEUE_ITEMS", "COLLECTOR_DEBUG"];
    let development: BTreeSet<String> = development.into_iter().collect();
    for name in read.symmetric_difference(&development) {
        assert!(only_here.contains(&name.as_str()), "{name}");
    }
    // The queue and the configuration lie where they are mounted.
    let mounts = mounts(&compose["services"]["collector"]);
    let storage = config["extensions"]["file_storage"]["directory"].as_str().unwrap();
    assert!(mounts.contains(&("collector".to_owned(), storage.to_owned())), "{mounts:?}");
    let command = compose["services"]["collector"]["command"][1].as_str().unwrap().to_owned();
    assert!(mounts.contains(&(format!("./{file}"), command)), "{mounts:?}");
    assert_eq!(config["exporters"]["clickhouse"]["sending_queue"]["storage"], "file_storage");
    assert_eq!(config["extensions"]["file_storage"]["fsync"], true);
}

#[test]
fn the_library_accepts_what_the_demo_is_told() {
    let compose = compose_by_default();
    let env = environment(&compose, "demo");
    for name in env.keys().filter(|name| *name != "RUST_BACKTRACE") {
        assert!(VARIABLES.iter().any(|it| it.name == *name), "{name} is read by nothing");
    }
    let config = Config::from_lookup(|name| Ok(env.get(name).cloned())).unwrap();
    let Database::ClickHouse(database) = config.database else { panic!("{:?}", config.database) };
    assert_eq!(database.url, "http://clickhouse:8123");
    assert_eq!(database.database, "activity");
    assert!(database.insecure, "a password to another container is refused otherwise");
    assert!(!database.migrate, "its user may make no tables");
    assert_eq!(config.service, "shop");
    let (host, port) = host_and_port(&env["OTEL_EXPORTER_OTLP_ENDPOINT"]);
    assert_eq!(host, "collector");
    assert!(ports(&compose, "collector").iter().any(|(_, inside)| *inside == port), "{port}");
    assert!(config.otlp.enabled, "{:?}", config.otlp);
}

#[test]
fn the_image_of_the_demo_holds_what_is_built_and_what_is_run() {
    let dockerfile = text("docker/demo.Dockerfile").replace("\\\n", "");
    let command = dockerfile.lines().find(|line| line.contains("cargo build")).unwrap();
    let copied = dockerfile.lines().filter_map(|line| line.strip_prefix("COPY --from=build "));
    let mut programs = BTreeSet::new();
    for line in copied {
        let (built, installed) = line.split_once(' ').unwrap();
        let built = built.strip_prefix("/src/target/release/").unwrap();
        // Cargo builds no more than it is asked for by name.
        let asked = match built.strip_prefix("examples/") {
            Some(example) => format!("--example {example}"),
            None => format!("--bin {built}"),
        };
        assert!(command.contains(&asked), "{asked} is not in: {command}");
        programs.insert(installed.strip_prefix("/usr/local/bin/").unwrap().to_owned());
    }
    let compose = compose_by_default();
    let customers = &compose["services"]["customers"]["command"][0];
    assert!(programs.contains(customers.as_str().unwrap()), "{customers}");
    let shop = dockerfile.lines().find_map(|line| line.strip_prefix("CMD [\"")).unwrap();
    assert!(programs.contains(shop.split_once('"').unwrap().0), "{shop}");
}

#[test]
fn the_customers_and_the_checks_find_the_shop_and_grafana() {
    let compose = compose_by_default();
    let shop = ports(&compose, "demo")[0].1.clone();
    let dockerfile = text("docker/demo.Dockerfile");
    assert!(dockerfile.contains(&format!("\"--host\", \"0.0.0.0\", \"--port\", \"{shop}\"")));
    assert!(dockerfile.contains(&format!("EXPOSE {shop}\n")));
    let check = compose["services"]["demo"]["healthcheck"]["test"].to_string();
    assert!(check.contains(&format!("127.0.0.1/{shop}")), "{check}");
    let customers = &compose["services"]["customers"];
    let command = customers["command"].as_array().unwrap();
    assert!(command.contains(&format!("demo:{shop}").into()), "{command:?}");
    assert_eq!(customers["image"], compose["services"]["demo"]["image"]);
    let check = compose["services"]["grafana"]["healthcheck"]["test"].to_string();
    let grafana = ports(&compose, "grafana")[0].1.clone();
    assert!(check.contains(&format!("127.0.0.1:{grafana}/api/health")), "{check}");
    // No port of the host is given away twice.
    let mut outside = BTreeSet::new();
    for (name, _) in services(&compose) {
        for (port, inside) in ports(&compose, &name) {
            let protocol = inside.split_once('/').map_or("tcp", |(_, protocol)| protocol);
            assert!(outside.insert((port.clone(), protocol.to_owned())), "{name}: {port}");
        }
    }
}
