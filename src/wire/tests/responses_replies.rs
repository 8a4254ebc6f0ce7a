//! `/v1/responses` replies: made again from the recorded ones they equal them, and every stream follows the grammar.

use proptest::prelude::*;
use serde_json::Value;

use super::recordings::recording;
use super::*;
use crate::domain::{Fault, FaultClass, Finish, InferenceRequest, Json, Metrics, Piece, RequestId};

const ID: RequestId = RequestId(0xAB);

/// An event of a stream: its name and its data.
fn events(text: &str) -> Vec<(String, Value)> {
    assert!(text.is_empty() || text.ends_with("\n\n"), "{text}");
    let blocks = text.split("\n\n").filter(|block| !block.is_empty());
    let read = blocks.map(|block| {
        let (name, data) = block.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        (name.to_owned(), data)
    });
    read.collect()
}

fn request(fields: &str) -> InferenceRequest {
    let body = format!(r#"{{"model":"m","input":"hi"{fields}}}"#);
    decode(Surface::V1Responses, body.as_bytes()).unwrap()
}

fn piece(text: &str, thinking: &str, calls: &str) -> Piece {
    Piece {
        text: text.into(),
        thinking: Some(thinking.into()).filter(|text: &String| !text.is_empty()),
        tool_calls: (!calls.is_empty()).then(|| Json::known(calls)),
        ..Piece::default()
    }
}

fn last(reason: &str, metrics: Metrics) -> Piece {
    let finish = Finish { reason: Some(reason.into()), context: None, metrics };
    Piece { finish: Some(finish), ..Piece::default() }
}

fn stream(request: &InferenceRequest, pieces: &[Piece]) -> String {
    let mut encoder = Encoder::new(request, ID, 7);
    let mut out = Vec::new();
    for piece in pieces {
        encoder.stream(&Event::Piece(Box::new(piece.clone())), &mut out);
    }
    String::from_utf8(out).unwrap()
}

fn whole(request: &InferenceRequest, piece: &Piece) -> Value {
    serde_json::from_slice(&Encoder::new(request, ID, 7).unary(&Event::Piece(Box::new(piece.clone()))).concat())
        .unwrap()
}

/// What holds for every stream; gives the texts of its items, in order, and the last response object.
fn check_grammar(text: &str) -> (Vec<Value>, Value) {
    let events = events(text);
    let mut done: Vec<Value> = Vec::new();
    let mut open: Option<(Value, String)> = None;
    let mut parts = 0;
    for (at, (name, data)) in events.iter().enumerate() {
        assert_eq!(data["sequence_number"], at, "{text}");
        if let Some(index) = data.get("output_index") {
            assert_eq!(index, done.len(), "one item at a time: {text}");
        }
        match name.as_str() {
            "response.created" => assert_eq!(at, 0),
            "response.in_progress" => assert_eq!(at, 1),
            "response.output_item.added" => {
                assert!(open.is_none(), "{text}");
                open = Some((data["item"].clone(), String::new()));
            }
            "response.output_item.done" => {
                let (begun, said) = open.take().unwrap();
                let item = &data["item"];
                assert_eq!((&begun["id"], &begun["type"]), (&item["id"], &item["type"]));
                let whole = match item["type"].as_str().unwrap() {
                    "message" => &item["content"][0]["text"],
                    "reasoning" => &item["summary"][0]["text"],
                    _ => &item["arguments"],
                };
                assert_eq!(*whole, said, "{text}");
                assert_eq!(parts, 0, "{text}");
                done.push(item.clone());
            }
            "response.completed" | "response.failed" => assert_eq!(at + 1, events.len()),
            _ => {
                let (item, said) = open.as_mut().unwrap_or_else(|| panic!("{name} of no item: {text}"));
                assert_eq!(data["item_id"], item["id"], "{text}");
                if name.ends_with(".delta") {
                    said.push_str(data["delta"].as_str().unwrap());
                }
                for key in ["text", "arguments"] {
                    assert!(data.get(key).is_none_or(|whole| whole == said), "{text}");
                }
                if let Some(part) = data.get("part") {
                    assert_eq!(part["text"], *said, "{text}");
                    let of_thought = name.starts_with("response.reasoning_summary_part");
                    assert_eq!(of_thought, item["type"] == "reasoning", "{text}");
                    parts += if name.ends_with(".added") { 1 } else { -1 };
                } else if name.ends_with("text.delta") || name.ends_with("text.done") {
                    assert_eq!(parts, 1, "a text is of a part: {text}");
                }
            }
        }
    }
    let end = &events.last().unwrap().1["response"];
    (done, end.clone())
}

/// The native pieces that a recorded reply was made from.
fn pieces_of(recording: &Recording) -> Vec<Piece> {
    let of_item = |item: &Value| match item["type"].as_str().unwrap() {
        "message" => piece(item["content"][0]["text"].as_str().unwrap(), "", ""),
        "reasoning" => piece("", item["summary"][0]["text"].as_str().unwrap(), ""),
        _ => piece("", "", &native_call(&item["call_id"], &item["name"], item["arguments"].as_str().unwrap())),
    };
    let end = |response: &Value| {
        let number = |key: &str| response["usage"][key].as_u64().unwrap();
        let metrics = Metrics {
            prompt_tokens: number("input_tokens"),
            output_tokens: number("output_tokens"),
            ..Metrics::default()
        };
        let cut = response["usage"]["output_tokens"] == response["max_output_tokens"];
        let seconds = response["completed_at"].as_i64().unwrap();
        let created_at = jiff::Timestamp::from_second(seconds).unwrap().to_string();
        Piece { created_at, ..last(if cut { "length" } else { "stop" }, metrics) }
    };
    let text = recording.frames.concat();
    if recording.content_type != "text/event-stream" {
        let response: Value = serde_json::from_str(&text).unwrap();
        let mut all = end(&response);
        for item in response["output"].as_array().unwrap() {
            let said = of_item(item);
            all.text.push_str(&said.text);
            all.thinking = said.thinking.or(all.thinking);
            all.tool_calls = said.tool_calls.or(all.tool_calls);
        }
        return vec![all];
    }
    let mut pieces = Vec::new();
    for (name, data) in events(&text) {
        let delta = || data["delta"].as_str().unwrap();
        match name.as_str() {
            "response.output_text.delta" => pieces.push(piece(delta(), "", "")),
            "response.reasoning_summary_text.delta" => pieces.push(piece("", delta(), "")),
            "response.output_item.done" if data["item"]["type"] == "function_call" => {
                pieces.push(of_item(&data["item"]));
            }
            "response.completed" => pieces.push(end(&data["response"])),
            _ => {}
        }
    }
    pieces
}

fn native_call(id: &Value, name: &Value, arguments: &str) -> String {
    format!(r#"[{{"id":{id},"function":{{"index":0,"name":{name},"arguments":{arguments}}}}}]"#)
}

/// Ids that Ollama draws by lot, by their kinds; ours by the request's.
fn without_ids(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = ["\"resp_", "\"msg_", "\"rs_", "\"fc_"].iter().filter_map(|start| rest.find(start)).min() {
        let (before, id) = rest.split_at(at);
        let (kind, tail) = id[1..].split_once('_').unwrap();
        out.push_str(before);
        out.push_str(&format!("\"{kind}_ID"));
        rest = &tail[tail.find('"').unwrap()..];
    }
    out + rest
}

/// A stream without the events that begin and end a part of what was thought: Ollama has none, and numbers on.
fn without_parts(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut dropped = 0;
    for event in text.split_inclusive("\n\n") {
        if event.starts_with("event: response.reasoning_summary_part.") {
            dropped += 1;
            continue;
        }
        match event.split_once("\"sequence_number\":") {
            Some((before, after)) if dropped > 0 => {
                let (number, rest) = after.split_once(',').unwrap();
                let number = number.parse::<usize>().unwrap() - dropped;
                out.push_str(&format!("{before}\"sequence_number\":{number},{rest}"));
            }
            _ => out.push_str(event),
        }
    }
    out
}

#[test]
fn recorded_replies_are_made_again_from_their_pieces() {
    let mut checked = 0;
    for recording in recordings() {
        // refused here; and the two streams in which Ollama gives two items one index (see below)
        let other = ["v1_responses_bad_tool", "tools_v1_responses_stream", "tools_v1_responses_history_stream"];
        let ours = recording.path == "/v1/responses" && recording.status == 200;
        if !ours || other.contains(&recording.name.as_str()) {
            continue;
        }
        let request = decode(Surface::V1Responses, &recording.body).unwrap();
        let text = recording.frames.concat();
        let number_after = |key: &str| {
            let tail = &text[text.find(key).unwrap() + key.len()..];
            tail[..tail.find(',').unwrap()].to_owned()
        };
        let created = number_after("\"created_at\":").parse().unwrap();
        let mut encoder = Encoder::new(&request, ID, created);
        let pieces = pieces_of(&recording);
        let first = Event::Piece(Box::new(pieces[0].clone()));
        assert_eq!(encoder.content_type(encoder.replies_as_stream(&first)), recording.content_type);
        let mut out = Vec::new();
        for piece in &pieces {
            if request.stream {
                encoder.stream(&Event::Piece(Box::new(piece.clone())), &mut out);
            } else {
                out = encoder.unary(&Event::Piece(Box::new(piece.clone()))).concat();
            }
        }
        let got = String::from_utf8(out).unwrap();
        assert_eq!(without_ids(&without_parts(&got)), without_ids(&text), "{}", recording.name);
        checked += 1;
    }
    assert!(checked >= 7, "{checked} recordings");
}

#[test]
fn text_before_a_call_is_an_item_of_its_own() {
    for name in ["tools_v1_responses_stream", "tools_v1_responses_history_stream"] {
        let recording = recording(name);
        let request = decode(Surface::V1Responses, &recording.body).unwrap();
        let text = stream(&request, &pieces_of(&recording));
        let (items, end) = check_grammar(&text);
        let kinds: Vec<&Value> = items.iter().map(|item| &item["type"]).collect();
        assert_eq!(kinds, ["message", "function_call"], "{text}");
        assert_eq!(end["output"], Value::Array(items));
        // apart from the closed message, its index and their order Ollama's events are ours
        let recorded = events(&recording.frames.concat());
        let ours = events(&text);
        let strip = |(name, mut data): (String, Value)| {
            data["sequence_number"] = Value::Null;
            data["output_index"] = Value::Null;
            data["response"]["output"] = Value::Null;
            data["response"]["created_at"] = Value::Null;
            data["response"]["completed_at"] = Value::Null;
            (name, without_ids(&data.to_string()))
        };
        let closing = |(name, data): &(String, Value)| {
            name == "response.output_text.done"
                || name == "response.content_part.done"
                || (name == "response.output_item.done" && data["item"]["type"] == "message")
        };
        let ours: Vec<_> = ours.into_iter().filter(|event| !closing(event)).map(strip).collect();
        assert_eq!(ours, recorded.into_iter().map(strip).collect::<Vec<_>>());
        // and the same answer at once: white space before a call is nothing, as Ollama has it
        let mut once = last("stop", Metrics::default());
        once.text = " ".into();
        once.tool_calls = Some(Json::known(native_call(&"call_1".into(), &"f".into(), "{}")));
        assert_eq!(whole(&request, &once)["output"].as_array().unwrap().len(), 1);
        once.text = "Let me look.".into();
        assert_eq!(whole(&request, &once)["output"][0]["content"][0]["text"], "Let me look.");
    }
}

#[test]
fn a_failure_ends_the_stream_as_a_failure_and_keeps_what_was_said() {
    let request = request(r#","stream":true"#);
    let mut encoder = Encoder::new(&request, ID, 7);
    let mut out = Vec::new();
    encoder.stream(&Event::Piece(Box::new(piece("Once", "", ""))), &mut out);
    encoder.stream(&Event::Error("model runner has unexpectedly stopped".into()), &mut out);
    let text = String::from_utf8(out).unwrap();
    let events = events(&text);
    let (name, data) = events.last().unwrap();
    assert_eq!(name, "response.failed");
    let response = &data["response"];
    assert_eq!(response["status"], "failed");
    assert_eq!(response["error"]["message"], "model runner has unexpectedly stopped");
    assert_eq!(response["error"]["code"], "server_error");
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(response["output"][0]["content"][0]["text"], "Once");
    assert!(!text.contains("response.completed"));
    // before the first piece, too, the stream begins before it fails
    let mut out = Vec::new();
    Encoder::new(&request, ID, 7).fault(&Fault::new(FaultClass::RateLimited, "later"), &mut out);
    let (_, end) = check_grammar(&String::from_utf8(out).unwrap());
    assert_eq!(end["error"]["code"], "rate_limit_exceeded");
}

#[test]
fn an_answer_that_was_cut_is_completed_as_ollama_has_it() {
    let request = request(r#","stream":true"#);
    let pieces = [piece("Once upon", "", ""), last("length", Metrics::default())];
    let (items, end) = check_grammar(&stream(&request, &pieces));
    assert_eq!((&end["status"], &end["incomplete_details"]), (&"completed".into(), &Value::Null));
    assert_eq!(items[0]["status"], "completed");
    let mut once = last("length", Metrics::default());
    once.text = "Once upon".into();
    assert_eq!(whole(&request, &once)["status"], "completed");
}

#[test]
fn one_call_at_most_where_the_caller_wants_no_more() {
    let calls = r#"[{"id":"","function":{"name":"a","arguments":{"x":1.50}}},{"id":"call_2","function":{"name":"b","arguments":{}}}]"#;
    for (fields, wanted) in [("", 2), (r#","parallel_tool_calls":true"#, 2), (r#","parallel_tool_calls":false"#, 1)] {
        let request = request(fields);
        let pieces = [piece("", "", calls), piece("", "", calls), last("stop", Metrics::default())];
        let (items, end) = check_grammar(&stream(&request, &pieces));
        assert_eq!(items.len(), if wanted == 1 { 1 } else { 4 });
        assert_eq!(items[0]["arguments"], r#"{"x":1.50}"#);
        assert_eq!(items[0]["call_id"], "call_00000000000000ab_0", "a call without an id gets one");
        assert_eq!(end["parallel_tool_calls"], wanted == 2);
        let once = Piece { tool_calls: pieces[0].tool_calls.clone(), ..last("stop", Metrics::default()) };
        assert_eq!(whole(&request, &once)["output"].as_array().unwrap().len(), wanted);
    }
}

/// A piece of an answer: said, thought or called.
fn some_piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        4 => "[a-c\"\\\\\n<é \u{2028}]{0,4}".prop_map(|text| piece(&text, "", "")),
        3 => "[a-c ]{0,3}".prop_map(|text| piece("", &text, "")),
        1 => Just(piece("", "", r#"[{"id":"call_1","function":{"index":0,"name":"f","arguments":{"a":"\n"}}}]"#)),
    ]
}

proptest! {
    #[test]
    fn every_stream_follows_the_grammar(pieces in prop::collection::vec(some_piece(), 0..12), cut: bool) {
        let mut pieces = pieces;
        pieces.push(last(if cut { "length" } else { "stop" }, Metrics::default()));
        let (items, end) = check_grammar(&stream(&request(r#","stream":true"#), &pieces));
        prop_assert_eq!(&end["output"], &Value::Array(items));
        let ids: std::collections::HashSet<String> = end["output"].as_array().unwrap().iter().map(|item| item["id"].to_string()).collect();
        prop_assert_eq!(ids.len(), end["output"].as_array().unwrap().len());
    }

    #[test]
    fn however_an_answer_is_cut_into_pieces_the_output_is_the_same(
        parts in prop::collection::vec((0..3u8, "[a-c é\n\"]{1,8}"), 1..6),
        cuts in prop::collection::vec(1usize..5, 1..20),
    ) {
        let mut cuts = cuts.into_iter().cycle();
        let (mut rough, mut fine) = (Vec::new(), Vec::new());
        let mut before = 9;
        for (kind, text) in parts {
            // two parts of one kind are one part
            let kind = if kind == before { 2 } else { kind };
            before = kind;
            let make = |text: &str| match kind {
                0 => piece(text, "", ""),
                1 => piece("", text, ""),
                _ => piece("", "", r#"[{"id":"call_1","function":{"index":0,"name":"f","arguments":{}}}]"#),
            };
            rough.push(make(&text));
            if kind == 2 {
                fine.push(make(&text));
                continue;
            }
            let letters: Vec<char> = text.chars().collect();
            let mut at = 0;
            while at < letters.len() {
                let end = (at + cuts.next().unwrap()).min(letters.len());
                fine.push(make(&letters[at..end].iter().collect::<String>()));
                at = end;
            }
        }
        for pieces in [&mut rough, &mut fine] {
            pieces.push(last("stop", Metrics::default()));
        }
        let request = request(r#","stream":true"#);
        let output = |pieces: &[Piece]| check_grammar(&stream(&request, pieces)).1["output"].clone();
        prop_assert_eq!(output(&rough), output(&fine));
    }
}
