//! Every recorded request through a gateway whose upstream answers as recorded: the caller reads what was recorded.
//!
//! What is normalised and where an answer differs on purpose is data (`rules.toml`), about fields and routes. A
//! difference without a rule fails, and so does a rule without a difference. `GAUCHO_RECORDINGS` tries another folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod compare;
mod json;
mod native;
mod recording;
#[allow(dead_code, reason = "shared with the differential, which uses the rest")]
mod rules;
#[allow(dead_code, reason = "shared with the suite, which uses all of it")]
#[path = "../suite/support/mod.rs"]
mod support;
mod upstream;

use futures_util::StreamExt as _;

use recording::{Recording, recordings};
use rules::Rules;
use support::gateway::Plan;
use support::raw::{Raw, send};
use upstream::{Upstream, needs_its_own};

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_request_gets_the_recorded_answer() {
    let rules = Rules::load();
    let recordings = recordings();
    let (alone, together): (Vec<&Recording>, Vec<&Recording>) = recordings.iter().partition(|r| needs_its_own(r));
    let groups = alone.chunks(1).chain(together.chunks(together.len().div_ceil(4).max(1)));
    let mut answers =
        futures_util::stream::iter(groups).map(answer).buffer_unordered(8).flat_map(futures_util::stream::iter);
    let (mut equal, mut like, mut wrong) = (0, 0, Vec::new());
    while let Some((recording, ours)) = answers.next().await {
        let route = recording.route();
        let found = compare::differences(&recording.reply, &ours, &rules.normalise);
        // more headers change nothing for anybody
        if found.iter().all(|difference| difference.field.starts_with("header ")) {
            equal += 1;
        } else {
            like += 1;
        }
        for difference in found.iter().filter(|difference| rules.explain(&route, difference).is_none()) {
            let cut = |text: &str| text.chars().take(600).collect::<String>();
            let (recorded, ours) = (cut(&difference.recorded), cut(&difference.ours));
            wrong.push(format!(
                "{}: {route}: {}\n    recorded {recorded}\n    ours     {ours}",
                recording.name, difference.field
            ));
        }
    }
    println!("{} recordings: {equal} equal but for headers, {like} under rules; differences:", recordings.len());
    for (reason, times) in rules.tally() {
        println!("{times:5} {reason}");
    }
    assert!(wrong.is_empty(), "{} unexplained differences\n{}\n", wrong.len(), wrong.join("\n"));
    let other_folder = std::env::var_os("GAUCHO_RECORDINGS").is_some();
    let unused = rules.unused();
    assert!(other_folder || unused.is_empty(), "rules without a difference:\n{}\n", unused.join("\n"));
    assert!(other_folder || recordings.len() >= 245, "only {} recordings", recordings.len());
}

/// What a caller of one gateway reads.
async fn answer<'a>(recordings: &[&'a Recording]) -> Vec<(&'a Recording, Raw)> {
    let upstream = Upstream::start(recordings).await;
    let house = Plan::new().upstreams(&[&upstream.url()]).build().await;
    let mut answers = Vec::new();
    for recording in recordings {
        upstream.play(recording);
        let Recording { method, path, headers, body, .. } = recording;
        let ours = send(house.addr, method, path, headers, body.as_deref()).await.read().await;
        answers.push((*recording, ours));
    }
    house.close().await;
    answers
}

/// `/v1` recordings and native ones of the same question.
const TWINS: [(&str, &str); 10] = [
    ("v1_chat_stream", "chat_stream"),
    ("think_v1_chat_once", "think_on_chat_once"),
    ("think_v1_messages_once", "think_on_chat_once"),
    ("think_v1_messages_stream", "think_unset_chat_stream"),
    ("think_v1_responses_once", "think_unset_chat_once"),
    ("think_v1_responses_stream", "think_unset_chat_stream"),
    ("tools_v1_chat_stream", "tools_chat_stream"),
    ("tools_v1_messages_once", "tools_chat_stream"),
    ("tools_v1_messages_stream", "tools_chat_stream"),
    ("tools_v1_responses_stream", "tools_chat_stream"),
];

#[test]
fn the_native_reply_behind_a_v1_one_says_what_ollama_said_natively() {
    let recordings = recordings();
    for (v1, twin) in TWINS {
        let find = |name: &str| recordings.iter().find(|recording| recording.name == name);
        // another folder need not have them
        let (Some(v1), Some(twin)) = (find(v1), find(twin)) else { continue };
        assert_eq!(said(&native::reply(v1).body()), said(&twin.reply.body()), "{}", v1.name);
    }
}

/// Content, thinking, calls without their ids, and the reason of a native answer; `/v1` streams need not tell counts.
fn said(body: &str) -> (String, String, Vec<serde_json::Value>, serde_json::Value) {
    let lines: Vec<serde_json::Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text =
        |field: &str| lines.iter().map(|line| line["message"][field].as_str().unwrap_or_default()).collect::<String>();
    let calls = lines.iter().flat_map(|line| line["message"]["tool_calls"].as_array().into_iter().flatten());
    let last = lines.last().unwrap();
    (
        text("content"),
        text("thinking"),
        calls.map(|call| call["function"].clone()).collect(),
        last["done_reason"].clone(),
    )
}
