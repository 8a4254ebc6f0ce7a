//! The metrics registry, and families of counters, gauges and histograms with named labels.
//!
//! Owns the one use of the Prometheus client, so that rooms register families without knowing it. Names are
//! `gaucho_<room>_<noun>_<unit>`, given here without `gaucho_`; counters get `_total` when written. A look-up by labels
//! costs about 0.2 µs. Rooms answer for the bound on their label values.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry as Inner};

/// A label's value.
pub type Label = Cow<'static, str>;

type Labels<const N: usize> = [(&'static str, Label); N];

/// The families of one gateway; clones share them.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Mutex<Inner>>);

impl Default for Registry {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner::with_prefix("gaucho"))))
    }
}

impl Registry {
    /// The `Content-Type` of [`Registry::encode`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a family of counters; `name` without `gaucho_` and `_total`.
    #[must_use]
    pub fn counters<const N: usize>(&self, name: &str, help: &str, labels: [&'static str; N]) -> Counters<N> {
        let counters = Counters { names: labels, family: Family::default() };
        self.register(name, help, labels, &counters.family);
        counters
    }

    /// Registers a family of gauges.
    #[must_use]
    pub fn gauges<const N: usize>(&self, name: &str, help: &str, labels: [&'static str; N]) -> Gauges<N> {
        let gauges = Gauges { names: labels, family: Family::default() };
        self.register(name, help, labels, &gauges.family);
        gauges
    }

    /// Registers a family of gauges that may be fractions or below zero.
    #[must_use]
    pub fn levels<const N: usize>(&self, name: &str, help: &str, labels: [&'static str; N]) -> Levels<N> {
        let levels = Levels { names: labels, family: Family::default() };
        self.register(name, help, labels, &levels.family);
        levels
    }

    /// Registers a family of histograms; `buckets` are upper bounds, rising.
    #[must_use]
    pub fn histograms<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        buckets: &'static [f64],
    ) -> Histograms<N> {
        let histograms = Histograms { names: labels, family: Family::new_with_constructor(Buckets(buckets)) };
        self.register(name, help, labels, &histograms.family);
        histograms
    }

    /// Every family in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if encode(&mut text, &registry).is_err() {
            // writing to a string cannot fail; a scraper that misses the end mark refuses what is there
            tracing::error!("metrics could not be written as text");
        }
        text
    }

    fn register<const N: usize, M, C>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        family: &Family<Labels<N>, M, C>,
    ) where
        M: Metric + TypedMetric + EncodeMetric + Clone,
        C: MetricConstructor<M> + Clone + Send + Sync + fmt::Debug + 'static,
    {
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if N == 0 {
            // without labels there is one metric, shown from the start and without empty braces
            registry.register(name, help, family.get_or_create_owned(&labels.map(|name| (name, Label::default()))));
        } else {
            registry.register(name, help, family.clone());
        }
    }
}

/// Counters that differ by `N` labels. Values are given in the order in which the labels were named.
#[derive(Debug, Clone)]
pub struct Counters<const N: usize> {
    names: [&'static str; N],
    family: Family<Labels<N>, Counter>,
}

impl<const N: usize> Counters<N> {
    /// Adds `by`.
    pub fn add(&self, values: [Label; N], by: u64) {
        self.family.get_or_create(&labels(self.names, values)).inc_by(by);
    }
}

/// Gauges that differ by `N` labels.
#[derive(Debug, Clone)]
pub struct Gauges<const N: usize> {
    names: [&'static str; N],
    family: Family<Labels<N>, Gauge>,
}

impl<const N: usize> Gauges<N> {
    /// Sets the gauge to `value`.
    pub fn set(&self, values: [Label; N], value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.family.get_or_create(&labels(self.names, values)).set(value);
    }

    /// Forgets a gauge whose subject is gone, so that it is no longer reported.
    pub fn forget(&self, values: [Label; N]) {
        self.family.remove(&labels(self.names, values));
    }
}

/// Gauges that may be fractions or below zero.
#[derive(Debug, Clone)]
pub struct Levels<const N: usize> {
    names: [&'static str; N],
    family: Family<Labels<N>, Gauge<f64, AtomicU64>>,
}

impl<const N: usize> Levels<N> {
    /// Sets the gauge to `value`.
    pub fn set(&self, values: [Label; N], value: f64) {
        self.family.get_or_create(&labels(self.names, values)).set(value);
    }

    /// Forgets a gauge whose subject is gone, so that it is no longer reported.
    pub fn forget(&self, values: [Label; N]) {
        self.family.remove(&labels(self.names, values));
    }
}

/// Histograms that differ by `N` labels.
#[derive(Debug, Clone)]
pub struct Histograms<const N: usize> {
    names: [&'static str; N],
    family: Family<Labels<N>, Histogram, Buckets>,
}

impl<const N: usize> Histograms<N> {
    /// Counts one observation, in the unit that the family's name ends in.
    pub fn observe(&self, values: [Label; N], value: f64) {
        self.family.get_or_create(&labels(self.names, values)).observe(value);
    }
}

#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

fn labels<const N: usize>(names: [&'static str; N], values: [Label; N]) -> Labels<N> {
    let mut values = values.into_iter();
    names.map(|name| (name, values.next().unwrap_or_default()))
}
