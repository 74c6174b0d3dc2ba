//! How requests go out as OpenTelemetry's spans: the variables that its specification defines.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::Url;

use super::Secret;
use super::address::without_credentials;

/// How spans are exported over OTLP, with the feature `otlp`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OtlpConfig {
    /// Whether spans are exported. Default: when the environment names an endpoint, or
    /// `OTEL_TRACES_EXPORTER=otlp`, and `OTEL_SDK_DISABLED` does not forbid it.
    pub enabled: bool,
    /// Where to, and how.
    pub target: OtlpTarget,
    /// Attributes of the resource beside those known from the configuration.
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub resource: Vec<(String, String)>,
    /// What the next services are told. `OTEL_TRACES_SAMPLER`.
    pub head: HeadSampling,
    /// What carries the trace to the next services. `OTEL_PROPAGATORS`.
    pub propagators: Propagators,
    /// Finished spans waiting for export at most. Default: 2048. `OTEL_BSP_MAX_QUEUE_SIZE`.
    pub queue_spans: usize,
    /// Spans in one export at most. Default: 512. `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub batch_spans: usize,
    /// Longest wait of a span for its batch to fill. Default: 5 s. `OTEL_BSP_SCHEDULE_DELAY`.
    pub batch_interval: Duration,
    /// Memory of spans whose request has not ended, at most. Default: 64 MiB.
    /// `ACTIVITY_OTLP_BUFFER_BYTES`.
    pub buffer_bytes: usize,
    /// The layer's own counters.
    pub metrics: OtlpMetricsConfig,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            target: OtlpTarget::default(),
            resource: Vec::new(),
            head: HeadSampling::default(),
            propagators: Propagators::default(),
            queue_spans: 2048,
            batch_spans: 512,
            batch_interval: Duration::from_secs(5),
            buffer_bytes: 64 << 20,
            metrics: OtlpMetricsConfig::default(),
        }
    }
}

/// Where exports of one kind go, spans or metrics, and how. What is named here is read from the variables
/// of all kinds, unless the kind's own is set: `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`,
/// `OTEL_EXPORTER_OTLP_METRICS_TIMEOUT`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct OtlpTarget {
    /// Over HTTP the whole address, such as `http://localhost:4318/v1/traces`; for gRPC
    /// `http://localhost:4317`. `None`: these defaults. `OTEL_EXPORTER_OTLP_ENDPOINT`, below which over
    /// HTTP each kind has its path.
    pub endpoint: Option<String>,
    /// Default: Protobuf over HTTP. `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub protocol: OtlpProtocol,
    /// Sent with every export. `OTEL_EXPORTER_OTLP_HEADERS`.
    pub headers: Vec<(String, Secret)>,
    /// Longest time of one export. Default: 10 s. `OTEL_EXPORTER_OTLP_TIMEOUT`.
    pub timeout: Duration,
    /// Whether exports are compressed. Default: no. `OTEL_EXPORTER_OTLP_COMPRESSION`, which over gRPC
    /// wins over a `false` from elsewhere: OpenTelemetry's exporter reads it again.
    pub gzip: bool,
}

impl Default for OtlpTarget {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: OtlpProtocol::default(),
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            gzip: false,
        }
    }
}

impl fmt::Debug for OtlpTarget {
    /// Without what the address holds of credentials, and without the values of headers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpTarget")
            .field("endpoint", &self.endpoint.as_deref().map(without_credentials))
            .field("protocol", &self.protocol)
            .field("headers", &self.headers)
            .field("timeout", &self.timeout)
            .field("gzip", &self.gzip)
            .finish()
    }
}

impl OtlpTarget {
    /// The address that exports of a signal, such as `traces`, go to.
    #[cfg(any(test, feature = "otlp"))]
    pub(crate) fn address(&self, signal: &str) -> String {
        self.endpoint.clone().unwrap_or_else(|| match self.protocol {
            OtlpProtocol::HttpProtobuf => below("http://localhost:4318", signal),
            OtlpProtocol::Grpc => "http://localhost:4317".to_owned(),
        })
    }
}

