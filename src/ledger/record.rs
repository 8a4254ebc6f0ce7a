//! The record of one request and where it is entered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{
    AppName, Class, Dialect, EndpointId, FaultClass, KeyId, ModelName, Origin, Outcome, Overflow, RequestId, Usage,
};
use crate::telemetry::{Finished, LogLines, RequestMetrics};

use super::line;

/// Everything that is known of a request at its end.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its id.
    pub id: RequestId,
    /// When it arrived, since 1970.
    pub arrived: Duration,
    /// The route.
    pub route: &'static str,
    /// The grammar it spoke.
    pub dialect: Dialect,
    /// Whose it was.
    pub app: Option<AppName>,
    /// The key that proved it.
    pub key: Option<KeyId>,
    /// The application's class.
    pub class: Option<Class>,
    /// The model's canonical name, once it is known to exist.
    pub model: Option<ModelName>,
    /// Where it ran, once it was admitted: the endpoint and its name.
    pub endpoint: Option<(EndpointId, String)>,
    /// Calls before it that failed before their first event: the endpoint's name, and why.
    pub retried: Vec<(String, FaultClass)>,
    /// What became of a prompt that did not fit into its model's context.
    pub overflow: Option<Overflow>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Status code sent.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// The public message of what refused or failed it.
    pub reason: Option<String>,
    /// What only the log may show of that.
    pub detail: Option<String>,
    /// What it used.
    pub usage: Usage,
}

impl Record {
    /// The status of one whose caller left before anything was sent.
    pub const LEFT: u16 = 499;

    /// A request that just arrived; unless something else is noted, its caller will have left.
    #[must_use]
    pub fn new(id: RequestId, route: &'static str, arrived: Duration) -> Self {
        Self {
            id,
            arrived,
            route,
            dialect: Dialect::of(route),
            app: None,
            key: None,
            class: None,
            model: None,
            endpoint: None,
            retried: Vec::new(),
            overflow: None,
            stream: false,
            status: Self::LEFT,
            outcome: Outcome::Left,
            reason: None,
            detail: None,
            usage: Usage::default(),
        }
    }
}

/// Where records go.
#[derive(Debug, Clone)]
pub struct Ledger {
    metrics: RequestMetrics,
    log: Option<LogLines>,
    totals: Arc<Totals>,
}

/// Requests entered since the start.
#[derive(Debug, Default)]
pub struct Totals {
    /// Answered whole.
    pub answered: AtomicU64,
    /// Refused or failed.
    pub faulted: AtomicU64,
    /// Left by their callers.
    pub left: AtomicU64,
}

impl Ledger {
    /// A ledger that counts into `metrics` and writes lines to `log`, if there is one.
    #[must_use]
    pub fn new(metrics: RequestMetrics, log: Option<LogLines>) -> Self {
        Self { metrics, log, totals: Arc::default() }
    }

    /// What was entered so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Enters a record.
    pub fn enter(&self, record: &Record) {
        let endpoint = record.endpoint.as_ref().map(|(_, name)| name.as_str());
        if let Outcome::Faulted(class) = record.outcome {
            self.metrics.refused(record.app.as_ref(), class);
            // once a request is admitted, only the server itself can be too busy for it
            let upstream = class.origin() == Origin::Upstream || class == FaultClass::Busy;
            if let Some(name) = endpoint.filter(|_| upstream) {
                self.metrics.upstream_error(name, class);
            }
        }
        for (name, class) in &record.retried {
            self.metrics.retry(name, *class);
            self.metrics.upstream_error(name, *class);
        }
        if let (Some(app), Some(overflow)) = (&record.app, &record.overflow) {
            self.metrics.overflow(app, record.model.as_ref(), overflow.end.as_str());
        }
        if let (Some(class), Some(_)) = (record.class, endpoint) {
            self.metrics.admitted(class.as_str(), record.usage.queue);
        }
        if let Some(app) = &record.app {
            self.metrics.finished(&Finished {
                app,
                model: record.model.as_ref(),
                endpoint,
                route: record.route,
                outcome: record.outcome,
                usage: &record.usage,
            });
        }
        if let Some(log) = &self.log {
            log.write(line::render(record));
        }
        let total = match record.outcome {
            Outcome::Answered => &self.totals.answered,
            Outcome::Faulted(_) => &self.totals.faulted,
            Outcome::Left => &self.totals.left,
        };
        total.fetch_add(1, Ordering::Relaxed);
        if matches!(record.outcome, Outcome::Faulted(FaultClass::Internal)) {
            tracing::error!(request = %record.id, detail = record.detail.as_deref(), "an internal fault");
        }
    }
}
