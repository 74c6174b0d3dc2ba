//! The payment gateway, which is slow, far away and sometimes not there.

use std::io;
use std::time::Duration;

use tracing::{info, instrument, warn};

use crate::latency::Latency;

/// Why a payment was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PaymentError {
    #[error("the card was declined ({0})")]
    Declined(&'static str),
    #[error("the payment gateway cannot be reached")]
    Unreachable(#[source] GatewayError),
}

/// What the connection to the gateway died of.
#[derive(Debug, thiserror::Error)]
#[error("no answer from pay.example after {attempts} attempts")]
pub(crate) struct GatewayError {
    attempts: u32,
    source: io::Error,
}

/// Proof of a payment.
pub(crate) struct Receipt {
    pub(crate) number: u64,
}

/// The way to the gateway.
pub(crate) struct Gateway {
    latency: Latency,
}

const ATTEMPTS: u32 = 2;

/// The test card that every gateway declines.
const DECLINED: &str = "4000000000000002";

/// The test card whose bank is down.
const BROKEN: &str = "4000000000000119";

impl Gateway {
    pub(crate) fn new(seed: u64) -> Self {
        Self { latency: Latency::new(seed ^ 0x9a7) }
    }

    /// Charges `card`, with a second attempt when the first finds nobody.
    #[instrument(skip_all, err(level = "warn"))]
    pub(crate) async fn charge(&self, card: &str, cents: u32) -> Result<Receipt, PaymentError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.send(card).await {
                Ok(()) if card == DECLINED => {
                    return Err(PaymentError::Declined("insufficient funds"));
                }
                Ok(()) => {
                    info!(cents, "paid");
                    return Ok(Receipt { number: self.latency.number() });
                }
                Err(error) if attempts < ATTEMPTS => warn!(%error, attempts, "trying again"),
                Err(source) => {
                    return Err(PaymentError::Unreachable(GatewayError { attempts, source }));
                }
            }
        }
    }

    /// Gives the money of `receipt` back.
    #[instrument(skip_all, fields(receipt = receipt.number))]
    pub(crate) async fn refund(&self, receipt: &Receipt) {
        self.latency.pause(Duration::from_millis(12)).await;
    }

    /// One exchange with the gateway.
    #[instrument(name = "POST pay.example", skip_all, err)]
    async fn send(&self, card: &str) -> io::Result<()> {
        self.latency.pause(Duration::from_millis(18)).await;
        if card == BROKEN || self.latency.chance(0.04) {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused"));
        }
        Ok(())
    }
}
