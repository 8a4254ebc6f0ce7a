//! Every route of the application listener and what it does. Methods, redirects and paths that are none: `table`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{any, get, post};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderName, StatusCode};

use crate::domain::{Fault, FaultClass, Surface};
use crate::gateway::{Answer, Call, Gateway, Listing, standby};

use super::access::{Entered, Reason, guarded};
use super::body::Unread;
use super::browsers::{self, Web};
use super::caller::From;
use super::table;

/// What the handlers share.
#[derive(Clone)]
pub struct Shared {
    /// The gateway; empty while this process is a standby.
    pub gateway: Arc<OnceLock<Arc<Gateway>>>,
    /// For a request's whole body.
    pub body_timeout: Duration,
    /// What is asked of browsers.
    pub web: Web,
}

/// The application listener's routes.
pub fn router(shared: Shared) -> Router {
    let mut router = Router::new().route("/", get(running));
    for surface in Surface::ALL {
        let handler = move |serving: Serving, state: State<Shared>, from: From, request: Request| {
            infer(surface, serving, state, from, request)
        };
        router = router.route(surface.path(), post(handler));
    }
    for (path, listing) in
        [("/api/tags", Listing::Tags), ("/api/version", Listing::Version), ("/v1/models", Listing::Models)]
    {
        router = router.route(path, get(move |serving, from| list(listing.clone(), serving, from)));
    }
    router = router
        .route("/api/ps", get(|serving, from| list(Listing::Loaded, serving, from)))
        .route("/api/status", get(|serving, from| list(Listing::Status, serving, from)))
        .route("/v1/models/{id}", get(|serving, from, id| list(Listing::Model(named(id)), serving, from)))
        .route("/api/show", post(show))
        .route("/v1/gaucho/queue", get(queue));
    for (path, advice) in MANAGEMENT {
        router = router.route(path, any(move |serving: Serving, from: From| managed(path, advice, serving, from)));
    }
    for path in NOT_YET {
        router = router.route(path, post(move |serving: Serving, from: From| not_yet(path, serving, from)));
    }
    let web = middleware::from_fn_with_state(Arc::new(shared.web.clone()), browsers::check);
    router.fallback(|| async { table::no_route() }).layer(web).with_state(shared)
}

/// The name in a path; one that is not UTF-8 is no model's.
fn named(id: Result<Path<String>, PathRejection>) -> String {
    id.map_or_else(|_| char::REPLACEMENT_CHARACTER.to_string(), |Path(id)| id)
}

/// Ollama's routes that change models or speak to ollama.com, and what to do instead.
const MANAGEMENT: [(&str, &str); 12] = [
    ("/api/pull", "ollama pull"),
    ("/api/push", "ollama push"),
    ("/api/create", "ollama create"),
    ("/api/copy", "ollama cp"),
    ("/api/delete", "ollama rm"),
    ("/api/blobs/{digest}", "ollama create"),
    ("/api/me", "ollama push` or `ollama signin"),
    ("/api/signout", "ollama signout"),
    ("/api/user/keys/{key}", "ollama signout"),
    ("/api/experimental/web_search", "ollama"),
    ("/api/experimental/web_fetch", "ollama"),
    ("/api/experimental/model-recommendations", "ollama"),
];

/// Surfaces of Ollama that this version does not serve.
const NOT_YET: [&str; 1] = ["/v1/audio/transcriptions"];

async fn running() -> Response {
    text(StatusCode::OK, "text/plain; charset=utf-8", "Ollama is running")
}

/// The gateway of a process that serves, as an extractor; a standby refuses in the dialect of the route.
struct Serving(Arc<Gateway>);

impl FromRequestParts<Shared> for Serving {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Response> {
        let Some(gateway) = shared.gateway.get() else {
            let (id, refusal) = standby(parts.uri.path());
            let mut response = reply(refusal.status, refusal.content_type, refusal.headers, refusal.body);
            response.extensions_mut().insert(Reason(format!("a standby; {id}")));
            return Err(response);
        };
        Ok(Self(Arc::clone(gateway)))
    }
}

async fn infer(
    surface: Surface,
    Serving(gateway): Serving,
    State(shared): State<Shared>,
    From(caller): From,
    request: Request,
) -> Response {
    let body = Box::new(Unread::new(&caller.headers, request.into_body(), shared.body_timeout));
    // boxed: it is larger than a future should be
    respond(Box::pin(gateway.serve(Call { surface, caller, body }))).await
}

async fn show(
    Serving(gateway): Serving,
    State(shared): State<Shared>,
    From(caller): From,
    request: Request,
) -> Response {
    let body = Box::new(Unread::new(&caller.headers, request.into_body(), shared.body_timeout));
    respond(gateway.show(caller, body)).await
}

async fn list(listing: Listing, Serving(gateway): Serving, From(caller): From) -> Response {
    respond(gateway.list(listing, caller)).await
}

async fn queue(Serving(gateway): Serving, From(caller): From) -> Response {
    respond(gateway.queue(caller)).await
}

async fn managed(path: &'static str, advice: &'static str, Serving(gateway): Serving, From(caller): From) -> Response {
    // `ollama run` of a name that is not there comes here
    let missing =
        if path == "/api/pull" { " (`ollama run` pulls what is not listed here: is the name right?)" } else { "" };
    let text = format!(
        "models are managed by the operator, not through the gateway: run `{advice}` against the Ollama server itself{missing}"
    );
    respond(async { gateway.closed(path, &caller, Fault::new(FaultClass::Forbidden, text)) }).await
}

async fn not_yet(path: &'static str, Serving(gateway): Serving, From(caller): From) -> Response {
    let text = format!("{path} is not served by this version: use /v1/chat/completions or /api/chat");
    respond(async { gateway.closed(path, &caller, Fault::new(FaultClass::NotSupported, text)) }).await
}

pub(super) fn text(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// What the gateway says. Whatever becomes of it, its request is in the ledger.
pub(super) async fn respond(answer: impl Future<Output = Answer>) -> Response {
    let mut response = guarded(async { spoken(answer.await) }).await;
    response.extensions_mut().insert(Entered);
    response
}

fn spoken(answer: Answer) -> Response {
    reply(answer.status, answer.content_type, answer.headers, Body::new(answer.body))
}

fn reply(
    status: u16,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: impl Into<Body>,
) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = text(status, content_type, body);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
