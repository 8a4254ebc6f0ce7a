//! `/api/embed` and the older `/api/embeddings`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use http::StatusCode;
use serde_json::Value;

use super::app::{Admitted, App, Want, nanos};
use super::control::Fault;
use super::http::{Final, Reply, ok, refuse};
use super::once::CRASH;
use super::stage::Lease;
use crate::domain::ModelName;
use crate::sim::model::Model;
use crate::sim::reply::{MetricsOut, embed, embeddings};
use crate::sim::request::{Body as _, Embed, Embeddings};
use crate::sim::text;

/// Which of the two routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Embed,
    Legacy,
}

/// Serves one request; an `Err` closes the connection without an answer (a fault that was asked for).
pub(super) async fn serve(app: &Arc<App>, route: Route, body: &Bytes) -> io::Result<Reply> {
    let mut lease = app.stage.lease();
    let reply = match super::faulty(app).await {
        Err(reply) => reply,
        Ok(fault) => {
            let reply = answer(app, route, body, &lease).await.unwrap_or_else(|refusal| refusal);
            match fault {
                Some(Fault::Stall { .. }) => std::future::pending().await,
                Some(Fault::Close { .. } | Fault::EndSilently { .. }) => {
                    lease.answered();
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                Some(Fault::Crash { .. }) => refuse(StatusCode::INTERNAL_SERVER_ERROR, CRASH),
                Some(Fault::Garbage { .. }) => ok("{\"model\": oops".into()),
                Some(Fault::HugeLine { bytes, .. }) => ok(format!("{{\"model\":\"{}\"}}", "a".repeat(bytes))),
                _ => reply,
            }
        }
    };
    lease.answered();
    Ok(reply.into())
}

/// Both requests in the newer one's terms.
fn read(route: Route, body: &Bytes) -> Result<(Embed, Vec<String>), Final> {
    let bad = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    if route == Route::Legacy {
        let Embeddings { model, prompt, keep_alive, options } = Embeddings::read(body).map_err(|text| bad(&text))?;
        let inputs = if prompt.is_empty() { Vec::new() } else { vec![prompt] };
        return Ok((Embed { model, keep_alive, options, ..Embed::default() }, inputs));
    }
    let request = Embed::read(body).map_err(|text| bad(&text))?;
    let inputs = match &request.input {
        Value::Null => Vec::new(),
        Value::String(one) if one.is_empty() => Vec::new(),
        Value::String(one) => vec![one.clone()],
        Value::Array(list) => {
            let texts: Option<Vec<String>> = list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.ok_or_else(|| bad("invalid input type"))?
        }
        _ => return Err(bad("invalid input type")),
    };
    Ok((request, inputs))
}

async fn answer(app: &Arc<App>, route: Route, body: &Bytes, lease: &Lease) -> Result<Final, Final> {
    let (request, inputs) = read(route, body)?;
    let model = find(app, route, &request.model)?;
    let want = Want { name: &request.model, options: &request.options, keep_alive: request.keep_alive, shift: None };
    let admitted = app.admit(lease, &model, want).await?;
    if inputs.is_empty() {
        return Ok(ok(match route {
            Route::Embed => embed(&request.model, &[], MetricsOut::default()),
            Route::Legacy => embeddings(&[]),
        }));
    }
    let too_long = match (route, request.truncate.unwrap_or(true)) {
        (Route::Embed, true) => None,
        (Route::Embed, false) => Some(StatusCode::BAD_REQUEST),
        // the older route never cuts, and says of everything that went wrong that it was the server
        (Route::Legacy, _) => Some(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let work = Work { app, lease, model: &model, admitted: &admitted, too_long };
    // every input takes the single slot by itself, all of them in one go
    let made = try_join_all(inputs.iter().zip(0..).map(|(text, input)| work.one(text, input))).await?;
    if let (Route::Legacy, Some(only)) = (route, made.first()) {
        return Ok(ok(embeddings(&only.vector)));
    }
    let spent: Duration = made.iter().map(|one| one.spent).sum();
    let metrics = MetricsOut {
        total_duration: nanos(admitted.load + spent),
        load_duration: nanos(admitted.load),
        prompt_eval_count: made.iter().map(|one| one.tokens).sum(),
        ..MetricsOut::default()
    };
    let vectors: Vec<Vec<f32>> = made.into_iter().map(|one| cut(one.vector, request.dimensions)).collect();
    Ok(ok(embed(&request.model, &vectors, metrics)))
}

fn find(app: &App, route: Route, name: &str) -> Result<Arc<Model>, Final> {
    if name.is_empty() {
        return Err(match route {
            Route::Embed => refuse(StatusCode::NOT_FOUND, "model '' not found"),
            Route::Legacy => refuse(StatusCode::BAD_REQUEST, "model is required"),
        });
    }
    let parsed = ModelName::parse(name).map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?;
    app.find(&parsed).ok_or_else(|| {
        refuse(StatusCode::NOT_FOUND, &format!("model {} not found, try pulling it first", crate::sim::go::quote(name)))
    })
}

/// `dimensions`: the first so many, scaled again.
fn cut(mut vector: Vec<f32>, dimensions: i64) -> Vec<f32> {
    if let Ok(length @ 1..) = usize::try_from(dimensions)
        && length < vector.len()
    {
        vector.truncate(length);
        text::normalise(&mut vector);
    }
    vector
}

/// One input's result.
struct Made {
    vector: Vec<f32>,
    tokens: u64,
    spent: Duration,
}

struct Work<'a> {
    app: &'a App,
    lease: &'a Lease,
    model: &'a Model,
    admitted: &'a Admitted,
    /// The status of a refusal of what is too long; `None` cuts it.
    too_long: Option<StatusCode>,
}

impl Work<'_> {
    async fn one(&self, input: &str, number: u32) -> Result<Made, Final> {
        let (_slot, _) = self.lease.slot(number).await;
        if !self.model.can("embedding") {
            let text = "This server does not support embeddings. Start it with `--embeddings`";
            return Err(refuse(StatusCode::NOT_IMPLEMENTED, text));
        }
        // the marks at both ends count
        let wanted = text::count(input) + 2;
        let room = self.admitted.options.runner.num_ctx.min(self.model.context_length);
        if let Some(status) = self.too_long.filter(|_| wanted > room) {
            return Err(refuse(status, "the input length exceeds the context length"));
        }
        let tokens = wanted.min(room);
        let spent = Duration::try_from_secs_f64(tokens as f64 / self.model.prompt_tokens_per_second);
        let spent = spent.unwrap_or(Duration::MAX);
        let stage = &self.app.stage;
        stage.until(stage.clock.now().after(stage.real(spent))).await;
        self.lease.unless_hung().await;
        let vector = text::embed(&self.model.weights, input, self.model.embedding_length);
        Ok(Made { vector, tokens, spent })
    }
}
