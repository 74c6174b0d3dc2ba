//! The composition root: from a [`Config`] to a running layer and worker.
//!
//! Only this file and `handle`, what the application holds of it, import every room. The order of
//! layers is fixed here: activities inside, other layers outside.

mod handle;
#[cfg(feature = "signal")]
mod signal;

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "otlp")]
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use tracing_core::Dispatch;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

use crate::capture::{ActivityLayer, Parts, Shared, panics};
use crate::config::{self, Config, Database};
use crate::error::Error;
use crate::model::Activity;
#[cfg(feature = "otlp")]
use crate::otlp::{self, Exporting, Metering};
use crate::pipeline::{Counters, Queue, Worker};
use crate::shape::Shape;
use crate::sink::{Sink, StdoutSink};
#[cfg(feature = "tower")]
use crate::visits::Visits;
use crate::warn;

#[cfg(not(feature = "otlp"))]
use self::handle::Exporting;
use self::handle::Running;
pub use self::handle::{Handle, ShutdownGuard};

/// The subscriber that layers given to [`Builder::layer`] are added to.
pub type Base = Layered<ActivityLayer, Registry>;

/// Captures activities from now on, as the environment says.
///
/// It installs the global `tracing` subscriber, with no layer but those of activities: the program's own
/// log lines go nowhere. For these give [`builder`] a layer that prints them. Keep the guard until the
/// process ends: dropping it delivers what is still waiting. Bound to `_` it would be dropped at once. A
/// signal that ends the process drops nothing: see `shutdown_on_signal` of the guard.
///
/// # Errors
/// An `ACTIVITY_*` variable whose value cannot be used, or a global subscriber that is installed
/// already. A database that cannot be reached is no error: activities wait in the queue. Nor is an
/// `OTEL_*` variable whose value is not known here: it is warned of on standard error.
///
/// ```no_run
/// # fn main() -> Result<(), tracing_activity::Error> {
/// let activities = tracing_activity::init()?;
/// // .. serve requests ..
/// activities.shutdown(std::time::Duration::from_secs(5));
/// # Ok(())
/// # }
/// ```
pub fn init() -> Result<ShutdownGuard, Error> {
    builder().install()
}

/// A builder, for more than the environment can say.
pub fn builder() -> Builder {
    Builder::default()
}

/// Sets up capture and delivery.
///
/// ```no_run
/// # fn main() -> Result<(), tracing_activity::Error> {
/// use tracing_subscriber::Layer as _;
///
/// let log = tracing_subscriber::fmt::layer()
///     .with_filter(tracing_subscriber::filter::LevelFilter::INFO);
/// let activities = tracing_activity::builder()
///     .layer(log)
///     .log_allowed(|activity| activity.route != "/healthz")
///     .install()?;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use]
pub struct Builder {
    config: Option<Config>,
    parts: Parts,
    visits: Option<config::Visits>,
    sink: Option<Box<dyn Sink>>,
    #[cfg(feature = "otlp")]
    link: Option<otlp::Link>,
    layers: Vec<Box<dyn Layer<Base> + Send + Sync>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}

impl Builder {
    /// Takes this configuration instead of the environment's.
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Delivers only activities that `allowed` says yes to; the others are counted as filtered.
    ///
    /// It is called once for every finished activity, on the worker's thread. Should it panic,
    /// the activity counts as failed.
    pub fn log_allowed(
        mut self,
        allowed: impl Fn(&Activity) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.parts.filter = Some(Arc::new(allowed));
        self
    }

    /// Shows the shape of every request's trace: the code path that its `trace_hash` stands for.
    ///
    /// `seen` is called once for every finished activity whose spans were collected, kept or not,
    /// on the worker's thread, before [`log_allowed`](Self::log_allowed). Making a shape costs
    /// some microseconds of that thread. Should `seen` panic, it is counted and the activity is
    /// delivered all the same.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::Mutex;
    ///
    /// let known = Mutex::new(HashMap::new());
    /// let builder = tracing_activity::builder().on_shape(move |activity, shape| {
    ///     if known.lock().unwrap().insert(activity.trace_hash, activity.route.clone()).is_none() {
    ///         eprintln!("a new code path of {}:\n{shape}", activity.route);
    ///     }
    /// });
    /// ```
    pub fn on_shape(mut self, seen: impl Fn(&Activity, &Shape) + Send + Sync + 'static) -> Self {
        self.parts.on_shape = Some(Arc::new(seen));
        self
    }

