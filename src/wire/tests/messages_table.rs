//! Requests and answers of `/v1/messages` beside what Ollama's own conversion (0.32.15) made of each.

use serde_json::Value;

use super::*;
use crate::domain::{InferenceRequest, JsonField, RequestId};
use crate::wire::go_json::elements;

/// Lines of three: a body, what Ollama makes of it, and what we do where that is something else on purpose. A body is
/// whole, or a user's blocks, or the name of a field or role and its value. What is made of it is the guess at its prompt's
/// tokens and the native request, or the words it is refused with.
const TABLE: &str = include_str!("messages.txt");

/// The body that a line stands for.
fn body(line: &str) -> String {
    let head = r#"{"model":"m","max_tokens":9"#;
    let asked = r#"{"role":"user","content":"x"}"#;
    if line.starts_with('[') && line != "[]" {
        return format!(r#"{head},"messages":[{{"role":"user","content":{line}}}]}}"#);
    }
    match line.split_once(' ') {
        Some(("messages", list)) => format!(r#"{head},"messages":{list}}}"#),
        Some(("assistant", blocks)) => {
            format!(r#"{head},"messages":[{asked},{{"role":"assistant","content":{blocks}}}]}}"#)
        }
        Some((field, value)) if !line.starts_with('{') => format!(r#"{head},"messages":[{asked}],"{field}":{value}}}"#),
        _ => line.to_owned(),
    }
}

/// What we make of a body.
fn made(body: &str) -> String {
    let request = match decode(Surface::V1Messages, body.as_bytes()) {
        Ok(request) => request,
        Err(fault) => return format!("refused: {}", fault.message),
    };
    // the guess is only made for streams
    let stream = body.replacen('{', "{\"stream\":true,", 1);
    let guess = decode(Surface::V1Messages, stream.as_bytes()).map_or(0, |request| request.shape.guessed_prompt);
    format!("{guess} {}", as_go_reads(&native(&request)))
}

/// The native request's members, without its model.
fn native(request: &InferenceRequest) -> String {
    let options: Vec<_> = [&request.options, &request.runner_options].into_iter().flatten().collect();
    let member = |(name, value): &JsonField| format!("\"{name}\":{}", value.get());
    let mut members: Vec<String> = request.fields.iter().map(member).collect();
    members.push(format!("\"options\":{{{}}}", options.into_iter().map(member).collect::<Vec<_>>().join(",")));
    format!("{{{}}}", members.join(","))
}

/// Whether both are the same but for how Go writes JSON: numbers as 64-bit floats, and schemas and tools with all the
/// members of its structs.
fn same(ours: &str, theirs: &str) -> bool {
    let parts = |text: &str| {
        let (guess, json) = text.split_once(" {")?;
        Some((guess.to_owned(), serde_json::from_str::<Value>(&format!("{{{json}")).ok()?))
    };
    match (parts(ours), parts(theirs)) {
        (Some((guess, ours)), Some((wanted, theirs))) => guess == wanted && alike(&ours, &theirs),
        _ => ours == theirs,
    }
}

fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let names = ours.keys().chain(theirs.keys());
            names.into_iter().all(|name| match (ours.get(name), theirs.get(name)) {
                (Some(ours), Some(theirs)) => alike(ours, theirs),
                (ours, theirs) => says_nothing(ours.or(theirs)),
            })
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| alike(ours, theirs))
        }
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        // no messages
        (Value::Array(none), Value::Null) => none.is_empty(),
        _ => ours == theirs,
    }
}

/// Whether a member may be left out: Go's structs write some that are empty.
fn says_nothing(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Object(members)) => members.values().all(|value| says_nothing(Some(value))),
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => true,
    }
}

#[test]
fn ollamas_own_conversion_and_ours_agree_but_where_they_should_not() {
    let lines: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
    let (mut bodies, mut wrong) = (0, Vec::new());
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        let theirs = lines.next().unwrap().trim_start();
        let on_purpose = lines.next_if(|line| line.starts_with("    ours ")).map(|line| &line["    ours ".len()..]);
        let ours = made(&body(line));
        bodies += 1;
        let good = match on_purpose {
            // said only where it is true
            Some(on_purpose) => ours == on_purpose && !same(&ours, theirs),
            None => same(&ours, theirs),
        };
        if !good {
            wrong.push(format!("{line}\n    {theirs}\n    ours {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {bodies} bodies\n{}", wrong.len(), wrong.join("\n"));
    assert!(bodies > 250, "{bodies} bodies");
}

/// Lines of two or three: the objects of a native answer, the objects of the events that Ollama makes of them and, of one
/// alone, the whole message; each followed by ours where that is something else on purpose.
const REPLIES: &str = include_str!("messages_replies.txt");

#[test]
fn ollamas_own_answers_and_ours_are_the_same_bytes() {
    let mut request =
        decode(Surface::V1Messages, body("messages [{\"role\":\"user\",\"content\":\"x\"}]").as_bytes()).unwrap();
    request.shape.guessed_prompt = 3;
    let (mut answers, mut wrong) = (0, Vec::new());
    let mut lines = REPLIES.split_terminator('\n').peekable();
    while let Some(line) = lines.next() {
        let mut encoder = Encoder::new(&request, RequestId(1), 0);
        let (mut out, mut whole) = (Vec::new(), Vec::new());
        elements(line, |object| {
            let event = decode_event(Task::Chat, object.as_bytes()).unwrap();
            whole = encoder.unary(&event);
            encoder.stream(&event, &mut out);
        })
        .unwrap();
        let out = String::from_utf8(out).unwrap();
        let data: Vec<_> = out.split("\n\n").filter_map(|frame| Some(frame.split_once("\ndata: ")?.1)).collect();
        let once = format!("once {}", String::from_utf8(whole.concat()).unwrap().trim_end());
        for ours in [data.join(" "), once] {
            let Some(theirs) = lines.next_if(|line| line.starts_with("    ")) else { continue };
            let on_purpose = lines.next_if(|line| line.starts_with("    ours "));
            let wanted = on_purpose.map_or(theirs.trim_start(), |line| &line["    ours ".len()..]);
            if ours != wanted {
                wrong.push(format!("{line}\n{theirs}\n    ours {ours}"));
            }
        }
        answers += 1;
    }
    assert!(wrong.is_empty(), "{} of {answers} answers\n{}", wrong.len(), wrong.join("\n"));
    assert!(answers > 30, "{answers} answers");
}
