//! The rules that refuse a request, as pure functions: same ask, same answer.
//!
//! Owns the decisions and their texts. It does not count (`quota`), knows no time, and trusts the sizes `wire` measured.

use serde_json::Value;

use super::app_rules::AppRules;
use super::document::{KeepAlive, RunnerOptions};
use super::profile::RunnerProfile;
use crate::domain::{AppName, Fault, FaultClass, InferenceRequest, Json, ModelName};

/// A request with all that is needed to judge it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) app: &'a AppName,
    pub(super) rules: &'a AppRules,
    pub(super) profile: &'a RunnerProfile,
    pub(super) request: &'a InferenceRequest,
    pub(super) name: &'a ModelName,
}

/// Whether the request may go on to be counted; the first rule it breaks decides.
pub(super) fn check(ask: &Ask<'_>) -> Result<(), Fault> {
    surface(ask)?;
    model(ask)?;
    inputs(ask)?;
    body(ask)?;
    runner_options(ask)
}

fn surface(ask: &Ask<'_>) -> Result<(), Fault> {
    let surface = ask.request.surface;
    if ask.rules.surfaces.contains(&surface) {
        return Ok(());
    }
    let allowed: Vec<&str> = ask.rules.surfaces.iter().map(|surface| surface.path()).collect();
    let allowed = if allowed.is_empty() { "no route".to_owned() } else { allowed.join(", ") };
    let message = format!("application \"{}\" may not use {}; its policy allows {allowed}", ask.app, surface.path());
    Err(Fault::new(FaultClass::Forbidden, message))
}

fn model(ask: &Ask<'_>) -> Result<(), Fault> {
    const SHOWN: usize = 8;
    let (app, name) = (ask.app, ask.name);
    if name.is_cloud() {
        let message = format!(
            "model \"{name}\" runs on ollama.com: prompts never leave this site, so cloud models are refused for every \
             application; use a model that runs here"
        );
        return Err(Fault::new(FaultClass::Forbidden, message).at("model"));
    }
    if ask.rules.models.allow(name) {
        return Ok(());
    }
    let patterns: Vec<&str> = ask.rules.models.patterns().collect();
    let allowed = match patterns.get(..SHOWN) {
        _ if patterns.is_empty() => "no model".to_owned(),
        Some(first) if patterns.len() > SHOWN => format!("{} and {} more", first.join(", "), patterns.len() - SHOWN),
        _ => patterns.join(", "),
    };
    let message = format!("application \"{app}\" may not use model \"{name}\"; its policy allows {allowed}");
    Err(Fault::new(FaultClass::Forbidden, message).at("model"))
}

fn inputs(ask: &Ask<'_>) -> Result<(), Fault> {
    let (given, most) = (ask.request.measure.inputs, ask.rules.max_embed_inputs);
    if !ask.request.surface.task().embeds() || given <= most {
        return Ok(());
    }
    let message = format!(
        "input has {given} entries and application \"{}\" may send {most} in one request: split it into several",
        ask.app
    );
    Err(Fault::new(FaultClass::BadRequest, message).at("input"))
}

fn body(ask: &Ask<'_>) -> Result<(), Fault> {
    let (given, most) = (ask.request.measure.body_bytes as u64, ask.rules.max_body);
    if given <= most {
        return Ok(());
    }
    let message = format!(
        "the request body has {given} bytes and application \"{}\" may send {most}: send less at once",
        ask.app
    );
    Err(Fault::new(FaultClass::TooLarge, message))
}

fn runner_options(ask: &Ask<'_>) -> Result<(), Fault> {
    if ask.rules.runner_options == RunnerOptions::Clamp {
        return Ok(());
    }
    for (key, raw) in &ask.request.runner_options {
        let (asked, ours) = (read(raw), ask.profile.options.get(&**key));
        if !asked.is_null() && !ours.is_some_and(|ours| same(ours, &asked)) {
            let path = if &**key == "shift" { "shift".to_owned() } else { format!("options.{key}") };
            return Err(refuse_option(ask, &path, &shown(&asked), ours.map(Value::to_string)));
        }
    }
    let ours = ask.profile.keep_alive;
    match ask.request.keep_alive.map(KeepAlive::new) {
        Some(asked) if Some(asked) != ours => {
            Err(refuse_option(ask, "keep_alive", &asked.to_string(), ours.map(|ours| ours.to_string())))
        }
        _ => Ok(()),
    }
}

fn refuse_option(ask: &Ask<'_>, path: &str, asked: &str, ours: Option<String>) -> Fault {
    let rule = match ours {
        Some(ours) => format!("model \"{}\" runs with {ours} here", ask.name),
        None => format!("the operator's profile of model \"{}\" leaves it to the server", ask.name),
    };
    let message =
        format!("{path} is {asked}, but {rule} and application \"{}\" may not change it: leave it out", ask.app);
    Fault::new(FaultClass::BadRequest, message).at(path)
}

fn read(raw: &Json) -> Value {
    serde_json::from_str(raw.get()).unwrap_or(Value::Null)
}

/// A caller's value as text, shortened: it may be anything.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}

/// Equal as Ollama would read them: it cuts the fraction off a number given for a whole one.
fn same(ours: &Value, asked: &Value) -> bool {
    match (ours.as_i64(), asked.as_f64()) {
        #[expect(clippy::cast_precision_loss, reason = "runner options are far below 2^53")]
        (Some(ours), Some(asked)) => asked.trunc() == ours as f64,
        _ => ours == asked,
    }
}