    /// Follows visits so, whatever `ACTIVITY_VISITS` says. The middleware does it.
    ///
    /// ```
    /// use tracing_activity::config::{Visits, VisitKeys};
    /// # fn secret() -> String { "k".repeat(64) }
    /// let keys: VisitKeys = secret().parse().unwrap();
    /// let builder = tracing_activity::builder().visits(Visits::Cookie(keys));
    /// ```
    pub fn visits(mut self, visits: config::Visits) -> Self {
        self.visits = Some(visits);
        self
    }

    /// Asks `clock` for the time of day instead of the system: for tests of what happens at
    /// midnight. Durations are measured all the same. It is called at the beginning of every request;
    /// should it panic, that is counted and the system's time taken.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.parts.wall = Some(Arc::new(clock));
        self
    }

    /// Delivers to this sink instead of the configured database.
    pub fn sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Adds a layer to the subscriber that [`install`](Self::install) makes, such as
    /// `tracing_subscriber::fmt`. Filter it with `with_filter`: a filter for all layers would
    /// also hide requests from the activities.
    pub fn layer(mut self, layer: impl Layer<Base> + Send + Sync + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// Ties a tracer provider of your own to the activities: see [`Link`](otlp::Link). Nothing
    /// else is exported then, whatever the environment says.
    #[cfg(feature = "otlp")]
    #[cfg_attr(docsrs, doc(cfg(feature = "otlp")))]
    pub fn link(mut self, link: &otlp::Link) -> Self {
        self.link = Some(link.clone());
        self
    }

    /// Installs the global subscriber: a registry, the activity layer, and the layers added.
    ///
    /// With the feature `otlp` and an endpoint for it, also the layer and the global tracer provider
    /// of OpenTelemetry, which export the spans of the requests that are kept; with
    /// `OTEL_METRICS_EXPORTER=otlp` the global meter provider, which exports the layer's own counters.
    ///
    /// Also remembers panic messages for the rows of the requests that panicked, by a panic hook
    /// that calls the one installed before.
    ///
    /// # Errors
    /// An `ACTIVITY_*` variable whose value, or a field of the configuration whose number, cannot be used, a thread that cannot be started, or a global
    /// subscriber that is installed already.
    pub fn install(mut self) -> Result<ShutdownGuard, Error> {
        let config = self.take_config()?;
        #[cfg(feature = "otlp")]
        let propagators = config.otlp.propagators;
        let (subscriber, guard) = self.compose(config)?;
        if tracing::dispatcher::set_global_default(subscriber).is_err() {
            guard.shutdown(Duration::ZERO);
            return Err(Error::installed());
        }
        #[cfg(feature = "otlp")]
        if let Some(exporting) = guard.handle.exporting() {
            exporting.install(propagators);
        }
        #[cfg(feature = "otlp")]
        if let Some(metering) = guard.handle.metering() {
            metering.install();
        }
        panics::install_hook();
        Ok(guard)
    }

    /// Makes the subscriber that [`install`](Self::install) would install, for a thread or a test:
    /// see [`tracing::dispatcher::with_default`].
    ///
    /// # Errors
    /// An `ACTIVITY_*` variable whose value, or a field of the configuration whose number, cannot be used, or a thread that cannot be started.
    pub fn subscriber(mut self) -> Result<(Dispatch, ShutdownGuard), Error> {
        let config = self.take_config()?;
        self.compose(config)
    }

    fn compose(mut self, config: Config) -> Result<(Dispatch, ShutdownGuard), Error> {
        #[cfg_attr(not(feature = "otlp"), allow(unused_mut, reason = "one layer less"))]
        let mut layers = std::mem::take(&mut self.layers);
        #[cfg(feature = "otlp")]
        let metering = self.metering(&config)?;
        #[cfg(feature = "otlp")]
        let exporting = self.exporting(&config, &mut layers)?;
        #[cfg(not(feature = "otlp"))]
        let exporting = None;
        let (layer, guard) = self.assemble(config, exporting)?;
        #[cfg(feature = "otlp")]
        if let Some(metering) = metering {
            guard.handle.meter(metering);
        }
        let subscriber = if layers.is_empty() {
            Dispatch::new(Registry::default().with(layer.alone()))
        } else {
            Dispatch::new(Registry::default().with(layer).with(layers))
        };
        Ok((subscriber, guard))
    }

    /// Makes the layer for a subscriber of your own, and starts the worker.
    ///
    /// Add the layer next to the `Registry`, inside of others. Layers given to
    /// [`layer`](Self::layer) are not used here.
    ///
    /// # Errors
    /// An `ACTIVITY_*` variable whose value, or a field of the configuration whose number, cannot be used, or a thread that cannot be started.
    pub fn build(mut self) -> Result<(ActivityLayer, ShutdownGuard), Error> {
        let config = self.take_config()?;
        self.assemble(config, None)
    }

    fn take_config(&mut self) -> Result<Config, Error> {
        let mut config = self.config.take().map_or_else(from_env, Ok)?;
        if let Some(visits) = self.visits.take() {
            config.http.visits = visits;
        }
        config.check()?;
        for warning in config.warnings() {
            warn::once(&warning.to_string());
        }
        if !self.is_off(&config) {
            hint(&config);
        }
        Ok(config)
    }

    /// Whether nothing is captured.
    fn is_off(&self, config: &Config) -> bool {
        config.database == Database::Off && self.sink.is_none()
    }

    /// An export that cannot be set up as the environment says. It says so for programs in all languages,
    /// so this one does without.
    #[cfg(feature = "otlp")]
    fn without<T>(
        config: &Config,
        what: &str,
        started: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let stops_nothing = matches!(config.origin, config::Origin::Environment);
        match started {
            Err(error) if stops_nothing && error.is_config() => {
                warn::once(&format!("{what} are not exported: {error}"));
                Ok(None)
            }
            started => started.map(Some),
        }
    }

    /// The export of the layer's own counters, where one is asked for.
    #[cfg(feature = "otlp")]
    fn metering(&self, config: &Config) -> Result<Option<Metering>, Error> {
        if !config.otlp.metrics.enabled || self.link.is_some() || self.is_off(config) {
            return Ok(None);
        }
        Self::without(config, "metrics", Metering::start(config))
    }

    /// The export of spans, where one is asked for, with its layer outside of ours.
    #[cfg(feature = "otlp")]
    fn exporting(
        &mut self,
        config: &Config,
        layers: &mut Vec<Box<dyn Layer<Base> + Send + Sync>>,
    ) -> Result<Option<Exporting>, Error> {
        if !config.otlp.enabled || self.link.is_some() || self.is_off(config) {
            return Ok(None);
        }
        let Some(exporting) = Self::without(config, "spans", Exporting::start(config))? else {
            return Ok(None);
        };
        layers.insert(0, exporting.layer());
        self.link = Some(exporting.link().clone());
        Ok(Some(exporting))
    }

    fn assemble(
        self,
        config: Config,
        exporting: Option<Exporting>,
    ) -> Result<(ActivityLayer, ShutdownGuard), Error> {
        if self.is_off(&config) {
            return Ok((ActivityLayer::new(None), ShutdownGuard { handle: Handle::off() }));
        }
        let sink = match self.sink {
            Some(sink) => sink,
            None => sink_for(&config)?,
        };
        let counters = Arc::new(Counters::new());
        let queue = Arc::new(Queue::new(&config.pipeline));
        #[cfg_attr(not(feature = "otlp"), expect(unused_mut, reason = "only the bridge is added"))]
        let mut parts = with_visits(self.parts, &config)?;
        #[cfg(feature = "otlp")]
        {
            parts.bridge = self.link.as_ref().map(otlp::Link::bridge);
        }
        let shared = Shared::new(&config, parts, Arc::clone(&queue), Arc::clone(&counters));
        #[cfg(feature = "otlp")]
        if let Some(link) = &self.link {
            link.requests().attach(&shared);
        }
        let tick = {
            let shared = Arc::downgrade(&shared);
            Box::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.abandon_old();
                    #[cfg(feature = "tower")]
                    shared.tend_visits();
                }
            })
        };
        let shutdown_timeout = config.pipeline.shutdown_timeout;
        let queue_rows = config.pipeline.queue_rows;
        let worker =
            Worker::spawn(Arc::clone(&queue), Arc::clone(&counters), sink, config.pipeline, tick)
                .map_err(Error::thread)?;
        let running = Running {
            shared: Arc::clone(&shared),
            worker,
            queue,
            counters,
            shutdown_timeout,
            queue_rows,
            exporting,
            #[cfg(feature = "otlp")]
            link: self.link,
            #[cfg(feature = "otlp")]
            metering: OnceLock::new(),
        };
        let guard = ShutdownGuard { handle: Handle { running: Some(Arc::new(running)) } };
        Ok((ActivityLayer::new(Some(shared)), guard))
    }
}

