//! The rendered prompt and its size in tokens.

use super::tokens::{count, ids};
use crate::sim::model::Model;
use crate::sim::request::{Inference, Message};

/// A prompt as the model gets it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sim) struct Prompt {
    pub(in crate::sim) text: String,
    pub(in crate::sim) tokens: u64,
    /// Token ids without the first: what `context` of a generate reply begins with.
    pub(in crate::sim) ids: Vec<u64>,
    /// The last thing a user said.
    pub(in crate::sim) question: String,
    /// The conversation ends with a tool's result.
    pub(in crate::sim) after_tool: bool,
}

/// Tokens of the marks around one message, and around the whole conversation.
const MESSAGE_MARKS: u64 = 5;
const FRAME_MARKS: u64 = 4;

/// The prompt of a chat.
pub(in crate::sim) fn messages_prompt(model: &Model, request: &Inference) -> Prompt {
    let own_system = request.messages.first().is_some_and(|first| !first.role.eq_ignore_ascii_case("system"));
    let system = (own_system && !model.system.is_empty()).then(|| said("system", &model.system));
    let messages: Vec<Message> = system.into_iter().chain(request.messages.iter().cloned()).collect();
    let mut prompt = render(&messages);
    if !request.tools.is_empty() {
        let described: String = request
            .tools
            .iter()
            .map(|tool| format!("{} {}\n", tool.function.name, tool.function.description))
            .collect();
        prompt.tokens += count(&described) + count(&tools_json(request));
        prompt.text.insert_str(0, &described);
    }
    prompt
}

fn tools_json(request: &Inference) -> String {
    request.tools.iter().map(|tool| tool.function.parameters.to_string()).collect()
}

/// The prompt of a generation: raw, or in the same marks as a chat of one message.
pub(in crate::sim) fn generate_prompt(model: &Model, request: &Inference) -> Prompt {
    if request.raw {
        let tokens = 1 + count(&request.prompt);
        let question = request.prompt.clone();
        return Prompt { text: request.prompt.clone(), tokens, ids: Vec::new(), question, after_tool: false };
    }
    let system = if request.system.is_empty() { &model.system } else { &request.system };
    let system = (!system.is_empty()).then(|| said("system", system));
    let user = Message { images: request.images.clone(), ..said("user", &request.prompt) };
    let mut prompt = render(&system.into_iter().chain([user]).collect::<Vec<_>>());
    prompt.tokens += request.context.len() as u64;
    let earlier = request.context.iter().filter_map(|id| u64::try_from(*id).ok());
    prompt.ids = earlier.chain(prompt.ids).collect();
    prompt
}

fn said(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into(), ..Message::default() }
}

fn render(messages: &[Message]) -> Prompt {
    let mut text = String::new();
    let mut tokens = FRAME_MARKS;
    let mut known = Vec::new();
    for message in messages {
        let role = if message.role.eq_ignore_ascii_case("assistant") { "model" } else { "user" };
        text.push_str(&format!("<start_of_turn>{role}\n{}<end_of_turn>\n", message.content));
        let calls: String = message.tool_calls.iter().map(ToString::to_string).collect();
        tokens += MESSAGE_MARKS + count(&message.content) + count(&calls) + 256 * message.images.len() as u64;
        known.extend([105, 2364, 107]);
        known.extend(ids(&message.content));
        known.extend([106, 107]);
    }
    text.push_str("<start_of_turn>model\n");
    known.extend([105, 4368, 107]);
    let question = messages.iter().rev().find(|message| message.role.eq_ignore_ascii_case("user"));
    Prompt {
        text,
        tokens,
        ids: known,
        question: question.map(|message| message.content.clone()).unwrap_or_default(),
        after_tool: messages.last().is_some_and(|last| last.role.eq_ignore_ascii_case("tool")),
    }
}

/// Fits the prompt into `num_ctx` tokens: what is too long is cut to half of it, in silence, as Ollama does.
///
/// # Errors
/// The runner's own words, when the caller forbade that; Ollama's, when the runner has no context `shift`.
pub(in crate::sim) fn fit(prompt: &mut Prompt, num_ctx: u64, truncate: bool, shift: bool) -> Result<(), String> {
    if prompt.tokens < num_ctx {
        return Ok(());
    }
    if !truncate {
        let tokens = prompt.tokens;
        return Err(format!(
            "{{\"error\":{{\"code\":400,\"message\":\"request ({tokens} tokens) exceeds the available context size \
             ({num_ctx} tokens), try increasing it\",\"type\":\"exceed_context_size_error\",\
             \"n_prompt_tokens\":{tokens},\"n_ctx\":{num_ctx}}}}}"
        ));
    }
    if !shift {
        let text = "the prompt is longer than the context length currently available to the model; shorten the prompt, \
                    adjust the context length in settings, or use a model with a longer context length";
        return Err(text.to_owned());
    }
    prompt.tokens = (num_ctx / 2 + 3).min(num_ctx.saturating_sub(1));
    Ok(())
}
