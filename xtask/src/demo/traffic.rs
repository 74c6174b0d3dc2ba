//! Lets the visitors of a plan come and go.

use std::net::SocketAddr;

use anyhow::Result;
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::Client;
use super::ledger::Ledger;
use super::plan::Visit;

/// Lets every one of `visits` happen; the number of requests that the shop surely saw.
///
/// # Errors
/// The first request that failed otherwise than it was meant to: whether the shop saw it is then
/// not known, and an exact count no longer possible.
pub(crate) async fn drive(
    visits: Vec<Visit>,
    shop: SocketAddr,
    ledger: &Ledger,
    progress: &ProgressBar,
) -> Result<u64> {
    let began = Instant::now();
    let mut visitors = JoinSet::new();
    for (number, visit) in visits.into_iter().enumerate() {
        let (progress, ledger) = (progress.clone(), ledger.clone());
        visitors.spawn(async move {
            sleep_until(began + visit.starts).await;
            let mut client = Client::new(shop, &visit);
            for step in &visit.steps {
                sleep(step.pause).await;
                let seen = client.call(&step.call).await?;
                ledger.enter(number, &seen)?;
                progress.inc(1);
            }
            Ok(visit.steps.len() as u64)
        });
    }
    let mut sent = 0;
    // Dropping the set at an error ends the other visits.
    while let Some(visit) = visitors.join_next().await {
        sent += visit.map_err(anyhow::Error::from).and_then(|requests: Result<u64>| requests)?;
    }
    ledger.flush()?;
    Ok(sent)
}
