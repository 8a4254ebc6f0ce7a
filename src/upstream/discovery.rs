//! The pollers that keep the `FleetView` true: one per endpoint, each at its own pace.
//!
//! Owns when an endpoint is asked what, and the publication. `/api/tags` and `/api/ps` every few seconds, `/api/ps` alone
//! twice a second while something loads or unloads there or it is ejected, ever more seldom while it does not answer.
//! `/api/show` is asked once per digest, beside the polls and not before them, so that a slow one holds nothing up: a
//! tag appears in the view once it was shown. What answers mean is `reading`'s, whom to trust is `health`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::{Clock, EndpointId, EndpointView, FleetView, ModelName, ModelView, Moment, Resident};
use crate::wire;

use super::client::{Client, Endpoint};
use super::reading::{self, Loaded, Shown, Tag};

/// Between two full polls of an endpoint when nobody asks for one.
const PACE: Duration = Duration::from_secs(5);
/// Between two looks at `/api/ps` while residents change; and the first pause when an endpoint does not answer.
const BRISK: Duration = Duration::from_millis(500);
/// `/api/show` calls at once, per endpoint.
const SHOWS: usize = 4;
/// How long somebody who asks what there is waits for a tag that just appeared to be shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// The trouble of an endpoint before its first poll.
const NOT_ASKED: &str = "not asked yet";

/// The pollers; clones are handles to the same ones.
#[derive(Debug, Clone)]
pub struct Discovery(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    clock: Clock,
    fleet: watch::Sender<Arc<FleetView>>,
    posts: Vec<Post>,
}

/// One endpoint's poller.
#[derive(Debug, Default)]
struct Post {
    /// When the last polls began; the lock makes concurrent refreshes share one.
    asked: Mutex<Asked>,
    /// Held by whoever asks `/api/show`.
    shows: Mutex<()>,
    known: Lock<Known>,
    hurry: Notify,
    /// There are tags to be shown.
    strange: Notify,
    /// Loads and unloads under way.
    changes: AtomicUsize,
    /// Weights that are in memory, or on their way there, by the gateway's order.
    ordered: Lock<BTreeSet<Box<str>>>,
}

#[derive(Debug, Default)]
struct Asked {
    everything: Option<Moment>,
    loaded: Option<Moment>,
}

/// What of an endpoint is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Tags, residents, version.
    Everything,
    /// Residents only.
    Loaded,
}

/// What was told, as it was told.
#[derive(Debug, Default)]
struct Known {
    tags: Vec<Tag>,
    /// By tag: the digest it was shown for, and what was shown.
    shown: BTreeMap<ModelName, (String, Shown)>,
}

impl Known {
    /// The listed tags that were shown.
    fn models(&self) -> BTreeMap<ModelName, Arc<ModelView>> {
        let shown = |tag: &Tag| self.shown.get(&tag.name).filter(|(digest, _)| *digest == tag.digest);
        let model = |tag: &Tag| Some((tag.name.clone(), Arc::new(reading::model(tag, &shown(tag)?.1))));
        self.tags.iter().filter_map(model).collect()
    }

    /// Tags that were never shown with their present digest; with `again` also those that were not shown well.
    fn strange(&self, again: bool) -> Vec<(ModelName, String)> {
        let is_strange = |tag: &&Tag| match self.shown.get(&tag.name) {
            Some((digest, shown)) if *digest == tag.digest => again && tag.has_blob() && shown.weights.is_none(),
            _ => true,
        };
        self.tags.iter().filter(is_strange).map(|tag| (tag.name.clone(), tag.digest.clone())).collect()
    }
}

impl Post {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Residents of an endpoint are being changed while this lives.
#[derive(Debug)]
pub(super) struct Changing<'a>(&'a Post);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changes.fetch_sub(1, Ordering::Relaxed);
        self.0.hurry.notify_one();
    }
}

impl Discovery {
    /// Pollers that have not asked anybody yet.
    #[must_use]
    pub fn new(client: Client, clock: Clock) -> Self {
        let blank = |endpoint: &Endpoint| {
            Arc::new(EndpointView {
                id: endpoint.id,
                name: endpoint.name.clone(),
                url: endpoint.base.clone(),
                version: None,
                trouble: Some(NOT_ASKED.to_owned()),
                ejected: None,
                models: BTreeMap::new(),
                resident: Vec::new(),
                asked: Moment::ZERO,
            })
        };
        let fleet = FleetView { endpoints: client.endpoints.iter().map(blank).collect() };
        let posts = client.endpoints.iter().map(|_| Post::default()).collect();
        Self(Arc::new(Inner { client, clock, fleet: watch::Sender::new(Arc::new(fleet)), posts }))
    }

