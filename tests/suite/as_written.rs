//! Numbers keep their digits, keys their order, and fields that this version does not know pass, both ways.

use serde_json::json;

use crate::support::fake::{self, Fake};
use crate::support::gateway::Plan;

#[tokio::test]
async fn a_request_arrives_upstream_as_it_was_written() {
    let fake = Fake::start().await;
    let house = Plan::new().upstreams(&[&fake.url()]).build().await;
    let messages = r#"[{"later":{"z":1,"a":[2.50]},"role":"user","content":"x\u00e9é\/","n":12345678901234567890},{"role":"assistant","content":"","tool_calls":[{"id":"c","new":1e3,"function":{"name":"f","arguments":{"z":1.0,"a":0.1000,"big":123456789012345678901234567890}}}]}]"#;
    let body = format!(
        r#"{{"model":"fake","options":{{"zeta":1.2500,"seed":9007199254740993,"num_predict":2,"alpha":[1]}},"messages":{messages},"stream":false,"new":{{"b":2.0,"a":1}}}}"#
    );
    assert_eq!(house.ask("", "POST", "/api/chat", Some(&body)).await.status, 200);
    let sent = fake.last("/api/chat");
    assert!(sent.contains(&format!(r#""messages":{messages}"#)), "{sent}");
    assert!(sent.contains(r#""new":{"b":2.0,"a":1}"#), "{sent}");
    let options = r#""options":{"zeta":1.2500,"seed":9007199254740993,"num_predict":2,"alpha":[1]"#;
    assert!(sent.contains(options), "{sent}");
    house.close().await;
}

#[tokio::test]
async fn an_answer_reaches_its_caller_as_it_was_written() {
    let fake = Fake::start().await;
    let house = Plan::new().upstreams(&[&fake.url()]).build().await;
    let said = [
        r#"{"model":"fake","created_at":"2026-11-23T06:28:50.1Z","message":{"role":"assistant","content":"\u003ca\u003e","tool_calls":[{"id":"c","function":{"index":0,"name":"f","arguments":{"z":1.0,"big":123456789012345678901234567890}},"new":null}],"mood":1e-7},"done":false,"logprobs":[{"token":"a","logprob":-0.10000000149011612,"later":[0.50]}],"new":[1.0,null]}"#,
        r#"{"model":"fake","created_at":"2026-11-23T06:28:50.2Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":9007199254740993,"eval_count":1,"later":{"b":1.10,"a":null}}"#,
    ];
    let chunks: String = said.iter().map(|line| fake::chunk(&format!("{line}\n"))).collect();
    fake.next(format!("{}{chunks}0\r\n\r\n", fake::STREAM), false);
    let body = json!({"model": "fake", "messages": [{"role": "user", "content": "x"}]}).to_string();
    let reply = house.ask("", "POST", "/api/chat", Some(&body)).await;
    assert_eq!(reply.frames, said.map(|line| format!("{line}\n")));
    let (vectors, more) = ("[[0.10000000149,1e-05,-0]]", r#""new":1.50"#);
    let said = format!(r#"{{"model":"fake","embeddings":{vectors},"total_duration":7,{more}}}"#);
    fake.always("/api/embed", &said, false);
    let body = json!({"model": "fake", "input": "x"}).to_string();
    let reply = house.ask("", "POST", "/api/embed", Some(&body)).await;
    assert_eq!(reply.body(), said);
    house.close().await;
}
