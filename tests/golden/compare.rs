//! Two replies side by side: everything a caller can see, but for what `rules.toml` normalises.
//!
//! A difference names its field: `status`, `framing`, `header NAME`, `header order`, `body`, `body.error.message`,
//! `event order` (of named events), `event added` (of a kind that is not recorded), `event.choices[].delta.content` (a frame of a stream), `frame` (a whole one), `frame added`, `frame missing`.

use std::collections::{HashMap, HashSet};

use super::json::leaves;
use super::rules::{Form, Normalise, glob};
use super::support::raw::Raw;

/// Something that is not the same.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) field: String,
    /// `-` where there is none.
    pub(crate) recorded: String,
    pub(crate) ours: String,
}

/// What differs between a recorded reply and ours.
pub(crate) fn differences(recorded: &Raw, ours: &Raw, table: &[Normalise]) -> Vec<Difference> {
    let mut comparer = Comparer { table, lengths: lengths(recorded, ours), ids: HashMap::new(), found: Vec::new() };
    comparer.text("status", &line(recorded), &line(ours));
    comparer.text("framing", &recorded.framing, &ours.framing);
    comparer.text("cut", &recorded.cut.to_string(), &ours.cut.to_string());
    comparer.headers(recorded, ours);
    comparer.bodies(recorded, ours);
    comparer.found
}

fn line(raw: &Raw) -> String {
    format!("{} {}", raw.status, raw.reason)
}

fn lengths(recorded: &Raw, ours: &Raw) -> [String; 2] {
    [recorded, ours].map(|raw| raw.body().len().to_string())
}

/// The name of a frame's event.
fn event(frame: &str) -> Option<&str> {
    frame.lines().find_map(|line| line.strip_prefix("event: "))
}

/// The names of a stream's events, each with a space behind it.
fn events(frames: &[String]) -> String {
    frames.iter().filter_map(|frame| event(frame)).map(|name| format!("{name} ")).collect()
}

/// A frame as if so many before it had not been.
fn earlier(frame: &str, by: u64) -> String {
    let parts = frame.split_once("\"sequence_number\":").and_then(|(before, after)| {
        let (number, after) = after.split_at(after.find(|c: char| !c.is_ascii_digit())?);
        Some((before, number.parse::<u64>().ok()?.checked_sub(by)?, after))
    });
    match parts {
        Some((before, number, after)) => format!("{before}\"sequence_number\":{number}{after}"),
        None => frame.to_owned(),
    }
}

struct Comparer<'a> {
    table: &'a [Normalise],
    lengths: [String; 2],
    /// Recorded ids and ours.
    ids: HashMap<String, String>,
    found: Vec<Difference>,
}

