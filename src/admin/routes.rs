//! The admin listener's routes; the two probes are served on the application listener as well.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use super::Readiness;

/// Renders the metrics; gauges that are read rather than counted are set first.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    token: Option<Arc<str>>,
}

/// `/healthz` (the process is alive) and `/readyz` (it can serve).
pub fn probes(readiness: Readiness) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).with_state(readiness)
}

/// The admin listener. With a token, everything but the probes needs `Authorization: Bearer <token>`.
pub fn router(readiness: Readiness, metrics: Metrics, token: Option<Arc<str>>) -> Router {
    let shared = Shared { metrics, token };
    Router::new().route("/metrics", get(scrape)).with_state(shared).merge(probes(readiness))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    match readiness.check() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn scrape(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if let Some(token) = &shared.token {
        let sent = headers.get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let sent = sent.strip_prefix(b"Bearer ").unwrap_or_default();
        if !bool::from(sent.ct_eq(token.as_bytes())) {
            let text = "send the admin token as Authorization: Bearer\n";
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response();
        }
    }
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], (shared.metrics)()).into_response()
}
