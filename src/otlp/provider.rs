//! [`Exporting`]: the tracer provider that [`init`](crate::init) makes, from its configuration to its
//! end.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::propagation::TextMapCompositePropagator;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing_subscriber::Layer;

use super::exporters;
use super::link::Link;
use super::transport::{Background, InBackground};
use crate::config::{Config, Propagators};
use crate::error::Error;
use crate::model::Timestamp;

/// The name of the tracer and the meter, and of the scope in what is exported.
pub(super) const SCOPE: &str = "tracing-activity";

/// How often the end of a flush or a shutdown is looked for.
const LOOK: Duration = Duration::from_millis(2);

/// A running export of spans.
#[derive(Debug)]
pub(crate) struct Exporting {
    link: Link,
    provider: SdkTracerProvider,
    /// Ends with this.
    _background: Background,
}

impl Exporting {
    /// Sets up the export of this configuration.
    pub(crate) fn start(config: &Config) -> Result<Self, Error> {
        let background = Background::start().map_err(Error::thread)?;
        let link = Link::new(config);
        let otlp = &config.otlp;
        let exporter = exporters::spans(otlp, &background, link.tally())?;
        // The SDK's own retries end before this.
        let timeout = otlp.target.timeout.saturating_add(Duration::from_secs(1));
        let exporter = link.counted(InBackground::new(exporter, &background, timeout));
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(otlp.queue_spans)
            .with_max_export_batch_size(otlp.batch_spans.min(otlp.queue_spans))
            .with_scheduled_delay(otlp.batch_interval)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(link.gate(batches))
            .with_sampler(link.sampler())
            .with_id_generator(link.id_generator())
            .with_resource(resource(config))
            .build();
        Ok(Self { link, provider, _background: background })
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// The layer that turns `tracing`'s spans into OpenTelemetry's, to be added outside of the
    /// activities'.
    pub(crate) fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: tracing_core::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
        S: Send + Sync,
    {
        let tracer = self.provider.tracer(SCOPE);
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(self.link.filter()).boxed()
    }

    /// Makes this the provider and the propagators of code that asks OpenTelemetry for them.
    pub(crate) fn install(&self, wanted: Propagators) {
        global::set_tracer_provider(self.provider.clone());
        let mut propagators: Vec<
            Box<dyn opentelemetry::propagation::TextMapPropagator + Send + Sync>,
        > = Vec::new();
        if wanted.trace_context {
            propagators.push(Box::new(TraceContextPropagator::new()));
        }
        if wanted.baggage {
            propagators.push(Box::new(BaggagePropagator::new()));
        }
        global::set_text_map_propagator(TextMapCompositePropagator::new(propagators));
    }

    /// Exports what waits now, until the deadline at the latest. Tells whether all of it was settled.
    pub(crate) fn flush(&self, end: Instant) -> bool {
        let admitted = self.link.admitted();
        let (provider, link) = (self.provider.clone(), self.link.clone());
        let flushed = in_thread(move || {
            // The processor gives up by itself after five seconds, and its answer says little.
            loop {
                let _ = provider.force_flush();
                if link.is_settled_up_to(admitted) || Instant::now() >= end {
                    break;
                }
                thread::sleep(LOOK);
            }
        });
        wait(&flushed, end);
        self.link.is_settled_up_to(admitted)
    }

    /// Begins the end: what is not decided is dropped, what waits is exported.
    pub(crate) fn begin_shutdown(&self, deadline: Duration) -> Ending {
        self.link.close();
        let provider = self.provider.clone();
        let link = self.link.clone();
        let deadline = deadline.min(Duration::from_hours(24 * 365));
        let end = Instant::now() + deadline;
        if link.is_given_up() {
            // Once is enough: nothing is waited for any more.
            return Ending { link, ended: mpsc::sync_channel(1).1, end };
        }
        let ended = in_thread(move || {
            // The processor's own answer says little: what matters is what was settled.
            let _ = provider.shutdown_with_timeout(deadline);
            while !link.is_settled() && Instant::now() < end {
                thread::sleep(LOOK);
            }
        });
        Ending { link: self.link.clone(), ended, end }
    }
}

/// A shutdown under way.
pub(crate) struct Ending {
    link: Link,
    ended: mpsc::Receiver<()>,
    end: Instant,
}

impl Ending {
    /// Waits for the end, or for the deadline. What is not exported then is lost. Tells whether
    /// nothing was.
    pub(crate) fn wait(self) -> bool {
        wait(&self.ended, self.end);
        self.link.give_up()
    }
}

/// Runs `f` on a thread of its own: whatever it waits for, the caller keeps its deadline.
pub(super) fn in_thread(f: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
    let (done, ended) = mpsc::sync_channel(1);
    // Where no thread can be had, the sender is dropped and nothing waited for.
    let _ = thread::Builder::new().name("activity-otlp-end".to_owned()).spawn(move || {
        f();
        let _ = done.send(());
    });
    ended
}

fn wait(ended: &mpsc::Receiver<()>, end: Instant) -> bool {
    ended.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok()
}

/// Who exports. What `OTEL_RESOURCE_ATTRIBUTES` says of anything but the service's name stands.
pub(super) fn resource(config: &Config) -> Resource {
    let mut attributes = vec![
        KeyValue::new("service.version", version(config.site_version)),
        KeyValue::new("host.name", config.host.clone()),
    ];
    if !config.site_revision.is_empty() {
        attributes.push(KeyValue::new("vcs.ref.head.revision", config.site_revision.clone()));
    }
    let given = config.otlp.resource.iter().filter(|(key, _)| key != "service.name");
    attributes.extend(given.map(|(key, value)| KeyValue::new(key.clone(), value.clone())));
    Resource::builder()
        .with_attributes(attributes)
        // Last: the SDK would let `OTEL_RESOURCE_ATTRIBUTES` win over `OTEL_SERVICE_NAME`.
        .with_service_name(config.service.clone())
        .build()
}

/// The deploy, as the column `site_version` shows it.
fn version(built: Timestamp) -> String {
    let seconds = Duration::from_secs((built.as_micros().max(0) as u64) / 1_000_000);
    let time: SystemTime = UNIX_EPOCH + seconds;
    humantime::format_rfc3339_seconds(time).to_string()
}
