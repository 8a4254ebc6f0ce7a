//! Every field that OpenAI documents for these requests, and what becomes of it here: one table for each route.

use crate::wire::fields::Fate::{Harmless, Honoured, Only, Ours};
use crate::wire::fields::{Rule, is_empty, never};
use crate::wire::go_json::{elements, members, number, unquote};

/// `/v1/chat/completions`.
pub(super) static CHAT: &[Rule] = &[
    ("model", Honoured),
    ("messages", Honoured),
    ("stream", Honoured),
    ("stream_options", Honoured),
    ("max_tokens", Honoured),
    ("max_completion_tokens", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("seed", Honoured),
    ("stop", Honoured),
    ("frequency_penalty", Honoured),
    ("presence_penalty", Honoured),
    ("response_format", Honoured),
    ("tools", Honoured),
    ("tool_choice", Honoured),
    ("parallel_tool_calls", Honoured),
    ("reasoning_effort", Honoured),
    ("logprobs", Honoured),
    ("top_logprobs", Honoured),
    ("n", Only(is_one, ONE_CHOICE)),
    ("logit_bias", Only(is_empty, NO_BIAS)),
    ("modalities", Only(is_text_alone, "Ollama answers in text only: leave it out, or send [\"text\"]")),
    ("audio", Only(never, "Ollama answers in text only: leave it out")),
    ("functions", Only(is_empty, "functions were replaced by tools: send them as tools")),
    ("function_call", Only(is_auto_or_none, "functions were replaced by tools: send tools and tool_choice")),
    ("web_search_options", Only(never, "no model here searches the web: leave it out, or give it a tool that does")),
    ("verbosity", Only(is_medium, NO_VERBOSITY)),
    ("user", Harmless),
    ("safety_identifier", Harmless),
    ("metadata", Harmless),
    ("store", Harmless),
    ("service_tier", Harmless),
    ("prediction", Harmless),
    ("prompt_cache_key", Harmless),
    ("prompt_cache_retention", Harmless),
    ("prompt_cache_options", Harmless),
    ("moderation", Only(never, NO_MODERATION)),
    ("_debug_render_only", Only(is_false, RENDERS_NATIVELY)),
    ("options", Ours),
    ("keep_alive", Ours),
    ("truncate", Ours),
];

/// `/v1/completions`.
pub(super) static COMPLETIONS: &[Rule] = &[
    ("model", Honoured),
    ("prompt", Honoured),
    ("suffix", Honoured),
    ("stream", Honoured),
    ("stream_options", Honoured),
    ("max_tokens", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("seed", Honoured),
    ("stop", Honoured),
    ("frequency_penalty", Honoured),
    ("presence_penalty", Honoured),
    ("logprobs", Honoured),
    ("n", Only(is_one, ONE_CHOICE)),
    ("best_of", Only(is_one, "one request makes one answer here: leave it out")),
    ("echo", Only(is_false, "Ollama does not repeat the prompt: leave it out, and put the prompt before the answer")),
    ("logit_bias", Only(is_empty, NO_BIAS)),
    ("user", Harmless),
    ("_debug_render_only", Only(is_false, RENDERS_NATIVELY)),
    ("options", Ours),
    ("keep_alive", Ours),
    ("truncate", Ours),
];

/// `/v1/embeddings`.
pub(super) static EMBEDDINGS: &[Rule] = &[
    ("model", Honoured),
    ("input", Honoured),
    ("dimensions", Honoured),
    ("encoding_format", Honoured),
    ("user", Harmless),
    ("options", Ours),
    ("keep_alive", Ours),
    ("truncate", Ours),
];

/// `/v1/responses`.
pub(super) static RESPONSES: &[Rule] = &[
    ("model", Honoured),
    ("input", Honoured),
    ("instructions", Honoured),
    ("stream", Honoured),
    ("max_output_tokens", Honoured),
    ("temperature", Honoured),
    ("top_p", Honoured),
    ("reasoning", Honoured),
    ("text", Honoured),
    ("tools", Honoured),
    ("tool_choice", Honoured),
    ("parallel_tool_calls", Honoured),
    ("metadata", Honoured),
    ("truncation", Honoured),
    (
        "include",
        Only(
            adds_nothing,
            "this route has no log probabilities (/v1/chat/completions has) and nothing else to add: leave it out",
        ),
    ),
    ("stream_options", Only(is_unpadded, "events are not padded here: leave out include_obfuscation")),
    ("top_logprobs", Only(is_zero, "this route gives none: use /v1/chat/completions with logprobs")),
    ("background", Only(is_false, "answers are only given while the caller waits: leave it out, or use stream")),
    ("previous_response_id", Only(is_nothing, STORED_NOTHING)),
    ("conversation", Only(is_nothing, STORED_NOTHING)),
    ("prompt", Only(is_text, "no templates are stored here: send its text in instructions or input")),
    ("context_management", Only(is_empty, "nothing is compacted here: leave it out, and send shorter input")),
    ("max_tool_calls", Harmless),
    ("background_options", Harmless),
    ("access_programs", Harmless),
    ("image", Harmless),
    ("user", Harmless),
    ("safety_identifier", Harmless),
    ("store", Harmless),
    ("service_tier", Harmless),
    ("prompt_cache_key", Harmless),
    ("prompt_cache_retention", Harmless),
    ("prompt_cache_options", Harmless),
    ("moderation", Only(never, NO_MODERATION)),
    ("_debug_render_only", Only(is_false, RENDERS_NATIVELY)),
    ("options", Ours),
    ("keep_alive", Ours),
    ("truncate", Ours),
];

/// `text` of `/v1/responses`.
pub(super) static TEXT: &[Rule] = &[("format", Honoured), ("verbosity", Only(is_medium, NO_VERBOSITY))];

/// `reasoning` of `/v1/responses`. All the thinking there is stands in the summary, and all that is sent goes to the model.
pub(super) static REASONING: &[Rule] = &[
    ("effort", Honoured),
    ("summary", Honoured),
    ("generate_summary", Harmless),
    ("context", Harmless),
    ("mode", Only(is_standard, "there is one way of thinking here: leave it out, and send an effort")),
];

const NO_MODERATION: &str = "nothing is moderated here: leave it out";
const STORED_NOTHING: &str = "nothing is stored here: send the earlier items in input";
const ONE_CHOICE: &str =
    "one request gives one choice here: leave it out, and send several requests for several choices";
const RENDERS_NATIVELY: &str = "only the native routes show a rendered prompt: send it to /api/chat or /api/generate";
const NO_VERBOSITY: &str = "Ollama has no such control: leave it out, and ask for the length in the prompt";
const NO_BIAS: &str = "Ollama has no such control: leave it out";

fn is_one(value: &str) -> bool {
    value.starts_with(|first: char| first.is_ascii_digit()) && number(value) == 1.0
}

fn is_false(value: &str) -> bool {
    value == "false"
}

fn is_medium(value: &str) -> bool {
    unquote(value) == "medium"
}

fn is_standard(value: &str) -> bool {
    unquote(value) == "standard"
}

fn is_auto_or_none(value: &str) -> bool {
    matches!(&*unquote(value), "auto" | "none")
}

fn is_text_alone(value: &str) -> bool {
    let mut text = true;
    elements(value, |item| text = text && unquote(item) == "text").is_ok() && text
}

fn is_zero(value: &str) -> bool {
    number(value) == 0.0
}

/// A reference to something stored that refers to nothing.
fn is_nothing(value: &str) -> bool {
    value == "\"\""
}

/// A `prompt` that is a text is one of the older routes' and means nothing here.
fn is_text(value: &str) -> bool {
    value.starts_with('"')
}

/// Whether what `include` names is there anyway, or belongs to tools of the server's own, which no answer uses.
fn adds_nothing(list: &str) -> bool {
    let mut nothing = true;
    let known = |item: &str| {
        let item = unquote(item);
        let parts = ["web_search_call.", "file_search_call.", "code_interpreter_call.", "computer_call_output."];
        parts.iter().any(|part| item.starts_with(part))
            || matches!(&*item, "reasoning.encrypted_content" | "message.input_image.image_url")
    };
    let read = elements(list, |item| nothing = nothing && (item == "null" || known(item)));
    read.is_ok() && nothing
}

/// Padding is against eavesdroppers who measure events; it is off unless it is asked for, as Ollama has it.
fn is_unpadded(options: &str) -> bool {
    let mut unpadded = true;
    let read = members(options, |key, value| unpadded = unpadded && (key != "include_obfuscation" || is_false(value)));
    read.is_ok() && unpadded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::{FaultClass, Surface};
    use crate::wire::fields::tests::Route;
    use crate::wire::openai::{responses, tables};

    static ROUTES: [Route; 4] = [
        Route(Surface::V1Chat, CHAT, &tables::CHAT, r#"{"model":"m","messages":[{"role":"user","content":"x"}]"#),
        Route(Surface::V1Completions, COMPLETIONS, &tables::COMPLETION, r#"{"model":"m","prompt":"x""#),
        Route(Surface::V1Embeddings, EMBEDDINGS, &tables::EMBEDDINGS, r#"{"model":"m","input":"x""#),
        Route(Surface::V1Responses, RESPONSES, &responses::RESPONSES, r#"{"model":"m","input":"x""#),
    ];

    /// OpenAI's API reference, request bodies of the four routes, deprecated fields included (November 2026).
    const DOCUMENTED: [&str; 4] = [
        "messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens \
         max_tokens metadata modalities moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key \
         prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream \
         stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options",
        "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream \
         stream_options suffix temperature top_p user",
        "input model dimensions encoding_format user",
        "access_programs background background_options context_management conversation image include input instructions max_output_tokens max_tool_calls metadata \
         model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_options prompt_cache_retention reasoning \
         safety_identifier service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p \
         truncation user",
    ];

    #[test]
    fn every_documented_field_has_one_fate_and_does_what_that_says() {
        for (route, documented) in ROUTES.iter().zip(DOCUMENTED) {
            route.is_told_whole(documented);
            route.takes_what_is_harmless();
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused_and_what_asks_for_nothing_is_not() {
        let [chat, completions, _, responses] = &ROUTES;
        // field, values that are taken, values that are not
        let table: [(&Route, &str, &[&str], &[&str]); 30] = [
            (chat, "n", &["1"], &["2", "0", "-1", "128"]),
            (chat, "logit_bias", &["{}", "{ }"], &[r#"{"5":-100}"#, "3"]),
            (chat, "modalities", &["[\"text\"]", "[]"], &["[\"text\",\"audio\"]", "\"text\""]),
            (chat, "audio", &[], &[r#"{"voice":"ash","format":"mp3"}"#]),
            (chat, "functions", &["[]"], &[r#"[{"name":"f"}]"#]),
            (chat, "function_call", &["\"none\"", "\"auto\""], &[r#"{"name":"f"}"#]),
            (chat, "web_search_options", &[], &["{}"]),
            (chat, "verbosity", &["\"medium\""], &["\"low\"", "\"high\""]),
            (chat, "tool_choice", &["\"auto\"", "\"none\""], &["\"required\"", r#"{"type":"function"}"#]),
            (chat, "stop", &["\"a\"", "[]", "[\"a\",\"b\"]"], &["5", "{}", "[1]", "[\"a\",null]"]),
            (completions, "n", &["1"], &["2"]),
            (completions, "best_of", &["1"], &["3"]),
            (completions, "echo", &["false"], &["true", "1"]),
            (completions, "logit_bias", &["{}"], &[r#"{"5":1}"#]),
            (completions, "stop", &["\"a\"", "[\"a\"]"], &["5", "[1]"]),
            (responses, "previous_response_id", &["\"\""], &["\"resp_1\"", "{}"]),
            (responses, "conversation", &["\"\""], &["\"conv_1\"", r#"{"id":"conv_1"}"#]),
            (responses, "prompt", &["\"x\""], &[r#"{"id":"pmpt_1"}"#]),
            (responses, "background", &["false"], &["true"]),
            (responses, "context_management", &["[]"], &[r#"[{"type":"compaction"}]"#]),
            (
                responses,
                "include",
                &["[]", "[\"reasoning.encrypted_content\"]"],
                &["[\"message.output_text.logprobs\"]"],
            ),
            (responses, "top_logprobs", &["0"], &["3", "-1"]),
            (
                responses,
                "stream_options",
                &["{}", r#"{"include_obfuscation":false}"#],
                &[r#"{"include_obfuscation":true}"#],
            ),
            (responses, "truncation", &["\"auto\"", "\"disabled\""], &["\"\"", "\"middle\""]),
            (responses, "tool_choice", &["\"auto\"", "\"none\""], &["\"required\"", r#"{"type":"allowed_tools"}"#]),
            (responses, "moderation", &[], &[r#"{"model":"omni-moderation-latest"}"#]),
            (responses, "text", &["{}", r#"{"verbosity":"medium"}"#], &[r#"{"verbosity":"low"}"#]),
            (responses, "reasoning", &[r#"{"mode":"standard","context":"auto"}"#], &[r#"{"mode":"pro"}"#]),
            (chat, "moderation", &[], &["{}"]),
            (responses, "_debug_render_only", &["false"], &["true"]),
        ];
        for (route, field, taken, refused) in table {
            for value in taken {
                assert!(route.send(field, value).is_ok(), "{field} {value}");
            }
            for value in refused {
                let fault = route.send(field, value).unwrap_err();
                assert_eq!(fault.class, FaultClass::BadRequest, "{value}");
                // an object's own field is named in full
                let named = fault.param.as_deref().and_then(|param| param.split('.').next());
                assert_eq!(named, Some(field), "{value}");
                assert!(fault.message.contains(field), "{}", fault.message);
            }
        }
    }

    #[test]
    fn a_long_value_is_not_repeated_whole() {
        let long = format!("{{\"{}\":1}}", "é".repeat(500));
        let fault = ROUTES[0].send("logit_bias", &long).unwrap_err();
        assert!(fault.message.len() < 250, "{}", fault.message);
    }
}
