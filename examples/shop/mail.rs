//! Mail that leaves after the answer: a task of its own, still part of the request's trace.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{Instrument as _, info, info_span};

use crate::store::{Customer, Order};

/// Sends mail in the background and can wait for the last one.
#[derive(Default)]
pub(crate) struct Mailroom {
    letters: Mutex<JoinSet<()>>,
}

impl Mailroom {
    /// Sends in the background; the customer does not wait.
    pub(crate) fn send_confirmation(&self, customer: &Customer, order: &Order) {
        let span = info_span!("confirmation mail", to = customer.id, order = order.id);
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        while letters.try_join_next().is_some() {}
        letters.spawn(
            async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                info!("sent");
            }
            .instrument(span),
        );
    }

    /// Waits for the letters on their way.
    pub(crate) async fn close(&self) {
        let letters = {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *letters)
        };
        letters.join_all().await;
    }
}
