//! What is left of a request's body once its answer is known.
//!
//! A refusal often comes before the body was read. hyper then writes the answer as one that keeps the connection, and
//! closes it: the caller's next request on it would fail without a reply. So the rest is read and dropped when it is
//! short, as Go's server does, and else the answer says that the connection closes. Nothing of it is kept in memory.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};

/// Most that is read of it. A longer rest costs the caller a connection.
const MOST: u64 = 4 << 20;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a body goes that was dropped before its end.
pub(super) struct Leftover {
    home: Arc<Mutex<Option<Incoming>>>,
    /// The caller waits for `100 Continue` before it sends anything.
    waits: bool,
}

/// A body that comes back.
struct Lent {
    body: Option<Incoming>,
    home: Arc<Mutex<Option<Incoming>>>,
}

impl Leftover {
    /// The request with a body that comes back here when it is not read to its end.
    pub(super) fn lend(request: Request<Incoming>) -> (Request<Body>, Option<Self>) {
        if hyper::body::Body::is_end_stream(request.body()) {
            return (request.map(Body::new), None);
        }
        let leftover = Self { home: Arc::default(), waits: request.headers().contains_key(EXPECT) };
        let home = Arc::clone(&leftover.home);
        (request.map(|body| Body::new(Lent { body: Some(body), home })), Some(leftover))
    }

    /// Makes the answer true to what becomes of the connection.
    pub(super) async fn settle(self, mut response: Response) -> Response {
        let left = self.home.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(body) = left else { return response };
        let hopeless = self.waits || response.status() == StatusCode::REQUEST_TIMEOUT;
        if hopeless || !drained(body).await {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Reads the rest; whether that was all.
async fn drained(mut body: Incoming) -> bool {
    if hyper::body::Body::size_hint(&body).lower() > MOST {
        return false;
    }
    let all = async {
        let mut seen = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            seen += frame.data_ref().map_or(0, Bytes::len) as u64;
            if seen > MOST {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or(false)
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), hyper::body::Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !hyper::body::Body::is_end_stream(body)) {
            *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
