//! Spans of what nodes and the controller do, for a collector that speaks OTLP: set up by OpenTelemetry's own variables, and not there at
//! all without them.
//!
//! What ends is put into a queue, which a thread of the SDK sends from, some at a time; where the queue is full, spans are lost. So a
//! collector that is slow or away keeps nobody waiting, but for a moment at the end.

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, KeyValue, global};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// What is spoken.
const PROTOCOL: &str = "http/protobuf";
/// How long a collector may take for what is left at the end; and one that did not take what it was sent last.
const LAST: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));
/// How long it may take otherwise, unless a variable says.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const ANSWER_MAX: u64 = 4 << 20;
/// Where systems keep the authorities that they trust.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Spans are exported until this goes, and what is left then.
pub struct Exporting {
    provider: SdkTracerProvider,
    fails: Arc<AtomicBool>,
}

impl Drop for Exporting {
    fn drop(&mut self) {
        let fails = self.fails.load(Ordering::Relaxed);
        // What is not sent by then is lost.
        let _ = self.provider.shutdown_with_timeout(if fails { LAST.1 } else { LAST.0 });
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_string()).filter(|value| !value.is_empty())
}

/// Of `OTEL_EXPORTER_OTLP_...`, what is said for traces, or for all.
fn of_exporter(what: &str) -> Option<(String, String)> {
    let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
    names.into_iter().find_map(|name| Some((variable(&name)?, name)))
}

/// Exports spans if variables say so: what makes spans of what happens, and what has them sent.
///
/// # Errors
/// When the variables ask for what there is not.
pub fn begin<S>(instance: &str) -> Result<Option<(impl Layer<S> + use<S>, Exporting)>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some((endpoint, named)) = of_exporter("ENDPOINT") else { return Ok(None) };
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    match variable("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(other) => bail!("OTEL_TRACES_EXPORTER is {other}: there are only otlp and none"),
    }
    if let Some((other, named)) = of_exporter("PROTOCOL").filter(|(protocol, _)| protocol != PROTOCOL) {
        bail!("{named} is {other}: only {PROTOCOL} is spoken, for which collectors listen on port 4318 as a rule");
    }
    if let Some((other, named)) = of_exporter("COMPRESSION").filter(|(how, _)| how != "none") {
        bail!("{named} is {other}: spans are sent as they are, or not at all");
    }
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        bail!("{named} is {endpoint}: say http://HOST:4318, or https://");
    }
    let fails = Arc::new(AtomicBool::new(false));
    let client = Client { agent: agent(&endpoint)?, endpoint, fails: fails.clone() };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build()?;
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource(instance)).build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("wayfare"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        // What the log would have by itself, whatever `WAYFARE_LOG` says; and nothing of those who do the exporting.
        .with_filter(filter_fn(|of| *of.level() <= Level::INFO && of.target().starts_with("wayfare")));
    Ok(Some((layer, Exporting { provider, fails })))
}

/// Whose spans they are: as variables say, else this program's, and this node's.
fn resource(instance: &str) -> Resource {
    let said = Resource::builder().build();
    let name = said.get(&Key::new("service.name")).map(|name| name.to_string());
    let mut all = Resource::builder();
    if name.is_none_or(|name| name.starts_with("unknown_service")) {
        all = all.with_service_name("wayfare");
    }
    for (key, value) in [("service.instance.id", instance), ("service.version", env!("CARGO_PKG_VERSION"))] {
        if said.get(&Key::new(key)).is_none() && !value.is_empty() {
            all = all.with_attribute(KeyValue::new(key, value.to_string()));
        }
    }
    all.build()
}

/// What sends requests to the collector.
fn agent(endpoint: &str) -> Result<ureq::Agent> {
    let timeout = of_exporter("TIMEOUT").and_then(|(millis, _)| Some(Duration::from_millis(millis.parse().ok()?)));
    let mut config =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(timeout.unwrap_or(TIMEOUT)));
    if endpoint.starts_with("https://") {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&authorities()?))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        config = config.tls_config(tls.build());
    }
    Ok(config.build().into())
}

/// Who may vouch for the collector: who the variables say, else whom the system trusts.
fn authorities() -> Result<Vec<Certificate<'static>>> {
    let said = of_exporter("CERTIFICATE").map(|(file, _)| file).or_else(|| variable("SSL_CERT_FILE"));
    let file =
        said.or_else(|| AUTHORITIES.into_iter().find(|file| std::path::Path::new(file).exists()).map(Into::into));
    let file =
        file.context("no certificates are here to know the collector by: OTEL_EXPORTER_OTLP_CERTIFICATE names a file")?;
    let pem = std::fs::read(&file).with_context(|| file.clone())?;
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    let all: Vec<_> = parse_pem(&pem).filter_map(certificate).collect();
    anyhow::ensure!(!all.is_empty(), "{file}: no certificates are in it");
    Ok(all)
}

/// Sends requests, on the thread of who asks; says once that they do not arrive, and when they do again.
#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
    endpoint: String,
    fails: Arc<AtomicBool>,
}

impl Client {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let (head, body) = request.into_parts();
        let (head, mut body) = self.agent.run(Request::from_parts(head, &body[..]))?.into_parts();
        let body = body.with_config().limit(ANSWER_MAX).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }

    fn told(&self, why: Option<String>) {
        let failed = self.fails.swap(why.is_some(), Ordering::Relaxed);
        match why {
            Some(why) if !failed => tracing::warn!("spans do not reach {}: {why}", self.endpoint),
            None if failed => tracing::info!("spans reach {} again", self.endpoint),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        self.told(match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(e) => Some(format!("{e:#}")),
        });
        Ok(answer?)
    }
}
