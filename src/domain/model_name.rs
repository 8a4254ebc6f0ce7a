//! Model names as Ollama reads them, reduced to one canonical form before anything is authorised.
//!
//! Ollama treats `gemma:a`, `GEMMA:A`, `library/gemma:a`, `registry.ollama.ai/library/gemma:a`,
//! `https://registry.ollama.ai/library/gemma:a` and `gemma:a:local` as one model (recording `name_forms`,
//! `ollama-facts` 6), so policies and look-ups must too. A name that Ollama would send off-site
//! (`:cloud`, `…-cloud`) is recognised here and refused by policy.

use std::fmt;

const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// A canonical model name: lower case, default host, namespace filled in, tag always present.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName {
    host: Box<str>,
    namespace: Box<str>,
    model: Box<str>,
    tag: Box<str>,
}

/// Ollama would answer `invalid model name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid model name")
    }
}

impl std::error::Error for InvalidName {}

impl ModelName {
    /// Reads `[scheme://][host/][namespace/]model[:tag][:local]` in any letter case.
    ///
    /// # Errors
    /// [`InvalidName`] when a part is empty, too long, or holds a character Ollama does not allow.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let lower = text.to_ascii_lowercase();
        let [host, namespace, model, tag] = parts(&lower)?.map(Box::from);
        Ok(Self { host, namespace, model, tag })
    }

    /// Whether [`ModelName::parse`] takes it.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        parts(text).is_ok()
    }

    /// Whether Ollama would send a request for it to ollama.com (`:cloud`, or a tag that ends in `-cloud`).
    #[must_use]
    pub fn is_cloud(&self) -> bool {
        &*self.tag == "cloud" || self.tag.ends_with("-cloud")
    }

    /// The namespace: `owned_by` of `/v1/models`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name with host, namespace and tag written out, as some of Ollama's errors do.
    #[must_use]
    pub fn full(&self) -> String {
        format!("{}/{}/{}:{}", self.host, self.namespace, self.model, self.tag)
    }
}

/// Host, namespace, model and tag as written, defaults filled in.
fn parts(text: &str) -> Result<[&str; 4], InvalidName> {
    const LOCAL: &str = ":local";
    let text = text.trim();
    let rest = text.len().checked_sub(LOCAL.len()).and_then(|at| text.split_at_checked(at));
    let rest = rest.filter(|(_, end)| end.eq_ignore_ascii_case(LOCAL)).map_or(text, |(rest, _)| rest);
    // a colon after the last slash starts the tag; one before it belongs to the host's port
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (rest, TAG),
    };
    let mut parts = path.rsplitn(3, '/');
    let model = parts.next().unwrap_or_default();
    let namespace = parts.next().unwrap_or(NAMESPACE);
    // a scheme stands before a host, and only there
    let host = parts.next().map(|host| host.split_once("://").map_or(host, |(_, host)| host));
    let sound = host.is_none_or(|host| is_part(host, 350, b".:"))
        && is_part(namespace, 80, b"")
        && is_part(model, 80, b".")
        && is_part(tag, 80, b".");
    if sound { Ok([host.unwrap_or(HOST), namespace, model, tag]) } else { Err(InvalidName) }
}

fn is_part(text: &str, longest: usize, extra: &[u8]) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || extra.contains(&b);
    first && text.len() <= longest && bytes.all(plain)
}

/// The short form Ollama lists: default host and namespace left out, the tag always there.
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if &*self.host != HOST {
            write!(f, "{}/{}/", self.host, self.namespace)?;
        } else if &*self.namespace != NAMESPACE {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}:{}", self.model, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_name_is_one_name() {
        for spelling in [
            "gemma:a",
            " GEMMA:A ",
            "library/gemma:a",
            "registry.ollama.ai/library/gemma:a",
            "HTTPS://registry.ollama.ai/library/GEMMA:A",
            "gemma:a:local",
        ] {
            assert_eq!(ModelName::parse(spelling).map(|n| n.to_string()), Ok("gemma:a".into()), "{spelling}");
        }
        assert_eq!(ModelName::parse("gemma").map(|n| n.to_string()), Ok("gemma:latest".into()));
        assert_eq!(ModelName::parse("u/x").map(|n| n.to_string()), Ok("u/x:latest".into()));
        assert_eq!(
            ModelName::parse("localhost:5000/library/x:y").map(|n| n.to_string()),
            Ok("localhost:5000/library/x:y".into())
        );
    }

    #[test]
    fn broken_names_are_refused() {
        for broken in ["", ":", "::", "a/b/c/d/e:f:g", "/x", "x:", "a b", "x/../y", "é", "-x"] {
            assert_eq!(ModelName::parse(broken), Err(InvalidName), "{broken}");
        }
    }

    #[test]
    fn cloud_names_are_recognised_in_any_case() {
        for name in ["gpt-oss:120b-cloud", "x:CLOUD", "library/x:20b-Cloud"] {
            assert!(ModelName::parse(name).is_ok_and(|n| n.is_cloud()), "{name}");
        }
        assert!(ModelName::parse("cloud:latest").is_ok_and(|n| !n.is_cloud()));
    }
}
