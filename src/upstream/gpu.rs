//! The GPUs of this machine, through NVIDIA's management library (NVML).
//!
//! Owns the library and when it is asked. No library, or no driver behind it, is normal: the view is then empty and says
//! why, and the library is tried again at growing intervals. What fails is that call's fault, never a panic. The calls
//! may block for seconds, so they have a thread of their own. It does not own which endpoint has which GPU (`app`).

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use tokio::sync::watch;

use crate::domain::{Clock, GpuView, GpusView, Moment};

/// Between two looks.
const PACE: Duration = Duration::from_secs(1);
/// Before a library that failed is opened again: at first, and at most.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// More GPUs than any machine has; a count beyond is not believed.
const MOST_GPUS: u32 = 256;

/// Looks at the GPUs. Its calls block.
pub struct GpuProbe {
    library: OsString,
    nvml: Option<Nvml>,
    seen: GpusView,
    told: bool,
    rest: Duration,
    retry: Moment,
}

impl GpuProbe {
    /// Looks through this library: a path, or a name that the loader looks up.
    #[must_use]
    pub fn new(library: impl Into<OsString>) -> Self {
        Self {
            library: library.into(),
            nvml: None,
            seen: GpusView::default(),
            told: false,
            rest: REST.0,
            retry: Moment::ZERO,
        }
    }

    /// What there is now. Logs what changed since the last look.
    pub fn look(&mut self, now: Moment) -> GpusView {
        let view = self.ask(now);
        self.tell(&view);
        self.seen = view.clone();
        view
    }

    fn ask(&mut self, now: Moment) -> GpusView {
        // something was wrong: open the library anew from time to time, a GPU that came back is only seen then
        if (self.nvml.is_none() || !self.seen.faults.is_empty()) && now >= self.retry {
            self.retry = now.after(self.rest);
            self.rest = (self.rest * 2).min(REST.1);
            self.nvml = None;
            match open(&self.library) {
                Ok(nvml) => self.nvml = Some(nvml),
                Err(why) => return none(why),
            }
        }
        let Some(nvml) = &self.nvml else { return none(self.seen.faults.clone().join("; ")) };
        match read(nvml, now) {
            Ok(view) => {
                if view.faults.is_empty() {
                    (self.rest, self.retry) = (REST.0, now);
                }
                view
            }
            Err(error) => {
                self.nvml = None;
                none(format!("NVML cannot be used: {error}"))
            }
        }
    }

    fn tell(&mut self, view: &GpusView) {
        let before = std::mem::replace(&mut self.told, true);
        for fault in view.faults.iter().filter(|fault| !self.seen.faults.contains(fault)) {
            if before {
                tracing::warn!(why = %fault, "a GPU, or all of them, cannot be seen any more");
            } else if view.gpus.is_empty() {
                tracing::info!(
                    why = %fault,
                    "no NVIDIA GPU is seen here: memory then comes from `memory =` of each endpoint, or is learned"
                );
            } else {
                tracing::warn!(why = %fault, "a GPU cannot be used for planning");
            }
        }
        let known = |gpu: &GpuView| self.seen.gpus.iter().any(|old| old.uuid == gpu.uuid);
        for gpu in view.gpus.iter().filter(|gpu| !known(gpu)) {
            tracing::info!(
                index = gpu.index, uuid = %gpu.uuid, name = %gpu.name, bytes = gpu.total, free = gpu.free,
                "a GPU is seen"
            );
        }
    }
}

fn none(why: String) -> GpusView {
    GpusView { gpus: Vec::new(), faults: vec![why] }
}

fn open(library: &OsString) -> Result<Nvml, String> {
    let opened = Nvml::builder().lib_path(library).init();
    let nvml = opened.map_err(|error| match error {
        NvmlError::LibloadingError(why) => format!("NVML is not here: {why}"),
        other => format!("NVML cannot be used: {other}"),
    })?;
    if nvml.lib().nvmlShutdown.is_err() {
        // the wrapper would panic when it closes such a library; it stays open instead
        std::mem::forget(nvml);
        return Err("NVML cannot be used: nvmlShutdown is missing in it".to_owned());
    }
    Ok(nvml)
}

/// Every GPU; a GPU that fails is a fault of its own.
fn read(nvml: &Nvml, now: Moment) -> Result<GpusView, NvmlError> {
    let count = nvml.device_count()?.min(MOST_GPUS);
    let mut view = GpusView::default();
    for index in 0..count {
        match nvml.device_by_index(index).and_then(|device| one(&device, index, now)) {
            Ok(gpu) => view.gpus.push(gpu),
            Err(NvmlError::NotSupported) => view.faults.push(format!(
                "GPU {index} does not tell its memory (as where CPU and GPU share it): set `memory =` for its endpoint"
            )),
            Err(error) => view.faults.push(format!("GPU {index}: {error}")),
        }
    }
    Ok(view)
}

fn one(device: &Device<'_>, index: u32, now: Moment) -> Result<GpuView, NvmlError> {
    let memory = device.memory_info()?;
    let free = memory.free.min(memory.total);
    Ok(GpuView {
        uuid: device.uuid()?.into(),
        index,
        // nice to have: not every GPU tells
        name: device.name().unwrap_or_else(|_| "unknown".to_owned()),
        total: memory.total,
        free,
        used: memory.total - free,
        utilisation: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu.min(100)) / 100.0),
        temperature: device.temperature(TemperatureSensor::Gpu).ok(),
        asked: now,
    })
}

/// What is known of the GPUs, kept fresh by a thread that ends with the last clone of this.
#[derive(Debug, Clone)]
pub struct Gpus {
    view: watch::Receiver<Arc<GpusView>>,
    _alive: Arc<mpsc::Sender<()>>,
}

impl Gpus {
    /// Looks once, which waits for the driver, and then every second.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub async fn start(mut probe: GpuProbe, clock: Clock) -> std::io::Result<Self> {
        let (tell, mut view) = watch::channel(Arc::new(GpusView::default()));
        let (alive, end) = mpsc::channel::<()>();
        std::thread::Builder::new().name("gpus".into()).spawn(move || {
            loop {
                if tell.send(Arc::new(probe.look(clock.now()))).is_err() {
                    return;
                }
                match end.recv_timeout(PACE) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return,
                }
            }
        })?;
        // a driver that hangs must not keep the gateway from starting
        let _ = tokio::time::timeout(Duration::from_secs(5), view.changed()).await;
        Ok(Self { view, _alive: Arc::new(alive) })
    }

    /// The view, now and as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<GpusView>> {
        self.view.clone()
    }
}
