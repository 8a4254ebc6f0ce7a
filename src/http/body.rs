//! Reading a request's body: bounded in size and time, and only when somebody may send one.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;

use crate::domain::{Fault, FaultClass};
use crate::gateway::ReadBody;

/// A body that has not been read yet.
pub(super) struct Unread {
    encodings: Vec<HeaderValue>,
    /// The length it says it has.
    announced: Option<usize>,
    body: Body,
    patience: Duration,
}

impl Unread {
    /// The body that came with these headers, to be read within `patience`.
    pub(super) fn new(headers: &HeaderMap, body: Body, patience: Duration) -> Self {
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let encodings = headers.get_all(CONTENT_ENCODING).iter().cloned().collect();
        Self { encodings, announced, body, patience }
    }
}

impl ReadBody for Unread {
    fn read(self: Box<Self>, most: usize) -> BoxFuture<'static, Result<Bytes, Fault>> {
        Box::pin(async move {
            self.encodings.iter().try_for_each(plain)?;
            let announced = self.announced;
            if let Some(announced) = announced
                && announced > most
            {
                return Err(too_large(announced, most));
            }
            match tokio::time::timeout(self.patience, collect(self.body, announced.unwrap_or(0), most)).await {
                Ok(read) => read,
                Err(_) => Err(Fault::new(
                    FaultClass::TooSlow,
                    format!("the request body did not arrive within {} s", self.patience.as_secs()),
                )),
            }
        })
    }
}

async fn collect(mut body: Body, announced: usize, most: usize) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Fault::new(FaultClass::BadRequest, "the request body ended early or is not valid HTTP")
                .detail(error.to_string())
        })?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = whole.len() + first.as_ref().map_or(0, Bytes::len) + data.len();
        if so_far > most {
            return Err(too_large(so_far, most));
        }
        match first.take() {
            // most bodies come in one piece and need no copy
            None if whole.is_empty() => first = Some(data),
            None => whole.extend_from_slice(&data),
            Some(earlier) => {
                whole.reserve(announced.max(earlier.len() + data.len()).min(most));
                whole.extend_from_slice(&earlier);
                whole.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

fn plain(encoding: &HeaderValue) -> Result<(), Fault> {
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
    if encoding.is_empty() || encoding.eq_ignore_ascii_case("identity") {
        return Ok(());
    }
    let text = format!("request bodies with Content-Encoding {encoding:?} are not accepted: send plain JSON");
    Err(Fault::new(FaultClass::Encoded, text).at("Content-Encoding"))
}

fn too_large(size: usize, most: usize) -> Fault {
    let text = format!(
        "the request body has at least {size} bytes, this application may send {most} (max_body): send less, \
         or ask the operator to raise it"
    );
    Fault::new(FaultClass::TooLarge, text)
}
