//! [`SpansOfInterest`]: which of `tracing`'s spans become OpenTelemetry's.

use std::collections::HashSet;
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
    /// The callsites that are: known when they are registered, and never changed.
    wanted: Arc<RwLock<HashSet<Identifier>>>,
}

impl SpansOfInterest {
    pub(super) fn new(requests: Arc<Requests>) -> Self {
        Self { requests, wanted: Arc::default() }
    }
}

impl<S> Filter<S> for SpansOfInterest {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        wanted.contains(&metadata.callsite())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if !self.requests.records(metadata) {
            return Interest::never();
        }
        let mut wanted = self.wanted.write().unwrap_or_else(PoisonError::into_inner);
        wanted.insert(metadata.callsite());
        Interest::always()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        None
    }
}
