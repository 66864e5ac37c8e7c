//! [`Traces`]: spans of requests and jobs, sent to a collector of OpenTelemetry.

use crate::console;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::env;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::registry::LookupSpan;

/// Environment variables for the collector's address, such as `http://localhost:4318`.
const ADDRESSES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The traces of a process. Its end sends the last ones.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins the traces if the environment names a collector. The other variables of OpenTelemetry count too, such as
    /// `OTEL_SERVICE_NAME` and `OTEL_TRACES_SAMPLER`.
    pub fn begin() -> Option<Self> {
        ADDRESSES.iter().find_map(env::var_os)?;
        match SpanExporter::builder().with_http().build() {
            Ok(exporter) => {
                let resource = Resource::builder().build();
                let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter);
                Some(Self(provider.build()))
            }
            Err(error) => {
                console::tell(format_args!("impasto: no traces are sent: {error}"));
                None
            }
        }
    }

    /// Returns the layer that makes spans of the program's own spans.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("impasto")).with_filter(LevelFilter::INFO)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            console::tell(format_args!("impasto: the last traces were not sent: {error}"));
        }
    }
}
