//! Settings of the application listener towards browsers, and its certificate: forms, sources, what goes together.

use std::path::{Path, PathBuf};

use super::document::{SettingsDocument, TlsDocument};
use super::forms::Textual;
use super::sources::{Overrides, Sources};
use crate::policy::{Placed, Problem};

/// What web pages may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Web {
    /// Origins that are welcome beside those of this machine, each with at most one `*`.
    pub origins: Vec<String>,
    /// Names under which the gateway may be called while it listens on loopback only, in lower case, beside this machine's.
    pub hosts: Vec<String>,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and what leads to its issuer, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// An origin, or a pattern of origins.
#[derive(Debug, Clone)]
pub(super) struct Origin(String);

impl Textual for Origin {
    const ALLOWED: &'static str = "an origin as browsers send it, such as \"https://chat.example\" or \
                                   \"http://*.corp.example:8080\", with at most one '*'; \"*\" alone stands for any page";

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        // an origin has no path, and a scheme unless a star stands for it; what browsers never send would never match
        let rest = text.split_once("://").map(|(_, rest)| rest);
        let shaped = rest.map_or(text.starts_with('*'), |rest| !rest.is_empty() && !rest.contains('/'));
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        (shaped && plain && text.matches('*').count() <= 1).then(|| Self(text.to_owned()))
    }
}

/// A host's name.
#[derive(Debug, Clone)]
pub(super) struct HostName(String);

impl Textual for HostName {
    const ALLOWED: &'static str = "a host's name without scheme and port, such as \"gateway.corp.example\"";

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        (!text.is_empty() && text.bytes().all(known)).then(|| Self(text.to_ascii_lowercase()))
    }
}

/// Flag or environment instead of the file's lists; `OLLAMA_ORIGINS` where nothing is said.
pub(super) fn web(sources: &mut Sources<'_>, overrides: &Overrides, written: &SettingsDocument) -> Web {
    let flag = |list: &[String]| (!list.is_empty()).then(|| list.join(","));
    let (origins, hosts) = (flag(&overrides.origins), flag(&overrides.hosts));
    let origins = sources
        .pick(("--origins", origins.as_deref()), "GAUCHO_ORIGINS", list::<Origin>, Origin::ALLOWED)
        .or_else(|| written.origins.as_ref().map(values))
        .or_else(|| sources.pick(("", None), "OLLAMA_ORIGINS", list::<Origin>, Origin::ALLOWED));
    let hosts = sources
        .pick(("--hosts", hosts.as_deref()), "GAUCHO_HOSTS", list::<HostName>, HostName::ALLOWED)
        .or_else(|| written.hosts.as_ref().map(values));
    Web {
        origins: origins.unwrap_or_default().into_iter().map(|origin| origin.0).collect(),
        hosts: hosts.unwrap_or_default().into_iter().map(|host| host.0).collect(),
    }
}

/// Reads a list; commas separate.
fn list<T: Textual>(text: &str) -> Option<Vec<T>> {
    text.split(',').filter(|part| !part.trim().is_empty()).map(T::from_text).collect()
}

fn values<T: Clone>(written: &Placed<Vec<Placed<T>>>) -> Vec<T> {
    written.value.iter().map(|placed| placed.value.clone()).collect()
}

/// Where certificate and key are; both or none.
pub(super) fn tls(
    sources: &mut Sources<'_>,
    overrides: &Overrides,
    written: Option<&Placed<TlsDocument>>,
    beside: &Path,
) -> Option<TlsFiles> {
    let said = |flag: &Option<PathBuf>, variable: &str, written: Option<&Placed<String>>| {
        (flag.clone())
            .or_else(|| sources.variable(variable).map(PathBuf::from))
            .or_else(|| written.map(|path| beside.join(&path.value)))
    };
    let document = written.map(|placed| &placed.value);
    let cert = said(&overrides.tls_cert, "GAUCHO_TLS_CERT", document.and_then(|tls| tls.cert.as_ref()));
    let key = said(&overrides.tls_key, "GAUCHO_TLS_KEY", document.and_then(|tls| tls.key.as_ref()));
    match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) if written.is_none() => None,
        (cert, _) => {
            let missing = if cert.is_none() { "cert" } else { "key" };
            let message = format!("tls.{missing} is missing: TLS needs a certificate (tls.cert) and its key (tls.key)");
            sources.problems.push(Problem::whole("settings", &format!("tls.{missing}"), "", message));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send_or_patterns_of_it() {
        for good in
            ["https://chat.example", "http://*.corp.example:8080", "*", "*.example", "chrome-extension://*", "app://x"]
        {
            assert!(Origin::from_text(good).is_some(), "{good}");
        }
        for bad in ["", "chat.example", "https://", "https://a/", "https://a/b", "http://*.*", "https://a b", "null"] {
            assert!(Origin::from_text(bad).is_none(), "{bad}");
        }
        assert!(HostName::from_text("Gw.corp.example").is_some_and(|name| name.0 == "gw.corp.example"));
        assert!(HostName::from_text("gw:80").is_none() && HostName::from_text("http://gw").is_none());
    }
}
