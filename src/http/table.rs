//! Which path takes which methods, and where Ollama's router redirects.
//!
//! Owns what `Allow` says, 404 and 405 as Ollama words them, and redirects, which lead to a route of our own or are
//! not made. It does not own what a route does (`routes`).

use axum::response::Response;
use http::header::{ALLOW, HeaderValue, LOCATION};
use http::{Method, StatusCode, Uri};

use crate::domain::Surface;

use super::routes::text;

/// Ollama's fixed routes beside the surfaces, and our own, with their methods in the order of Ollama's `Allow`.
/// `{…}` stands for one segment.
const METHODS: [(&str, &str); 21] = [
    ("/", "HEAD, GET"),
    ("/api/version", "HEAD, GET"),
    ("/api/tags", "HEAD, GET"),
    ("/api/status", "GET"),
    ("/api/ps", "GET"),
    ("/api/show", "POST"),
    ("/v1/models", "GET"),
    ("/v1/models/{id}", "GET"),
    ("/v1/audio/transcriptions", "POST"),
    ("/v1/gaucho/queue", "GET"),
    ("/api/pull", "POST"),
    ("/api/push", "POST"),
    ("/api/create", "POST"),
    ("/api/copy", "POST"),
    ("/api/delete", "DELETE"),
    ("/api/blobs/{digest}", "HEAD, POST"),
    ("/api/me", "POST"),
    ("/api/signout", "POST"),
    ("/api/user/keys/{key}", "DELETE"),
    ("/api/experimental/{which}", "POST"),
    ("/api/experimental/model-recommendations", "GET"),
];

/// The methods of the route at `path`, as `Allow` lists them; `None` where there is no route.
pub(super) fn methods(path: &str) -> Option<&'static str> {
    if Surface::ALL.iter().any(|surface| surface.path() == path) {
        return Some("POST");
    }
    // the last entry that fits is the most special one
    METHODS.iter().rev().find(|(pattern, _)| fits(pattern, path)).map(|(_, methods)| *methods)
}

/// Whether the route at `path` takes `method`.
pub(super) fn takes(path: &str, method: &Method) -> bool {
    methods(path).is_some_and(|methods| methods.split(", ").any(|known| known == method.as_str()))
}

fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('{') {
        None => pattern == path,
        Some((prefix, _)) => path.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
    }
}

/// 405, naming the methods that would do.
pub(super) fn wrong_method(methods: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "405 method not allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// 404.
pub(super) fn no_route() -> Response {
    text(StatusCode::NOT_FOUND, "text/plain", "404 page not found")
}

/// Where Ollama sends a caller whose path is not clean (recording `double_slash`) or has a slash too many
/// (`root_trailing`). Ollama cleans any path; here only one that then has a route, so that a redirect never leads to a
/// place of the caller's choice. `prefix` is what was taken off the path before.
pub(super) fn redirect(method: &Method, uri: &Uri, prefix: &str) -> Option<Response> {
    let path = uri.path();
    // `*` and `host:port` are no paths
    if *method == Method::CONNECT || !path.starts_with('/') {
        return None;
    }
    let cleaned = clean(path);
    let (target, status) = if cleaned != path {
        methods(cleaned.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(&cleaned))?;
        (cleaned, StatusCode::TEMPORARY_REDIRECT)
    } else {
        let target = path.strip_suffix('/').filter(|target| takes(target, method))?;
        let moved = *method == Method::GET;
        let status = if moved { StatusCode::MOVED_PERMANENTLY } else { StatusCode::TEMPORARY_REDIRECT };
        (target.to_owned(), status)
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(moved(method, status, &format!("{prefix}{target}{query}")))
}

fn moved(method: &Method, status: StatusCode, target: &str) -> Response {
    let reads = *method == Method::GET;
    let words = status.canonical_reason().unwrap_or_default();
    let escaped = target.replace('&', "&amp;").replace('"', "&#34;").replace('\'', "&#39;");
    let page = if reads { format!("<a href=\"{escaped}\">{words}</a>.\n\n") } else { String::new() };
    let mut response = text(status, "text/html; charset=utf-8", page);
    if !reads && *method != Method::HEAD {
        response.headers_mut().remove(http::header::CONTENT_TYPE);
    }
    if let Ok(target) = HeaderValue::from_str(target) {
        response.headers_mut().insert(LOCATION, target);
    }
    response
}

/// The path without empty, `.` and `..` segments, as Go's router cleans it: a slash at the end stays.
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
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("//api/tags", "/api/tags"),
            ("/api/tags/", "/api/tags/"),
            ("//api//tags//", "/api/tags/"),
            ("/v1/../api/delete", "/api/delete"),
            ("/../..", "/"),
            ("//", "/"),
            ("/api/./chat", "/api/chat"),
            ("/api/nothing", "/api/nothing"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_route_of_ours_or_is_not_made() {
        let to = |method: &Method, uri: &str| {
            let response = redirect(method, &uri.parse().ok()?, "")?;
            let location = response.headers().get(LOCATION)?.to_str().ok()?.to_owned();
            Some((response.status().as_u16(), location))
        };
        let (get, post) = (Method::GET, Method::POST);
        assert_eq!(to(&get, "/api/tags/?a=b"), Some((301, "/api/tags?a=b".to_owned())));
        assert_eq!(to(&Method::HEAD, "/api/tags/"), Some((307, "/api/tags".to_owned())));
        assert_eq!(to(&post, "/api/chat/"), Some((307, "/api/chat".to_owned())));
        assert_eq!(to(&post, "//api/chat"), Some((307, "/api/chat".to_owned())));
        assert_eq!(to(&get, "//api//tags/"), Some((307, "/api/tags/".to_owned())));
        assert_eq!(to(&get, "/v1/models/"), Some((301, "/v1/models".to_owned())));
        for (method, uri) in [
            (&get, "/api/chat/"),
            (&get, "/"),
            (&get, "//evil.example"),
            (&get, "//evil.example/"),
            (&get, "/\\evil.example/"),
            (&get, "//\\evil.example"),
            (&get, "/api/nothing/"),
            (&Method::CONNECT, "//api/tags"),
        ] {
            assert_eq!(to(method, uri), None, "{method} {uri}");
        }
        assert_eq!(to(&get, "/api/tags//evil.example/.."), Some((307, "/api/tags".to_owned())));
    }

    #[test]
    fn the_most_special_route_counts() {
        assert_eq!(methods("/api/experimental/web_search"), Some("POST"));
        assert_eq!(methods("/api/experimental/model-recommendations"), Some("GET"));
        assert_eq!(methods("/v1/models/"), None);
        assert_eq!(methods("/v1/models/a/b"), None);
        assert_eq!(methods("/v1/models/a"), Some("GET"));
        assert!(takes("/api/blobs/sha256:0", &Method::HEAD) && !takes("/api/blobs/sha256:0", &Method::GET));
    }
}
