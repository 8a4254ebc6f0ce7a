//! The recordings of a real Ollama: requests as they were sent, replies as they came.
//!
//! Owns their form on disk and nothing of what is compared.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::support::raw::Raw;

/// One request and what a real Ollama answered.
pub(crate) struct Recording {
    /// For messages only: no rule knows it.
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<String>,
    pub(crate) reply: Raw,
}

impl Recording {
    /// What rules are about: method and path.
    pub(crate) fn route(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The request body as JSON; null where it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        self.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct File {
    case: Case,
    response: Response,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    path: String,
    body: Option<Box<RawValue>>,
    headers: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    reason: String,
    headers: Vec<(String, String)>,
    framing: String,
    frames: Vec<(f64, String)>,
}

/// All of them, by name. `GAUCHO_RECORDINGS` names another folder with recordings of the same form.
pub(crate) fn recordings() -> Vec<Recording> {
    let folder = std::env::var_os("GAUCHO_RECORDINGS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings"));
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort();
    files.iter().map(|file| read(&fs::read_to_string(file).unwrap())).collect()
}

fn read(text: &str) -> Recording {
    let File { case, response } = serde_json::from_str(text).unwrap();
    // a string was sent as it is, anything else as compact JSON with its keys in order
    let body =
        case.body.filter(|body| body.get() != "null").map(|body| match serde_json::from_str(body.get()).unwrap() {
            serde_json::Value::String(text) => text,
            value => value.to_string(),
        });
    let header = |(name, value): (String, serde_json::Value)| (name, value.as_str().unwrap().to_owned());
    Recording {
        name: case.name,
        method: case.method,
        path: case.path,
        headers: case.headers.into_iter().flatten().map(header).collect(),
        body,
        reply: Raw {
            status: response.status,
            reason: response.reason,
            headers: response.headers,
            framing: response.framing,
            frames: response.frames.into_iter().map(|(_, text)| text).collect(),
            cut: false,
        },
    }
}
