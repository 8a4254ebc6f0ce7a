//! `/api/chat` and `/api/generate` up to the first token: Ollama's checks in Ollama's order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::app::{Admitted, App, Want};
use super::http::{Final, Reply, ok, refuse};
use super::once;
use super::stage::{Lease, Run, Slot};
use super::stream;
use super::watched::Stuck;
use crate::domain::{ModelName, Moment};
use crate::sim::answer::{Answer, Route, Times};
use crate::sim::go::quote;
use crate::sim::model::Model;
use crate::sim::request::{Body as _, Chat, Generate, Inference};
use crate::sim::text::{Prompt, Wish, fit, generate_prompt, messages_prompt, plan};

/// A request with everything it needs to be answered.
pub(super) struct Talk {
    pub(super) lease: Lease,
    pub(super) slot: Slot,
    pub(super) answer: Answer,
    pub(super) app: Arc<App>,
    /// Whether the client reads what it asked for.
    pub(super) stuck: Stuck,
    run: Run,
    /// When the prompt was read.
    read: Option<Moment>,
}

impl Talk {
    /// Waits until this many tokens are out; keeps the account of how long that took beside other answers.
    pub(super) async fn until(&mut self, tokens: u64) {
        let stage = self.app.stage.clone();
        let due = |tokens: u64| stage.real(self.answer.due(tokens));
        let (prompt, out) = (due(0), due(tokens));
        let read = match self.read {
            Some(read) => read,
            None => self.run.until(prompt).await,
        };
        let at = self.run.until(out).await;
        let stretch = |took: Duration, alone: Duration| {
            if alone.is_zero() { 1.0 } else { took.as_secs_f64() / alone.as_secs_f64() }
        };
        let times = &mut self.answer.times;
        times.stretch =
            (stretch(read.since(self.run.start), prompt), stretch(at.since(read), out.saturating_sub(prompt)));
        self.read = Some(read);
    }
}

/// Serves one request; an `Err` closes the connection without an answer (a fault that was asked for).
pub(super) async fn serve(app: &Arc<App>, route: Route, body: &Bytes, stuck: Stuck) -> io::Result<Reply> {
    let mut lease = app.stage.lease();
    let fault = match super::faulty(app).await {
        Ok(fault) => fault,
        Err(set) => {
            lease.answered();
            return Ok(set.into());
        }
    };
    match prepare(app, route, body, &lease).await {
        Err(done) => {
            lease.answered();
            Ok(done.into())
        }
        Ok(ready) => {
            let (slot, waited) = lease.slot(0).await;
            if let Some(refusal) = ready.inside {
                lease.answered();
                return Ok(refusal.into());
            }
            let answer =
                Answer { times: Times { slot: app.stage.model(waited), ..ready.answer.times }, ..ready.answer };
            let run = lease.begin(ready.together);
            let talk = Talk { lease, slot, answer, app: app.clone(), stuck, run, read: None };
            if ready.streams { Ok(stream::reply(talk, fault)) } else { once::reply(talk, fault).await }
        }
    }
}

/// Ready for a slot.
struct Ready {
    answer: Answer,
    streams: bool,
    /// `parallel_speed` of the model.
    together: f64,
    /// What the runner itself will refuse once it has the request.
    inside: Option<Final>,
}

async fn prepare(app: &Arc<App>, route: Route, body: &Bytes, lease: &Lease) -> Result<Ready, Final> {
    let bad = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let request = match route {
        Route::Chat => Chat::read(body).map(|chat| chat.0),
        Route::Generate => Generate::read(body).map(|generate| generate.0),
    };
    let request = request.map_err(|text| bad(&text))?;
    if !(0..=20).contains(&request.top_logprobs) {
        return Err(bad("top_logprobs must be between 0 and 20"));
    }
    let model = find(app, route, &request.model)?;
    let empty = match route {
        Route::Chat => request.messages.is_empty(),
        Route::Generate => request.prompt.is_empty(),
    };
    let created_at = || app.now().to_string();
    // anything under a second counts as nothing
    if empty && request.keep_alive.is_some_and(|nanos| nanos / 1_000_000_000 == 0) {
        app.stage.expire(&model.weights);
        return Err(ok(Answer::bare(route, &request.model, created_at(), "unload")));
    }
    let think = gate(route, &model, &request)?;
    let want =
        Want { name: &request.model, options: &request.options, keep_alive: request.keep_alive, shift: request.shift };
    let admitted = app.admit(lease, &model, want).await?;
    if empty {
        return Err(ok(Answer::bare(route, &request.model, created_at(), "load")));
    }
    let mut prompt = match route {
        Route::Chat => messages_prompt(&model, &request),
        Route::Generate => generate_prompt(&model, &request),
    };
    if request.debug_render_only {
        return Err(ok(Answer::rendered(route, &request.model, created_at(), &prompt.text)));
    }
    check_format(&request.format)?;
    let inside = runner_refuses(&model, &request, &mut prompt, &admitted);
    let streams = request.stream.unwrap_or(true);
    let answer = compose(&model, route, request, &prompt, &admitted, think);
    Ok(Ready { answer, streams, together: model.parallel_speed, inside })
}

