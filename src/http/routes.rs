//! Every route of the application listener, and what Ollama does with paths that are none.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, any, get, on, post};
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderName, Method, StatusCode};

use crate::domain::{Fault, FaultClass, Surface};
use crate::gateway::{Answer, Call, Gateway, Listing};

use super::body::Unread;
use super::caller::{From, PathKey};

/// What the handlers share.
#[derive(Clone)]
pub struct Shared {
    /// The gateway; empty while this process is a standby.
    pub gateway: Arc<OnceLock<Arc<Gateway>>>,
    /// For a request's whole body.
    pub body_timeout: Duration,
}

/// The application listener's routes.
pub fn router(shared: Shared) -> Router {
    let mut router = Router::new().route("/", get(running));
    for surface in Surface::ALL {
        let handler = move |state: State<Shared>, from: From, request: Request| infer(surface, state, from, request);
        router = router.route(surface.path(), post(handler));
    }
    for (path, listing) in
        [("/api/tags", Listing::Tags), ("/api/version", Listing::Version), ("/v1/models", Listing::Models)]
    {
        router = router.route(path, get(move |state, from| list(listing.clone(), state, from)));
    }
    // Ollama answers HEAD on the lists above, not here
    let loaded = on(MethodFilter::GET, |state, from| list(Listing::Loaded, state, from));
    router = router
        .route("/api/ps", loaded)
        .route("/v1/models/{id}", get(|state, from, Path(id): Path<String>| list(Listing::Model(id), state, from)))
        .route("/api/show", post(show))
        .route("/v1/gaucho/queue", get(queue));
    for (path, advice) in MANAGEMENT {
        router = router.route(path, any(move |state: State<Shared>, from: From| managed(path, advice, state, from)));
    }
    for path in NOT_YET {
        router = router.route(path, post(move |state: State<Shared>, from: From| not_yet(path, state, from)));
    }
    router.fallback(no_route).method_not_allowed_fallback(wrong_method).with_state(shared)
}

/// Ollama's routes that change models or speak to ollama.com, and what to do instead.
const MANAGEMENT: [(&str, &str); 12] = [
    ("/api/pull", "ollama pull"),
    ("/api/push", "ollama push"),
    ("/api/create", "ollama create"),
    ("/api/copy", "ollama cp"),
    ("/api/delete", "ollama rm"),
    ("/api/blobs/{digest}", "ollama create"),
    ("/api/me", "ollama signin"),
    ("/api/signout", "ollama signout"),
    ("/api/user/keys/{key}", "ollama signout"),
    ("/api/experimental/web_search", "ollama"),
    ("/api/experimental/web_fetch", "ollama"),
    ("/api/experimental/model-recommendations", "ollama"),
];

/// Surfaces of Ollama that this version does not serve.
const NOT_YET: [&str; 2] = ["/v1/messages", "/v1/audio/transcriptions"];

async fn running() -> Response {
    text(StatusCode::OK, "text/plain; charset=utf-8", "Ollama is running")
}

async fn infer(surface: Surface, State(shared): State<Shared>, From(caller): From, request: Request) -> Response {
    let Some(gateway) = shared.gateway.get() else { return standby() };
    let body = Box::new(Unread::new(&caller.headers, request.into_body(), shared.body_timeout));
    respond(gateway.serve(Call { surface, caller, body }).await)
}

async fn show(State(shared): State<Shared>, From(caller): From, request: Request) -> Response {
    let Some(gateway) = shared.gateway.get() else { return standby() };
    let body = Box::new(Unread::new(&caller.headers, request.into_body(), shared.body_timeout));
    respond(gateway.show(caller, body).await)
}

async fn list(listing: Listing, State(shared): State<Shared>, From(caller): From) -> Response {
    let Some(gateway) = shared.gateway.get() else { return standby() };
    respond(gateway.list(listing, caller).await)
}

async fn queue(State(shared): State<Shared>, From(caller): From) -> Response {
    let Some(gateway) = shared.gateway.get() else { return standby() };
    respond(gateway.queue(caller).await)
}

async fn managed(
    path: &'static str,
    advice: &'static str,
    State(shared): State<Shared>,
    From(caller): From,
) -> Response {
    let Some(gateway) = shared.gateway.get() else { return standby() };
    let text = format!(
        "models are managed by the operator, not through the gateway: run `{advice}` against the Ollama server itself"
    );
    respond(gateway.closed(path, &caller, Fault::new(FaultClass::Forbidden, text)))
}

async fn not_yet(path: &'static str, State(shared): State<Shared>, From(caller): From) -> Response {
    let Some(gateway) = shared.gateway.get() else { return standby() };
    let text = format!("{path} is not served by this version: use /v1/chat/completions or /api/chat");
    respond(gateway.closed(path, &caller, Fault::new(FaultClass::NotSupported, text)))
}

/// Ollama's router cleans paths by redirects (recordings `double_slash`, `root_trailing`); the rest is not found.
async fn no_route(request: Request) -> Response {
    let path = request.uri().path();
    let cleaned = clean(path);
    // `*` and `host:port` are no paths, and browsers read a redirect to `/\host` as one to another site
    if cleaned == path || !path.starts_with('/') || path.contains('\\') {
        return text(StatusCode::NOT_FOUND, "text/plain", "404 page not found");
    }
    let only_trailing = path.strip_suffix('/') == Some(cleaned.as_str());
    let (status, word) = if only_trailing && request.method() == Method::GET {
        (StatusCode::MOVED_PERMANENTLY, "Moved Permanently")
    } else {
        (StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect")
    };
    let key = request.extensions().get::<PathKey>().map(|PathKey(key)| format!("/k/{key}")).unwrap_or_default();
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let target = format!("{key}{cleaned}{query}");
    let page = format!("<a href=\"{}\">{word}</a>.\n\n", target.replace('&', "&amp;").replace('"', "&#34;"));
    let mut response = text(status, "text/html; charset=utf-8", page);
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

/// The path without empty, `.` and `..` segments and without a trailing slash, as Go's `path.Clean` does.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

async fn wrong_method() -> Response {
    text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "405 method not allowed")
}

fn standby() -> Response {
    let body = r#"{"error":"this gateway is a standby: another one holds the state folder; try again in a moment"}"#;
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "application/json; charset=utf-8", body);
    response.headers_mut().insert("Retry-After", HeaderValue::from_static("2"));
    response
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut response = text(status, answer.content_type, Body::new(answer.body));
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("//api/tags", "/api/tags"),
            ("/api/tags/", "/api/tags"),
            ("/v1/../api/delete", "/api/delete"),
            ("/../..", "/"),
            ("/api/./chat", "/api/chat"),
            ("/api/nothing", "/api/nothing"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }
}