impl Comparer<'_> {
    fn note(&mut self, field: &str, recorded: &str, ours: &str) {
        self.found.push(Difference { field: field.into(), recorded: recorded.into(), ours: ours.into() });
    }

    fn text(&mut self, field: &str, recorded: &str, ours: &str) {
        if recorded != ours && !self.same_form(field, recorded, ours) {
            self.note(field, recorded, ours);
        }
    }

    /// Whether the table has a form for the field and both values are of it.
    fn same_form(&mut self, field: &str, recorded: &str, ours: &str) -> bool {
        let table = self.table;
        table.iter().filter(|row| glob(&row.field, field)).any(|row| self.is_of_form(row, recorded, ours))
    }

    fn is_of_form(&mut self, row: &Normalise, recorded: &str, ours: &str) -> bool {
        let both = |is: fn(&str) -> bool| is(recorded.trim_matches('"')) && is(ours.trim_matches('"'));
        match row.form {
            Form::Seconds => both(|text| text.len() == 10 && text.parse::<u64>().is_ok()),
            Form::Rfc3339 => both(|text| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()),
            Form::HttpDate => both(|text| jiff::fmt::rfc2822::parse(text).is_ok() && text.ends_with(" GMT")),
            Form::Text => recorded.starts_with('"') && ours.starts_with('"'),
            Form::Number => both(|text| text.parse::<f64>().is_ok()),
            Form::LocalDate => both(|text| text.parse::<jiff::Timestamp>().is_ok()),
            Form::BodyLength => *recorded == self.lengths[0] && *ours == self.lengths[1],
            Form::Id => {
                let prefix = row.prefixes.iter().find(|prefix| recorded.trim_matches('"').starts_with(&**prefix));
                let rest = prefix.and_then(|prefix| ours.trim_matches('"').strip_prefix(&**prefix));
                let known = self.ids.entry(recorded.to_owned()).or_insert_with(|| ours.to_owned());
                rest.is_some_and(|rest| !rest.is_empty()) && known == ours
            }
        }
    }

    fn headers(&mut self, recorded: &Raw, ours: &Raw) {
        let mut left: Vec<&(String, String)> = ours.headers.iter().collect();
        let mut common = Vec::new();
        let mut missing = Vec::new();
        for (name, value) in &recorded.headers {
            // one of the same name and value if there is one, else one of the same name
            let same = left.iter().position(|other| other.0 == *name && other.1 == *value);
            match same.or_else(|| left.iter().position(|other| other.0 == *name)) {
                Some(at) => {
                    let theirs = left.remove(at);
                    self.text(&format!("header {name}"), value, &theirs.1);
                    common.push(name.as_str());
                }
                None => missing.push((name, value)),
            }
        }
        let extra: HashSet<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
        let order: Vec<&str> = ours.headers.iter().map(|(name, _)| &**name).filter(|n| !extra.contains(n)).collect();
        self.text("header order", &common.join(", "), &order.join(", "));
        for (name, value) in missing {
            self.note(&format!("header {name}"), value, "-");
        }
        for (name, value) in left {
            self.note(&format!("header {name}"), "-", value);
        }
    }

    fn bodies(&mut self, recorded: &Raw, ours: &Raw) {
        let stream = |raw: &Raw| {
            let kind = raw.header("content-type").unwrap_or_default();
            kind == "application/x-ndjson" || kind == "text/event-stream"
        };
        // an answer and a refusal have nothing in common
        if recorded.status == 200 && ours.status != 200 {
            return self.note("body", &recorded.body(), &ours.body());
        }
        if !stream(recorded) || !stream(ours) {
            return self.json("body", &recorded.body(), &ours.body());
        }
        let before = self.found.len();
        let frames = self.known(&recorded.frames, &ours.frames);
        // events that come in another order cannot be held against each other one by one
        let theirs = events(&recorded.frames);
        if !events(&frames).starts_with(&theirs) {
            self.found.truncate(before);
            return self.note("event order", &theirs, &events(&ours.frames));
        }
        for (recorded, ours) in recorded.frames.iter().zip(&frames) {
            self.frame(recorded, ours);
        }
        let common = recorded.frames.len().min(frames.len());
        for frame in recorded.frames.iter().skip(common) {
            self.note("frame missing", frame, "-");
        }
        for frame in frames.iter().skip(common) {
            self.note("frame added", "-", frame);
        }
    }

    /// Our frames without those before the recorded end whose kind of event is not recorded at all; the numbers of the
    /// rest count without them.
    fn known(&mut self, recorded: &[String], ours: &[String]) -> Vec<String> {
        let names: HashSet<&str> = recorded.iter().filter_map(|frame| event(frame)).collect();
        let mut known: Vec<String> = Vec::new();
        for frame in ours {
            let added = event(frame).filter(|name| !names.contains(name) && known.len() < recorded.len());
            match added {
                Some(name) => self.note("event added", "-", name),
                None => known.push(earlier(frame, self.added())),
            }
        }
        known
    }

    fn added(&self) -> u64 {
        self.found.iter().filter(|difference| difference.field == "event added").count() as u64
    }

    /// Frames are lines of JSON, with the words of server-sent events around it.
    fn frame(&mut self, recorded: &str, ours: &str) {
        if recorded == ours {
            return;
        }
        let (one, other): (Vec<&str>, Vec<&str>) = (recorded.split('\n').collect(), ours.split('\n').collect());
        let error = |line: &&str| line.contains("\"error\":{") || line.starts_with("{\"error\":");
        if one.len() != other.len() || one.iter().any(error) != other.iter().any(error) {
            return self.note("frame", recorded, ours);
        }
        for (one, other) in one.into_iter().zip(other) {
            let data = |line: &str| line.starts_with("data: {");
            if data(one) && data(other) {
                self.json("event", &one[6..], &other[6..]);
            } else {
                self.json("event", one, other);
            }
        }
    }

    fn json(&mut self, name: &str, recorded: &str, ours: &str) {
        if recorded == ours {
            return;
        }
        let (Some(one), Some(other)) = (leaves(recorded), leaves(ours)) else {
            return self.note(name, recorded, ours);
        };
        let refused =
            |list: &[(String, String)]| list.iter().any(|(path, _)| path == "error" || path == "error.message");
        if refused(&one) != refused(&other) {
            return self.note(name, recorded, ours);
        }
        let before = self.found.len();
        let paths = |list: &[(String, String)]| list.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        if paths(&one) != paths(&other) {
            return self.shapes(name, recorded, ours);
        }
        for ((path, recorded), (_, ours)) in one.iter().zip(&other) {
            let field = if path.starts_with('[') { format!("{name}{path}") } else { format!("{name}.{path}") };
            self.text(&field, recorded, ours);
        }
        // the same leaves in the same order: what is left are spaces and line ends
        let ends = |text: &str| text.len() - text.trim_end().len();
        if self.found.len() == before && ends(recorded) != ends(ours) {
            self.note(&format!("{name} end"), recorded, ours);
        }
    }

    /// Objects that have not the same fields: those added or missing by name, the rest as a whole.
    fn shapes(&mut self, name: &str, recorded: &str, ours: &str) {
        let (one, other) = (leaves(recorded).unwrap_or_default(), leaves(ours).unwrap_or_default());
        let has = |list: &[(String, String)], path: &str| list.iter().any(|(other, _)| other == path);
        let mut named = false;
        for (path, value) in one.iter().filter(|(path, _)| !has(&other, path)) {
            self.note(&format!("{name}.{path}"), value, "-");
            named = true;
        }
        for (path, value) in other.iter().filter(|(path, _)| !has(&one, path)) {
            self.note(&format!("{name}.{path}"), "-", value);
            named = true;
        }
        if !named {
            self.note(name, recorded, ours);
            return;
        }
        let shared = |list: &[(String, String)], against: &[(String, String)]| {
            list.iter().filter(|(path, _)| has(against, path)).cloned().collect::<Vec<_>>()
        };
        let (one, other) = (shared(&one, &other), shared(&other, &one));
        if one.iter().map(|(path, _)| path).ne(other.iter().map(|(path, _)| path)) {
            self.note(&format!("{name} order"), recorded, ours);
            return;
        }
        for ((path, recorded), (_, ours)) in one.iter().zip(&other) {
            self.text(&format!("{name}.{path}"), recorded, ours);
        }
    }
}