fn from_env() -> Result<Config, Error> {
    let config = Config::from_env()?;
    for name in config::env::unknown_variables() {
        warn::once(&format!("{name} is not a variable of this crate; a typo?"));
    }
    Ok(config)
}

/// Says what is allowed and hardly meant.
fn hint(config: &Config) {
    if let Database::ClickHouse(clickhouse) = &config.database
        && let Some(hint) = clickhouse.hint()
    {
        warn::once(&hint);
    }
    let built = config::env::executable_built();
    if built.is_hash && config.site_version == built.at {
        warn::once(
            "the executable's file time is no time of a build, so a hash of the executable stands in the column site_version: it tells deploys apart, but not which is newer; set ACTIVITY_SITE_VERSION, when the service starts or when it is built, to a time such as `git log -1 --format=%ct` prints",
        );
    }
}

/// Adds what follows visits, where that is asked for.
#[cfg(feature = "tower")]
fn with_visits(parts: Parts, config: &Config) -> Result<Parts, Error> {
    let told = parts.wall.as_ref().and_then(|wall| panics::caught(|| wall()));
    let now = told.unwrap_or_else(SystemTime::now);
    let visits = Visits::new(&config.http.visits, &config.service, now.into())?;
    Ok(Parts { visits, ..parts })
}

