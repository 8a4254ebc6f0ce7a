//! `/v1/messages`: what becomes of requests, and the grammar of streams.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::{Finish, InferenceRequest, Json, Metrics, Piece, RequestId, field};

fn with(more: &Value) -> Result<InferenceRequest, crate::domain::Fault> {
    let mut body = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    decode(Surface::V1Messages, body.to_string().as_bytes())
}

#[test]
fn a_request_becomes_a_native_chat() {
    let request = with(&json!({
        "system": [{ "type": "text", "text": "Be " }, { "type": "text", "text": "brief." }],
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "Look" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "YQ==" } }] },
            { "role": "assistant", "content": [{ "type": "thinking", "thinking": "hm", "signature": "" },
                { "type": "tool_use", "id": "t1", "name": "f", "input": { "a": 1.50 } }] },
            { "role": "user", "content": [{ "type": "text", "text": "and?" },
                { "type": "tool_result", "tool_use_id": "t1", "content": [{ "type": "text", "text": "ok" }] }] },
        ],
        "tools": [{ "name": "f", "description": "d", "input_schema": { "type": "object", "properties": {} } }],
        "tool_choice": { "type": "auto", "disable_parallel_tool_use": true },
        "thinking": { "type": "enabled", "budget_tokens": 1024 }, "top_k": 3, "stop_sequences": ["!"],
        "output_config": { "format": { "type": "json_schema", "schema": { "type": "object" } } },
    }))
    .unwrap();
    let native: Value = serde_json::from_str(field(&request.fields, "messages").unwrap().get()).unwrap();
    let wanted = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "Look", "images": ["YQ=="] },
        { "role": "assistant", "content": "", "thinking": "hm",
          "tool_calls": [{ "id": "t1", "function": { "index": 0, "name": "f", "arguments": { "a": 1.5 } } }] },
        { "role": "tool", "content": "ok", "tool_call_id": "t1" },
        { "role": "user", "content": "and?" },
    ]);
    assert_eq!(native, wanted);
    let text = |name: &str| field(&request.fields, name).map(|value| value.get().to_owned()).unwrap_or_default();
    assert_eq!((text("think"), text("format")), ("true".into(), r#"{"type":"object"}"#.into()));
    assert!(text("tools").starts_with(r#"[{"type":"function","function":{"name":"f","description":"d","parameters":"#));
    assert!(request.shape.one_tool_call && request.measure.output_cap == Some(9));
    let options: Vec<_> = request.options.iter().map(|(name, value)| (&**name, value.get())).collect();
    assert_eq!(options, [("num_predict", "9"), ("top_k", "3"), ("stop", r#"["!"]"#)]);
    let none = with(&json!({ "tools": [{ "name": "f" }], "tool_choice": { "type": "none" } })).unwrap();
    assert!(field(&none.fields, "tools").is_none(), "none offers none");
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    let block = |block: Value| json!({ "messages": [{ "role": "user", "content": [block] }] });
    let table = [
        (json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "tools[0].type"),
        (json!({ "tool_choice": { "type": "any" } }), "tool_choice.type"),
        (json!({ "mcp_servers": [{ "url": "x" }] }), "mcp_servers"),
        (json!({ "thinking": { "type": "much" } }), "thinking.type"),
        (json!({ "output_config": { "effort": "huge" } }), "output_config.effort"),
        (json!({ "output_format": { "type": "xml" } }), "output_format"),
        (
            json!({ "output_config": { "format": { "type": "json_schema", "schema": [] } } }),
            "output_config.format.schema",
        ),
        (json!({ "system": 5 }), "system"),
        (block(json!({ "type": "document", "source": {} })), "messages[0].content[0].type"),
    ];
    for (more, param) in table {
        let fault = with(&more).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some(param), "{more}");
    }
    let image = with(&block(json!({ "type": "image", "source": { "type": "url", "url": "x" } }))).unwrap_err();
    assert_eq!(image.message, "invalid image source type: url. Only base64 images are supported.");
}

proptest! {
    #[test]
    fn however_an_answer_is_cut_its_blocks_are_whole_and_in_order(
        said in prop::collection::vec(("[a-zé🎉\n]{0,6}", 0..3u8), 0..12), called in any::<bool>()
    ) {
        let request = with(&json!({ "stream": true })).unwrap();
        let mut encoder = Encoder::new(&request, RequestId(7), 0);
        let mut out = Vec::new();
        let mut text_said = String::new();
        for (text, kind) in &said {
            let mut piece = Piece::default();
            if *kind == 0 { piece.thinking = Some(text.clone()) } else { piece.text.clone_from(text); text_said.push_str(text) }
            encoder.stream(&Event::Piece(Box::new(piece)), &mut out);
        }
        let calls = r#"[{"id":"c","function":{"index":0,"name":"f","arguments":{"a":1}}}]"#;
        let tool_calls = called.then(|| Json::known(calls));
        let finish = Some(Finish { reason: Some("stop".into()), context: None, metrics: Metrics::default() });
        encoder.stream(&Event::Piece(Box::new(Piece { tool_calls, finish, ..Piece::default() })), &mut out);
        let out = String::from_utf8(out).unwrap();
        let (mut open, mut index, mut text, mut names) = (None, 0, String::new(), Vec::new());
        for event in out.split_terminator("\n\n") {
            let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            let data: Value = serde_json::from_str(data).unwrap();
            prop_assert_eq!(&data["type"], name);
            names.push(name.to_owned());
            match name {
                "content_block_start" => {
                    prop_assert!(open.is_none() && data["index"] == index);
                    open = Some(data["content_block"]["type"].clone());
                }
                "content_block_delta" => {
                    prop_assert!(open.is_some() && data["index"] == index);
                    text.push_str(data["delta"]["text"].as_str().unwrap_or_default());
                }
                "content_block_stop" => {
                    prop_assert!(open.take().is_some() && data["index"] == index);
                    index += 1;
                }
                "message_delta" => {
                    prop_assert_eq!(&data["delta"]["stop_reason"], if called { "tool_use" } else { "end_turn" });
                }
                _ => {}
            }
        }
        prop_assert_eq!(text, text_said);
        prop_assert!(open.is_none());
        prop_assert_eq!((names[0].as_str(), names[names.len() - 1].as_str()), ("message_start", "message_stop"));
    }
}
