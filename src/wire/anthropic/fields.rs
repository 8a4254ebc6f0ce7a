//! Every field that Anthropic documents for messages, its betas included, and what becomes of it here.

use crate::wire::fields::Fate::{Harmless, Honoured, Only, Ours};
use crate::wire::fields::{Rule, is_empty, never};
use crate::wire::go_json::{elements, member, unquote};

/// `/v1/messages`.
pub(super) static MESSAGES: &[Rule] = &[
    ("model", Honoured),
    ("messages", Honoured),
    ("max_tokens", Honoured),
    ("system", Honoured),
    ("stream", Honoured),
    ("stop_sequences", Honoured),
    ("temperature", Honoured),
    ("top_k", Honoured),
    ("top_p", Honoured),
    ("tools", Honoured),
    ("tool_choice", Honoured),
    ("thinking", Honoured),
    ("output_config", Honoured),
    ("output_format", Honoured),
    ("context_management", Only(only_clears, NOTHING_COMPACTED)),
    ("compaction", Only(never, NOTHING_COMPACTED)),
    ("container", Only(never, "there are no containers here: leave it out")),
    (
        "mcp_servers",
        Only(is_empty, "no servers are called for a model here: leave it out, and give it tools of your own"),
    ),
    ("thread", Only(never, "nothing is stored here: leave it out, and send the earlier messages")),
    ("billing_policy", Harmless),
    ("cache_control", Harmless),
    ("diagnostics", Harmless),
    ("fallback_credit_token", Harmless),
    ("fallbacks", Harmless),
    ("inference_geo", Harmless),
    ("metadata", Harmless),
    ("service_tier", Harmless),
    ("speed", Harmless),
    ("user_profile_id", Harmless),
    ("options", Ours),
    ("keep_alive", Ours),
    ("truncate", Ours),
];

const NOTHING_COMPACTED: &str = "nothing is summed up here: leave it out, and shorten the messages";

/// Whether old tool results and thoughts may be left out when there are many, and no more is asked: a prompt that is too
/// long is cut here too, and that is said.
fn only_clears(value: &str) -> bool {
    let mut clears = true;
    let _ = elements(member(value, "edits").unwrap_or("[]"), |edit| {
        clears = clears && member(edit, "type").is_some_and(|kind| unquote(kind).starts_with("clear_"));
    });
    clears && value.starts_with('{')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::Surface;
    use crate::wire::anthropic::tables;
    use crate::wire::fields::tests::Route;

    static ROUTE: Route = Route(
        Surface::V1Messages,
        MESSAGES,
        &tables::MESSAGES,
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]"#,
    );

    /// Anthropic's API reference and its clients' types, betas and what they dropped included (November 2026).
    const DOCUMENTED: &str = "model messages max_tokens billing_policy cache_control compaction container \
         context_management diagnostics fallback_credit_token fallbacks inference_geo mcp_servers metadata output_config \
         output_format service_tier speed stop_sequences stream system temperature thinking thread tool_choice tools \
         top_k top_p user_profile_id";

    #[test]
    fn every_documented_field_has_one_fate_and_does_what_that_says() {
        ROUTE.is_told_whole(DOCUMENTED);
        ROUTE.takes_what_is_harmless();
    }

    #[test]
    fn what_cannot_be_had_is_refused_and_what_asks_for_nothing_is_not() {
        let table: [(&str, &[&str], &[&str]); 5] = [
            (
                "context_management",
                &["{}", r#"{"edits":[]}"#, r#"{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}"#],
                &[r#"{"edits":[{"type":"clear_thinking_20251015"},{"type":"compact_20260112"}]}"#, "[]", "5"],
            ),
            ("compaction", &[], &[r#"{"type":"summarize"}"#]),
            ("container", &[], &["\"c\"", "{}"]),
            ("mcp_servers", &["[]"], &[r#"[{"url":"x"}]"#]),
            ("thread", &[], &[r#"{"id":"t"}"#]),
        ];
        for (field, taken, refused) in table {
            for value in taken {
                assert!(ROUTE.send(field, value).is_ok(), "{field} {value}");
            }
            for value in refused {
                let fault = ROUTE.send(field, value).unwrap_err();
                assert_eq!(fault.param.as_deref(), Some(field), "{value}");
            }
        }
    }
}
