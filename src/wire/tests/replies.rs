//! Native replies: every recorded frame, decoded to an event and encoded again, is the same bytes.

use super::*;
use crate::domain::RequestId;

#[test]
fn every_native_reply_survives_to_the_byte() {
    let mut frames = 0;
    for recording in recordings() {
        let Some(surface) = surface(&recording.path) else { continue };
        if surface.dialect() != Dialect::Ollama || recording.status != 200 {
            continue;
        }
        let request = decode(surface, &recording.body).unwrap_or_else(|e| panic!("{}: {e:?}", recording.name));
        let mut encoder = Encoder::new(&request, RequestId(1), 0);
        for (at, frame) in recording.frames.iter().enumerate() {
            let event = decode_event(surface.task(), frame.as_bytes()).unwrap();
            let streams = encoder.replies_as_stream(&event);
            if at == 0 {
                assert_eq!(encoder.content_type(streams), recording.content_type, "{}", recording.name);
            }
            let mut out = Vec::new();
            if recording.content_type == "application/x-ndjson" {
                encoder.stream(&event, &mut out);
            } else {
                out = encoder.unary(&event).concat();
            }
            assert_eq!(String::from_utf8(out).unwrap(), *frame, "{} frame {at}", recording.name);
            frames += 1;
        }
    }
    assert!(frames > 300, "{frames} frames");
}

#[test]
fn fields_of_a_newer_ollama_are_passed_on() {
    let request = decode(Surface::Chat, br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#).unwrap();
    let line = br#"{"model":"copy","created_at":"t","message":{"role":"assistant","thinking":null,"content":"<a>","mood":1.50,"none":null},"done":false,"logprobs":null,"new":{"a":[1]},"error":null,"nil":null}"#;
    let mut out = Vec::new();
    Encoder::new(&request, RequestId(1), 0).stream(&decode_event(Task::Chat, line).unwrap(), &mut out);
    let wanted = r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"\u003ca\u003e","mood":1.50,"none":null},"done":false,"new":{"a":[1]},"nil":null}"#;
    assert_eq!(String::from_utf8(out).unwrap(), format!("{wanted}\n"));
}

#[test]
fn white_space_of_a_reply_ends_no_frame() {
    let line = b"{\"message\":{\"content\":\"a\",\"mood\":[\r1]},\r\"logprobs\":[\r{\"token\":\"a\"}],\"new\":{\n\"b\":1},\"done\":false}";
    let event = decode_event(Task::Chat, line).unwrap();
    for surface in [Surface::Chat, Surface::V1Chat] {
        let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
        let mut out = Vec::new();
        Encoder::new(&decode(surface, body).unwrap(), RequestId(1), 0).stream(&event, &mut out);
        let frame = String::from_utf8(out).unwrap();
        assert!(frame.contains("[ {\"token\":\"a\"}]"), "{frame}");
        assert!(!frame.trim_end_matches('\n').contains(['\r', '\n']), "{frame}");
    }
}

#[test]
fn what_is_no_reply_is_malformed() {
    let cases: [(Task, &[u8]); 15] = [
        (Task::Chat, b"{\"done\":false} {\"done\":true}"),
        (Task::Chat, b""),
        (Task::Chat, b"<html>"),
        (Task::Chat, b"{\"message\":{}}"),
        (Task::Chat, b"{\"done\":true"),
        (Task::Chat, b"{\"message\":5,\"done\":true}"),
        (Task::Generate, b"{\"response\":5,\"done\":false}"),
        (Task::Generate, b"{\"response\":\"\xff\",\"done\":false}"),
        (Task::Embed, b"{\"model\":\"m\"}"),
        (Task::Embed, b"{\"embeddings\":null}"),
        (Task::Embed, b"{\"embeddings\":{}}"),
        (Task::Embed, b"{\"embeddings\":[[1],[2}}"),
        (Task::Embed, b"{\"embeddings\":[[\"\xff\"]]}"),
        (Task::Embeddings, b"{\"embedding\":[1],\"\xff\":1}"),
        (Task::Chat, b"{\"eval_count\":\"many\",\"done\":true}"),
    ];
    for (task, line) in cases {
        assert!(decode_event(task, line).is_err(), "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn vectors_pass_as_they_are() {
    let reply = r#"{"new":"\u00e9","\u0065mbeddings":[[1],[ 2.50 , -1e-3],[],["é]"]],"prompt_eval_count":3}"#;
    let event = decode_event(Task::Embed, reply.as_bytes()).unwrap();
    let of = |surface, more: &str| {
        let body = format!(r#"{{"model":"m","input":"x"{more}}}"#);
        let encoder = Encoder::new(&decode(surface, body.as_bytes()).unwrap(), RequestId(1), 0);
        String::from_utf8(encoder.unary(&event).concat()).unwrap()
    };
    let native = r#"{"model":"m","embeddings":[[1],[ 2.50 , -1e-3],[],["é]"]],"prompt_eval_count":3,"new":"\u00e9"}"#;
    assert_eq!(of(Surface::Embed, ""), native);
    let list = |vectors: [&str; 4]| {
        let each = (0..).zip(vectors);
        let each: Vec<_> =
            each.map(|(at, v)| format!(r#"{{"object":"embedding","embedding":{v},"index":{at}}}"#)).collect();
        let usage = r#""usage":{"prompt_tokens":3,"total_tokens":3}"#;
        format!("{{\"object\":\"list\",\"data\":[{}],\"model\":\"m\",{usage}}}\n", each.join(","))
    };
    assert_eq!(of(Surface::V1Embeddings, ""), list(["[1]", "[ 2.50 , -1e-3]", "[]", "[\"é]\"]"]));
    let base64 = of(Surface::V1Embeddings, r#","encoding_format":"base64""#);
    // no number at all is told as none
    assert_eq!(base64, list(["\"AACAPw==\"", "\"AAAgQG8Sg7o=\"", "\"\"", "\"AAAAAA==\""]));
}
