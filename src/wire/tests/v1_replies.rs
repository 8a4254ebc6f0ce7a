//! `/v1` replies: made from recorded native events they equal the recorded `/v1` frames, ids and times apart.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::recordings::recording;
use super::*;
use crate::domain::{Finish, Json, Metrics, Piece, RequestId};

/// Native and `/v1` recordings of the same question.
const PAIRS: [(&str, &str); 13] = [
    ("chat_stream", "v1_chat_stream"),
    ("chat_json_stream", "v1_chat_json_stream"),
    ("chat_json_once", "v1_chat_json_once"),
    ("chat_logprobs_stream", "v1_chat_logprobs_stream"),
    ("chat_logprobs_once", "v1_chat_logprobs_once"),
    ("chat_stop_once", "v1_chat_stop_once"),
    ("think_length_stream", "think_v1_length_stream"),
    ("think_length_once", "think_v1_length_once"),
    ("think_on_chat_once", "think_v1_chat_once"),
    ("tools_chat_stream", "tools_v1_chat_stream"),
    ("embed_one", "v1_embeddings"),
    ("embed_one", "v1_embeddings_base64"),
    ("embed_dims", "v1_embeddings_dims"),
];

#[test]
fn native_events_become_the_recorded_v1_frames() {
    for (native, v1) in PAIRS {
        let (native, v1) = (recording(native), recording(v1));
        let task = surface(&native.path).unwrap().task();
        let events = native.frames.iter().map(|frame| decode_event(task, frame.as_bytes()).unwrap()).collect();
        let calls = tool_call_ids(&native.frames.concat()).into_iter().zip(tool_call_ids(&v1.frames.concat()));
        let frames = encode(&v1, events).into_iter().map(|mut frame| {
            for (ours, theirs) in calls.clone() {
                frame = frame.replace(&ours, &theirs);
            }
            frame
        });
        assert_eq!(frames.collect::<Vec<_>>(), v1.frames, "{}", v1.name);
    }
}

#[test]
fn events_read_back_from_v1_frames_become_those_frames() {
    let mut checked = 0;
    for recording in recordings() {
        let text = matches!(surface(&recording.path), Some(Surface::V1Chat | Surface::V1Completions));
        // the cut one is not as Ollama wrote it, the crash ends in a chunk that only says that it crashed,
        // and n and tool_choice are honoured or refused here
        let skipped = ["v1_chat_max_completion_tokens", "crash_v1_chat_stream", "v1_chat_n2"];
        if !text || recording.status != 200 || skipped.contains(&recording.name.as_str()) {
            continue;
        }
        let events = recording.frames.iter().map(|frame| Event::Piece(Box::new(piece(frame)))).collect();
        assert_eq!(encode(&recording, events), recording.frames, "{}", recording.name);
        checked += 1;
    }
    assert!(checked > 20, "{checked} recordings");
}

/// What the caller of `recording` would read for these events, with the recorded id and time.
fn encode(recording: &Recording, events: Vec<Event>) -> Vec<String> {
    let surface = surface(&recording.path).unwrap();
    let request = decode(surface, &recording.body).unwrap();
    let first = recording.frames[0].trim_start_matches("data: ").split("\n\n").next().unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    let mut encoder = Encoder::new(&request, RequestId(0xAB), first["created"].as_u64().unwrap_or_default());
    assert_eq!(encoder.content_type(encoder.replies_as_stream(&events[0])), recording.content_type);
    let frames = events.iter().map(|event| {
        let mut out = Vec::new();
        if request.stream {
            encoder.stream(event, &mut out)
        } else {
            out = encoder.unary(event).concat()
        }
        let text = String::from_utf8(out).unwrap();
        let id = first["id"].as_str().unwrap_or_default();
        text.replace("chatcmpl-00000000000000ab", id).replace("cmpl-00000000000000ab", id)
    });
    frames.collect()
}

fn tool_call_ids(text: &str) -> Vec<String> {
    text.match_indices("\"call_").map(|(at, _)| text[at + 1..at + 14].to_owned()).collect()
}

