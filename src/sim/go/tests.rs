//! Go's reading and writing, beside the texts that Go gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use serde_json::json;

use super::decode::{Kind, decode};
use super::write::{push_f32, quote};

const KIND: Kind = Kind::Struct(
    "ChatRequest",
    &[
        ("model", Kind::Text),
        (
            "messages",
            Kind::List(
                &Kind::Aliased(&[("role", Kind::Text), ("images", Kind::List(&Kind::Image, "[]api.ImageData"))]),
                "[]api.Message",
            ),
        ),
        ("options", Kind::Map),
        ("keep_alive", Kind::KeepAlive),
        ("think", Kind::Think),
        ("top_logprobs", Kind::Int),
    ],
);

fn check(cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        assert_eq!(decode(body.as_bytes(), &KIND).unwrap_err(), *expected, "{body}");
    }
}

#[test]
fn broken_bodies_get_go_s_words() {
    check(&[
        ("", "missing request body"),
        (" \n", "missing request body"),
        (r#"{"model":"gemma:a","#, "unexpected EOF"),
        (r#"{"model": x}"#, "invalid character 'x' looking for beginning of value"),
        ("{x", "invalid character 'x' looking for beginning of object key string"),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        (r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
        (r#"{"a":[1 2]}"#, "invalid character '2' after array element"),
        (r#"{"a":tru3}"#, "invalid character '3' in literal true (expecting 'e')"),
        ("{\"a\":\"\n\"}", r"invalid character '\n' in string literal"),
        (r#"{"a":"\q"}"#, "invalid character 'q' in string escape code"),
        (r#"{"a":-x}"#, "invalid character 'x' in numeric literal"),
        (r#"{"a":01}"#, "invalid character '1' after object key:value pair"),
        (r#"{"a":1.}"#, "invalid character '}' after decimal point in numeric literal"),
        ("{\"a\":é}", "invalid character 'Ã' looking for beginning of value"),
    ]);
    let deep = "[".repeat(100_000);
    assert_eq!(decode(deep.as_bytes(), &KIND).unwrap_err(), "exceeded max depth");
}

#[test]
fn wrong_types_get_go_s_words() {
    check(&[
        ("[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (r#"{"model":5}"#, "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        (
            r#"{"messages":"hi"}"#,
            "json: cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message",
        ),
        (
            r#"{"messages":[{"role":7}]}"#,
            "json: cannot unmarshal number into Go struct field ChatRequest.messages.role of type string",
        ),
        (
            r#"{"options":[],"model":1}"#,
            "json: cannot unmarshal array into Go struct field ChatRequest.options of type map[string]interface {}",
        ),
        (
            r#"{"top_logprobs":1.5}"#,
            "json: cannot unmarshal number 1.5 into Go struct field ChatRequest.top_logprobs of type int",
        ),
        (r#"{"messages":[{"images":["%%%"]}]}"#, "illegal base64 data at input byte 0"),
        (r#"{"keep_alive":"10"}"#, "time: missing unit in duration \"10\""),
        (r#"{"keep_alive":"x"}"#, "time: invalid duration \"x\""),
        (r#"{"keep_alive":"1y"}"#, "time: unknown unit \"y\" in duration \"1y\""),
        (
            r#"{"think":"silly"}"#,
            r#"invalid think value: "silly" (must be "high", "medium", "low", "max", true, or false)"#,
        ),
    ]);
}

#[test]
fn keys_fold_the_last_wins_and_maps_merge() {
    let read = |body: &str| decode(body.as_bytes(), &KIND).unwrap();
    assert_eq!(read(r#"{"MODEL":"a","Model":"b"} trailing"#), json!({"model": "b"}));
    assert_eq!(read(r#"{"options":{"a":1,"b":2},"OPTIONS":{"b":3},"none":1}"#), json!({"options": {"a": 1, "b": 3}}));
    assert_eq!(read(r#"{"model":"a","model":null,"options":{"a":1},"options":null}"#), json!({"model": "a"}));
    assert_eq!(read("null"), json!({}));
}

#[test]
fn keep_alive_is_seconds_or_a_go_duration() {
    let read = |value: &str| {
        let value = decode(format!("{{\"keep_alive\":{value}}}").as_bytes(), &KIND).unwrap();
        value["keep_alive"].as_i64().unwrap()
    };
    assert_eq!(read("1.5"), 1_500_000_000);
    assert_eq!(read("\"1h2m3.5s\""), 3_723_500_000_000);
    assert_eq!(read("-1"), i64::MAX);
    assert_eq!(read("\"-1m\""), i64::MAX);
    assert_eq!(read("0"), 0);
}

#[test]
fn strings_and_floats_look_like_go_s() {
    assert_eq!(quote("a\"b\n\u{1}"), r#""a\"b\n\x01""#);
    let shown = |value: f32| {
        let mut out = String::new();
        push_f32(&mut out, value);
        out
    };
    assert_eq!(shown(0.032_099_213), "0.032099213");
    assert_eq!(shown(1.5e-7), "1.5e-7");
    assert_eq!(shown(-0.0), "-0");
    let odd = json!({"a": "<é&>\u{2028}", "b": [1e-6, 2.0, 1e-7, 1e21, 3]});
    assert_eq!(super::json(&odd), r#"{"a":"\u003cé\u0026\u003e\u2028","b":[0.000001,2,1e-7,1e+21,3]}"#);
    let lone = decode(br#"{"model":"\ud83d x \ud83c\udf89"}"#, &KIND).unwrap();
    assert_eq!(lone["model"], "\u{fffd} x 🎉");
}
