//! What would happen to a request that came now, and why: the line walked without sending anything.
//!
//! Owns the account it gives. Every verdict comes from the room that would give it to the real request, and nothing is
//! counted against anybody.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::catalog::{Holder, Resolved};
use crate::domain::{
    AppName, EndpointView, Fault, FaultClass, InferenceRequest, Intent, Measure, ModelName, ReplyShape, RequestId,
    Surface,
};
use crate::policy::Grant;
use crate::scheduler::core::Outlook;

use super::line::Gateway;
use super::overflow::{Case, Fitting};
use super::queue::{eta, seconds};
use super::ticket;
use super::wishes::Wishes;

/// Text whose tokens tell how many bytes one has.
const SAMPLE: usize = 1 << 20;

/// A request that somebody might send.
#[derive(Debug, Clone)]
pub struct Hypothetical {
    /// Whose it would be.
    pub app: AppName,
    /// The model it would name.
    pub model: String,
    /// Tokens of its prompt.
    pub prompt_tokens: u64,
    /// Most tokens it would ask for, where it says.
    pub output_tokens: Option<u64>,
}

impl Gateway {
    /// What would happen to the request now, as an account for operators. `verdict` is `starts`, `waits` or `refused`.
    pub async fn explain(&self, asked: &Hypothetical) -> Value {
        let policies = self.parts.desk.policies();
        let own_file = policies.apps().iter().any(|(app, _)| **app == asked.app);
        let mut account = json!({
            "app": asked.app.as_str(),
            "model": asked.model,
            "prompt_tokens": asked.prompt_tokens,
            "output_tokens": asked.output_tokens,
            "policy": { "file": own_file },
        });
        if let Err(fault) = self.walk(asked, &mut account).await {
            account["verdict"] = json!("refused");
            account["refusal"] = json!({
                "class": fault.class.as_str(),
                "text": fault.message,
                "retry_after_seconds": fault.retry_after.map(seconds),
            });
        }
        account
    }

    /// The steps of the line; each adds what it found.
    async fn walk(&self, asked: &Hypothetical, account: &mut Value) -> Result<(), Fault> {
        let name = ModelName::parse(&asked.model)
            .map_err(|bad| Fault::new(FaultClass::BadRequest, bad.to_string()).at("model"))?;
        let mut request = self.imagine(asked, &name);
        account["surface"] = json!(request.surface.path());
        let grant = self.parts.desk.preview(&asked.app, &request, &name);
        account["policy"]["allowed"] = json!(grant.is_ok());
        let grant = grant?;
        tell_grant(&grant, &mut account["policy"]);
        let resolved = self.resolve(&name, &request).await;
        account["endpoints"] = self.tell_endpoints(&name, resolved.as_ref().ok(), &grant);
        let resolved = resolved?;
        resolved.fit(&mut request)?;
        account["resolved"] = json!({ "model": resolved.name.to_string(), "weights": resolved.weights });
        // now that the weights are known, so is how much text a token of theirs is
        let tokens = self.parts.scheduler.estimate_tokens(&resolved.weights, SAMPLE).max(1);
        request.measure.prompt_bytes = bytes(asked.prompt_tokens.saturating_mul(SAMPLE as u64) / tokens);
        let patience = Wishes::default().patience(grant.rules.max_wait, self.parts.clock.now());
        let ticket = ticket::make(&self.parts, &grant, &request, &resolved, RequestId(0), patience.until)?;
        let outlook = self.parts.scheduler.outlook(&ticket);
        if let Outlook::Refused(why) = &outlook {
            return Err(ticket::refusal(why, &grant, &patience));
        }
        let start = if let Outlook::Starts { endpoint } = &outlook { Some(*endpoint) } else { None };
        let seats = ticket.seats.iter().map(|seat| seat.endpoint);
        let seats = seats.filter(|seat| start.is_none_or(|start| start == *seat));
        let holders: Vec<_> = seats.filter_map(|seat| resolved.at(seat)).collect();
        let case = Case { fitting: Fitting::of(&request), request: &request, grant: &grant, resolved: &resolved };
        if let Some(text) = self.foresee(asked.prompt_tokens, &case, &holders)? {
            account["overflow"] = json!(text);
        }
        tell_outlook(&outlook, start.and_then(|start| resolved.at(start)), account);
        Ok(())
    }

