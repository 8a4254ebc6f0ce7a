//! What `http` hands over.

use std::net::IpAddr;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Uri};

use crate::domain::{Fault, Surface};

/// Who is calling, as far as the connection and the headers say.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The peer's address.
    pub peer: IpAddr,
    /// The method.
    pub method: Method,
    /// The target, without the key that was in its path.
    pub target: Uri,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The key from a `/k/<key>/…` path.
    pub path_key: Option<String>,
}

/// A body that is read only once the caller is known.
pub trait ReadBody: Send {
    /// Reads at most `most` bytes.
    ///
    /// # Errors
    /// `TooLarge`, `TooSlow` or `BadRequest`.
    fn read(self: Box<Self>, most: usize) -> BoxFuture<'static, Result<Bytes, Fault>>;
}

/// A request for inference.
pub struct Call {
    /// Where it came in.
    pub surface: Surface,
    /// Who is calling.
    pub caller: Caller,
    /// Its body.
    pub body: Box<dyn ReadBody>,
}