    /// The view, now and as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<FleetView>> {
        self.0.fleet.subscribe()
    }

    /// Polls every endpoint at its pace until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let pollers = self.0.client.endpoints.iter().zip(&self.0.posts).map(|(endpoint, post)| async move {
            tokio::join!(self.keep_polling(endpoint, post), self.keep_asking_for_shows(endpoint, post))
        });
        stop.run_until_cancelled(futures_util::future::join_all(pollers)).await;
    }

    /// Something went wrong or changed at an endpoint: poll it soon.
    pub fn hurry(&self, id: EndpointId) {
        if let Some(post) = self.post(id) {
            post.hurry.notify_one();
        }
    }

    /// An endpoint refused a connection: it is out of use for everybody until a poll of it is answered.
    pub(super) fn lost(&self, id: EndpointId, why: String) {
        self.publish(id, |view| view.trouble = Some(why));
    }

    /// Whether an endpoint answered when it was last asked.
    pub(super) fn answers(&self, id: EndpointId) -> bool {
        self.0.fleet.borrow().endpoints.get(usize::from(id.0)).is_some_and(|view| view.trouble.is_none())
    }

    /// Makes the view at most `max_age` old. Concurrent calls share one poll. Nobody waits for an endpoint that does not
    /// answer while another one does.
    pub async fn refresh(&self, max_age: Duration) {
        let since = self.0.clock.now();
        let fleet = Arc::clone(&self.0.fleet.borrow());
        let anybody = fleet.endpoints.iter().any(|view| view.trouble.is_none());
        let counts = |view: &EndpointView| !anybody || view.trouble.as_deref().is_none_or(|why| why == NOT_ASKED);
        let all = self.0.client.endpoints.iter().zip(&self.0.posts).zip(&fleet.endpoints);
        let polls = all.filter(|(_, view)| counts(view)).map(|((endpoint, post), _)| async move {
            self.poll(endpoint, post, Scope::Everything, since, max_age).await;
            if !post.known().strange(false).is_empty() {
                let _ = tokio::time::timeout(SHOWN_WITHIN, self.ask_for_shows(endpoint, post, false)).await;
                self.poll(endpoint, post, Scope::Everything, self.0.clock.now(), Duration::ZERO).await;
            }
        });
        futures_util::future::join_all(polls).await;
    }

    /// Sees what is loaded at one endpoint now.
    pub(super) async fn look(&self, id: EndpointId) {
        self.poll_now(id, Scope::Loaded).await;
    }

    /// Sees which models one endpoint has now.
    pub(super) async fn list(&self, id: EndpointId) {
        self.poll_now(id, Scope::Everything).await;
    }

    async fn poll_now(&self, id: EndpointId, scope: Scope) {
        let (Some(post), Ok(endpoint)) = (self.post(id), self.0.client.endpoint(id)) else { return };
        self.poll(endpoint, post, scope, self.0.clock.now(), Duration::ZERO).await;
    }

    /// Waits for an endpoint that does not answer until it answers again; false, at once, where it does.
    pub(super) async fn outlast(&self, id: EndpointId) -> bool {
        self.list(id).await;
        let silent =
            |fleet: &Arc<FleetView>| fleet.endpoints.get(usize::from(id.0)).is_some_and(|view| view.trouble.is_some());
        let mut fleet = self.watch();
        if !silent(&fleet.borrow()) {
            return false;
        }
        fleet.wait_for(|fleet| !silent(fleet)).await.is_ok()
    }

    /// Notes that these weights are in memory by the gateway's order, or no longer so.
    pub(super) fn ordered(&self, id: EndpointId, weights: &str, now: bool) {
        let Some(post) = self.post(id) else { return };
        let mut ordered = post.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        if now {
            ordered.insert(weights.into());
        } else {
            ordered.remove(weights);
        }
    }

    /// Says that residents of an endpoint change for as long as the guard lives: it is looked at more often.
    pub(super) fn changing(&self, id: EndpointId) -> Option<Changing<'_>> {
        let post = self.post(id)?;
        post.changes.fetch_add(1, Ordering::Relaxed);
        post.hurry.notify_one();
        Some(Changing(post))
    }

    /// Takes an endpoint out of use for this reason, or puts it back.
    pub(super) fn eject(&self, id: EndpointId, why: Option<String>) {
        self.publish(id, |view| view.ejected = why);
        self.hurry(id);
    }

    fn post(&self, id: EndpointId) -> Option<&Post> {
        self.0.posts.get(usize::from(id.0))
    }

    async fn keep_polling(&self, endpoint: &Endpoint, post: &Post) {
        let mut silent = 0;
        let mut full = None;
        loop {
            let now = self.0.clock.now();
            let recent = full.is_some_and(|at| now.since(at) < PACE);
            let scope = if recent && silent == 0 { Scope::Loaded } else { Scope::Everything };
            self.poll(endpoint, post, scope, now, Duration::ZERO).await;
            if scope == Scope::Everything {
                full = Some(now);
            }
            let view = self.0.fleet.borrow().endpoints.get(usize::from(endpoint.id.0)).cloned();
            let Some(view) = view else { return };
            silent = if view.trouble.is_some() { silent + 1 } else { 0 };
            let changes = post.changes.load(Ordering::Relaxed) > 0;
            tokio::select! {
                () = tokio::time::sleep(pause(silent, changes || view.ejected.is_some())) => {}
                // whatever made somebody hurry may have changed everything
                () = post.hurry.notified() => full = full.filter(|_| changes),
            }
        }
    }

    async fn keep_asking_for_shows(&self, endpoint: &Endpoint, post: &Post) {
        loop {
            post.strange.notified().await;
            if self.ask_for_shows(endpoint, post, true).await {
                // tags and what is loaded of them appear together
                self.poll(endpoint, post, Scope::Everything, self.0.clock.now(), Duration::ZERO).await;
            }
        }
    }

    /// Asks one endpoint, unless somebody did since `since` or within `max_age` before it, and publishes what it says.
    async fn poll(&self, endpoint: &Endpoint, post: &Post, scope: Scope, since: Moment, max_age: Duration) {
        let mut asked = post.asked.lock().await;
        let last = if scope == Scope::Everything { asked.everything } else { asked.loaded };
        if last.is_some_and(|at| at >= since || since.since(at) < max_age) {
            return;
        }
        let now = self.0.clock.now();
        match scope {
            Scope::Everything => self.ask_everything(endpoint, post, now).await,
            Scope::Loaded => {
                let loaded = self.loaded(endpoint).await;
                self.publish(endpoint.id, |view| take_loaded(view, &loaded, now));
            }
        }
        asked.loaded = Some(now);
        if scope == Scope::Everything {
            asked.everything = Some(now);
        }
    }

    /// What it does not answer keeps its last known value; only silence on `/api/tags` makes an endpoint unusable
    /// (`/api/ps` may stall while a runner is being unloaded, `ollama-facts` 3).
    async fn ask_everything(&self, endpoint: &Endpoint, post: &Post, now: Moment) {
        let client = &self.0.client;
        let (tags, loaded, version) = tokio::join!(
            client.get(endpoint, "/api/tags"),
            self.loaded(endpoint),
            client.get(endpoint, "/api/version")
        );
        match tags.and_then(|body| reading::tags(&body)) {
            Err(why) => return self.publish(endpoint.id, |view| view.trouble = Some(why)),
            Ok(tags) => post.known().tags = tags,
        }
        let fleet = Arc::clone(&self.0.fleet.borrow());
        let returns = fleet.endpoints.get(usize::from(endpoint.id.0)).is_some_and(|view| view.trouble.is_some());
        if returns {
            // it is used once its models are known, and not much later: those not shown by then follow
            let _ = tokio::time::timeout(client.timeouts.control, self.ask_for_shows(endpoint, post, false)).await;
        }
        let models = post.known().models();
        if !post.known().strange(true).is_empty() {
            post.strange.notify_one();
        }
        self.publish(endpoint.id, |view| {
            view.models = models;
            view.trouble = None;
            view.version = version.ok().and_then(|body| reading::version(&body)).or(view.version.take());
            take_loaded(view, &loaded, now);
        });
    }

    async fn loaded(&self, endpoint: &Endpoint) -> Result<Vec<Loaded>, String> {
        self.0.client.get(endpoint, "/api/ps").await.and_then(|body| reading::loaded(&body))
    }

    /// Asks `/api/show` for every strange tag, a few at a time; whether anything was learned.
    async fn ask_for_shows(&self, endpoint: &Endpoint, post: &Post, again: bool) -> bool {
        let _alone = post.shows.lock().await;
        let strange = post.known().strange(again);
        let mut learned = false;
        let shows = strange.into_iter().map(|(name, digest)| async move {
            let shown = show(&self.0.client, endpoint, &name).await;
            (name, digest, shown)
        });
        let mut shows = futures_util::stream::iter(shows).buffer_unordered(SHOWS);
        while let Some((name, digest, shown)) = shows.next().await {
            let mut known = post.known();
            let old = known.shown.get(&name).filter(|(old, _)| *old == digest);
            learned |= old.is_none_or(|(_, old)| old.weights != shown.weights);
            known.shown.insert(name, (digest, shown));
        }
        let mut known = post.known();
        let Known { tags, shown } = &mut *known;
        shown.retain(|name, _| tags.iter().any(|tag| tag.name == *name));
        learned
    }

    fn publish(&self, id: EndpointId, change: impl FnOnce(&mut EndpointView)) {
        self.0.fleet.send_modify(|fleet| {
            let Some(place) = Arc::make_mut(fleet).endpoints.get_mut(usize::from(id.0)) else { return };
            let mut view = EndpointView::clone(place);
            change(&mut view);
            tell(place, &view);
            if let Some(post) = self.post(id) {
                tell_of_strangers(place, &view, &post.ordered.lock().unwrap_or_else(PoisonError::into_inner));
            }
            *place = Arc::new(view);
        });
    }
}

