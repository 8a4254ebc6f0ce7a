//! TLS towards applications: the certificate, read anew when its files change, and what is agreed on by ALPN.
//!
//! Owns the files' reading and what is wrong with them; how long a certificate is good is `certificate`'s. It does not own
//! the handshake's time limit (`connection`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::domain::Clock;
use crate::telemetry::{Gauges, Registry};

use super::certificate::{Standing, Validity};

/// How often the files are looked at; they are believed when two looks see the same.
const LOOK: Duration = Duration::from_secs(1);

/// A certificate and its files.
#[derive(Clone)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    chosen: Arc<Chosen>,
    loaded: Arc<Pair>,
    /// Of the certificate in use; `None` where its dates cannot be read.
    validity: Option<Validity>,
    pub(super) acceptor: TlsAcceptor,
}

#[derive(Debug)]
struct Chosen(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// How it was with the certificate when that was last said; unknown where its dates cannot be read.
type Said = Option<Standing>;

/// Both files' bytes, as they were at one look.
#[derive(PartialEq, Eq)]
struct Pair(Vec<u8>, Vec<u8>);

impl Tls {
    /// Reads a certificate with its chain, and its key, from PEM files.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, String> {
        let provider = Arc::new(default_provider());
        let pair = read(cert, key)?;
        let certified = certified(&provider, &pair, cert, key)?;
        let validity = Validity::of(&certified.cert);
        let chosen = Arc::new(Chosen(ArcSwap::from_pointee(certified)));
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder =
            builder.with_safe_default_protocol_versions().map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&chosen) as _;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (cert, key) = (cert.to_owned(), key.to_owned());
        Ok(Self { cert, key, provider, chosen, loaded: Arc::new(pair), validity, acceptor })
    }

    /// What is wrong with the certificate's dates `now` (since 1970), if anything is.
    #[must_use]
    pub fn concern(&self, now: Duration) -> Option<String> {
        let why = match self.validity {
            Some(validity) => validity.concern(validity.standing(now))?,
            None => "its dates cannot be read, so nobody is warned of its end".to_owned(),
        };
        Some(format!("the certificate {}: {why}", self.cert.display()))
    }

    /// Takes a new certificate when the files have changed, until `stop`. One that cannot be used is reported, and the one
    /// in use stays. Warns of the end of the one in use: at once, when it is replaced, and then once a day.
    pub async fn follow(mut self, clock: Clock, registry: Registry, stop: CancellationToken) {
        let ends = registry.gauges(
            "tls_not_after_timestamp_seconds",
            "When the certificate in use ends, in seconds since 1970; 0 where that cannot be read",
            [],
        );
        let mut said = self.watch(None, &clock, &ends);
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut used, mut seen) = (Arc::clone(&self.loaded), None);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            said = self.watch(said, &clock, &ends);
            let (cert, key) = (self.cert.clone(), self.key.clone());
            // a file that is missing for a moment is being replaced
            let Ok(Ok(now)) = tokio::task::spawn_blocking(move || read(&cert, &key)).await else { continue };
            if *used == now {
                seen = None;
            } else if seen.as_ref() == Some(&now) {
                if self.replace(&now) {
                    said = self.watch(None, &clock, &ends);
                }
                used = Arc::new(now);
            } else {
                seen = Some(now);
            }
        }
    }

    /// Says how it is with the certificate, if that is not what was `said` before.
    fn watch(&self, said: Option<Said>, clock: &Clock, ends: &Gauges<0>) -> Option<Said> {
        let now = clock.wall();
        let standing = self.validity.map(|validity| validity.standing(now));
        if said != Some(standing) {
            ends.set([], self.validity.map_or(0, |validity| validity.ends.as_secs()));
            if let Some(why) = self.concern(now) {
                tracing::warn!(%why, "clients refuse the certificate, now or soon");
            }
        }
        Some(standing)
    }

    /// Whether it could.
    fn replace(&mut self, pair: &Pair) -> bool {
        match certified(&self.provider, pair, &self.cert, &self.key) {
            Ok(certified) => {
                self.validity = Validity::of(&certified.cert);
                self.chosen.0.store(Arc::new(certified));
                tracing::info!(file = %self.cert.display(), "a new certificate is in use");
                true
            }
            Err(why) => {
                tracing::error!(%why, "the changed certificate cannot be used; the one before stays");
                false
            }
        }
    }
}

fn read(cert: &Path, key: &Path) -> Result<Pair, String> {
    let bytes = |what: &str, file: &Path| {
        std::fs::read(file).map_err(|error| format!("the {what} {} cannot be read: {error}", file.display()))
    };
    Ok(Pair(bytes("certificate", cert)?, bytes("private key", key)?))
}

fn certified(provider: &CryptoProvider, pair: &Pair, cert: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let Pair(chain, secret) = pair;
    let wrong = |what: &str, file: &Path, why: &dyn std::fmt::Display| {
        format!("the {what} {} cannot be used: {why}; it must be a PEM file", file.display())
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong("certificate", cert, &error))?;
    if chain.is_empty() {
        return Err(wrong("certificate", cert, &"it holds no certificate"));
    }
    // the error of a PEM reader never holds the key
    let secret = PrivateKeyDer::from_pem_slice(secret).map_err(|error| wrong("private key", key, &error))?;
    let secret = provider.key_provider.load_private_key(secret).map_err(|error| wrong("private key", key, &error))?;
    let certified = CertifiedKey::new(chain, secret);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(format!("the private key {} is not that of the certificate {}", key.display(), cert.display()))
        }
        Err(error) => Err(wrong("certificate", cert, &error)),
    }
}
