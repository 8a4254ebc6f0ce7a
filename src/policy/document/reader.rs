//! Positions and problems: where a value stands in its file, and what is said when it is wrong.
//!
//! Owns the walk's bookkeeping. It does not know any key or form. Lines and columns count from 1, columns in characters.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Form;

/// A mistake in what an operator wrote: where it is, what it is, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or `environment` or `command line`.
    pub file: PathBuf,
    /// Line, from 1; 0 when the problem is with the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 when the problem is with the file as a whole.
    pub column: usize,
    /// The field (`models[2]`, `models."llama3.2:*".num_ctx`); empty for the file as a whole.
    pub path: String,
    /// The value as written, shortened; empty where there is none.
    pub value: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Problem {
    /// The order in which people go through problems: file, line, column.
    pub(crate) fn by_place(a: &Self, b: &Self) -> Ordering {
        (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column))
    }

    /// A problem with something that has no position: a whole file, a flag, a variable.
    #[must_use]
    pub fn whole(file: impl Into<PathBuf>, path: &str, value: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            path: path.to_owned(),
            value: value.to_owned(),
            message: message.into(),
        }
    }
}

/// `file:line:column: path: message`, without the parts that are not there.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Where a value stands.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    file: Arc<Path>,
    line: usize,
    column: usize,
    path: String,
}

impl Place {
    /// A problem at this place.
    pub(crate) fn problem(&self, value: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_path_buf(),
            line: self.line,
            column: self.column,
            path: self.path.clone(),
            value: value.into(),
            message: message.into(),
        }
    }

    /// The field that stands here.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// `file:line`, to point at this place from another problem.
    pub(crate) fn short(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// A value that knows where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Placed<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it was written.
    pub(crate) place: Place,
}

/// A placed value is read as the value is; lists of them keep the place of every item.
impl<T: Form> Form for Placed<T> {
    const TABLE: bool = T::TABLE;

    fn read(value: &DeValue<'_>, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(value, place, reader).map(|value| Self { value, place: place.clone() })
    }

    fn schema() -> serde_json::Value {
        T::schema()
    }
}

/// One file being read: turns offsets into places and gathers problems.
pub(crate) struct Reader<'t> {
    file: Arc<Path>,
    lines: Lines<'t>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// The place of `step` (a key, or an index such as `[2]`) below `parent`.
    pub(crate) fn place(&self, parent: &Place, step: &str, span: Range<usize>) -> Place {
        let path = if step.starts_with('[') || parent.path.is_empty() {
            format!("{}{step}", parent.path)
        } else {
            format!("{}.{step}", parent.path)
        };
        self.at(path, span.start)
    }

    /// The place of an entry of a table, by its key.
    pub(crate) fn key_place(&self, parent: &Place, key: &str, span: Range<usize>) -> Place {
        let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let step = if bare { key.to_owned() } else { format!("{key:?}") };
        self.place(parent, &step, span)
    }

    /// Adds a problem.
    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Adds the problem "this value is not allowed".
    pub(crate) fn refuse(&mut self, value: &DeValue<'_>, place: &Place, allowed: &str) {
        self.refuse_as(show(value), place, allowed);
    }

    /// Adds the problem "this value is not allowed", with the value as it may be shown.
    pub(crate) fn refuse_as(&mut self, shown: String, place: &Place, allowed: &str) {
        let message = format!("{shown} is not allowed: use {allowed}");
        self.report(place.problem(shown, message));
    }

    /// Adds the problem "no such key", with the nearest known one.
    pub(crate) fn unknown_key(&mut self, place: &Place, key: &str, known: &[&str]) {
        let advice = match nearest(key, known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("allowed here are {}", known.join(", ")),
        };
        self.report(place.problem("", format!("unknown key; {advice}")));
    }

    fn at(&self, path: String, offset: usize) -> Place {
        let (line, column) = self.lines.position(offset);
        Place { file: Arc::clone(&self.file), line, column, path }
    }
}

/// Reads a whole file. What could be understood is returned even when there are problems, so that rules that span
/// files can be checked in the same pass.
pub(crate) fn read_document<D: Form>(file: &Path, bytes: &[u8], problems: &mut Vec<Problem>) -> Option<D> {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(broken) => {
            problems.push(not_text(file, bytes, broken.valid_up_to()));
            return None;
        }
    };
    let mut reader = Reader { file: file.into(), lines: Lines::new(text), problems: Vec::new() };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut broken_lines = BTreeSet::new();
    for error in errors {
        let place = reader.at(String::new(), error.span().map_or(0, |span| span.start));
        // what follows the first error of a line is mostly its echo
        if broken_lines.insert(place.line) {
            let message = format!("not valid TOML: {}", error.message().replace('\n', ", "));
            problems.push(place.problem("", message));
        }
    }
    let root = reader.at(String::new(), 0);
    let document = D::read(&DeValue::Table(Spanned::into_inner(table)), &root, &mut reader);
    // and what the parser made of a broken line says nothing more
    problems.extend(reader.problems.into_iter().filter(|problem| !broken_lines.contains(&problem.line)));
    document
}

fn not_text(file: &Path, bytes: &[u8], valid: usize) -> Problem {
    let before = str::from_utf8(bytes.get(..valid).unwrap_or_default()).unwrap_or_default();
    let (line, column) = Lines::new(before).position(valid);
    let value = bytes.get(valid).map_or_else(String::new, |byte| format!("0x{byte:02x}"));
    let message = format!("byte {value} is not UTF-8: save the file as UTF-8 text");
    Problem { file: file.to_path_buf(), line, column, path: String::new(), value, message }
}

/// A text and where its lines start, so that a position costs a search, not a walk.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let after_newline = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_newline).collect() }
    }

    /// Line and column of a byte, both from 1.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

/// A value as its writer would recognise it, shortened to about 60 characters.
pub(crate) fn show(value: &DeValue<'_>) -> String {
    let full = match value {
        DeValue::String(text) => show_text(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(items) if items.is_empty() => "[]".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    shorten(full)
}

/// A text as its writer would recognise it, shortened; what stands before an `@` may be a password and is hidden.
pub(crate) fn show_text(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => shorten(format!("{:?}", format!("…@{rest}"))),
        None => shorten(format!("{text:?}")),
    }
}

fn shorten(full: String) -> String {
    match full.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", full.get(..cut).unwrap_or_default()),
        None => full,
    }
}

/// The known word that `word` was probably meant to be: at most a third of its letters differ.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let measured = known.iter().map(|candidate| (distance(word, candidate), *candidate));
    let (edits, best) = measured.min()?;
    (edits <= (best.len() / 3).max(1)).then_some(best)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words, letter case aside; long words are not compared.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    if a.len().abs_diff(b.len()) > 8 {
        return usize::MAX;
    }
    let mut table = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(table[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    table[a.len()][b.len()]
}
