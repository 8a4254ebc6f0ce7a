//! What a model can do, held against what a request asks, before anybody waits for a slot.
//!
//! Owns Ollama's refusals by capability, in its words and its order; the capabilities are those `/api/tags` lists. Where it
//! lists none they are not known, and Ollama judges.

use crate::domain::{Dialect, Fault, FaultClass, InferenceRequest, Intent, Task, field};

use super::resolve::Resolved;

impl Resolved {
    /// Fits a request to the model: Anthropic's thinking is left out where the model has none, as Ollama does.
    ///
    /// # Errors
    /// `BadRequest` when it asks for what the model cannot do.
    pub fn fit(&self, request: &mut InferenceRequest) -> Result<(), Fault> {
        let Some(holder) = self.holders.first().filter(|holder| !holder.model.capabilities.is_empty()) else {
            return Ok(());
        };
        let can = |ability: &str| holder.model.capabilities.iter().any(|listed| listed == ability);
        if request.surface.task().embeds() || request.intent == Intent::Unload {
            return Ok(());
        }
        if thinks(request) && !can("thinking") {
            if request.surface.dialect() != Dialect::Anthropic {
                return Err(unable(&format!("{:?}", request.model), "thinking"));
            }
            request.fields.retain(|(name, _)| &**name != "think");
        }
        let (verb, more) = match request.surface.task() {
            Task::Chat => ("chat", "tools"),
            _ => ("generate", "insert"),
        };
        if !can("completion") {
            return Err(unable(&format!("{:?}", request.model), verb));
        }
        let asks_more = if more == "tools" { has(request, "tools", "[]") } else { has(request, "suffix", "\"\"") };
        if asks_more && !can(more) {
            return Err(unable(&self.name.full(), more));
        }
        Ok(())
    }
}

fn unable(model: &str, ability: &str) -> Fault {
    Fault::new(FaultClass::BadRequest, format!("{model} does not support {ability}"))
}

/// Whether thinking is asked for: `true`, or a level.
fn thinks(request: &InferenceRequest) -> bool {
    has(request, "think", "false") && has(request, "think", "\"\"")
}

/// Whether a field is there and not this `nothing`.
fn has(request: &InferenceRequest, name: &str, nothing: &str) -> bool {
    field(&request.fields, name).is_some_and(|value| {
        let text: String = value.get().split_whitespace().collect();
        text != nothing
    })
}
