//! Runner profiles: how each model is loaded, whoever asks.
//!
//! Owns which profile a model gets: its exact name's, else that of the narrowest pattern, else the empty one; one profile
//! applies whole, profiles are never mixed. It does not own what is done where a profile is silent (`scheduler`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::document::{KeepAlive, Placed, Problem, ProfileDocument};
use super::glob::Glob;
use crate::domain::ModelName;

/// How a model is loaded; what is absent is left to the server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunnerProfile {
    /// The name or pattern it was written for; empty for the built-in profile.
    pub source: String,
    /// Runner options to send, in Ollama's spelling (`num_ctx`, …, and `shift`, which is not among `options` on the wire).
    pub options: BTreeMap<&'static str, Value>,
    /// Requests admitted at once; only ever lowers what the server allows.
    pub num_parallel: Option<u32>,
    /// How long the model stays after its last request.
    pub keep_alive: Option<KeepAlive>,
    /// The profile for an endpoint into whose memory this one does not fit; it has no fallback of its own.
    pub fallback: Option<Box<RunnerProfile>>,
}

impl RunnerProfile {
    fn from_document(source: &str, document: &ProfileDocument) -> Self {
        let mut profile = Self {
            source: source.to_owned(),
            options: document.options(),
            num_parallel: document.num_parallel.as_ref().map(|placed| placed.value.small()),
            keep_alive: document.keep_alive.as_ref().map(|placed| placed.value),
            fallback: None,
        };
        profile.fallback = document.fallback.as_ref().map(|placed| {
            let mut smaller = profile.clone();
            smaller.options.extend(placed.value.options());
            let num_parallel = placed.value.num_parallel.as_ref().map(|placed| placed.value.small());
            smaller.num_parallel = num_parallel.or(smaller.num_parallel);
            smaller.keep_alive = placed.value.keep_alive.as_ref().map(|placed| placed.value).or(smaller.keep_alive);
            Box::new(smaller)
        });
        profile
    }
}

/// A fallback that says nothing, or asks for as much context as the profile, would never help.
fn check_fallback(document: &ProfileDocument, problems: &mut Vec<Problem>) {
    let Some(fallback) = &document.fallback else { return };
    let said = &fallback.value;
    if said.options().is_empty() && said.num_parallel.is_none() && said.keep_alive.is_none() {
        let message = "says nothing: name what is smaller than in the profile, such as num_ctx, or leave it out";
        problems.push(fallback.place.problem("{}", message));
    }
    if let (Some(smaller), Some(whole)) = (&said.num_ctx, &document.num_ctx)
        && smaller.value.0 >= whole.value.0
    {
        let (smaller_ctx, whole_ctx) = (smaller.value.0, whole.value.0);
        let message = format!("{smaller_ctx} is not less than the profile's {whole_ctx}: a fallback has to need less");
        problems.push(smaller.place.problem(smaller_ctx.to_string(), message));
    }
}

/// Every profile, ready to be looked up.
#[derive(Debug, Clone, Default)]
pub(super) struct Profiles {
    exact: HashMap<String, Arc<RunnerProfile>>,
    /// Narrowest first.
    patterns: Vec<(Glob, Arc<RunnerProfile>)>,
    built_in: Arc<RunnerProfile>,
}

impl Profiles {
    /// Compiles the profiles of a file; two that would tie for a model are a problem.
    pub(super) fn compile(written: &super::document::Profiles, problems: &mut Vec<Problem>) -> Self {
        let mut profiles = Self::default();
        for (n, (key, document)) in written.0.iter().enumerate() {
            let glob = &key.value.0;
            let rivals = written.0.iter().take(n).filter(|(earlier, _)| ties(&earlier.value.0, glob));
            problems.extend(rivals.map(|(earlier, _)| tie(key, earlier)));
            check_fallback(document, problems);
            let profile = Arc::new(RunnerProfile::from_document(glob.as_str(), document));
            if glob.is_exact() {
                profiles.exact.insert(glob.as_str().to_owned(), profile);
            } else {
                profiles.patterns.push((glob.clone(), profile));
            }
        }
        profiles.patterns.sort_by_key(|(glob, _)| std::cmp::Reverse(glob.specificity()));
        profiles
    }

    /// The profile of a model.
    pub(super) fn of(&self, name: &ModelName) -> Arc<RunnerProfile> {
        let text = name.to_string();
        let by_pattern = || self.patterns.iter().find(|(glob, _)| glob.matches(&text)).map(|(_, profile)| profile);
        Arc::clone(self.exact.get(&text).or_else(by_pattern).unwrap_or(&self.built_in))
    }

    /// Every profile that was written, exact names first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<RunnerProfile>> {
        self.exact.values().chain(self.patterns.iter().map(|(_, profile)| profile))
    }
}

fn ties(a: &Glob, b: &Glob) -> bool {
    a.is_exact() == b.is_exact() && a.specificity() == b.specificity() && a.overlaps(b)
}

fn tie(later: &Placed<super::document::ModelGlob>, earlier: &Placed<super::document::ModelGlob>) -> Problem {
    let (later_text, earlier_text) = (later.value.0.as_str(), earlier.value.0.as_str());
    let message = if later_text == earlier_text {
        format!("names the same models as the profile at {}: keep one of them", earlier.place.short())
    } else {
        format!(
            "{later_text:?} is as narrow as {earlier_text:?} ({}) and some names match both: \
             make one narrower, or give the models in question a profile by their exact names",
            earlier.place.short()
        )
    };
    later.place.problem(later_text, message)
}
