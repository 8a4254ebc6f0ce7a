//! From documents to rules: defaults filled in, and the rules that hold between keys and files.
//!
//! Pure. It does not read files (`folder`) and does not know forms (`document`).

use std::collections::BTreeMap;

use super::app_rules::{AppRules, Endpoints, Models, Rate};
use super::document::{AppDocument, Ceiling, KeyHash, OnOverflow, Placed, Problem};
use crate::domain::AppName;

/// The rules of an application (or of `default.toml`), over those of `base`. Values that can tie to each other
/// (rate and burst) are checked here.
pub(super) fn app_rules(written: &AppDocument, base: &AppRules, problems: &mut Vec<Problem>) -> AppRules {
    let rules = AppRules {
        description: value(&written.description).cloned(),
        models: value(&written.models)
            .map_or_else(|| base.models.clone(), |globs| Models(globs.iter().map(|glob| glob.0.clone()).collect())),
        endpoints: value(&written.endpoints).map_or_else(
            || base.endpoints.clone(),
            |globs| Endpoints(globs.iter().map(|glob| glob.0.clone()).collect()),
        ),
        surfaces: value(&written.surfaces).map_or_else(
            || base.surfaces.clone(),
            |globs| {
                let mut covered: Vec<_> = globs.iter().flat_map(|glob| glob.0.iter().copied()).collect();
                covered.sort_by_key(|surface| surface.path());
                covered.dedup();
                covered
            },
        ),
        weight: value(&written.weight).map_or(base.weight, |weight| weight.0),
        class: value(&written.class).copied().unwrap_or(base.class),
        rate: rate(written, base.rate, problems),
        max_concurrent: ceiling(&written.max_concurrent, base.max_concurrent, |most| most.small()),
        max_queued: value(&written.max_queued).map_or(base.max_queued, |most| most.small()),
        max_wait: value(&written.max_wait).map_or(base.max_wait, |wait| wait.0),
        keepalive: value(&written.keepalive).map_or(base.keepalive, |cadence| cadence.0),
        max_context: ceiling(&written.max_context, base.max_context, |most| most.unsigned()),
        max_output_tokens: ceiling(&written.max_output_tokens, base.max_output_tokens, |most| most.unsigned()),
        max_body: value(&written.max_body).map_or(base.max_body, |size| size.0),
        max_embed_inputs: value(&written.max_embed_inputs)
            .map_or(base.max_embed_inputs, |most| usize::try_from(most.unsigned()).unwrap_or(usize::MAX)),
        runner_options: value(&written.runner_options).copied().unwrap_or(base.runner_options),
        on_overflow: value(&written.on_overflow).unwrap_or(&base.on_overflow).clone(),
    };
    route(written, &rules, problems);
    rules
}

/// A model that overflow goes to must be one that the application may use.
fn route(written: &AppDocument, rules: &AppRules, problems: &mut Vec<Problem>) {
    let OnOverflow::Route(model) = &rules.on_overflow else { return };
    let (on_overflow, models) = (written.on_overflow.as_ref(), written.models.as_ref());
    let Some(place) = on_overflow.map(|placed| &placed.place).or(models.map(|placed| &placed.place)) else { return };
    if !rules.models.allow(model) {
        let message = format!(
            "on_overflow routes to {model}, which models leaves out: add it to models (here or in default.toml), or \
             route elsewhere"
        );
        problems.push(place.problem(model.to_string(), message));
    }
}

fn value<T>(written: &Option<Placed<T>>) -> Option<&T> {
    written.as_ref().map(|placed| &placed.value)
}

fn ceiling<T: Copy, U>(written: &Option<Placed<Ceiling<T>>>, base: Option<U>, convert: fn(T) -> U) -> Option<U> {
    match value(written) {
        Some(ceiling) => ceiling.limit().map(convert),
        None => base,
    }
}

/// A rate of its own brings its own burst (one minute's worth unless written); an inherited rate keeps the inherited one.
fn rate(written: &AppDocument, base: Option<Rate>, problems: &mut Vec<Problem>) -> Option<Rate> {
    let inherited = match value(&written.requests_per_minute) {
        Some(ceiling) => ceiling.limit().map(|rpm| Rate { requests_per_minute: rpm.small(), burst: rpm.small() }),
        None => base,
    };
    let Some(burst) = &written.burst else {
        return inherited;
    };
    // a rate that could not be read is already reported, here or in default.toml
    let unread = problems.iter().any(|problem| problem.path == "requests_per_minute");
    if inherited.is_none() && !unread {
        let number = burst.value.small().to_string();
        let message = format!(
            "{number} has no effect without a rate: add requests_per_minute (here or in default.toml), or remove burst"
        );
        problems.push(burst.place.problem(number, message));
    }
    inherited.map(|rate| Rate { burst: burst.value.small(), ..rate })
}

/// Gathers key hashes over all applications; one hash for two owners (or twice for one) is a problem.
#[derive(Default)]
pub(super) struct KeyHashes(BTreeMap<KeyHash, (AppName, String)>);

impl KeyHashes {
    /// Adds those of one application.
    pub(super) fn add(&mut self, app: &AppName, written: &AppDocument, problems: &mut Vec<Problem>) {
        for hash in written.key_hashes.iter().flat_map(|placed| &placed.value) {
            let Some((owner, place)) = self.0.get(&hash.value) else {
                self.0.insert(hash.value, (app.clone(), hash.place.short()));
                continue;
            };
            let shown = format!("sha256:{}…", hex::encode(hash.value.0.get(..4).unwrap_or_default()));
            let message = format!(
                "{shown} already stands for application {:?} ({place}): a key belongs to one application, once",
                owner.as_str()
            );
            problems.push(hash.place.problem(shown, message));
        }
    }

    /// Every hash with its application, in the order of the applications.
    pub(super) fn into_sorted(self) -> Vec<(AppName, [u8; 32])> {
        let mut all: Vec<_> = self.0.into_iter().map(|(hash, (app, _))| (app, hash.0)).collect();
        all.sort();
        all
    }
}
