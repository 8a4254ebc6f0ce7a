//! Native replies: the objects of `/api/chat`, `/api/generate`, `/api/embed` and `/api/embeddings`.
//!
//! Field order and omissions are Ollama's. `model` arguments are JSON strings already.

use crate::domain::{Finish, Metrics, Piece, Task, Vectors};
use crate::wire::out::{count, filled, member, nanos, push, raw, string};
use crate::wire::pieces::Pieces;

/// Appends one object of a chat or generation, without a line end.
pub(in crate::wire) fn piece(out: &mut Vec<u8>, task: Task, model: &[u8], piece: &Piece) {
    push(out, "{\"model\":");
    out.extend_from_slice(model);
    push(out, ",\"created_at\":");
    string(out, &piece.created_at);
    let finish = piece.finish.as_ref();
    if task == Task::Generate {
        push(out, ",\"response\":");
        string(out, &piece.text);
        thinking(out, piece);
        done(out, finish);
        if let Some(context) = finish.and_then(|f| f.context.as_ref()) {
            push(out, ",\"context\":");
            raw(out, context);
        }
        figures(out, finish);
        tool_calls(out, piece);
        logprobs(out, piece);
    } else {
        push(out, ",\"message\":{\"role\":");
        string(out, piece.role.as_deref().unwrap_or("assistant"));
        push(out, ",\"content\":");
        string(out, &piece.text);
        thinking(out, piece);
        tool_calls(out, piece);
        for field in &piece.message_extra {
            member(out, field);
        }
        out.push(b'}');
        done(out, finish);
        logprobs(out, piece);
        figures(out, finish);
    }
    for field in &piece.extra {
        member(out, field);
    }
    out.push(b'}');
}

/// Appends the reply to `/api/embed`.
pub(in crate::wire) fn embeddings(pieces: &mut Pieces, model: &[u8], vectors: &Vectors) {
    push(&mut pieces.out, "{\"model\":");
    pieces.out.extend_from_slice(model);
    push(&mut pieces.out, ",\"embeddings\":");
    pieces.part(vectors.vectors.clone());
    let out = &mut pieces.out;
    metrics(out, &vectors.metrics);
    for field in &vectors.extra {
        member(out, field);
    }
    out.push(b'}');
}

/// Appends the reply to the legacy `/api/embeddings`.
pub(in crate::wire) fn vectors(pieces: &mut Pieces, vectors: &Vectors) {
    push(&mut pieces.out, "{\"embedding\":");
    pieces.part(vectors.vectors.clone());
    let out = &mut pieces.out;
    for field in &vectors.extra {
        member(out, field);
    }
    out.push(b'}');
}

fn thinking(out: &mut Vec<u8>, piece: &Piece) {
    if let Some(text) = piece.thinking.as_deref().filter(|text| !text.is_empty()) {
        push(out, ",\"thinking\":");
        string(out, text);
    }
}

fn tool_calls(out: &mut Vec<u8>, piece: &Piece) {
    if let Some(calls) = filled(piece.tool_calls.as_ref()) {
        push(out, ",\"tool_calls\":");
        raw(out, calls);
    }
}

fn logprobs(out: &mut Vec<u8>, piece: &Piece) {
    if let Some(list) = filled(piece.logprobs.as_ref()) {
        push(out, ",\"logprobs\":");
        raw(out, list);
    }
}

fn done(out: &mut Vec<u8>, finish: Option<&Finish>) {
    let Some(finish) = finish else { return push(out, ",\"done\":false") };
    push(out, ",\"done\":true");
    if let Some(reason) = finish.reason.as_deref().filter(|reason| !reason.is_empty()) {
        push(out, ",\"done_reason\":");
        string(out, reason);
    }
}

fn figures(out: &mut Vec<u8>, finish: Option<&Finish>) {
    if let Some(finish) = finish {
        metrics(out, &finish.metrics);
    }
}

fn metrics(out: &mut Vec<u8>, metrics: &Metrics) {
    nanos(out, ",\"total_duration\":", metrics.total);
    nanos(out, ",\"load_duration\":", metrics.load);
    count(out, ",\"prompt_eval_count\":", metrics.prompt_tokens);
    nanos(out, ",\"prompt_eval_duration\":", metrics.prompt);
    count(out, ",\"eval_count\":", metrics.output_tokens);
    nanos(out, ",\"eval_duration\":", metrics.generation);
}
