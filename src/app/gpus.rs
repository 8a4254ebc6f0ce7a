//! Which endpoint runs on which GPUs: the names of the settings made into one list of devices for the whole fleet.
//!
//! Owns the match of names and GPUs. It does not look at GPUs (`upstream`) nor plan their memory (`scheduler`).
//! Invariant: a device's position never changes, and a name given by index stays with the GPU it meant at the start,
//! because indexes shift when a GPU is lost.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{Endpoint, Settings};
use crate::domain::{Clock, GpuName, GpuView, GpusView, Moment};
use crate::upstream::{GpuProbe, Gpus};

/// The devices that endpoints name, and which endpoint has which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuMap {
    devices: Vec<GpuName>,
    endpoints: Vec<Vec<usize>>,
}

/// What was seen of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuReading {
    /// Its position in the fleet's list of devices.
    pub device: usize,
    /// Bytes of its memory.
    pub total: u64,
    /// Bytes of it that somebody has, whoever it is.
    pub used: u64,
    /// When that was asked.
    pub asked: Moment,
}

impl GpuMap {
    /// Matches what the endpoints name with what `view` shows. A GPU that it does not show is a device all the same,
    /// which may be seen later.
    #[must_use]
    pub fn new(endpoints: &[Endpoint], view: &GpusView) -> Self {
        let mut devices: Vec<GpuName> = Vec::new();
        let mut position = |name: &GpuName| {
            // two names of one GPU are one device
            let name = view.named(name).and_then(|gpu| GpuName::from_uuid(&gpu.uuid)).unwrap_or_else(|| name.clone());
            devices.iter().position(|known| *known == name).unwrap_or_else(|| {
                devices.push(name);
                devices.len() - 1
            })
        };
        let mut of = |endpoint: &Endpoint| {
            let mut positions: Vec<usize> = endpoint.gpus.iter().map(&mut position).collect();
            positions.sort_unstable();
            positions.dedup();
            positions
        };
        let endpoints = endpoints.iter().map(&mut of).collect();
        Self { devices, endpoints }
    }

    /// The names of the devices, by position.
    #[must_use]
    pub fn devices(&self) -> &[GpuName] {
        &self.devices
    }

    /// The devices of each endpoint (by its position in the settings), rising; empty where the operator names none.
    #[must_use]
    pub fn endpoints(&self) -> &[Vec<usize>] {
        &self.endpoints
    }

    /// Bytes of all GPUs of an endpoint together; `None` where it names none or one of them is not seen.
    #[must_use]
    pub fn memory(&self, endpoint: usize, view: &GpusView) -> Option<u64> {
        let devices = self.endpoints.get(endpoint).filter(|devices| !devices.is_empty())?;
        devices.iter().map(|device| self.seen(*device, view).map(|gpu| gpu.total)).sum()
    }

    /// What `view` says of each device; nothing of one that it does not show.
    pub fn readings<'a>(&'a self, view: &'a GpusView) -> impl Iterator<Item = GpuReading> + 'a {
        (0..self.devices.len()).filter_map(|device| {
            let gpu = self.seen(device, view)?;
            Some(GpuReading { device, total: gpu.total, used: gpu.used, asked: gpu.asked })
        })
    }

    /// Devices that `view` does not show, as the operator named them.
    pub fn missing<'a>(&'a self, view: &'a GpusView) -> impl Iterator<Item = &'a GpuName> {
        self.devices.iter().filter(|name| view.named(name).is_none())
    }

    fn seen<'a>(&self, device: usize, view: &'a GpusView) -> Option<&'a GpuView> {
        self.devices.get(device).and_then(|name| view.named(name))
    }
}

/// Gives every reading to `take`, those of now first; ends when nobody looks at GPUs any more.
pub async fn follow_gpus(map: GpuMap, mut gpus: watch::Receiver<Arc<GpusView>>, mut take: impl FnMut(GpuReading)) {
    loop {
        let view = Arc::clone(&gpus.borrow_and_update());
        map.readings(&view).for_each(&mut take);
        if gpus.changed().await.is_err() {
            return;
        }
    }
}

/// The GPUs as a process with these settings sees them.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// What is seen, now and later.
    pub(super) gpus: Gpus,
    /// What was seen at the start.
    pub(super) first: Arc<GpusView>,
    /// Who runs on what.
    pub(super) map: GpuMap,
}

