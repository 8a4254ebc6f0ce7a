//! The admin listener's routes; the two probes are served on the application listener as well.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use subtle::ConstantTimeEq;

use super::Readiness;
use super::inspect::{self, Answers};

/// Renders the metrics; gauges that are read rather than counted are set first.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// `/healthz` (the process is alive) and `/readyz` (it can serve).
pub fn probes(readiness: Readiness) -> Router {
    Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).with_state(readiness)
}

/// The admin listener. With a token, everything but the probes needs `Authorization: Bearer <token>`.
pub fn router(readiness: Readiness, metrics: Metrics, answers: Answers, token: Option<Arc<str>>) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .with_state(metrics)
        .merge(inspect::routes(answers))
        .route_layer(from_fn_with_state(token, guard))
        .merge(probes(readiness))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    match readiness.check() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn guard(State(token): State<Option<Arc<str>>>, request: Request, next: Next) -> Response {
    if let Some(token) = token {
        let sent = request.headers().get(header::AUTHORIZATION).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let sent = sent.strip_prefix(b"Bearer ").unwrap_or_default();
        if !bool::from(sent.ct_eq(token.as_bytes())) {
            let text = "send the admin token as Authorization: Bearer\n";
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response();
        }
    }
    next.run(request).await
}

async fn scrape(State(metrics): State<Metrics>) -> Response {
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], metrics()).into_response()
}
