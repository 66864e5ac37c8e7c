//! The counters of a worker, for Prometheus.

use crate::failure::Failure;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use impasto_worker::Metrics;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Listens at the address for the counters.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    let problem = |error| Failure::Message(format!("--metrics is {address}, which cannot be served: {error}"));
    TcpListener::bind(address).await.map_err(problem)
}

/// Serves the counters until the program ends.
pub async fn serve(listener: TcpListener, metrics: Metrics) {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    let app = Router::new().route("/metrics", get(move || async move { (kind, metrics.text()) }));
    if let Err(error) = axum::serve(listener, app).await {
        tracing::warn!(%error, "the counters are not served any more");
    }
}