/// The time to the next poll of an endpoint that was `silent` that many times in a row.
fn pause(silent: u32, restless: bool) -> Duration {
    match silent {
        0 if restless => BRISK,
        0 => PACE,
        _ => (BRISK * 2_u32.saturating_pow(silent - 1).min(100)).min(PACE),
    }
}

/// Residents as they were at `now`, where `/api/ps` was answered.
fn take_loaded(view: &mut EndpointView, loaded: &Result<Vec<Loaded>, String>, now: Moment) {
    if let Ok(loaded) = loaded {
        view.resident = loaded.iter().map(|entry| reading::resident(entry, &view.models, &view.resident)).collect();
        view.asked = now;
    }
}

/// What came into memory behind the gateway's back, where a server was and is answering.
fn tell_of_strangers(old: &EndpointView, new: &EndpointView, ordered: &BTreeSet<Box<str>>) {
    if old.trouble.is_some() {
        return;
    }
    let known = |loaded: &Resident| old.resident.iter().any(|before| before.weights == loaded.weights);
    for stranger in new.resident.iter().filter(|loaded| !known(loaded) && !ordered.contains(loaded.weights.as_str())) {
        tracing::warn!(
            endpoint = %new.name, model = %stranger.name,
            "a model came into memory that the gateway did not load: somebody uses this Ollama server directly, and may \
             push out what the gateway counts on"
        );
    }
}