/// The model, or the refusal of its name.
fn find(app: &App, route: Route, name: &str) -> Result<Arc<Model>, Final> {
    if name.is_empty() {
        return Err(match route {
            Route::Chat => refuse(StatusCode::BAD_REQUEST, "model is required"),
            Route::Generate => refuse(StatusCode::NOT_FOUND, "model '' not found"),
        });
    }
    let parsed = ModelName::parse(name).map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?;
    app.find(&parsed).ok_or_else(|| refuse(StatusCode::NOT_FOUND, &format!("model '{name}' not found")))
}

/// What the model cannot do; the answer says whether it thinks.
fn gate(route: Route, model: &Model, request: &Inference) -> Result<bool, Final> {
    let bad = |text: String| Err(refuse(StatusCode::BAD_REQUEST, &text));
    let framed = !request.template.is_empty() || !request.system.is_empty() || !request.context.is_empty();
    if request.raw && framed {
        return bad("raw mode does not support template, system, or context".into());
    }
    let wished = request.think.as_ref().map(|think| think.as_bool().unwrap_or(true));
    if wished == Some(true) && !model.can("thinking") {
        return bad(format!("{} does not support thinking", quote(&request.model)));
    }
    if !model.can("completion") {
        let what = if route == Route::Chat { "chat" } else { "generate" };
        return bad(format!("{} does not support {what}", quote(&request.model)));
    }
    let missing = [("insert", !request.suffix.is_empty()), ("tools", !request.tools.is_empty())];
    if let Some((what, _)) = missing.iter().find(|(what, wanted)| *wanted && !model.can(what)) {
        let full = ModelName::parse(&model.name).map(|name| name.full()).unwrap_or_default();
        return bad(format!("{full} does not support {what}"));
    }
    Ok(model.can("thinking") && wished.unwrap_or(true))
}

fn check_format(format: &Value) -> Result<(), Final> {
    match format {
        Value::Null | Value::Object(_) => Ok(()),
        Value::String(word) if word.is_empty() || word == "json" => Ok(()),
        other => {
            let text = format!(
                "invalid format: {}; expected \"json\" or a valid JSON Schema object",
                quote(&other.to_string())
            );
            Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, &text))
        }
    }
}

/// What llama-server refuses in its own words, which Ollama passes on as text.
fn runner_refuses(model: &Model, request: &Inference, prompt: &mut Prompt, admitted: &Admitted) -> Option<Final> {
    let runner = &admitted.options.runner;
    let images = !request.images.is_empty() || request.messages.iter().any(|message| !message.images.is_empty());
    let text = if images && !model.can("vision") {
        let message = "Multimodal data provided, but model does not support multimodal requests.";
        json!({"error": {"code": 400, "message": message, "type": "invalid_request_error"}}).to_string()
    } else {
        // a prompt with images is never cut
        let truncate = request.truncate.unwrap_or(true) && !images;
        fit(prompt, runner.num_ctx, truncate, runner.shift).err()?
    };
    Some(refuse(StatusCode::BAD_REQUEST, &text))
}

fn compose(
    model: &Model,
    route: Route,
    request: Inference,
    prompt: &Prompt,
    admitted: &Admitted,
    think: bool,
) -> Answer {
    let runner = &admitted.options.runner;
    let wish = Wish {
        request: &request,
        sampling: &admitted.options.sampling,
        think,
        num_ctx: runner.num_ctx,
        shift: runner.shift,
        marks_show: route == Route::Generate,
    };
    let plan = plan(model, prompt, &wish);
    let per_second = |count: f64, rate: f64| Duration::try_from_secs_f64(count / rate).unwrap_or(Duration::MAX);
    let times = Times {
        load: admitted.load,
        slot: Duration::ZERO,
        prompt: per_second(prompt.tokens as f64, model.prompt_tokens_per_second),
        token: per_second(1.0, model.tokens_per_second),
        stretch: (1.0, 1.0),
    };
    let logprobs = request.logprobs.then(|| usize::try_from(request.top_logprobs).unwrap_or(0));
    let context = (route == Route::Generate && !request.raw).then(|| prompt.ids.clone());
    Answer { route, model: request.model, plan, prompt_tokens: prompt.tokens, context, logprobs, times }
}
