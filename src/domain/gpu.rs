//! The GPUs of this machine: how an operator names one, and what was last seen of each.

use std::fmt;
use std::sync::Arc;

use super::Moment;

/// How an operator names a GPU.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GpuName {
    /// Its UUID as `nvidia-smi -L` prints it (`GPU-…`), in lower case after the prefix.
    Uuid(Arc<str>),
    /// Its position in the driver's own order (by PCI bus), from 0.
    Index(u32),
}

impl GpuName {
    /// A UUID: `GPU-` and groups of hex digits.
    #[must_use]
    pub fn from_uuid(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("GPU-")?.to_ascii_lowercase();
        let known = !rest.is_empty() && rest.len() <= 64 && rest.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        known.then(|| Self::Uuid(format!("GPU-{rest}").into()))
    }

    /// Whether this is the name of `gpu`.
    #[must_use]
    pub fn is(&self, gpu: &GpuView) -> bool {
        match self {
            Self::Uuid(uuid) => gpu.uuid.eq_ignore_ascii_case(uuid),
            Self::Index(index) => gpu.index == *index,
        }
    }
}

impl fmt::Display for GpuName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => f.write_str(uuid),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}

/// One GPU as last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuView {
    /// Its UUID, `GPU-…`: stays the same whatever else is plugged in.
    pub uuid: Arc<str>,
    /// Its position in the driver's own order.
    pub index: u32,
    /// Its model, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Bytes of its memory.
    pub total: u64,
    /// Bytes of it that nobody has.
    pub free: u64,
    /// Bytes of it that somebody has, the driver's own included: all that is not free.
    pub used: u64,
    /// Share of the last moments in which it computed, 0 to 1; `None` where it does not say.
    pub utilisation: Option<f64>,
    /// Degrees Celsius; `None` where it does not say.
    pub temperature: Option<u32>,
    /// When that was asked.
    pub asked: Moment,
}

/// Every GPU that can be seen, and why others cannot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpusView {
    /// Those whose memory is known, in the driver's order; empty where there is no driver, which is normal.
    pub gpus: Vec<GpuView>,
    /// Why there are none, or what is wrong with one: a sentence each.
    pub faults: Vec<String>,
}

impl GpusView {
    /// The GPU of this name, if it can be seen.
    #[must_use]
    pub fn named(&self, name: &GpuName) -> Option<&GpuView> {
        self.gpus.iter().find(|gpu| name.is(gpu))
    }
}