/// How the layer's own counters are exported over OTLP, with the feature `otlp`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OtlpMetricsConfig {
    /// Whether they are exported. Default: when `OTEL_METRICS_EXPORTER=otlp`, and
    /// `OTEL_SDK_DISABLED` does not forbid it.
    pub enabled: bool,
    /// Where to, and how.
    pub target: OtlpTarget,
    /// Time between two exports. Default: one minute. `OTEL_METRIC_EXPORT_INTERVAL`.
    pub interval: Duration,
    /// What counters tell. `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
    pub temporality: Temporality,
}

impl Default for OtlpMetricsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            target: OtlpTarget::default(),
            interval: Duration::from_mins(1),
            temporality: Temporality::default(),
        }
    }
}

/// What exported counters tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Temporality {
    /// The sum since the process began.
    #[default]
    Cumulative,
    /// The sum since the last export.
    Delta,
    /// That since the last export where it saves memory.
    LowMemory,
}

impl FromStr for Temporality {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "cumulative" => Ok(Self::Cumulative),
            "delta" => Ok(Self::Delta),
            "lowmemory" => Ok(Self::LowMemory),
            _ => Err("cumulative, delta or lowmemory"),
        }
    }
}

/// How exports are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OtlpProtocol {
    /// Protobuf over HTTP.
    #[default]
    HttpProtobuf,
    /// gRPC, with the feature `otlp-grpc`.
    Grpc,
}

impl FromStr for OtlpProtocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "http/protobuf" => Ok(Self::HttpProtobuf),
            "grpc" => Ok(Self::Grpc),
            _ => Err("http/protobuf or grpc"),
        }
    }
}

/// What a request's head decides: whether the services that it calls are asked to keep the trace.
/// What becomes of the trace here is decided when the request is over, by `ACTIVITY_SAMPLE`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HeadSampling {
    /// A believed caller's word counts: they are asked as the caller asks us, and what it keeps is
    /// kept. Default: yes.
    pub parent_based: bool,
    /// The chance of a trace that begins here. `None`: the `rate` of `ACTIVITY_SAMPLE`.
    pub rate: Option<f64>,
}

impl Default for HeadSampling {
    fn default() -> Self {
        Self { parent_based: true, rate: None }
    }
}

impl HeadSampling {
    /// Reads `OTEL_TRACES_SAMPLER`, with the chance that `OTEL_TRACES_SAMPLER_ARG` gives.
    pub(super) fn parse(name: &str, argument: Option<f64>) -> Result<Self, &'static str> {
        let name = name.trim().to_ascii_lowercase();
        let (parent_based, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, &*name),
        };
        let rate = match kind {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => argument.unwrap_or(1.0),
            _ => {
                return Err(
                    "always_on, always_off, traceidratio, or one of them after parentbased_",
                );
            }
        };
        Ok(Self { parent_based, rate: Some(rate) })
    }
}

/// What carries the trace to the next services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Propagators {
    /// W3C Trace Context: `traceparent` and `tracestate`.
    pub trace_context: bool,
    /// W3C Baggage.
    pub baggage: bool,
}

impl Default for Propagators {
    fn default() -> Self {
        Self { trace_context: true, baggage: true }
    }
}

/// A list of names, of which some are known.
pub(super) struct Listed<T> {
    /// What those say; `None` where none is known.
    pub(super) value: Option<T>,
    /// The known ones, to be shown.
    pub(super) used: String,
    /// The others.
    pub(super) unknown: Vec<String>,
    /// What is known.
    pub(super) expected: &'static str,
}

