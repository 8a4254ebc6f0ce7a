//! Who is calling.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;

use crate::gateway::Caller;

use super::path_key::PathKey;

/// The caller as an extractor; it never fails.
pub(super) struct From(pub(super) Caller);

impl<S: Sync> FromRequestParts<S> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
        let key = parts.extensions.get::<PathKey>().map(|PathKey(key)| key.clone());
        Ok(Self(Caller {
            // no peer address would mean a caller that is certainly not local
            peer: peer.unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)),
            method: parts.method.clone(),
            target: parts.uri.clone(),
            // nobody behind looks at them: a body is told what it needs (`Unread`)
            headers: std::mem::take(&mut parts.headers),
            path_key: key,
        }))
    }
}
