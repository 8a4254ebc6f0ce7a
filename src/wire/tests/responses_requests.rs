//! Bodies of `/v1/responses` and what goes upstream for each. Ollama's own types read it as the same request as what its
//! own conversion makes of the body (0.32.15); what it refuses is in `go_texts.txt`.

use super::*;

/// Pairs of lines: a body, and the native one.
const TABLE: &str = include_str!("responses.txt");

#[test]
fn bodies_become_the_native_ones_that_ollama_makes_of_them() {
    let target = undecided("copy");
    let lines: Vec<&str> = TABLE.lines().collect();
    let mut wrong = Vec::new();
    for pair in lines.chunks(2) {
        let native = match decode(Surface::V1Responses, pair[0].as_bytes()) {
            Ok(request) => as_go_reads(&String::from_utf8(encode_upstream(&request, &target)).unwrap()),
            Err(fault) => fault.message,
        };
        let wanted = pair[1].trim_start();
        let wanted = if wanted.starts_with('{') { as_go_reads(wanted) } else { wanted.to_owned() };
        if native != wanted {
            wrong.push(format!("{}\n{}\n    {native}", pair[0], pair[1]));
        }
    }
    assert!(lines.len() > 300 && wrong.is_empty(), "{} lines\n{}", lines.len(), wrong.join("\n"));
}
