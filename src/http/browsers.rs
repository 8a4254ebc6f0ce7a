//! What web pages may do: `Origin`, preflights and `Host`, as Ollama has them.
//!
//! Owns the answers; which origins and hosts are welcome is `identity::LocalRules`. A page that may not is refused before
//! anything else happens, also where a browser would have sent its request without asking first. A preflight carries no
//! key and needs none. Told by the recordings `origin_*`, `host_foreign` and `preflight`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::identity::{LocalRules, Page};

use super::access::Reason;
use super::path_key::PathKey;
use super::table;

/// Headers that Ollama lets pages send.
const HEADERS: &str = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,\
                       X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,\
                       X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,\
                       X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout";
/// Headers that only a gateway, or a client of Anthropic's, has use for: named to those that ask for them.
const MORE_HEADERS: [&str; 7] = [
    "X-Api-Key",
    "X-Gaucho-Deadline",
    "X-Gaucho-Keepalive",
    "Cache-Control",
    "Anthropic-Version",
    "Anthropic-Beta",
    "Anthropic-Dangerous-Direct-Browser-Access",
];
/// Beginnings of the names of reply headers that pages may read.
const READABLE: [&str; 8] = [
    "x-gaucho-",
    "ratelimit-",
    "x-ratelimit-",
    "anthropic-ratelimit-",
    "retry-after",
    "x-should-retry",
    "x-request-id",
    "request-id",
];

/// What is asked of browsers at one listener.
#[derive(Debug, Clone)]
pub struct Web {
    /// Which origins and hosts are welcome.
    pub rules: LocalRules,
    /// Whether `Host` is looked at: where only this machine can connect, a foreign one is a web page whose name was made
    /// to point here.
    pub on_loopback: bool,
}

/// The first and outermost step: browsers' rules, then methods and redirects.
pub(super) async fn check(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let (headers, method, path) = (request.headers(), request.method(), request.uri().path());
    let prefix = request.extensions().get::<PathKey>().map(|PathKey(key)| format!("/k/{key}")).unwrap_or_default();
    // as in Ollama, whoever asks
    if let Some(elsewhere) = table::redirect(method, request.uri(), &prefix) {
        return elsewhere;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let page = page(&web.rules, headers, host);
    let allowed = match page {
        Page::Foreign => return refused("origin", headers),
        Page::None => None,
        Page::Listed => headers.get(ORIGIN).cloned(),
        Page::Any => Some(HeaderValue::from_static("*")),
    };
    if let Some(origin) = allowed.as_ref().filter(|_| *method == Method::OPTIONS) {
        return preflight(table::methods(path), origin.clone(), headers);
    }
    if web.on_loopback && !web.rules.allows_host(host) {
        return refused("host", headers);
    }
    let mut response = match table::methods(path) {
        Some(methods) if !table::takes(path, method) => table::wrong_method(methods),
        _ => next.run(request).await,
    };
    if let Some(origin) = allowed {
        welcome(response.headers_mut(), origin);
    }
    response
}

/// What is behind `Origin`; several are as foreign as the most foreign of them.
fn page(rules: &LocalRules, headers: &HeaderMap, host: &str) -> Page {
    let judged =
        headers.get_all(ORIGIN).iter().map(|origin| origin.to_str().map_or(Page::Foreign, |o| rules.page(o, host)));
    judged.max().unwrap_or(Page::None)
}

/// 403 without a word: a page could not read one.
fn refused(header: &'static str, headers: &HeaderMap) -> Response {
    let values: Vec<_> =
        headers.get_all(header).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let value = values.join(", ");
    let why = format!("{header} {value:?} is a foreign web page's: `{header}s` in gaucho.toml lets one in");
    let mut response = Response::new(axum::body::Body::empty());
    response.extensions_mut().insert(Reason(why));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

fn preflight(methods: Option<&'static str>, origin: HeaderValue, asked: &HeaderMap) -> Response {
    let mut response = Response::new(axum::body::Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if let Ok(allowed) = HeaderValue::try_from(allowed_headers(asked)) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    let every = HeaderValue::from_static("GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, every);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("43200"));
    if let Some(methods) = methods {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    if origin != "*" {
        for name in ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"] {
            headers.append(VARY, HeaderValue::from_static(name));
        }
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    response
}

/// Ollama's list, and what was asked for of ours.
fn allowed_headers(asked: &HeaderMap) -> String {
    let asked: Vec<&str> = asked
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(',').map(str::trim))
        .collect();
    let ours = MORE_HEADERS.iter().filter(|name| asked.iter().any(|asked| asked.eq_ignore_ascii_case(name)));
    ours.fold(HEADERS.to_owned(), |list, name| list + "," + name)
}

/// Marks a reply to a page that may read it.
fn welcome(headers: &mut HeaderMap, origin: HeaderValue) {
    let readable: Vec<&str> = headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| READABLE.iter().any(|beginning| name.starts_with(beginning)))
        .collect();
    if let Ok(readable) = HeaderValue::try_from(readable.join(","))
        && !readable.is_empty()
    {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, readable);
    }
    if origin != "*" {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}
