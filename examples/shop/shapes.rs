//! Which code paths were taken, and how often: what `cargo xtask shapes` asks of a deploy.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing_activity::Builder;

/// The paths by their `trace_hash`. Clones share what they count.
#[derive(Clone, Default)]
pub(crate) struct Shapes(Arc<Mutex<BTreeMap<String, Taken>>>);

#[derive(Serialize)]
struct Taken {
    requests: u64,
    /// The first request that took it: method, route and status.
    request: String,
    /// The path itself.
    text: String,
}

impl Shapes {
    /// Counts every request. Nothing is delivered: the counts are all that is wanted.
    pub(crate) fn watch(&self, builder: Builder) -> Builder {
        let shapes = self.clone();
        builder.log_allowed(|_| false).on_shape(move |activity, shape| {
            let Some(hash) = activity.trace_hash else { return };
            let mut shapes = shapes.0.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = shapes.entry(hash.to_string()).or_insert_with(|| Taken {
                requests: 0,
                request: format!("{} {} {}", activity.method, activity.route, activity.status),
                text: shape.to_string(),
            });
            taken.requests += 1;
        })
    }

    /// Writes the counts as JSON.
    pub(crate) fn write(&self, file: &Path) -> std::io::Result<()> {
        let shapes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let json = serde_json::to_vec_pretty(&*shapes)?;
        std::fs::write(file, json)
    }
}
