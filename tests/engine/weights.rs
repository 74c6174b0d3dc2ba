//! The estimate from the weights of kept traces, as people write it in SQL.

use std::time::Duration;

use embedded_clickhouse::connect_or_start;
use tracing::{Dispatch, info_span};
use tracing_activity::config::{Config, Database, Secret};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

const REQUESTS: u64 = 6_000;

#[test]
fn the_sum_of_the_weights_is_the_number_of_requests_within_three_sigmas() {
    let server = connect_or_start().unwrap();
    let Ok(Database::ClickHouse(mut database)) = server.url.parse() else {
        panic!("{}", server.url)
    };
    database.database = format!("weights_{:016x}", fastrand::u64(..));
    database.user.clone_from(&server.user);
    database.password = Secret::new(&*server.password);
    let name = database.database.clone();
    let mut config = Config::default();
    config.database = Database::ClickHouse(database);
    config.sample = "errors,rate=0.05,ekind:checkout=0.5,route:/view=0.2".parse().unwrap();
    let (layer, guard) = tracing_activity::builder().config(config).build().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    tracing::dispatcher::with_default(&Dispatch::new(Registry::default().with(layer)), || {
        for n in 0..REQUESTS {
            let (ekind, route) =
                [("checkout", "/pay"), ("view", "/view"), ("search", "/search")][random.usize(..3)];
            info_span!(
                "request",
                http.request.method = "GET",
                http.route = route,
                http.response.status_code = if n % 50 == 0 { 500 } else { 200 },
                activity.ekind = ekind,
                trace_id = format!("{:032x}", random.u128(..)),
            )
            .in_scope(|| info_span!("child").in_scope(|| ()));
        }
    });
    assert!(guard.shutdown(Duration::from_secs(30)).complete);
    let sql = format!(
        "SELECT ekind, count(), sum(sample_weight), \
                sqrt(sumIf(sample_weight * (sample_weight - 1), kept_because != '')), \
                countIf(length(span_name) > 0) = countIf(kept_because != ''), \
                countIf(outcome = 'server_fault' AND kept_because != 'status_code') \
         FROM {name}.activities GROUP BY ekind WITH TOTALS ORDER BY ekind FORMAT TSV"
    );
    let answer = server.query(&sql).unwrap();
    server.query(&format!("DROP DATABASE {name}")).unwrap();
    let rows: Vec<Vec<&str>> = answer
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(rows.len(), 4, "three event kinds and the total: {answer}");
    for row in &rows {
        let number = |column: usize| row[column].parse::<f64>().unwrap();
        let (requests, estimate, sigma) = (number(1), number(2), number(3));
        assert!((estimate - requests).abs() <= 3.0 * sigma, "{row:?}");
        assert!(sigma > 0.0 && sigma < requests / 5.0, "{row:?}");
        assert_eq!([row[4], row[5]], ["1", "0"], "{row:?}");
    }
    assert_eq!(rows[3][1], REQUESTS.to_string(), "every request is a row");
}