fn tell(old: &EndpointView, new: &EndpointView) {
    let known = |loaded: &Resident| old.resident.iter().any(|before| before.weights == loaded.weights);
    for loaded in new.resident.iter().filter(|loaded| loaded.spilled() > 0 && !known(loaded)) {
        tracing::warn!(
            endpoint = %new.name, model = %loaded.name, bytes = loaded.size, on_gpu = loaded.size_vram,
            "a model does not fit on the GPU: part of it runs on the CPU, slowly; give it a smaller context or more memory"
        );
    }
    match (&old.trouble, &new.trouble) {
        (Some(_), None) => tracing::info!(
            endpoint = %new.name, url = %new.url, version = new.version.as_deref().unwrap_or("?"), models = new.models.len(),
            "the Ollama server answers"
        ),
        (before, Some(why)) if before.as_ref() != Some(why) => {
            tracing::warn!(endpoint = %new.name, url = %new.url, %why, "the Ollama server cannot be used");
        }
        _ => {}
    }
}

/// Without `verbose`: the lists of every token that it adds are megabytes.
async fn show(client: &Client, endpoint: &Endpoint, name: &ModelName) -> Shown {
    match client.ask(endpoint, "/api/show", wire::encode_show(&name.to_string(), false, &[])).await {
        Ok((200, body)) => reading::shown(&body),
        Ok((status, _)) => assumed(name, &format!("status {status}")),
        Err(why) => assumed(name, &why),
    }
}

fn assumed(model: &ModelName, why: &str) -> Shown {
    tracing::warn!(
        %model,
        why,
        "/api/show failed: until it answers, the model is taken to share its weights with no other tag"
    );
    Shown::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_asked_at_a_pace_that_fits_what_goes_on() {
        assert_eq!(pause(0, false), PACE);
        assert_eq!(pause(0, true), BRISK);
        let pauses: Vec<_> = (1..=6).map(|silent| pause(silent, true).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(pause(u32::MAX, false), PACE);
    }
}
