//! Requests that the Ollama client signs (`OLLAMA_AUTH=1`): what is signed, and what makes a signature count.
//!
//! The text is `METHOD,PATH?ts=SECONDS`, the path without the base URL's own; the body is not part of it. Owns the order of
//! the questions: is it fresh, is it true, whose is it, was it used before. An unknown key is told from a false signature
//! only to those who hold its private half.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use url::form_urlencoded;

use crate::domain::{Fault, FaultClass};

use super::caller::Target;
use super::keyring::{Holder, Keyring};
use super::principal::Principal;
use super::ssh::{Signature, SshKey, read_signed};
use super::uses::{Mark, REPEAT, Spent, Uses, WINDOW};

/// Whom a public key stands for, and what it signed lately.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) holder: Holder,
    pub(super) uses: Arc<Uses>,
}

/// A request with a signature, believed by nobody yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signed<'a> {
    key: SshKey,
    signature: Signature,
    target: Target<'a>,
}

impl<'a> Signed<'a> {
    /// Reads `Authorization`; `None` when it is no signature.
    pub(super) fn read(value: &str, target: Target<'a>) -> Option<Self> {
        let (key, signature) = read_signed(value)?;
        Some(Self { key, signature, target })
    }

    /// Who signed it, at `now` (since 1970).
    pub(super) fn prove(&self, keyring: &Keyring, peer: IpAddr, now: Duration) -> Result<Principal, Fault> {
        let at = self.time()?;
        fresh(at, now)?;
        let Target { method, path, .. } = self.target;
        let text = format!("{method},{path}?ts={}", at.as_secs());
        if !self.key.verifies(text.as_bytes(), &self.signature) {
            let text = format!(
                "the signature in header `Authorization` is not one of `{method},{path}?ts={}` by that public key",
                at.as_secs()
            );
            return Err(refusal(text).detail(format!("false signature of {:?}", self.key)));
        }
        keyring.signer(&self.key, |signer, opened| {
            let principal = match signer {
                Some(signer) => signer.holder.principal(now),
                None => Err("unknown public key".to_owned()),
            };
            let principal = principal.map_err(|why| self.unknown(why))?;
            // what came before this process began may have been used then, and nobody remembers
            if at + REPEAT < opened {
                let text = "the request was signed before this gateway began to serve, so it may be a repetition: send a \
                            new one (if this lasts, set the caller's clock)";
                return Err(refusal(text.to_owned()));
            }
            let noted = signer.map_or(Ok(()), |signer| signer.uses.note(mark(&text), peer, now, at + WINDOW));
            noted.map_err(spent)?;
            Ok(principal)
        })
    }

    /// The time in the query, whole seconds since 1970; once, and written as it is signed.
    fn time(&self) -> Result<Duration, Fault> {
        let mut times = form_urlencoded::parse(self.target.query.unwrap_or_default().as_bytes())
            .filter(|(name, _)| name == "ts")
            .map(|(_, value)| value);
        let (first, more) = (times.next(), times.next());
        let seconds = first.and_then(|text| text.parse::<u64>().ok().filter(|ts| ts.to_string() == text));
        match (seconds, more) {
            // a time beyond any calendar must not overflow
            (Some(seconds), None) if seconds < 1 << 40 => Ok(Duration::from_secs(seconds)),
            _ => Err(refusal(
                "the request is signed, but its query has not one `ts` with the seconds since 1970: sign as the Ollama \
                 client does"
                    .to_owned(),
            )),
        }
    }

    fn unknown(&self, detail: String) -> Fault {
        let text = format!(
            "the public key {} that signed this request is not registered here, or no longer: ask the operator for \
             `gaucho key add-ssh APP 'ssh-ed25519 {}'`",
            self.key.fingerprint(),
            self.key.base64()
        );
        refusal(text).detail(detail)
    }
}

fn fresh(at: Duration, now: Duration) -> Result<(), Fault> {
    if at.abs_diff(now) <= WINDOW {
        return Ok(());
    }
    let side = if at < now { "behind" } else { "ahead of" };
    Err(refusal(format!(
        "the request was signed at {} s since 1970, which is {} s {side} the gateway's clock; {} s are allowed: set the \
         caller's clock, or send a new request",
        at.as_secs(),
        at.abs_diff(now).as_secs(),
        WINDOW.as_secs()
    )))
}

fn mark(text: &str) -> Mark {
    let mut mark = Mark::default();
    mark.copy_from_slice(&Sha256::digest(text)[..16]);
    mark
}

fn spent(why: Spent) -> Fault {
    match why {
        Spent::Replayed => refusal(
            "this very signature was used before, from another address or more than a moment ago: a request has to be \
             signed anew"
                .to_owned(),
        )
        .detail("replayed signature"),
        Spent::Crowded => Fault::new(
            FaultClass::RateLimited,
            "this public key has signed too many different requests within a minute: use a key (gaucho key create) for so \
             many",
        )
        .retry(WINDOW),
    }
}

fn refusal(text: String) -> Fault {
    Fault::new(FaultClass::Unauthenticated, text)
}
