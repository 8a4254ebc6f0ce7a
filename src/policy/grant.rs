//! The desk where a request is granted or refused, and the grant itself.
//!
//! Owns the snapshot in force and the order: rules first, then the rate, so that a refused request costs nothing.
//! Only [`Desk::grant`] makes a [`Grant`]; what it promises is enforced by the rooms that take it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::app_rules::{AppRules, Rate};
use super::policies::Policies;
use super::profile::RunnerProfile;
use super::quota::{Quotas, Refused};
use super::rules::{self, Ask};
use crate::domain::{AppName, Clock, Fault, FaultClass, InferenceRequest, Limit, ModelName};

/// What policy allowed one request. Cannot be made elsewhere, so the step cannot be skipped.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose request it is.
    pub app: AppName,
    /// The application's rules at the time (class, weight, `max_wait`, …).
    pub rules: Arc<AppRules>,
    /// How the model is loaded.
    pub profile: Arc<RunnerProfile>,
    /// The most tokens the reply may have: the policy's ceiling or the caller's, the lower of both;
    /// `None` for embeddings, and where neither set one.
    pub output_cap: Option<u64>,
    /// Where the application stands against its rate, this request counted; `None` without a rate.
    pub standing: Option<Limit>,
    _seal: Seal,
}

/// Keeps other rooms of the crate from building a [`Grant`] (`non_exhaustive` would not).
#[derive(Debug, Clone)]
struct Seal;

impl Grant {
    /// A grant for tests of later rooms.
    #[cfg(test)]
    pub(crate) fn for_tests(app: AppName, rules: AppRules, profile: RunnerProfile) -> Self {
        let (rules, profile) = (Arc::new(rules), Arc::new(profile));
        let output_cap = rules.max_output_tokens;
        Self { app, rules, profile, output_cap, standing: None, _seal: Seal }
    }
}

/// Grants and refuses by the policies in force.
#[derive(Debug)]
pub struct Desk {
    policies: ArcSwap<Policies>,
    quotas: Quotas,
}

impl Desk {
    /// A desk with these policies; rates are counted by `clock`.
    #[must_use]
    pub fn new(policies: Policies, clock: Clock) -> Self {
        Self { policies: ArcSwap::from_pointee(policies), quotas: Quotas::new(clock) }
    }

    /// The policies in force.
    #[must_use]
    pub fn policies(&self) -> Arc<Policies> {
        self.policies.load_full()
    }

    /// Puts new policies in force at once. An application whose rate did not change keeps what it has used.
    pub fn replace(&self, policies: Policies) {
        let policies = Arc::new(policies);
        self.policies.store(Arc::clone(&policies));
        self.quotas.keep(|app| policies.app(app).rate);
    }

    /// Judges a request for the model `name`, and counts it when it passes.
    ///
    /// # Errors
    /// 403 for a route or model that is not allowed, 400 or 413 for a field or size over a ceiling, 429 for the rate;
    /// in that order. Only a granted request is counted.
    pub fn grant(&self, app: &AppName, request: &InferenceRequest, name: &ModelName) -> Result<Grant, Fault> {
        self.judge(app, request, name, |rate| self.quotas.take(app, rate))
    }

    /// The same verdict without counting, for those who only ask what would happen. The request is not to be run by it.
    ///
    /// # Errors
    /// As [`Desk::grant`].
    pub fn preview(&self, app: &AppName, request: &InferenceRequest, name: &ModelName) -> Result<Grant, Fault> {
        self.judge(app, request, name, |rate| self.quotas.look(app, rate))
    }

    /// Judges a granted request again, for another model. It is not counted again: it is the same request.
    ///
    /// # Errors
    /// As [`Desk::grant`], without the rate.
    pub fn regrant(&self, grant: &Grant, request: &InferenceRequest, name: &ModelName) -> Result<Grant, Fault> {
        let policies = self.policies.load();
        let (app, rules, profile) = (&grant.app, policies.app(&grant.app), policies.profile(name));
        rules::check(&Ask { app, rules: &rules, profile: &profile, request, name })?;
        Ok(Grant { rules, profile, ..grant.clone() })
    }

    fn judge(
        &self,
        app: &AppName,
        request: &InferenceRequest,
        name: &ModelName,
        count: impl Fn(Rate) -> Result<Limit, Refused>,
    ) -> Result<Grant, Fault> {
        let policies = self.policies.load();
        let (rules, profile) = (policies.app(app), policies.profile(name));
        rules::check(&Ask { app, rules: &rules, profile: &profile, request, name })?;
        let standing = match rules.rate {
            Some(rate) => Some(count(rate).map_err(|refused| rate_fault(app, rate, refused))?),
            None => None,
        };
        let writes = !request.surface.task().embeds();
        let output_cap = rules.output_cap(request.measure.output_cap).filter(|_| writes);
        Ok(Grant { app: app.clone(), rules, profile, output_cap, standing, _seal: Seal })
    }

    /// Whether lists may show the model to the application.
    #[must_use]
    pub fn may_see(&self, app: &AppName, name: &ModelName) -> bool {
        self.policies.load().app(app).models.allow(name)
    }

    /// The rules of an application, for limits that hold before a request is read (`max_body`).
    #[must_use]
    pub fn rules(&self, app: &AppName) -> Arc<AppRules> {
        self.policies.load().app(app)
    }
}

fn rate_fault(app: &AppName, rate: Rate, refused: Refused) -> Fault {
    let Rate { requests_per_minute, burst } = rate;
    let wait = whole_seconds(refused.wait);
    let message = format!(
        "application \"{app}\" has used up its {requests_per_minute} requests per minute (requests_per_minute, burst \
         {burst}): the next one is allowed in {} s",
        wait.as_secs()
    );
    Fault::new(FaultClass::RateLimited, message).retry(wait).limited(refused.limit)
}

/// Rounded up: who comes back after it must not be refused again.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}