#[cfg(not(feature = "tower"))]
fn with_visits(parts: Parts, config: &Config) -> Result<Parts, Error> {
    if config.http.visits == config::Visits::Off {
        return Ok(parts);
    }
    Err(config::ConfigError::without_value(
        "ACTIVITY_VISITS",
        "this build has no middleware to follow visits; add the feature: tracing-activity = { features = [\"tower\"] }",
    )
    .into())
}

fn sink_for(config: &Config) -> Result<Box<dyn Sink>, Error> {
    Ok(match &config.database {
        Database::ClickHouse(clickhouse) => clickhouse_sink(config, clickhouse)?,
        Database::Off | Database::Stdout => Box::new(StdoutSink::new()),
    })
}

#[cfg(feature = "clickhouse")]
fn clickhouse_sink(
    config: &Config,
    clickhouse: &config::ClickHouse,
) -> Result<Box<dyn Sink>, Error> {
    if let Some(problem) = crate::sink::problem_of(&clickhouse.url) {
        return Err(config::ConfigError::without_value("ACTIVITY_DB", problem).into());
    }
    Ok(Box::new(crate::sink::ClickHouseSink::new(clickhouse, config.pipeline.timeout)))
}

#[cfg(not(feature = "clickhouse"))]
fn clickhouse_sink(
    _config: &Config,
    _clickhouse: &config::ClickHouse,
) -> Result<Box<dyn Sink>, Error> {
    Err(config::ConfigError::without_value(
        "ACTIVITY_DB",
        "this build has no ClickHouse; add the feature: tracing-activity = { features = [\"clickhouse\"] }",
    )
    .into())
}