impl Sight {
    /// Looks once, and says which GPUs of the settings are not there.
    ///
    /// # Errors
    /// Why nobody can look.
    pub(super) async fn start(settings: &Settings, clock: &Clock) -> Result<Self, String> {
        let started = Gpus::start(GpuProbe::new(&settings.nvml), clock.clone()).await;
        let gpus = started.map_err(|error| format!("the thread that looks at GPUs cannot be started: {error}"))?;
        let first = Arc::clone(&gpus.watch().borrow());
        let map = GpuMap::new(&settings.endpoints, &first);
        let there = || first.gpus.iter().map(|gpu| format!("{} ({}, {})", gpu.index, gpu.uuid, gpu.name));
        for name in map.missing(&first) {
            tracing::warn!(
                gpu = %name, there = there().collect::<Vec<_>>().join("; "), why = first.faults.join("; "),
                "a GPU that an endpoint names is not seen: what is free there is not known until it is"
            );
        }
        Ok(Self { gpus, first, map })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn gpu(index: u32, total: u64, used: u64) -> GpuView {
        GpuView {
            uuid: format!("GPU-0{index}").into(),
            index,
            name: "G".to_owned(),
            total,
            free: total - used,
            used,
            utilisation: None,
            temperature: None,
            asked: Moment::ZERO,
        }
    }

    fn endpoint(gpus: &[GpuName]) -> Endpoint {
        Endpoint {
            name: "e".to_owned(),
            url: url::Url::parse("http://e").unwrap(),
            num_parallel: 1,
            num_parallel_by: "",
            memory: None,
            gpus: gpus.to_vec(),
            max_loaded_models: 3,
        }
    }

    #[test]
    fn two_names_of_one_gpu_are_one_device_and_an_index_keeps_its_meaning() {
        let uuid = |text| GpuName::from_uuid(text).unwrap();
        let endpoints = [
            endpoint(&[uuid("GPU-01"), GpuName::Index(0)]),
            endpoint(&[GpuName::Index(1), uuid("GPU-01")]),
            endpoint(&[]),
        ];
        let view = GpusView { gpus: vec![gpu(0, 10, 1), gpu(1, 20, 5)], faults: Vec::new() };
        let map = GpuMap::new(&endpoints, &view);
        assert_eq!(map.endpoints(), [vec![0, 1], vec![0], vec![]]);
        assert_eq!((map.memory(0, &view), map.memory(1, &view), map.memory(2, &view)), (Some(30), Some(20), None));
        let used: Vec<(usize, u64)> = map.readings(&view).map(|reading| (reading.device, reading.used)).collect();
        assert_eq!(used, [(0, 5), (1, 1)]);
        // the first GPU is lost: the second one moves up in the driver's order
        let moved = GpusView { gpus: vec![GpuView { index: 0, ..gpu(1, 20, 7) }], faults: Vec::new() };
        let used: Vec<(usize, u64)> = map.readings(&moved).map(|reading| (reading.device, reading.used)).collect();
        assert_eq!(used, [(0, 7)]);
        assert_eq!(map.missing(&moved).collect::<Vec<_>>(), [&uuid("GPU-00")]);
        assert_eq!(map.memory(0, &moved), None);
    }

    #[test]
    fn a_gpu_that_is_not_seen_yet_is_a_device() {
        let map = GpuMap::new(&[endpoint(&[GpuName::Index(3)])], &GpusView::default());
        assert_eq!((map.endpoints(), map.devices()), (&[vec![0]][..], &[GpuName::Index(3)][..]));
        assert_eq!(map.readings(&GpusView::default()).count(), 0);
        let later = GpusView { gpus: vec![gpu(3, 8, 2)], faults: Vec::new() };
        assert_eq!(map.readings(&later).map(|reading| reading.total).collect::<Vec<_>>(), [8]);
    }

    #[tokio::test]
    async fn readings_follow_the_view_until_nobody_looks_any_more() {
        let first = GpusView { gpus: vec![gpu(0, 8, 2)], faults: Vec::new() };
        let map = GpuMap::new(&[endpoint(&[GpuName::Index(0)])], &first);
        let (tell, gpus) = watch::channel(Arc::new(first));
        let (taken, mut given) = tokio::sync::mpsc::channel(8);
        let following = tokio::spawn(follow_gpus(map, gpus, move |reading| taken.try_send(reading.used).unwrap()));
        assert_eq!(given.recv().await, Some(2));
        tell.send_replace(Arc::new(GpusView { gpus: vec![gpu(0, 8, 5)], faults: Vec::new() }));
        assert_eq!(given.recv().await, Some(5));
        drop(tell);
        following.await.unwrap();
        assert_eq!(given.recv().await, None);
    }
}
