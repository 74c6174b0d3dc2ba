//! [`SpansOfInterest`]: which of `tracing`'s spans become OpenTelemetry's.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tracing_core::callsite::Identifier;
use tracing_core::subscriber::Interest;
use tracing_core::{LevelFilter, Metadata};
use tracing_subscriber::layer::{Context, Filter};

use crate::capture::bridge::Requests;

/// The filter for the layer of `tracing-opentelemetry`: what the activities record
/// (`ACTIVITY_FILTER`, and the roots of requests whatever their level), and nothing of the machinery
/// of exporting.
///
/// It is a filter for that layer alone, given to
/// [`with_filter`](tracing_subscriber::Layer::with_filter).
#[derive(Debug, Clone)]
pub struct SpansOfInterest {
    requests: Arc<Requests>,
    /// Whether a callsite is wanted: known once it is registered, and never changed.
    known: Arc<RwLock<HashMap<Identifier, bool>>>,
}

impl SpansOfInterest {
    pub(super) fn new(requests: Arc<Requests>) -> Self {
        Self { requests, known: Arc::default() }
    }
}

impl<S> Filter<S> for SpansOfInterest {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        let callsite = metadata.callsite();
        let known =
            self.known.read().unwrap_or_else(PoisonError::into_inner).get(&callsite).copied();
        // Another thread is registering it at this moment: `tracing` does not wait for that.
        known.unwrap_or_else(|| self.requests.records(callsite.0.metadata()))
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let wanted = self.requests.records(metadata);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(metadata.callsite(), wanted);
        if wanted { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        None
    }
}
