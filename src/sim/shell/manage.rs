//! Routes that show and change what is there: tags, ps, show, copy, delete.

use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::app::App;
use super::control::Lie;
use super::http::{Final, Reply, ok, refuse, reply};
use crate::domain::ModelName;
use crate::sim::core::Resident;
use crate::sim::go::{self, FOREVER_NANOS};
use crate::sim::model::Model;
use crate::sim::request::{Body as _, Copy, Delete, Show};
use crate::sim::show::show_reply;

/// `/api/tags`, newest first (to the second, as Ollama compares).
pub(super) fn tags(app: &App) -> Final {
    let mut models = app.models().clone();
    let second = |model: &Model| model.modified_at.parse::<Timestamp>().map_or(0, Timestamp::as_second);
    models.sort_by_key(|model| std::cmp::Reverse(second(model)));
    let entry = |model: &Model| {
        json!({
            "name": model.name,
            "model": model.name,
            "modified_at": model.modified_at,
            "size": model.size,
            "digest": model.digest,
            "details": model.details(true),
            "capabilities": model.capabilities,
        })
    };
    let list: Vec<Value> = models.iter().map(|model| entry(model)).collect();
    ok(go::json(&json!({ "models": list })))
}

/// `/api/ps`, or the lie that was asked for.
pub(super) async fn ps(app: &App) -> Final {
    match app.stage.control.lie() {
        Some(Lie::Silence) => std::future::pending().await,
        Some(Lie::Says(body)) => ok(body),
        Some(Lie::NoVram) => ok(loaded(app, true)),
        // an old list is kept as the text it was
        Some(Lie::Old) | None => ok(loaded(app, false)),
    }
}

/// The body of `/api/ps`.
pub(super) fn loaded(app: &App, no_vram: bool) -> String {
    let mut list: Vec<Value> = app.stage.residents().iter().map(|resident| running(app, resident)).collect();
    if no_vram {
        list.iter_mut().for_each(|model| model["size_vram"] = 0.into());
    }
    go::json(&json!({ "models": list }))
}

fn running(app: &App, resident: &Resident) -> Value {
    let now = app.now();
    let expires = match resident.expires {
        None => now.checked_add(SignedDuration::from_nanos(FOREVER_NANOS)),
        Some(at) => {
            let elapsed = app.stage.clock.now();
            // an expiry of a runner that works may lie in the past
            let ahead = SignedDuration::try_from(at.since(elapsed)).unwrap_or(SignedDuration::MAX);
            let behind = SignedDuration::try_from(elapsed.since(at)).unwrap_or(SignedDuration::MAX);
            now.checked_add(ahead).and_then(|then| then.checked_sub(behind))
        }
    };
    let model = &resident.tag;
    json!({
        "name": model.name,
        "model": model.name,
        "size": resident.memory,
        "digest": model.digest,
        "details": model.details(false),
        "expires_at": expires.unwrap_or(Timestamp::MAX).to_string(),
        "size_vram": model.vram.unwrap_or(resident.fitting).min(resident.fitting),
        "context_length": resident.num_ctx,
    })
}

/// `/api/show`.
pub(super) fn show(app: &App, body: &Bytes) -> Result<Final, Final> {
    let bad = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let request = Show::read(body).map_err(|text| bad(&text))?;
    let name = if request.model.is_empty() { &request.name } else { &request.model };
    if name.is_empty() {
        return Err(bad("model is required"));
    }
    let name = ModelName::parse(name).map_err(|error| bad(&error.to_string()))?;
    let absent = || refuse(StatusCode::NOT_FOUND, &format!("model '{name}' not found"));
    let model = app.find(&name).ok_or_else(absent)?;
    Ok(ok(go::json(&Value::Object(show_reply(&model, &request)))))
}

/// `/api/copy`: the same manifest under another name.
pub(super) fn copy(app: &App, body: &Bytes) -> Result<Reply, Final> {
    let bad = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let request = Copy::read(body).map_err(|text| bad(&text))?;
    let parse = |what: &str, name: &str| {
        ModelName::parse(name).map_err(|_| bad(&format!("{what} {} is invalid", go::quote(name))))
    };
    let (source, destination) = (parse("source", &request.source)?, parse("destination", &request.destination)?);
    let Some(model) = app.find(&source) else {
        return Err(refuse(StatusCode::NOT_FOUND, &format!("model {} not found", go::quote(&request.source))));
    };
    let made = Model { name: destination.to_string(), modified_at: app.now().to_string(), ..(*model).clone() };
    let mut models = app.models();
    models.retain(|model| model.name != made.name);
    models.push(made.into());
    Ok(reply(StatusCode::OK, None, ""))
}

/// `/api/delete`: the tag goes, and with the last one the weights; a runner that has them stays.
pub(super) fn delete(app: &App, body: &Bytes) -> Result<Reply, Final> {
    let bad = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let request = Delete::read(body).map_err(|text| bad(&text))?;
    let written = if request.model.is_empty() { &request.name } else { &request.model };
    let name = ModelName::parse(written).map_err(|_| bad(&format!("name {} is invalid", go::quote(written))))?;
    let name = name.to_string();
    let mut models = app.models();
    let gone = models.iter().position(|model| model.name == name).map(|at| models.remove(at));
    match gone {
        Some(gone) => {
            if !models.iter().any(|model| model.weights == gone.weights) {
                app.stage.remove(&gone.weights);
            }
            Ok(reply(StatusCode::OK, None, ""))
        }
        None => Err(refuse(StatusCode::NOT_FOUND, &format!("model '{written}' not found"))),
    }
}

/// Routes of a real server that a stand-in does not have.
pub(super) fn absent(path: &str) -> Final {
    let text = format!(
        "{path} is not part of this stand-in for Ollama: it has the native inference routes, and models from --models"
    );
    refuse(StatusCode::NOT_IMPLEMENTED, &text)
}

/// `{"version": …}`.
pub(super) fn version() -> Final {
    let mut fields = Map::new();
    fields.insert("version".into(), crate::sim::VERSION.into());
    ok(go::json(&Value::Object(fields)))
}
