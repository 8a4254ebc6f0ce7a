//! Bodies and the words Go's decoder has for each, as a Go 1.26 program with the same structs printed them.

use super::*;

/// Pairs of lines: a route and a body (`^` is a line feed), and what Go says; `taken` when it takes the body.
const TABLE: &str = include_str!("go_texts.txt");

#[test]
fn go_and_we_use_the_same_words() {
    let lines: Vec<&str> = TABLE.lines().collect();
    let mut wrong = Vec::new();
    for pair in lines.chunks(2) {
        let (route, body) = pair[0].split_once(' ').unwrap();
        let text = decode(surface(route).unwrap(), body.replace('^', "\n").as_bytes()).err().map(|f| f.message);
        // a body that Go takes may still lack a model or messages
        let lacks = ["model", "[] is too short", "invalid message content type"];
        let text = text.filter(|text| !lacks.iter().any(|start| text.starts_with(start)));
        let text = text.unwrap_or_else(|| "taken".into());
        if text != pair[1].trim_start() {
            wrong.push(format!("{}\n{}\n    {text}", pair[0], pair[1]));
        }
    }
    assert!(lines.len() > 250 && wrong.is_empty(), "{} lines\n{}", lines.len(), wrong.join("\n"));
}
