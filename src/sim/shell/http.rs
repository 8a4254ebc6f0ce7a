//! Replies as Go's server and gin write them: header order, framing by size, CORS and the `Host` check.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ALLOW, CONTENT_TYPE, DATE, HOST, HeaderName, LOCATION, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use jiff::Timestamp;

use crate::sim::go::json;

/// A body on its way out; an error closes the connection in the middle of it.
pub(super) type OutBody = UnsyncBoxBody<Bytes, io::Error>;

/// A reply.
pub(super) type Reply = Response<OutBody>;

/// Bytes up to which Go's server knows the length of what a handler wrote.
const LENGTH_KNOWN: usize = 2048;

/// A whole body.
pub(super) fn reply(status: StatusCode, content_type: Option<&'static str>, body: impl Into<Bytes>) -> Reply {
    let body = body.into();
    let out = if body.len() <= LENGTH_KNOWN {
        Full::new(body).map_err(|never| match never {}).boxed_unsync()
    } else {
        chunks(stream::once(async move { Ok(body) }))
    };
    with_type(status, content_type, out)
}

/// JSON lines.
pub(super) fn lines(lines: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Reply {
    with_type(StatusCode::OK, Some("application/x-ndjson"), chunks(lines))
}

/// A JSON reply that is complete: a refusal, or an answer that needs no more work.
#[derive(Debug)]
pub(super) struct Final {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

impl From<Final> for Reply {
    fn from(whole: Final) -> Self {
        reply(whole.status, Some("application/json; charset=utf-8"), whole.body)
    }
}

/// `{"error": text}`.
pub(super) fn refuse(status: StatusCode, text: &str) -> Final {
    Final { status, body: json(&serde_json::json!({ "error": text })) }
}

/// 200 with a JSON body.
pub(super) fn ok(body: String) -> Final {
    Final { status: StatusCode::OK, body }
}

/// A redirect to `location`; only those who read get a body.
pub(super) fn redirect(method: &Method, status: StatusCode, location: &str) -> Reply {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let words = status.canonical_reason().unwrap_or_default();
    let body = if reads { format!("<a href=\"{location}\">{words}</a>.\n\n") } else { String::new() };
    let mut reply = reply(status, reads.then_some("text/html; charset=utf-8"), body);
    if let Ok(value) = HeaderValue::from_str(location) {
        reply.headers_mut().insert(LOCATION, value);
    }
    reply
}

/// 405 with the methods that would do.
pub(super) fn not_allowed(methods: &str) -> Reply {
    let mut reply = reply(StatusCode::METHOD_NOT_ALLOWED, Some("text/plain"), "405 method not allowed");
    if let Ok(value) = HeaderValue::from_str(methods) {
        reply.headers_mut().insert(ALLOW, value);
    }
    reply
}

fn chunks(items: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> OutBody {
    BodyExt::boxed_unsync(StreamBody::new(items.map(|item| item.map(Frame::data))))
}

fn with_type(status: StatusCode, content_type: Option<&'static str>, body: OutBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    if let Some(content_type) = content_type {
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    reply
}

/// Where a request stands with the browser's rules.
pub(super) enum Origin {
    /// Not from a page, or from one of this very host.
    None,
    /// From a page that may.
    Allowed(HeaderValue),
    /// From a page that may not.
    Foreign,
}

/// Reads `Origin` as Ollama's default `OLLAMA_ORIGINS` does.
pub(super) fn origin(headers: &HeaderMap) -> Origin {
    let Some(value) = headers.get(ORIGIN) else { return Origin::None };
    let text = value.to_str().unwrap_or("?");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if text.strip_prefix("http://").or(text.strip_prefix("https://")) == Some(host) {
        return Origin::None;
    }
    let own = ["app://", "file://", "tauri://", "vscode-webview://", "vscode-file://"];
    let local = text.strip_prefix("http://").or(text.strip_prefix("https://")).is_some_and(|rest| {
        let name = rest.rsplit_once(':').map_or(rest, |(name, _)| name);
        matches!(name, "localhost" | "127.0.0.1" | "0.0.0.0")
    });
    match local || own.iter().any(|scheme| text.starts_with(scheme)) {
        true => Origin::Allowed(value.clone()),
        false => Origin::Foreign,
    }
}

/// Whether a server bound to loopback serves this `Host`.
pub(super) fn host_allowed(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if let Ok(address) = name.parse::<IpAddr>() {
        return match address {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_unspecified(),
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unspecified(),
        };
    }
    let local = [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end));
    name.is_empty() || name == "localhost" || local
}

/// The answer to a browser's question before it asks.
pub(super) fn preflight(methods: &str, origin: HeaderValue) -> Reply {
    let mut reply = reply(StatusCode::NO_CONTENT, None, "");
    let headers = reply.headers_mut();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    };
    put(
        ACCESS_CONTROL_ALLOW_HEADERS,
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,\
         X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,\
         X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,\
         X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout",
    );
    put(ACCESS_CONTROL_ALLOW_METHODS, "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS");
    put(ACCESS_CONTROL_MAX_AGE, "43200");
    put(ALLOW, methods);
    for asked in ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"] {
        put(VARY, asked);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    reply
}

/// Marks an ordinary reply to a page that may read it.
pub(super) fn allow_origin(reply: &mut Reply, origin: HeaderValue) {
    reply.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    reply.headers_mut().insert(VARY, HeaderValue::from_static("Origin"));
}

/// Headers in Go's order (by name), the date last; hyper adds length or chunking after it.
pub(super) fn finish(reply: Reply, now: Timestamp) -> Reply {
    let (mut parts, body) = reply.into_parts();
    let mut names: Vec<HeaderName> = parts.headers.keys().cloned().collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    let mut sorted = HeaderMap::new();
    for name in names {
        for value in parts.headers.get_all(&name) {
            sorted.append(name.clone(), value.clone());
        }
    }
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(value) = HeaderValue::from_str(&date) {
        sorted.insert(DATE, value);
    }
    parts.headers = sorted;
    Response::from_parts(parts, body)
}
