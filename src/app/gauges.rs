//! Metrics that are read rather than counted: set when somebody scrapes.

use super::build::House;

/// Sets every gauge of the house to what is true now.
pub(super) fn set(house: &House) {
    house.gpu_metrics.set(&house.gpus.gpus.watch().borrow());
    let view = house.scheduler.view();
    house.metrics.queue_depth(view.queued as u64);
    house.metrics.held_bytes(house.upstream.held_bytes() as u64);
    for site in &view.sites {
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^52")]
        house.counts.site(site.endpoint.0, site.credit, site.planned as f64);
    }
    let fleet = house.discovery.watch();
    let fleet = fleet.borrow();
    for endpoint in &fleet.endpoints {
        for model in endpoint.models.values() {
            let loaded = endpoint.resident.iter().find(|resident| resident.name == model.name);
            let (bytes, spilled) = loaded.map_or((0, 0), |loaded| (loaded.size, loaded.spilled()));
            house.metrics.resident(&endpoint.name, &model.name.to_string(), bytes, spilled);
        }
    }
    for runner in &view.runners {
        let Some(endpoint) = fleet.endpoints.get(usize::from(runner.endpoint.0)) else { continue };
        // a runner has weights; people know it by the first tag that uses them
        let model =
            endpoint.tags_of(&runner.weights).next().map_or_else(|| runner.weights.to_string(), ToString::to_string);
        house.metrics.slots(&endpoint.name, &model, u64::from(runner.used), u64::from(runner.slots));
    }
}
