//! What a stand-in says: tokens, words, JSON, tool calls and vectors, all a pure function of the request.
//!
//! Owns the content of an answer and its counts; not its pace (the shell) and not its wire form (`reply`).
//! Invariant: equal weights, prompt, options and seed give equal pieces, on every machine.

mod plan;
mod prompt;
mod schema;
#[cfg(test)]
mod tests;
mod tokens;
mod vector;
mod words;

pub(super) use plan::{Plan, Step, Wish, plan};
pub(super) use prompt::{Prompt, fit, generate_prompt, messages_prompt};
pub(super) use tokens::{count, ids};
pub(super) use vector::{embed, normalise};
