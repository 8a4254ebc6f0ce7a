//! Loads `tests/recordings`: what a real Ollama 0.32.15 answered.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// One request and its reply.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) name: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) frames: Vec<String>,
}

/// All of them, by name.
pub(super) fn recordings() -> Vec<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let all: Vec<_> = paths.iter().filter(|p| p.extension().is_some_and(|e| e == "json")).map(|p| load(p)).collect();
    assert!(all.len() > 200, "{} recordings", all.len());
    all
}

/// One by name.
pub(super) fn recording(name: &str) -> Recording {
    recordings().into_iter().find(|r| r.name == name).unwrap_or_else(|| panic!("no recording {name}"))
}

fn load(path: &Path) -> Recording {
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let (case, response) = (&file["case"], &file["response"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let header = |name: &str| {
        let all = response["headers"].as_array().unwrap();
        all.iter().find(|h| text(&h[0]).eq_ignore_ascii_case(name)).map(|h| text(&h[1])).unwrap_or_default()
    };
    Recording {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        method: text(&case["method"]),
        path: text(&case["path"]),
        body: match &case["body"] {
            Value::String(raw) => raw.clone().into_bytes(),
            value => serde_json::to_vec(value).unwrap(),
        },
        status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
        content_type: header("content-type"),
        frames: response["frames"].as_array().unwrap().iter().map(|frame| text(&frame[1])).collect(),
    }
}
