//! Requests: what the gateway takes out of them, and what goes upstream for them.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::domain::{FaultClass, InferenceRequest, Intent, Json, JsonField, field};

fn read(surface: Surface, body: &str) -> InferenceRequest {
    decode(surface, body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {}", fault.message))
}

fn refused(surface: Surface, body: &str) -> (FaultClass, String, Option<String>) {
    let fault = decode(surface, body.as_bytes()).unwrap_err();
    (fault.class, fault.message, fault.param)
}

/// What goes upstream when the gateway decides nothing.
fn sent(surface: Surface, body: &str) -> Value {
    let target = undecided("copy");
    serde_json::from_slice(&encode_upstream(&read(surface, body), &target)).unwrap()
}

fn v1(fields: &str) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{fields}}}"#)
}

#[test]
fn options_merge_and_split() {
    let request = read(
        Surface::Generate,
        r#"{"model":"m","prompt":"p","options":{"seed":1,"num_ctx":4,"stop":["a"]},"Options":{"seed":2,"new":{}},
            "options":{"top_k":null},"shift":true,"keep_alive":"1h30m"}"#,
    );
    let names = |fields: &[JsonField]| fields.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&request.options), ["seed", "stop", "new"]);
    assert_eq!(field(&request.options, "seed").unwrap().get(), "2");
    assert_eq!(names(&request.runner_options), ["num_ctx", "shift"]);
    assert_eq!(request.keep_alive, Some(Duration::from_secs(5400)));
    assert_eq!(request.measure.output_cap, None);
    let cleared = read(Surface::Generate, r#"{"model":"m","options":{"seed":1},"options":null,"options":{"top_k":1}}"#);
    assert_eq!(names(&cleared.options), ["top_k"]);
}

