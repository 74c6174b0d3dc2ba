//! What the layer says on standard error of how it was set up: each thing once.
//!
//! A request finds out, and goes on: a thread of its own writes the line, or the end of the layer does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tracing_core::LevelFilter;

use crate::warn::print;

/// Something that keeps rows from being made or from being right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Proxies are to be believed, and no request has a peer.
    NoPeer,
    /// A filter hides the middleware's spans from the layer.
    Hidden,
    /// The subscriber holds another activity layer, which was there first.
    Second,
}

impl Notice {
    const ALL: [Self; 3] = [Self::NoPeer, Self::Hidden, Self::Second];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// What is wrong, and what to do about it.
    fn text(self) -> &'static str {
        match self {
            Self::NoPeer => {
                "ACTIVITY_TRUSTED_PROXIES is set and the middleware was not told who connects: no client's address and no traceparent is believed; serve axum with into_make_service_with_connect_info::<SocketAddr>(), add the feature tonic for tonic, or call peer(..) or unix_socket() on the middleware"
            }
            Self::Hidden if tracing::level_filters::STATIC_MAX_LEVEL < LevelFilter::INFO => {
                "requests are not seen: a dependency enables a feature max_level_* of the crate tracing, which removes every span at INFO from this program; find it by `cargo tree -e features -i tracing` and remove it"
            }
            Self::Hidden => {
                "requests are not seen: a filter such as EnvFilter hides their spans; give it to the layer that it is meant for, by fmt::layer().with_filter(..), and to no other; or let it pass the target tracing_activity at INFO, as by RUST_LOG=warn,tracing_activity=info"
            }
            Self::Second => {
                "a subscriber holds two activity layers: the second does nothing; remove it, or give it a subscriber of its own"
            }
        }
    }
}

/// What was noticed, and what was said of it: a bit each.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    noticed: AtomicU8,
    said: AtomicU8,
}

impl Notices {
    /// Notes it, and says it if it is news.
    pub(super) fn note(self: &Arc<Self>, notice: Notice) {
        if self.noticed.load(Ordering::Relaxed) & notice.bit() != 0
            || self.noticed.fetch_or(notice.bit(), Ordering::Relaxed) & notice.bit() != 0
        {
            return;
        }
        let this = Arc::clone(self);
        // Where no thread is to be had, the end of the layer says it.
        let _ = std::thread::Builder::new()
            .name("activity-notice".to_owned())
            .spawn(move || this.say());
    }

    /// Says what was not said yet.
    pub(crate) fn say(&self) {
        for notice in Notice::ALL {
            let bit = notice.bit();
            if self.noticed.load(Ordering::Relaxed) & bit != 0
                && self.said.fetch_or(bit, Ordering::Relaxed) & bit == 0
            {
                print(notice.text());
            }
        }
    }
}
