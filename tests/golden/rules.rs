//! `rules.toml`: what is normalised, and where an answer differs on purpose. About fields and routes, never about cases.

use std::cell::Cell;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::compare::Difference;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// Fields whose values are never the same twice.
    pub(crate) normalise: Vec<Normalise>,
    #[serde(default)]
    rule: Vec<Rule>,
    /// More of both for a real server, which nobody can make answer twice in the same time.
    #[serde(default)]
    live: Live,
}

/// What is only seen before a real server.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Live {
    normalise: Vec<Normalise>,
    rule: Vec<Rule>,
}

/// A field that is compared by its form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Normalise {
    /// A glob over the field (`*.created`, `header Date`).
    pub(crate) field: String,
    pub(crate) form: Form,
    /// The beginnings an id may have.
    #[serde(default)]
    pub(crate) prefixes: Vec<String>,
}

/// What both values have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    /// Whole seconds since 1970.
    Seconds,
    /// A date as Go writes it.
    Rfc3339,
    /// A date as HTTP writes it.
    HttpDate,
    /// The same prefix and something after it; where the recording repeats one, so does the answer.
    Id,
    /// What the body is long.
    BodyLength,
    /// Any text.
    Text,
    /// Any number.
    Number,
    /// A date in the server's own time zone.
    LocalDate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Globs over method and path.
    routes: Vec<String>,
    /// A glob over the field.
    field: String,
    /// Globs over the two values; what is left out matches anything.
    recorded: Option<String>,
    ours: Option<String>,
    reason: String,
    /// Whether no recording here needs it, but a real server does, or a recording that is not here.
    #[serde(default)]
    unrecorded: bool,
    #[serde(skip)]
    used: Cell<usize>,
}

impl Rules {
    /// The file beside this one, for recordings.
    pub(crate) fn load() -> Self {
        Self::read(false)
    }

    /// The same for a real server.
    pub(crate) fn load_live() -> Self {
        Self::read(true)
    }

    fn read(live: bool) -> Self {
        let mut rules: Self = toml::from_str(include_str!("rules.toml")).unwrap();
        let more = std::mem::take(&mut rules.live);
        if live {
            rules.normalise.extend(more.normalise);
            rules.rule.extend(more.rule);
        }
        assert!(rules.rule.iter().map(|rule| &rule.reason).all(|reason| !reason.is_empty()), "a rule without reason");
        rules
    }

    /// The reason for a difference, if there is one; counted.
    pub(crate) fn explain(&self, route: &str, difference: &Difference) -> Option<&str> {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        let rule = self.rule.iter().find(|rule| {
            any(&rule.routes, route)
                && glob(&rule.field, &difference.field)
                && fits(&rule.recorded, &difference.recorded)
                && fits(&rule.ours, &difference.ours)
        })?;
        rule.used.set(rule.used.get() + 1);
        Some(&rule.reason)
    }

    /// Rules that explained nothing, though a recording here is to need them.
    pub(crate) fn unused(&self) -> Vec<String> {
        let unused = self.rule.iter().filter(|rule| rule.used.get() == 0 && !rule.unrecorded);
        let tell = |rule: &Rule| {
            format!("{} / {} / {:?} -> {:?}", rule.routes.join(", "), rule.field, rule.recorded, rule.ours)
        };
        unused.map(tell).collect()
    }

    /// How often each reason was needed.
    pub(crate) fn tally(&self) -> BTreeMap<&str, usize> {
        let mut tally = BTreeMap::new();
        for rule in &self.rule {
            *tally.entry(&*rule.reason).or_default() += rule.used.get();
        }
        tally
    }
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| glob(pattern, text))
}

/// Whether `text` is as `pattern` says, in which `*` stands for any text.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}
