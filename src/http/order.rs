//! The order of a reply's headers, as Go's server writes them: by name, then date, length and connection.

use axum::response::Response;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};

use crate::domain::{Clock, date};

/// Puts the headers in order and the date where it belongs.
pub(super) fn ordered(mut response: Response, clock: &Clock) -> Response {
    let mut headers = std::mem::take(response.headers_mut());
    let last = [CONTENT_LENGTH, CONNECTION].map(|name| (headers.remove(&name), name));
    let mut names: Vec<HeaderName> = headers.keys().cloned().collect();
    names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    let mut sorted = HeaderMap::with_capacity(names.len() + 2);
    for name in names {
        for value in headers.get_all(&name) {
            sorted.append(name.clone(), value.clone());
        }
    }
    let now = date(clock.wall()).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(now) = HeaderValue::try_from(now) {
        sorted.insert(DATE, now);
    }
    for (value, name) in last {
        if let Some(value) = value {
            sorted.insert(name, value);
        }
    }
    *response.headers_mut() = sorted;
    response
}
