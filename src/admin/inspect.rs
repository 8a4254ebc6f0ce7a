//! What operators ask of a running gateway: the queue, the fleet, what would happen to a request.
//!
//! Owns the routes, their queries and the form of their replies. The answers come from a handle that `app` gives, because
//! this plane does not know the other one.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use http::{StatusCode, header};
use serde_json::Value;

use crate::domain::AppName;

/// A question about a running gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What waits, of one application or of all.
    Queue(Option<AppName>),
    /// The endpoints and their runners.
    Fleet,
    /// What would happen to a request.
    Explain {
        /// Whose.
        app: AppName,
        /// For which model.
        model: String,
        /// Tokens of its prompt.
        prompt_tokens: u64,
        /// Most tokens it asks for, where it says.
        output_tokens: Option<u64>,
    },
}

/// Answers a question; `None` while this process serves nobody.
pub type Answers = Arc<dyn Fn(Question) -> BoxFuture<'static, Option<Value>> + Send + Sync>;

/// Prompt tokens where a question names none.
const PROMPT_TOKENS: u64 = 500;

type Asked = Query<HashMap<String, String>>;

/// The routes.
pub(super) fn routes(answers: Answers) -> Router {
    Router::new()
        .route("/v1/queue", get(queue))
        .route("/v1/fleet", get(fleet))
        .route("/v1/explain", get(explain))
        .with_state(answers)
}

async fn queue(State(answers): State<Answers>, Query(mut asked): Asked) -> Response {
    let question = app(&mut asked).and_then(|app| only(asked, &["app"], Question::Queue(app)));
    reply(&answers, question).await
}

async fn fleet(State(answers): State<Answers>, Query(asked): Asked) -> Response {
    reply(&answers, only(asked, &[], Question::Fleet)).await
}

async fn explain(State(answers): State<Answers>, Query(asked): Asked) -> Response {
    reply(&answers, hypothetical(asked)).await
}

fn hypothetical(mut asked: HashMap<String, String>) -> Result<Question, String> {
    let app = app(&mut asked)?.ok_or("name the application: ?app=NAME&model=NAME")?;
    let model = asked.remove("model").filter(|model| !model.is_empty());
    let model = model.ok_or("name the model: ?app=NAME&model=NAME")?;
    let prompt_tokens = tokens(&mut asked, "prompt_tokens")?.unwrap_or(PROMPT_TOKENS);
    let output_tokens = tokens(&mut asked, "output_tokens")?;
    let question = Question::Explain { app, model, prompt_tokens, output_tokens };
    only(asked, &["app", "model", "prompt_tokens", "output_tokens"], question)
}

fn app(asked: &mut HashMap<String, String>) -> Result<Option<AppName>, String> {
    asked.remove("app").map(|name| AppName::parse(&name)).transpose()
}

fn tokens(asked: &mut HashMap<String, String>, name: &str) -> Result<Option<u64>, String> {
    const MOST: u64 = 100_000_000;
    let Some(text) = asked.remove(name) else { return Ok(None) };
    let read = text.parse().ok().filter(|tokens| *tokens <= MOST);
    read.map(Some).ok_or_else(|| format!("{name} is {text:?}: use a whole number from 0 to {MOST}"))
}

/// The question, unless something is left that it does not know.
fn only(left: HashMap<String, String>, known: &[&str], question: Question) -> Result<Question, String> {
    match left.keys().find(|key| !known.contains(&key.as_str())) {
        Some(stray) if known.is_empty() => Err(format!("{stray:?} is not known here: this route takes no query")),
        Some(stray) => Err(format!("{stray:?} is not known here: use {}", known.join(", "))),
        None => Ok(question),
    }
}

async fn reply(answers: &Answers, question: Result<Question, String>) -> Response {
    let question = match question {
        Ok(question) => question,
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    match answers(question).await {
        Some(answer) => ([(header::CONTENT_TYPE, "application/json")], format!("{answer}\n")).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "this gateway does not serve yet, or is a standby\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_question_is_complete_or_refused_with_what_is_missing() {
        let good = hypothetical(asked(&[("app", "shop"), ("model", "gemma:a"), ("output_tokens", "9")])).unwrap();
        let app = AppName::parse("shop").unwrap();
        let model = "gemma:a".to_owned();
        assert_eq!(good, Question::Explain { app, model, prompt_tokens: PROMPT_TOKENS, output_tokens: Some(9) });
        for (bad, names) in [
            (&[("model", "gemma:a")][..], "?app="),
            (&[("app", "shop")], "the model"),
            (&[("app", "shop"), ("model", "")], "the model"),
            (&[("app", "No Good"), ("model", "x")], "No Good"),
            (&[("app", "shop"), ("model", "x"), ("prompt_tokens", "-1")], "prompt_tokens"),
            (&[("app", "shop"), ("model", "x"), ("tokens", "1")], "\"tokens\""),
        ] {
            let why = hypothetical(asked(bad)).unwrap_err();
            assert!(why.contains(names), "{why}");
        }
    }
}
