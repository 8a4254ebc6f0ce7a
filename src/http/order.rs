//! The order of a reply's headers, as Go's server writes them: by name, then date, length and connection.

use axum::response::Response;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};

use crate::domain::{Clock, date};

/// Puts the headers in order and the date where it belongs.
pub(super) fn ordered(mut response: Response, clock: &Clock) -> Response {
    let mut headers = std::mem::take(response.headers_mut());
    // a `keep-alive` is a handler's own, which Go sorts like any other
    let closes = headers.get(CONNECTION).is_some_and(|value| value != "keep-alive");
    let connection = if closes { headers.remove(CONNECTION) } else { None };
    let last = [(headers.remove(CONTENT_LENGTH), CONTENT_LENGTH), (connection, CONNECTION)];
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