    /// The request as it would be decoded, on a surface that makes what the model makes and that the policy allows.
    fn imagine(&self, asked: &Hypothetical, name: &ModelName) -> InferenceRequest {
        let fleet = self.parts.catalog.fleet();
        let embeds = fleet.known_holders(name).next().is_some_and(|(_, model)| !model.generates());
        let rules = self.parts.desk.rules(&asked.app);
        let fitting = |surface: &&Surface| surface.task().embeds() == embeds;
        let usual = if embeds { &Surface::Embed } else { &Surface::Chat };
        let surface = *rules.surfaces.iter().find(fitting).unwrap_or(usual);
        // four bytes a token, until the model is known
        let size = bytes(asked.prompt_tokens.saturating_mul(4));
        InferenceRequest {
            surface,
            model: asked.model.clone(),
            stream: !embeds,
            intent: Intent::Answer,
            fields: Vec::new(),
            options: Vec::new(),
            runner_options: Vec::new(),
            keep_alive: None,
            shape: ReplyShape::default(),
            echo: Vec::new(),
            measure: Measure { body_bytes: size, prompt_bytes: size, inputs: 1, output_cap: asked.output_tokens },
        }
    }

    /// Every endpoint, and why it could run the request or not.
    fn tell_endpoints(&self, name: &ModelName, resolved: Option<&Resolved>, grant: &Grant) -> Value {
        let fleet = self.parts.catalog.fleet();
        let tell = |endpoint: &Arc<EndpointView>| {
            let holder = resolved.and_then(|resolved| resolved.at(endpoint.id));
            let (usable, reason) = match holder {
                Some(_) if !grant.rules.endpoints.allow(&endpoint.name, &endpoint.url) => {
                    (false, "the policy keeps the application off it (endpoints)".to_owned())
                }
                Some(holder) if !holder.endpoint.is_usable() => (false, absence(endpoint, name)),
                Some(holder) => (true, self.tell_runner(holder, grant)),
                None => (false, absence(endpoint, name)),
            };
            json!({ "name": endpoint.name, "url": endpoint.url, "usable": usable, "reason": reason })
        };
        fleet.endpoints.iter().map(tell).collect()
    }

    fn tell_runner(&self, holder: &Holder, grant: &Grant) -> String {
        let plan = self.parts.catalog.runner(holder, &grant.profile);
        let is_loaded = holder.endpoint.resident.iter().any(|resident| resident.weights == holder.model.weights);
        if !is_loaded {
            return format!("not loaded; needs about {} MiB and then has {} slots", plan.need >> 20, plan.slots);
        }
        let view = self.parts.scheduler.view();
        let runner = view
            .runners
            .iter()
            .find(|runner| runner.endpoint == holder.endpoint.id && *runner.weights == *holder.model.weights);
        format!("loaded; {} of {} slots taken", runner.map_or(0, |runner| runner.used), plan.slots)
    }
}

/// When it runs, `at` this one if at once.
fn tell_outlook(outlook: &Outlook, at: Option<&Holder>, account: &mut Value) {
    match outlook {
        Outlook::Starts { .. } => {
            account["verdict"] = json!("starts");
            account["starts"] = json!({ "endpoint": at.map(|holder| &holder.endpoint.name) });
        }
        Outlook::Waits(estimate) => {
            account["verdict"] = json!("waits");
            account["waits"] = json!({
                "position": estimate.position,
                "eta_seconds": eta(estimate),
                "reason": estimate.reason.as_str(),
                "reason_text": estimate.reason.text(),
            });
        }
        // told as every refusal is
        Outlook::Refused(_) => {}
    }
}

fn tell_grant(grant: &Grant, policy: &mut Value) {
    let rules = &grant.rules;
    policy["class"] = json!(rules.class.as_str());
    policy["weight"] = json!(rules.weight);
    policy["max_wait_seconds"] = json!(seconds(rules.max_wait));
    policy["max_queued"] = json!(rules.max_queued);
    policy["max_concurrent"] = json!(rules.max_concurrent);
    policy["on_overflow"] = json!(rules.on_overflow.to_string());
    policy["output_cap"] = json!(grant.output_cap);
    policy["rate"] = match &grant.standing {
        Some(standing) => json!({ "limit": standing.limit, "remaining": standing.remaining }),
        None => Value::Null,
    };
}

/// Why an endpoint is not among those that can serve the name.
fn absence(endpoint: &EndpointView, name: &ModelName) -> String {
    match (endpoint.trouble.as_ref().or(endpoint.ejected.as_ref()), endpoint.models.get(name)) {
        (Some(trouble), _) => format!("cannot be used now: {trouble}"),
        (None, None) => "does not have the model".to_owned(),
        (None, Some(model)) if model.remote => "has it from another host: prompts would leave this site".to_owned(),
        (None, Some(_)) => "has other weights under this name".to_owned(),
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}
