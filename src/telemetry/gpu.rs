//! The families that tell of this machine's GPUs.
//!
//! Owns names, help texts and the label: a GPU's UUID, of which a machine has few. A GPU that is gone is not reported.

use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::GpusView;

use super::{Gauges, Levels, Registry};

/// The GPUs' families; clones share them.
#[derive(Debug, Clone)]
pub struct GpuMetrics {
    memory: Gauges<1>,
    used: Gauges<1>,
    utilisation: Levels<1>,
    temperature: Gauges<1>,
    shown: Arc<Mutex<Vec<Arc<str>>>>,
}

impl GpuMetrics {
    /// Registers the families. Once for each registry.
    #[must_use]
    pub fn register(to: &Registry) -> Self {
        let gpu = ["gpu"];
        Self {
            memory: to.gauges("gpu_memory_bytes", "Memory of a GPU of this machine", gpu),
            used: to.gauges("gpu_memory_used_bytes", "The part of it that somebody has, the driver included", gpu),
            utilisation: to.levels("gpu_utilisation_ratio", "Share of the last moments in which it computed", gpu),
            temperature: to.gauges("gpu_temperature_celsius", "How warm it is", gpu),
            shown: Arc::default(),
        }
    }

    /// Says what is so now.
    pub fn set(&self, view: &GpusView) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.drain(..).filter(|uuid| !view.gpus.iter().any(|gpu| gpu.uuid == *uuid)) {
            let label = || [gone.to_string().into()];
            self.memory.forget(label());
            self.used.forget(label());
            self.utilisation.forget(label());
            self.temperature.forget(label());
        }
        for gpu in &view.gpus {
            let label = || [gpu.uuid.to_string().into()];
            self.memory.set(label(), gpu.total);
            self.used.set(label(), gpu.used);
            if let Some(share) = gpu.utilisation {
                self.utilisation.set(label(), share);
            }
            if let Some(degrees) = gpu.temperature {
                self.temperature.set(label(), degrees.into());
            }
            shown.push(Arc::clone(&gpu.uuid));
        }
    }
}