impl<T> Listed<T> {
    /// Reads `text`, of which `known` takes the names that it knows.
    fn read(
        text: &str,
        expected: &'static str,
        mut value: T,
        mut known: impl FnMut(&mut T, &str) -> bool,
    ) -> Self {
        let (mut used, mut unknown) = (Vec::new(), Vec::new());
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let lower = name.to_ascii_lowercase();
            if known(&mut value, &lower) {
                used.push(lower);
            } else {
                unknown.push(name.to_owned());
            }
        }
        let value = (!used.is_empty()).then_some(value);
        Self { value, used: used.join(","), unknown, expected }
    }
}

/// `OTEL_PROPAGATORS`.
pub(super) fn propagators(text: &str) -> Listed<Propagators> {
    const EXPECTED: &str = "some of tracecontext and baggage, comma-separated, or none";
    let none = Propagators { trace_context: false, baggage: false };
    Listed::read(text, EXPECTED, none, |them, name| {
        match name {
            "tracecontext" => them.trace_context = true,
            "baggage" => them.baggage = true,
            "none" => {}
            _ => return false,
        }
        true
    })
}

/// The address of a signal, such as `traces`, below a common one.
pub(super) fn below(endpoint: &str, signal: &str) -> String {
    format!("{}/v1/{signal}", endpoint.trim_end_matches('/'))
}

/// An address over HTTP.
pub(super) fn parse_endpoint(text: &str) -> Result<String, &'static str> {
    const ACCEPTED: &str = "an address such as http://localhost:4318";
    let url = Url::parse(text.trim()).map_err(|_| ACCEPTED)?;
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
    usable.then(|| text.trim().to_owned()).ok_or(ACCEPTED)
}

/// A list such as `a=b,c=d`, its values percent-encoded.
pub(super) fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut at = 0;
    for part in text.split(',') {
        let wrong = || format!("expected KEY=VALUE pairs such as a=b,c=d, at character {}", at + 1);
        if !part.trim().is_empty() {
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
            if key.trim().is_empty() {
                return Err(wrong());
            }
            pairs.push((key.trim().to_owned(), value.into_owned()));
        }
        at += part.chars().count() + 1;
    }
    Ok(pairs)
}

/// Headers that exporters send by themselves, and those of one connection.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What is wrong with the headers that are to be sent, if anything. Neither names nor values are
/// repeated: where a pair is malformed, either may hold the key.
#[cfg(any(test, feature = "otlp"))]
pub(crate) fn problem_of_headers<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Option<String> {
    pairs.into_iter().enumerate().find_map(|(at, (name, value))| {
        problem_of_header(name, value).map(|problem| format!("pair {} has {problem}", at + 1))
    })
}

fn problem_of_header(name: &str, value: &str) -> Option<&'static str> {
    let is_token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(is_token) {
        Some(
            "a name that no header can have: expected letters, digits and -, as in authorization=Bearer%20KEY",
        )
    } else if OWN_HEADERS.contains(&lower.as_str()) || lower.starts_with("grpc-") {
        Some("the name of a header that the exporter sets itself: expected others")
    } else if !value.bytes().all(|it| it == b'\t' || (b' '..=b'~').contains(&it)) {
        Some(
            "a value that no header can have: expected printable ASCII, once %20 and the like are decoded",
        )
    } else {
        None
    }
}

/// The headers of a list that can be sent, and what is wrong with the first that cannot.
pub(super) fn headers(text: &str) -> (Vec<(String, Secret)>, Option<String>) {
    let (mut good, mut problem) = (Vec::new(), None);
    for (at, part) in text.split(',').enumerate().filter(|(_, part)| !part.trim().is_empty()) {
        let wrong = match parse_pairs(part) {
            Ok(pairs) => {
                let them = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                let wrong = them.clone().find_map(|(name, value)| problem_of_header(name, value));
                if wrong.is_none() {
                    let secret = |(name, value)| (name, Secret::new(value));
                    good.extend(pairs.into_iter().map(secret));
                }
                wrong
            }
            Err(_) => Some("no KEY=VALUE, expected pairs such as a=b,c=d"),
        };
        problem = problem.or_else(|| wrong.map(|wrong| format!("pair {} has {wrong}", at + 1)));
    }
    (good, problem)
}

