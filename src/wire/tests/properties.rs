//! Random bodies: nothing panics, unknown fields survive as written, folded keys never do.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::domain::field;

/// A spelling of `name` that Go folds to it.
fn spelling(name: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(0..3u8, name.len()).prop_map(move |how| {
        let letters = name.chars().zip(how).map(|(c, how)| match (c, how) {
            ('s', 2) => 'ſ',
            ('k', 2) => '\u{212A}',
            (c, 0) => c,
            (c, _) => c.to_ascii_uppercase(),
        });
        letters.collect()
    })
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]\":,a-z0-9.eE+ \\\\-]{0,80}") {
        for surface in Surface::ALL {
            let _ = decode(surface, &bytes);
            let _ = decode(surface, text.as_bytes());
        }
        for task in [Task::Chat, Task::Generate, Task::Embed, Task::Embeddings] {
            let _ = decode_event(task, &bytes);
            let _ = decode_event(task, text.as_bytes());
        }
        let _ = upstream_fault(500, &bytes);
    }

    #[test]
    fn a_cut_or_changed_body_never_panics(at in 0usize..180, byte in any::<u8>()) {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"a\u00e9\ud83c\udf89b","images":["YQ=="],"tool_calls":[{"function":{"name":"f","arguments":{}}}]}],"options":{"stop":["x"],"seed":1},"think":true}"#;
        let mut changed = body.to_vec();
        let at = at.min(changed.len() - 1);
        changed[at] = byte;
        for surface in Surface::ALL {
            let _ = decode(surface, &changed);
            let _ = decode(surface, &body[..at]);
        }
    }

    #[test]
    fn unknown_fields_survive_as_written(name in "x[a-zA-Z0-9 é\"<]{0,8}", number in "-?[1-9][0-9]{0,30}\\.[0-9]{1,30}") {
        let key = serde_json::to_string(&name).unwrap();
        let body = format!(r#"{{{key}:{{"a":[{number}]}},"model":"m","prompt":"p"}}"#);
        let request = decode(Surface::Generate, body.as_bytes()).unwrap();
        let sent = encode_upstream(&request, &undecided("copy"));
        let kept = field(&request.fields, &name).unwrap();
        prop_assert_eq!(kept.get(), format!(r#"{{"a":[{number}]}}"#));
        prop_assert!(String::from_utf8(sent.clone()).unwrap().contains(&number));
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        prop_assert!(sent.get(&name).is_some());
    }

    #[test]
    fn folded_duplicates_never_survive(model in spelling("model"), stream in spelling("stream"), alive in spelling("keep_alive"),
        options in spelling("options"), shift in spelling("shift"), messages in spelling("messages"), debug in spelling("_debug_render_only"))
    {
        let body = format!(
            r#"{{"model":"ok","{model}":"secret","{stream}":false,"{alive}":5,"{options}":{{"num_ctx":9}},"{shift}":false,
                "messages":[],"{messages}":[{{"role":"user","content":"last"}}],"{debug}":true}}"#
        );
        let request = decode(Surface::Chat, body.as_bytes()).unwrap();
        prop_assert_eq!(&request.model, "secret");
        prop_assert!(!request.stream);
        prop_assert_eq!(request.runner_options.len(), 2);
        let sent = encode_upstream(&request, &undecided("copy"));
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let keys: Vec<&str> = sent.as_object().unwrap().keys().map(String::as_str).collect();
        prop_assert_eq!(keys, ["model", "messages", "_debug_render_only", "stream"]);
        prop_assert_eq!(&sent["messages"][0]["content"], "last");
    }
}
