//! The key that some clients must carry in the path: `/k/<key>/…`.
//!
//! Owns where it stands and what is left without it; whose it is, `identity` says.

use http::uri::PathAndQuery;
use http::{Request, Uri};

/// The key of a `/k/<key>/…` path.
#[derive(Clone)]
pub(super) struct PathKey(pub(super) String);

/// Takes the key out of `/k/<key>/…`, so that routes, logs and redirects see the rest only.
pub(super) fn lift_key<B>(request: &mut Request<B>) {
    let Some(rest) = request.uri().path().strip_prefix("/k/") else { return };
    let (key, path) = rest.split_once('/').unwrap_or((rest, ""));
    let key = PathKey(key.to_owned());
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let Ok(target) = PathAndQuery::try_from(format!("/{path}{query}")) else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(target);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(key);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn lifted(uri: &str) -> (String, Option<String>) {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        lift_key(&mut request);
        let key = request.extensions().get::<PathKey>().map(|key| key.0.clone());
        (request.uri().to_string(), key)
    }

    #[test]
    fn the_key_leaves_the_path() {
        assert_eq!(lifted("/k/gk_1_x/api/chat?a=b"), ("/api/chat?a=b".into(), Some("gk_1_x".into())));
        assert_eq!(lifted("/k/gk_1_x"), ("/".into(), Some("gk_1_x".into())));
        assert_eq!(lifted("/k/gk_1_x/"), ("/".into(), Some("gk_1_x".into())));
        assert_eq!(lifted("/k/gk_1_x//api/tags"), ("//api/tags".into(), Some("gk_1_x".into())));
        assert_eq!(lifted("/k//api/chat"), ("/api/chat".into(), Some(String::new())));
        assert_eq!(lifted("/api/chat"), ("/api/chat".into(), None));
    }
}
