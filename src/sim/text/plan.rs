//! A whole answer, planned before its first piece is sent.

use serde_json::{Value, json};

use super::prompt::Prompt;
use super::schema::instance;
use super::tokens::pieces;
use super::words::{Source, mix, sentences};
use crate::sim::model::Model;
use crate::sim::options::Sampling;
use crate::sim::request::{Inference, Tool};

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::sim) struct Step {
    /// Content, or thinking.
    pub(in crate::sim) text: String,
    pub(in crate::sim) thinking: bool,
    pub(in crate::sim) tool_calls: Option<Value>,
    /// Tokens made when this piece is out.
    pub(in crate::sim) tokens: u64,
}

/// A planned answer.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sim) struct Plan {
    pub(in crate::sim) steps: Vec<Step>,
    /// `stop` or `length`.
    pub(in crate::sim) reason: &'static str,
    /// `eval_count`: the end-of-text token counts as one.
    pub(in crate::sim) tokens: u64,
}

/// What shapes an answer besides the model and the prompt.
pub(in crate::sim) struct Wish<'a> {
    pub(in crate::sim) request: &'a Inference,
    pub(in crate::sim) sampling: &'a Sampling,
    pub(in crate::sim) think: bool,
    /// Context per slot, in tokens.
    pub(in crate::sim) num_ctx: u64,
    /// Whether the oldest tokens make room when the context is full.
    pub(in crate::sim) shift: bool,
    /// Whether the marks that end the thinking show as empty pieces (they do on the generate route only).
    pub(in crate::sim) marks_show: bool,
}

/// Tokens that end the thinking.
const MARKS: u64 = 2;

/// Plans the answer.
pub(in crate::sim) fn plan(model: &Model, prompt: &Prompt, wish: &Wish<'_>) -> Plan {
    let mut seed = format!("{}\n{}\n{}\n{}", model.weights, wish.sampling.seed, wish.request.format, prompt.text);
    // what it sees counts like what it reads
    seed.extend(wish.request.messages.iter().flat_map(|message| &message.images).map(String::as_str));
    seed.extend(wish.request.images.iter().map(String::as_str));
    let mut source = Source(mix(seed.as_bytes()));
    let room = if wish.shift { wish.num_ctx.saturating_mul(10) } else { wish.num_ctx.saturating_sub(prompt.tokens) };
    let cap = wish.sampling.num_predict.unwrap_or(u64::MAX).min(room);
    let natural = model.answer_tokens.unwrap_or_else(|| 20 + source.below(100) as u64);
    let mut steps = Vec::new();
    if wish.think {
        let length = natural.min(30);
        let thinking = model.thinking.clone().unwrap_or_else(|| sentences(&mut source, &prompt.question, length));
        steps.extend(numbered(&pieces(&thinking), 0).map(|step| Step { thinking: true, ..step }));
    }
    let before = steps.len() as u64 + if wish.think { MARKS } else { 0 };
    if wish.think && wish.marks_show {
        steps.extend((before + 1 - MARKS..=before).map(|tokens| Step { tokens, ..Step::default() }));
    }
    let calls = !wish.request.tools.is_empty() && (!prompt.after_tool || model.keeps_calling_tools);
    let mut ended = None;
    if calls {
        steps.extend(tool_call(&wish.request.tools, &prompt.question, &mut source, before));
    } else {
        let text = content(model, prompt, &wish.request.format, &mut source, natural.min(cap));
        let (said, stopped) = until_stop(&pieces(&text), &wish.sampling.stop);
        ended = stopped.map(|tokens| before + tokens);
        steps.extend(said.into_iter().map(|step| Step { tokens: before + step.tokens, ..step }));
    }
    let made = steps.last().map_or(0, |last| last.tokens).max(ended.unwrap_or(0));
    if made >= cap && ended.is_none_or(|at| at > cap) {
        steps.retain(|step| step.tokens <= cap);
        return Plan { steps, reason: "length", tokens: cap };
    }
    Plan { steps, reason: "stop", tokens: ended.unwrap_or(made + 1) }
}

fn numbered(pieces: &[String], before: u64) -> impl Iterator<Item = Step> {
    (before + 1..).zip(pieces).map(|(tokens, text)| Step { text: text.clone(), tokens, ..Step::default() })
}

/// The text of an answer without tools: fixed, JSON, or words. At least `tokens` long where it is made of words.
fn content(model: &Model, prompt: &Prompt, format: &Value, source: &mut Source, tokens: u64) -> String {
    match format {
        Value::Object(_) => {
            let mut speak = |source: &mut Source| format!("{} {}", source.word(), source.word());
            instance(format, source, &mut speak).to_string()
        }
        Value::String(json) if json == "json" => {
            json!({ "answer": sentences(source, &prompt.question, tokens) }).to_string()
        }
        _ => model.text.clone().unwrap_or_else(|| sentences(source, &prompt.question, tokens)),
    }
}

/// A call of the tool that the question names, or of the first.
fn tool_call(tools: &[Tool], question: &str, source: &mut Source, before: u64) -> Vec<Step> {
    let asked = question.to_lowercase();
    let named =
        |tool: &&Tool| tool.function.name.to_lowercase().split('_').any(|part| part.len() > 3 && asked.contains(part));
    let Some(tool) = tools.iter().find(named).or(tools.first()) else { return Vec::new() };
    // names are what tools are mostly asked about
    let name = question.split_whitespace().skip(1).find(|word| word.starts_with(char::is_uppercase));
    let name = name.map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned());
    let mut speak = |source: &mut Source| name.clone().unwrap_or_else(|| source.word().to_owned());
    let arguments = match instance(&tool.function.parameters, source, &mut speak) {
        Value::Object(map) => Value::Object(map),
        _ => json!({}),
    };
    let cost = pieces(&arguments.to_string()).len() as u64 + 8;
    let id: String = (0..8).filter_map(|_| char::from_digit(u32::try_from(source.below(36)).ok()?, 36)).collect();
    let call = json!([{
        "id": format!("call_{id}"),
        "function": {"index": 0, "name": tool.function.name, "arguments": arguments},
    }]);
    vec![
        Step { text: " ".into(), tokens: before + 1, ..Step::default() },
        Step { tool_calls: Some(call), tokens: before + cost, ..Step::default() },
    ]
}

/// The pieces up to the first stop text, which is not said; what might be its beginning is held back meanwhile.
/// The second value is the number of tokens made when it was complete.
fn until_stop(pieces: &[String], stops: &[String]) -> (Vec<Step>, Option<u64>) {
    if stops.is_empty() {
        return (numbered(pieces, 0).collect(), None);
    }
    let mut steps = Vec::new();
    let mut pending = String::new();
    let mut say = |text: &str, tokens: u64| {
        if !text.is_empty() {
            steps.push(Step { text: text.to_owned(), tokens, ..Step::default() });
        }
    };
    for (tokens, piece) in (1..).zip(pieces) {
        pending.push_str(piece);
        if let Some(at) = stops.iter().filter_map(|stop| pending.find(stop.as_str())).min() {
            say(pending.get(..at).unwrap_or_default(), tokens);
            return (steps, Some(tokens));
        }
        let held = stops.iter().map(|stop| overlap(&pending, stop)).max().unwrap_or(0);
        let (out, kept) = pending.split_at(pending.len() - held);
        say(out, tokens);
        pending = kept.to_owned();
    }
    say(&pending, pieces.len() as u64);
    (steps, None)
}

/// Bytes at the end of `text` that begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).rev();
    starts.filter(|len| *len > 0).find(|len| stop.get(..*len).is_some_and(|head| text.ends_with(head))).unwrap_or(0)
}
