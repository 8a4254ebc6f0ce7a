//! Runner profiles: how each model is loaded, whoever asks.
//!
//! Owns which profile a model gets: its exact name's, else that of the narrowest pattern, else the empty one; one profile
//! applies whole, profiles are never mixed. It does not own what is done where a profile is silent (`scheduler`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

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
}

impl RunnerProfile {
    fn from_document(source: &str, document: &ProfileDocument) -> Self {
        fn put<T>(options: &mut BTreeMap<&'static str, Value>, key: &'static str, value: Option<&Placed<T>>)
        where
            T: Copy + Into<Value>,
        {
            options.extend(value.map(|placed| (key, placed.value.into())));
        }
        let mut options = BTreeMap::new();
        put(&mut options, "num_ctx", document.num_ctx.as_ref());
        put(&mut options, "num_batch", document.num_batch.as_ref());
        put(&mut options, "num_gpu", document.num_gpu.as_ref());
        put(&mut options, "main_gpu", document.main_gpu.as_ref());
        put(&mut options, "use_mmap", document.use_mmap.as_ref());
        put(&mut options, "num_thread", document.num_thread.as_ref());
        put(&mut options, "draft_num_predict", document.draft_num_predict.as_ref());
        put(&mut options, "shift", document.shift.as_ref());
        Self {
            source: source.to_owned(),
            options,
            num_parallel: document.num_parallel.as_ref().map(|placed| placed.value.small()),
            keep_alive: document.keep_alive.as_ref().map(|placed| placed.value),
        }
    }
}

impl<const MIN: i64, const MAX: i64> From<super::document::Whole<MIN, MAX>> for Value {
    fn from(number: super::document::Whole<MIN, MAX>) -> Self {
        json!(number.0)
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