#[derive(Deserialize)]
struct Frame {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Said>,
    message: Option<Said>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Box<RawValue>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// The native piece that a recorded frame was made from.
fn piece(frame: &str) -> Piece {
    let parts: Vec<Frame> = frame
        .split("\n\n")
        .filter(|part| !part.trim().is_empty() && *part != "data: [DONE]")
        .map(|part| serde_json::from_str(part.trim_start_matches("data: ")).unwrap())
        .collect();
    let usage = parts.last().and_then(|part| part.usage.as_ref());
    let metrics = Metrics {
        prompt_tokens: usage.map_or(0, |usage| usage.prompt_tokens),
        output_tokens: usage.map_or(0, |usage| usage.completion_tokens),
        ..Metrics::default()
    };
    let choice = parts.into_iter().next().unwrap().choices.into_iter().next().unwrap();
    let said = choice.delta.or(choice.message);
    let reason = choice.finish_reason.map(|reason| if reason == "tool_calls" { "stop".into() } else { reason });
    let (content, thinking, calls) =
        said.map_or((None, None, None), |said| (said.content, said.reasoning, said.tool_calls));
    Piece {
        text: choice.text.or(content).unwrap_or_default(),
        thinking,
        tool_calls: calls.map(native_calls),
        logprobs: choice.logprobs.map(|list| Json::known(list.content.get())),
        finish: reason.map(|reason| Finish { reason: Some(reason), context: None, metrics }),
        ..Piece::default()
    }
}

fn native_calls(calls: Vec<Value>) -> Json {
    let native = calls.into_iter().map(|call| {
        let function = &call["function"];
        let arguments = function["arguments"].as_str().unwrap();
        format!(
            r#"{{"id":{},"function":{{"index":{},"name":{},"arguments":{arguments}}}}}"#,
            call["id"], call["index"], function["name"]
        )
    });
    Json::known(format!("[{}]", native.collect::<Vec<_>>().join(",")))
}

#[test]
fn thinking_and_content_of_one_piece_are_two_chunks_in_one_frame() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#;
    let request = decode(Surface::V1Chat, body).unwrap();
    let mut encoder = Encoder::new(&request, RequestId(1), 7);
    let piece = Piece { text: "b".into(), thinking: Some("a".into()), ..Piece::default() };
    let mut out = Vec::new();
    encoder.stream(&Event::Piece(Box::new(piece)), &mut out);
    let out = String::from_utf8(out).unwrap();
    let deltas: Vec<&str> = out.split("\"delta\":").skip(1).map(|d| d.split(",\"finish").next().unwrap()).collect();
    assert_eq!(deltas, [r#"{"role":"assistant","reasoning":"a"}"#, r#"{"content":"b"}"#]);
}

#[test]
fn a_fault_in_a_stream_is_said_and_nothing_follows() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}"#;
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&decode(Surface::V1Chat, body).unwrap(), RequestId(1), 7);
    encoder.stream(&Event::Error("model runner has unexpectedly stopped".into()), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with(r#"data: {"error":{"message":"model runner has unexpectedly stopped","type":"api_error""#)
    );
    assert!(text.ends_with("}}\n\n") && !text.contains("[DONE]"), "{text}");
}

#[test]
fn a_caller_that_wants_one_tool_call_sees_the_first_one_only() {
    let calls = |names: &[&str]| {
        let calls = names.iter().map(|name| format!(r#"{{"id":"c","function":{{"name":"{name}","arguments":{{}}}}}}"#));
        let list = format!("[{}]", calls.collect::<Vec<_>>().join(","));
        Event::Piece(Box::new(Piece { tool_calls: Some(Json::known(list)), ..Piece::default() }))
    };
    for (wish, shown) in [("false", vec!["f"]), ("true", vec!["f", "g", "h"])] {
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"stream":true,"parallel_tool_calls":{wish}}}"#
        );
        let mut encoder = Encoder::new(&decode(Surface::V1Chat, body.as_bytes()).unwrap(), RequestId(1), 7);
        let whole = String::from_utf8(encoder.unary(&calls(&["f", "g", "h"])).concat()).unwrap();
        let mut out = Vec::new();
        for event in [calls(&["f", "g"]), calls(&["h"])] {
            encoder.stream(&event, &mut out);
        }
        for text in [whole, String::from_utf8(out).unwrap()] {
            let found: Vec<&str> =
                ["f", "g", "h"].into_iter().filter(|name| text.contains(&format!(r#""name":"{name}""#))).collect();
            assert_eq!(found, shown, "{text}");
        }
    }
}

#[test]
fn logprobs_of_completions_have_the_older_form() {
    let request = |stream| {
        let body = format!(r#"{{"model":"m","prompt":"x","logprobs":2,"stream":{stream}}}"#);
        Encoder::new(&decode(Surface::V1Completions, body.as_bytes()).unwrap(), RequestId(1), 7)
    };
    let piece = |text: &str, list: &str| {
        let logprobs = Some(Json::known(list));
        Event::Piece(Box::new(Piece { text: text.into(), logprobs, ..Piece::default() }))
    };
    let first = r#"[{"token":"é","logprob":-0.5,"bytes":[195,169],"top_logprobs":[{"token":"é","logprob":-0.5},{"token":"a","logprob":-2},{"token":"a","logprob":-3}]}]"#;
    let second = r#"[{"token":" b","logprob":-1e-3}]"#;
    let mut encoder = request(true);
    let mut out = Vec::new();
    encoder.stream(&piece("é", first), &mut out);
    encoder.stream(&piece(" b", second), &mut out);
    let out = String::from_utf8(out).unwrap();
    let wanted = [
        r#""logprobs":{"tokens":["é"],"token_logprobs":[-0.5],"top_logprobs":[{"é":-0.5,"a":-2}],"text_offset":[0]}"#,
        r#""logprobs":{"tokens":[" b"],"token_logprobs":[-1e-3],"top_logprobs":null,"text_offset":[1]}"#,
    ];
    for part in wanted {
        assert!(out.contains(part), "{part}: {out}");
    }
    let whole = String::from_utf8(request(false).unary(&piece("é", first)).concat()).unwrap();
    assert!(whole.contains(wanted[0]), "{whole}");
}