/// `OTEL_TRACES_EXPORTER`: whether spans are exported over OTLP.
pub(super) fn traces_exporter(text: &str) -> Listed<bool> {
    Listed::read(text, "otlp or none", false, |wanted, name| {
        *wanted |= name == "otlp";
        matches!(name, "otlp" | "none")
    })
}

/// `OTEL_METRICS_EXPORTER`: the same of metrics.
pub(super) fn metrics_exporter(text: &str) -> Listed<bool> {
    let mut listed = traces_exporter(text);
    if listed.unknown.iter().any(|name| name.eq_ignore_ascii_case("prometheus")) {
        listed.expected = "otlp or none; for Prometheus, answer with metrics::prometheus(&handle.metrics()) where it asks";
    }
    listed
}

impl fmt::Display for OtlpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HttpProtobuf => "http/protobuf",
            Self::Grpc => "grpc",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_a_broken_one_is_named_by_its_place() {
        let pairs = parse_pairs("a=b, c=d%2Ce ,").unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(pairs, [pair("a", "b"), pair("c", "d,e")]);
        assert!(parse_pairs("a=b,cd").unwrap_err().ends_with("at character 5"));
        assert!(parse_pairs("=b").unwrap_err().ends_with("at character 1"));
        assert!(parse_pairs("a=%ff").is_err());
    }

    #[test]
    fn of_headers_those_that_can_be_sent_count() {
        let (good, problem) = headers("a=b,hunter2,host=x, c = d%20e ,f=%ff,");
        let pair = |key: &str, value: &str| (key.to_owned(), Secret::new(value));
        assert_eq!(good, [pair("a", "b"), pair("c", "d e")]);
        let problem = problem.unwrap();
        assert!(problem.starts_with("pair 2 has no KEY=VALUE"), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }

    #[test]
    fn an_address_is_shown_without_its_credentials() {
        let target = OtlpTarget {
            endpoint: Some("https://ana:hunter2@h/x?key=hunter2".to_owned()),
            headers: vec![("x".to_owned(), Secret::new("hunter2"))],
            ..OtlpTarget::default()
        };
        let shown = format!("{target:?}");
        assert!(shown.contains("https://***@h/x?***") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_named_by_its_place_and_not_repeated() {
        let problem = |name, value| problem_of_headers([("a", "b"), (name, value)]);
        assert_eq!(problem("x-key", "Bearer hunter2 ~!"), None);
        for (name, value, why) in [
            ("hunter 2", "x", "letters, digits"),
            ("", "x", "letters, digits"),
            ("x", "hunter2\n", "printable ASCII"),
            ("x", "hünter2", "printable ASCII"),
            ("Content-Length", "5", "sets itself"),
            ("grpc-timeout", "5", "sets itself"),
        ] {
            let problem = problem(name, value).unwrap();
            assert!(problem.starts_with("pair 2 has ") && problem.contains(why), "{problem}");
            assert!(!problem.contains("nter"), "{problem}");
        }
    }

    #[test]
    fn samplers_are_those_of_the_specification() {
        let parse = HeadSampling::parse;
        let of = |parent_based, rate| Ok(HeadSampling { parent_based, rate: Some(rate) });
        assert_eq!(parse("always_on", None), of(false, 1.0));
        assert_eq!(parse("parentbased_always_off", None), of(true, 0.0));
        assert_eq!(parse("ParentBased_TraceIdRatio", Some(0.25)), of(true, 0.25));
        assert_eq!(parse("traceidratio", None), of(false, 1.0));
        assert!(parse("jaeger_remote", None).unwrap_err().contains("always_on"));
    }
}