#[test]
fn wrong_options_are_refused_by_name() {
    for (option, wanted) in [
        (r#""num_ctx":"8k""#, "type integer"),
        (r#""temperature":"hot""#, "type float32"),
        (r#""use_mmap":1"#, "type boolean"),
        (r#""stop":"x""#, "type array"),
        (r#""stop":["x",5]"#, "an array of strings"),
    ] {
        let name = option.split('"').nth(1).unwrap();
        let (class, text, param) =
            refused(Surface::Chat, &format!(r#"{{"model":"m","messages":[],"options":{{{option}}}}}"#));
        assert_eq!(class, FaultClass::BadRequest);
        assert_eq!(text, format!("option \"{name}\" must be of {wanted}"));
        assert_eq!(param, Some(format!("options.{name}")));
    }
}

#[test]
fn keep_alive_is_read_as_go_reads_it() {
    for (written, wanted) in [
        ("0", Duration::ZERO),
        ("1.5", Duration::from_millis(1500)),
        ("-1", Duration::MAX),
        ("1e300", Duration::MAX),
        ("\"-1s\"", Duration::MAX),
        ("\"0\"", Duration::ZERO),
        ("\"1.5h\"", Duration::from_secs(5400)),
        ("\"250ms\"", Duration::from_millis(250)),
    ] {
        let request = read(Surface::Generate, &format!(r#"{{"model":"m","keep_alive":{written}}}"#));
        assert_eq!(request.keep_alive, Some(wanted), "{written}");
    }
    assert_eq!(read(Surface::Chat, r#"{"model":"m","keep_alive":null}"#).keep_alive, None);
}

#[test]
fn intent_is_seen() {
    for (surface, body, wanted) in [
        (Surface::Chat, r#"{"model":"m"}"#, Intent::Load),
        (Surface::Chat, r#"{"model":"m","messages":[ ]}"#, Intent::Load),
        (Surface::Chat, r#"{"model":"m","messages":null,"keep_alive":0}"#, Intent::Unload),
        (Surface::Chat, r#"{"model":"m","messages":[{}],"keep_alive":0}"#, Intent::Answer),
        (Surface::Generate, r#"{"model":"m","prompt":""}"#, Intent::Load),
        (Surface::Generate, r#"{"model":"m","keep_alive":"0s"}"#, Intent::Unload),
        (Surface::Generate, r#"{"model":"m","prompt":"x"}"#, Intent::Answer),
        (Surface::Embed, r#"{"model":"m","input":[]}"#, Intent::Load),
        (Surface::Embed, r#"{"model":"m","input":["",""]}"#, Intent::Answer),
        (Surface::Embeddings, r#"{"model":"m","keep_alive":0}"#, Intent::Load),
        (Surface::V1Completions, r#"{"model":"m"}"#, Intent::Load),
        (Surface::V1Embeddings, r#"{"model":"m","input":""}"#, Intent::Answer),
    ] {
        assert_eq!(read(surface, body).intent, wanted, "{body}");
    }
}

#[test]
fn sizes_are_taken_while_decoding() {
    let chat = read(
        Surface::Chat,
        r#"{"model":"m","messages":[{"role":"user","content":"12345","images":["YWFhYWFh"]}],"tools":[],"options":{"num_predict":7}}"#,
    );
    assert_eq!((chat.measure.prompt_bytes, chat.measure.inputs, chat.measure.output_cap), (7, 1, Some(7)));
    let embed = read(Surface::Embed, r#"{"model":"m","input":["abc","de"]}"#);
    assert_eq!((embed.measure.prompt_bytes, embed.measure.inputs), (5, 2));
    let v1 = read(Surface::V1Chat, &v1(r#","max_completion_tokens":4"#));
    assert_eq!((v1.measure.prompt_bytes, v1.measure.output_cap), (2, Some(4)));
}

#[test]
fn tools_count_as_they_were_written_however_they_are_sent() {
    for (surface, rest, tools) in [
        (
            Surface::V1Chat,
            r#""messages":[{"role":"user","content":"x"}]"#,
            r#"[{"type":"function","function":{"name":"a>b"}}]"#,
        ),
        (Surface::V1Responses, r#""input":"x""#, r#"[{"type":"function","name":"a>>>>>>>>>>>>>b"}]"#),
        (Surface::V1Messages, r#""max_tokens":9,"messages":[{"role":"user","content":"x"}]"#, r#"[{},{},{},{},{},{}]"#),
    ] {
        let request = read(surface, &format!(r#"{{"model":"m",{rest},"tools":{tools}}}"#));
        assert_eq!(request.measure.prompt_bytes, 1 + tools.len(), "{surface:?}");
    }
}

#[test]
fn upstream_gets_what_the_gateway_decided() {
    let request = read(
        Surface::Chat,
        r#"{"model":"Chat","messages":[{"role":"user","content":"x"}],"stream":false,"format":"json","new":1,
            "options":{"num_ctx":1,"seed":3,"num_predict":900},"keep_alive":-1,"truncate":true,"shift":true,"_debug_render_only":false}"#,
    );
    let runner = [("num_ctx".into(), Json::known("8192")), ("shift".into(), Json::known("false"))];
    let mut target = UpstreamTarget {
        model: "gaucho/chat:1",
        runner_options: &runner,
        keep_alive: Some(Duration::MAX),
        truncate: Some(false),
        output_cap: Some(100),
        model_cap: None,
    };
    let body = encode_upstream(&request, &target);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        r#"{"model":"gaucho/chat:1","messages":[{"role":"user","content":"x"}],"format":"json","_debug_render_only":false,"new":1,"stream":false,"options":{"seed":3,"num_predict":100,"num_ctx":8192},"truncate":false,"shift":false,"keep_alive":-1}"#
    );
    target.output_cap = Some(1000);
    target.keep_alive = Some(Duration::from_millis(1500));
    let body: Value = serde_json::from_slice(&encode_upstream(&request, &target)).unwrap();
    assert_eq!(body["options"]["num_predict"], 900);
    assert_eq!(body["keep_alive"], "1500000000ns");
    let endless = read(Surface::Generate, r#"{"model":"m","prompt":"x","options":{"num_predict":-1}}"#);
    let body: Value = serde_json::from_slice(&encode_upstream(&endless, &target)).unwrap();
    assert_eq!(body["options"]["num_predict"], 1000);
    let sent = |request: &InferenceRequest, target: &UpstreamTarget<'_>| -> Value {
        serde_json::from_slice(&encode_upstream(request, target)).unwrap()
    };
    // with less than one token Ollama sets no limit
    for none in ["0", "0.9", "-0.5", "-2"] {
        let body = format!(r#"{{"model":"m","prompt":"x","options":{{"num_predict":{none}}}}}"#);
        let request = read(Surface::Generate, &body);
        assert_eq!(request.measure.output_cap, None, "{none}");
        assert_eq!(sent(&request, &target)["options"]["num_predict"], 1000, "{none}");
    }
    // the model's own lower bound holds where the request says nothing, as it does without a ceiling
    target.model_cap = Some(7);
    let silent = read(Surface::Generate, r#"{"model":"m","prompt":"x"}"#);
    assert_eq!(sent(&silent, &target)["options"]["num_predict"], 7);
    assert_eq!(sent(&endless, &target)["options"]["num_predict"], 1000);
    target.output_cap = None;
    assert_eq!(sent(&silent, &target)["options"].get("num_predict"), None, "Ollama knows it itself");
}

#[test]
fn openai_fields_become_native_ones() {
    let body = v1(
        r#","max_tokens":5,"seed":7,"stop":"a","frequency_penalty":0.5,"presence_penalty":0.25,"reasoning_effort":"xhigh",
        "logprobs":true,"top_logprobs":2,"response_format":{"type":"json_schema","json_schema":{"schema":{"b":1,"a":2}}},
        "options":{"num_ctx":64,"top_k":3,"temperature":0.1},"keep_alive":"1m","user":"u","think":true,"format":"json""#,
    );
    let request = read(Surface::V1Chat, &body);
    assert_eq!(request.runner_options[0].0.as_ref(), "num_ctx");
    assert_eq!(request.keep_alive, Some(Duration::from_secs(60)));
    let wanted = json!({
        "model": "copy", "messages": [{"role": "user", "content": "hi"}], "format": {"b": 1, "a": 2}, "think": "max",
        "logprobs": true, "top_logprobs": 2, "stream": false,
        "options": {"top_k": 3, "temperature": 0.1, "num_predict": 5, "seed": 7, "frequency_penalty": 0.5,
                    "presence_penalty": 0.25, "stop": ["a"], "top_p": 1.0}
    });
    assert_eq!(sent(Surface::V1Chat, &body), wanted);
    let plain = sent(Surface::V1Chat, &v1(""));
    assert_eq!(plain["options"], json!({"temperature": 1.0, "top_p": 1.0}));
}

#[test]
fn openai_messages_become_native_ones() {
    let body = r#"{"model":"m","messages":[
        {"role":"developer","content":"Be brief."},
        {"role":"user","content":[{"type":"text","text":"what"},{"type":"image_url","image_url":{"url":"data:image/png;base64,YWI="}},
                                  {"type":"image_url","image_url":"data:;base64,YQ=="},{"type":"input_audio","input_audio":{"data":"YWJj"}}]},
        {"role":"assistant","content":null,"reasoning":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"b\":1,\"a\":\"\\u003c\"}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"sunny"},
        {"role":"Tool","name":"g","content":[{"type":"text","text":"x"}]}]}"#;
    let wanted = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "what"},
        {"role": "user", "content": "", "images": ["YWI="]},
        {"role": "user", "content": "", "images": ["YQ=="]},
        {"role": "user", "content": "", "images": ["YWJj"]},
        {"role": "assistant", "content": "", "thinking": "hm",
         "tool_calls": [{"id": "c1", "function": {"index": 0, "name": "f", "arguments": {"b": 1, "a": "<"}}}]},
        {"role": "tool", "content": "sunny", "tool_name": "f", "tool_call_id": "c1"},
        {"role": "Tool", "content": "x"},
    ]);
    assert_eq!(sent(Surface::V1Chat, body)["messages"], wanted);
}

#[test]
fn completions_and_embeddings_become_native_ones() {
    let body = r#"{"model":"m","prompt":"p","suffix":"s","logprobs":3,"top_p":0,"max_tokens":2,"stop":["a","b"],"stream":true,
        "stream_options":{"include_usage":true}}"#;
    let wanted = json!({
        "model": "copy", "prompt": "p", "suffix": "s", "logprobs": true, "top_logprobs": 3, "stream": true,
        "options": {"num_predict": 2, "stop": ["a", "b"], "temperature": 1.0, "top_p": 1.0}
    });
    assert_eq!(sent(Surface::V1Completions, body), wanted);
    assert!(read(Surface::V1Completions, body).shape.include_usage);
    let body = r#"{"model":"m","input":"","dimensions":8,"encoding_format":"Base64","user":"u"}"#;
    assert_eq!(sent(Surface::V1Embeddings, body), json!({"model": "copy", "input": [""], "dimensions": 8}));
    assert!(read(Surface::V1Embeddings, body).shape.base64_vectors);
    let own = read(
        Surface::V1Embeddings,
        r#"{"model":"m","input":"x","options":{"num_ctx":64,"seed":1},"keep_alive":"1m","truncate":true}"#,
    );
    assert_eq!((&*own.runner_options[0].0, &*own.options[0].0), ("num_ctx", "seed"));
    assert_eq!(own.keep_alive, Some(Duration::from_secs(60)));
    assert_eq!(longest_input(&own), Some(1));
    assert_eq!(longest_input(&read(Surface::Embed, r#"{"model":"m","input":["a","abc",""]}"#)), Some(3));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let tool = r#","tools":[{"type":"function","function":{"name":"f","parameters":{}}}]"#;
    for (fields, param) in [
        (r#","n":2"#.to_owned(), "n"),
        (r#","logit_bias":{"5":-100}"#.to_owned(), "logit_bias"),
        (format!(r#"{tool},"tool_choice":"required""#), "tool_choice"),
        (format!(r#"{tool},"tool_choice":{{"type":"function","function":{{"name":"f"}}}}"#), "tool_choice"),
        (r#","max_tokens":5,"max_completion_tokens":6"#.to_owned(), "max_tokens"),
        (r#","response_format":{"type":"xml"}"#.to_owned(), "response_format.type"),
        (r#","response_format":{"type":"json_schema"}"#.to_owned(), "response_format.json_schema.schema"),
        (
            r#","response_format":{"type":"json_schema","json_schema":{"schema":"x"}}"#.to_owned(),
            "response_format.json_schema.schema",
        ),
        (r#","top_logprobs":2"#.to_owned(), "top_logprobs"),
        (r#","tools":[{"type":"function"},{"type":"custom","custom":{"name":"f"}}]"#.to_owned(), "tools[1].type"),
        (r#","options":{"num_ctx":"8k"}"#.to_owned(), "options.num_ctx"),
    ] {
        let (class, text, found) = refused(Surface::V1Chat, &v1(&fields));
        assert_eq!((class, found.as_deref()), (FaultClass::BadRequest, Some(param)), "{text}");
    }
    let (_, _, param) = refused(Surface::V1Embeddings, r#"{"model":"m","input":"x","dimensions":-1}"#);
    assert_eq!(param.as_deref(), Some("dimensions"));
    assert!(sent(Surface::V1Chat, &v1(&format!(r#"{tool},"tool_choice":"none""#))).get("tools").is_none());
    let caps =
        sent(Surface::V1Chat, &v1(r#","max_tokens":5,"max_completion_tokens":5,"response_format":{"type":"text"}"#));
    assert_eq!((&caps["options"]["num_predict"], caps.get("format")), (&json!(5), None));
    assert!(read(Surface::V1Chat, &v1(r#","parallel_tool_calls":false"#)).shape.one_tool_call);
    assert!(!read(Surface::V1Chat, &v1(r#","parallel_tool_calls":true"#)).shape.one_tool_call);
    assert!(
        sent(Surface::V1Chat, &v1(&format!(r#"{tool},"tool_choice":"auto","n":1,"logit_bias":{{}}"#)))["tools"]
            .is_array()
    );
}

#[test]
fn broken_messages_get_ollamas_words() {
    for (message, wanted) in [
        (r#"{"role":"user"}"#, "invalid message content type: <nil>"),
        (r#"{"role":"user","content":5}"#, "invalid message content type: float64"),
        (r#"{"role":"user","content":["x"]}"#, "invalid message format"),
        (r#"{"role":"user","content":[{"type":"video"}]}"#, "invalid message format"),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/gif;base64,YQ=="}}]}"#,
            "invalid image input",
        ),
        (
            r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"%"}}]}"#,
            "invalid input_audio base64 data: illegal base64 data at input byte 0",
        ),
        (
            r#"{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}"#,
            "invalid tool call arguments",
        ),
        (r#"{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}"#, "invalid tool call arguments"),
    ] {
        let (class, text, _) = refused(Surface::V1Chat, &format!(r#"{{"model":"m","messages":[{message}]}}"#));
        assert_eq!((class, text.as_str()), (FaultClass::BadRequest, wanted), "{message}");
    }
}

#[test]
fn deep_and_crowded_bodies_are_refused() {
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(600), "]".repeat(600));
    assert!(refused(Surface::Chat, &deep).1.starts_with("exceeded max depth"));
    let fair = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    assert_eq!(read(Surface::Chat, &fair).fields.len(), 1);
    let (open, close) = ("[".repeat(500), "]".repeat(500));
    let typed = format!(r#"{{"model":"m","options":{{"x":{open}{close}}},"input":5}}"#);
    assert_eq!(read(Surface::Chat, &typed).options.len(), 1);
    let many: String = (0..200).map(|at| format!(r#","x{at}":1"#)).collect();
    assert!(refused(Surface::Chat, &format!(r#"{{"model":"m"{many}}}"#)).1.starts_with("more than 128 fields"));
    let same = r#","prompt":"""#.repeat(2000);
    assert_eq!(
        refused(Surface::Generate, &format!(r#"{{"model":"m"{same}}}"#)).1,
        "more than 1024 fields in one object"
    );
    let options = many.trim_start_matches(',');
    let (_, text, param) = refused(Surface::Chat, &format!(r#"{{"model":"m","options":{{{options}}}}}"#));
    assert_eq!((text.starts_with("options: more than 128"), param.as_deref()), (true, Some("options")));
}

#[test]
fn text_that_is_not_utf8_is_refused_where_it_counts() {
    let (_, text, _) = {
        let fault = decode(Surface::Chat, b"{\"model\":\"m\xff\"}").unwrap_err();
        (fault.class, fault.message, fault.param)
    };
    assert_eq!(text, "invalid UTF-8 at byte 11 of the body: JSON must be UTF-8");
    assert!(decode(Surface::Chat, b"{\"model\":\"m\"} \xff\xff").is_ok());
}

#[test]
fn half_a_surrogate_pair_is_kept_for_ollama_to_replace() {
    let body = r#"{"model":"m","prompt":"a\ud83c","x\udf89":"\udf89"}"#;
    let request = read(Surface::Generate, body);
    assert_eq!(field(&request.fields, "prompt").unwrap().get(), r#""a\ud83c""#);
    assert_eq!(field(&request.fields, "x\u{FFFD}").unwrap().get(), r#""\udf89""#);
    let event = decode_event(Task::Generate, br#"{"response":"\ud83c\udf89\ud83c","done":false}"#).unwrap();
    assert!(matches!(event, Event::Piece(piece) if piece.text == "🎉\u{FFFD}"));
}

#[test]
fn show_takes_the_old_name() {
    let show = |body: &str| decode_show(body.as_bytes());
    let shown = show(r#"{"model":"","system":"","name":"m","options":null,"Verbose":true}"#).unwrap();
    assert_eq!((shown.model.as_str(), shown.verbose), ("m", true));
    let sent = encode_show("m:latest", shown.verbose, &shown.fields);
    assert_eq!(String::from_utf8(sent).unwrap(), r#"{"model":"m:latest","system":"","verbose":true}"#);
    assert_eq!(show(r#"{"model":"a","name":"b"}"#).unwrap().model, "a");
}

#[test]
fn lists_are_as_ollama_writes_them() {
    use super::recordings::recording;
    for name in ["tags", "ps_loaded", "ps_after"] {
        let recorded = recording(name).frames.concat();
        let entries: std::collections::HashMap<String, Vec<Box<serde_json::value::RawValue>>> =
            serde_json::from_str(&recorded).unwrap();
        let body = native_list(entries["models"].iter().map(|entry| &**entry));
        assert_eq!(String::from_utf8(body).unwrap(), recorded, "{name}");
    }
    let recorded = recording("v1_models").frames.concat();
    let list: Value = serde_json::from_str(&recorded).unwrap();
    let models = list["data"].as_array().unwrap().iter();
    let models = models.map(|m| ListedModel { id: m["id"].as_str().unwrap(), created: m["created"].as_u64().unwrap() });
    assert_eq!(String::from_utf8(model_list(models)).unwrap(), recorded);
    let one = model(ListedModel { id: "gemma:a", created: 1795415297 });
    assert_eq!(String::from_utf8(one).unwrap(), recording("v1_model").frames.concat());
    assert_eq!(model_list([]), b"{\"object\":\"list\",\"data\":null}\n");
}
