//! What a request says about its caller, before anything is believed.
//!
//! Owns the reading of headers: which carry a key, which betray a proxy. Judging them is `door`'s. A header that may
//! come once and comes twice is refused, because two readers would pick different ones.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};

use crate::domain::{Fault, FaultClass};

use super::key::Secret;
use super::keyring::HOW;
use super::signed::Signed;

/// Headers by which proxies say that a request is not their own.
const PROXIES: [&str; 6] = ["forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"];
const PROXY_PREFIX: &str = "x-forwarded";

/// What a request is for, as its signer knew it: without the key that was in its path.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, as sent.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
}

/// What is known of a caller.
#[derive(Debug, Clone, Copy)]
pub struct CallerFacts<'a> {
    /// The address at the other end of the connection.
    pub peer: IpAddr,
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<Secret<&'a str>>,
    /// The signature of `Authorization`, where it is one.
    pub(super) signed: Option<Signed<'a>>,
    /// `x-api-key`.
    pub x_api_key: Option<Secret<&'a str>>,
    /// The key of `/k/<key>/…`, percent-decoded.
    pub path_key: Option<Secret<&'a str>>,
    /// `Host`.
    pub host: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// Whether a proxy left its mark.
    pub forwarded: bool,
}

impl<'a> CallerFacts<'a> {
    /// Reads the headers of a request from `peer` to `target`.
    ///
    /// # Errors
    /// A header is there twice or is not plain text, or `Authorization` is neither `Bearer` nor a signature.
    pub fn read(
        peer: IpAddr,
        target: Target<'a>,
        headers: &'a HeaderMap,
        path_key: Option<&'a str>,
    ) -> Result<Self, Fault> {
        let (bearer, signed) = match text(headers, AUTHORIZATION.as_str())? {
            None => (None, None),
            Some(value) => proof(value, target)?,
        };
        Ok(Self {
            peer,
            bearer,
            signed,
            x_api_key: text(headers, "x-api-key")?.map(Secret::new),
            path_key: path_key.map(Secret::new),
            host: text(headers, HOST.as_str())?,
            origin: text(headers, ORIGIN.as_str())?,
            forwarded: headers
                .keys()
                .any(|name| name.as_str().starts_with(PROXY_PREFIX) || PROXIES.contains(&name.as_str())),
        })
    }

    /// The key that was presented, if any.
    ///
    /// # Errors
    /// Several places carry different keys.
    pub(super) fn credential(&self) -> Result<Option<Secret<&'a str>>, Fault> {
        let mut presented = [self.bearer, self.x_api_key, self.path_key].into_iter().flatten();
        let first = presented.next();
        if presented.any(|other| Some(other) != first) {
            return Err(Fault::new(
                FaultClass::Unauthenticated,
                "the request carries different keys in `Authorization`, `x-api-key` or its path: send one key only \
                 (some clients add `Authorization` by themselves when OLLAMA_API_KEY is set: unset it)",
            ));
        }
        Ok(first)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Fault> {
    let wrong = |what: &str| Fault::new(FaultClass::BadRequest, format!("header `{name}` {what}")).at(name);
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong("is there more than once: send it once"));
    }
    let text = HeaderValue::to_str(value).map_err(|_| wrong("holds bytes that are not plain ASCII text"))?;
    Ok(Some(text.trim()))
}

/// The token of `Bearer`, or a signature.
type Proof<'a> = (Option<Secret<&'a str>>, Option<Signed<'a>>);

fn proof<'a>(value: &'a str, target: Target<'a>) -> Result<Proof<'a>, Fault> {
    const SCHEME: &str = "bearer";
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case(SCHEME) {
        return Ok((Some(Secret::new(token.trim())), None));
    }
    if let Some(signed) = Signed::read(value, target) {
        return Ok((None, Some(signed)));
    }
    Err(Fault::new(
        FaultClass::Unauthenticated,
        format!(
            "header `Authorization` is not `Bearer KEY`, nor a whole signature as OLLAMA_AUTH=1 makes the Ollama client \
             send it (PUBLICKEY:SIGNATURE, ssh-ed25519); other schemes are not accepted. For a key {HOW}"
        ),
    ))
}
