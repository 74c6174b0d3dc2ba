//! `cargo xtask customers`: the demo's customers, sent to a shop that runs somewhere else.
//!
//! They come in rounds, each drawn anew, until they are stopped or the last round is over. Unlike
//! the demo nothing is proved here: a shop that goes away is waited for.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use tokio::time::sleep;

use crate::demo::ledger::Ledger;
use crate::demo::plan::{self, Scale};
use crate::demo::traffic;

/// Who comes, and to which shop.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shop
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    shop: String,
    /// Requests of a round
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
    /// Seconds over which the customers of a round come
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Rounds; without it they come until Ctrl-C
    #[arg(long)]
    rounds: Option<u64>,
}

/// How long to wait before a shop that is not there is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            done = rounds(args) => done,
            stopped = tokio::signal::ctrl_c() => Ok(stopped?),
        }
    })
}

async fn rounds(args: &Args) -> Result<()> {
    let ledger = Ledger::create(None)?;
    let mut round = 0;
    while args.rounds.is_none_or(|rounds| round < rounds) {
        let shop = find(&args.shop).await?;
        let visits = plan::visits(Scale {
            requests: args.requests as usize,
            spread: Duration::from_secs(u64::from(args.seconds)),
            // Other customers than those of a run before.
            seed: seconds_since_1970().wrapping_add(round),
        });
        match traffic::drive(visits, shop, &ledger, &ProgressBar::hidden()).await {
            Ok(sent) => {
                println!("{sent} requests sent to {}", args.shop);
                round += 1;
            }
            Err(error) if args.rounds.is_some() => return Err(error),
            Err(error) => {
                eprintln!("the shop at {} went away: {error:#}", args.shop);
                sleep(PATIENCE).await;
            }
        }
    }
    Ok(())
}

/// The shop's address, looked up anew for each round: a container may come back with another.
async fn find(shop: &str) -> Result<SocketAddr> {
    let found: Vec<_> = tokio::net::lookup_host(shop)
        .await
        .with_context(|| format!("{shop:?} is no HOST:PORT that can be reached"))?
        .collect();
    // Of a name with both kinds, that on which the shop listens unless told otherwise.
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address.copied().with_context(|| format!("{shop:?} has no address"))
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::demo::shop::{Deploy, Shop, build};

    #[test]
    fn a_round_is_as_many_requests_as_were_asked_for() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let environment = [("ACTIVITY_DB", "stdout".to_owned())];
        let deploy = Deploy { letter: "a", seed: 1, environment: &environment, shapes: None };
        let shop = Shop::start(&build(workspace).unwrap(), &deploy).unwrap();
        let args = Args {
            // By its name, as in a network of containers.
            shop: format!("localhost:{}", shop.address.port()),
            requests: 60,
            seconds: 1,
            rounds: Some(1),
        };
        run(&args).unwrap();
        let words = shop.stop().unwrap();
        assert!(words.contains("60 created: 60 stored"), "{words}");
    }

    #[test]
    fn a_shop_that_cannot_be_found_is_named() {
        let args = Args { shop: "nowhere".to_owned(), requests: 1, seconds: 1, rounds: Some(1) };
        let error = run(&args).unwrap_err().to_string();
        assert!(error.contains("\"nowhere\"") && error.contains("HOST:PORT"), "{error}");
    }
}
