//! What the scheduler learned, kept in the state folder across restarts.
//!
//! Owns the stored form. A file that cannot be read is a warning and nothing more: everything in it is learned again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Endpoint;
use crate::domain::EndpointId;
use crate::scheduler::Scheduler;
use crate::scheduler::core::Lesson;
use crate::store::{Change, Collection, Store, StoreError};

const LEARNED: Collection = Collection("scheduler");
const DOCUMENT: &str = "lessons";
/// Between two writes; what was learned since the last one is written at the end as well.
const PACE: Duration = Duration::from_secs(300);

/// One lesson as it is stored: endpoints by name, because their order may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The endpoint's name in the configuration.
    pub endpoint: String,
    /// The tag that stands for the weights.
    pub model: String,
    weights: String,
    options: String,
    need: Option<u64>,
    /// Seconds that a swap to it costs.
    pub swap_seconds: f64,
    load_seconds: f64,
    think_seconds: f64,
    /// Share of answers that a request follows at once.
    #[serde(default)]
    returns: f64,
    bytes_per_token: f64,
    prompt_tokens_per_second: f64,
    /// Tokens it generates per second.
    pub output_tokens_per_second: f64,
    output_tokens: f64,
    bias: f64,
}

/// What is kept in a state folder.
///
/// # Errors
/// Why the store cannot be read; lessons that are not readable are none.
pub fn kept(store: &Store) -> Result<Vec<Kept>, StoreError> {
    let document = store.get(LEARNED, DOCUMENT)?;
    Ok(document.and_then(|document| serde_json::from_str(&document.body).ok()).unwrap_or_default())
}

/// Teaches a new scheduler what is kept, and keeps what it learns from now on.
pub(super) fn start(
    tasks: &TaskTracker,
    stop: &CancellationToken,
    store: Store,
    scheduler: &Scheduler,
    endpoints: &[Endpoint],
) {
    recall(&store, scheduler, endpoints);
    tasks.spawn(keep(store, scheduler.clone(), endpoints.to_vec(), stop.clone()));
}

/// Teaches a new scheduler what is kept, as far as its endpoints are still there.
fn recall(store: &Store, scheduler: &Scheduler, endpoints: &[Endpoint]) {
    let kept = kept(store).unwrap_or_else(|error| {
        tracing::warn!(%error, "what was learned earlier cannot be read: it is learned again");
        Vec::new()
    });
    let lessons = kept.into_iter().filter_map(|kept| {
        let at = endpoints.iter().position(|endpoint| endpoint.name == kept.endpoint)?;
        Some(kept.lesson(EndpointId(u16::try_from(at).ok()?)))
    });
    scheduler.teach(lessons.collect());
}

/// Writes what is learned every few minutes, and at `stop`.
async fn keep(store: Store, scheduler: Scheduler, endpoints: Vec<Endpoint>, stop: CancellationToken) {
    let mut last = Vec::new();
    loop {
        let stopped = stop.run_until_cancelled(tokio::time::sleep(PACE)).await.is_none();
        let now: Vec<Kept> = scheduler.lessons().iter().filter_map(|lesson| Kept::of(lesson, &endpoints)).collect();
        if now != last {
            let (store, lessons) = (store.clone(), now.clone());
            let written = tokio::task::spawn_blocking(move || write(&store, &lessons)).await;
            match written {
                Ok(Ok(())) => last = now,
                Ok(Err(error)) => tracing::warn!(%error, "what was learned cannot be kept"),
                Err(error) => tracing::warn!(%error, "what was learned cannot be kept"),
            }
        }
        if stopped {
            return;
        }
    }
}

fn write(store: &Store, lessons: &[Kept]) -> Result<(), StoreError> {
    let body = serde_json::to_string(lessons).unwrap_or_else(|_| "[]".to_owned());
    let change = match store.get(LEARNED, DOCUMENT)? {
        Some(document) => Change::Replace(LEARNED, DOCUMENT, document.version, &body),
        None => Change::Insert(LEARNED, DOCUMENT, &body),
    };
    // whoever else wrote meanwhile knows as much: only one process serves from this folder
    store.commit(&[change]).map(|_| ())
}

impl Kept {
    fn of(lesson: &Lesson, endpoints: &[Endpoint]) -> Option<Self> {
        Some(Self {
            endpoint: endpoints.get(usize::from(lesson.endpoint.0))?.name.clone(),
            model: lesson.model.clone(),
            weights: lesson.weights.to_string(),
            options: lesson.options.clone(),
            need: lesson.need,
            swap_seconds: lesson.cost,
            load_seconds: lesson.load,
            think_seconds: lesson.think,
            returns: lesson.returns,
            bytes_per_token: lesson.bytes_per_token,
            prompt_tokens_per_second: lesson.prompt_speed,
            output_tokens_per_second: lesson.output_speed,
            output_tokens: lesson.output_tokens,
            bias: lesson.bias,
        })
    }

    fn lesson(self, endpoint: EndpointId) -> Lesson {
        Lesson {
            endpoint,
            weights: self.weights.into(),
            model: self.model,
            options: self.options,
            need: self.need,
            cost: self.swap_seconds,
            load: self.load_seconds,
            think: self.think_seconds,
            returns: self.returns,
            bytes_per_token: self.bytes_per_token,
            prompt_speed: self.prompt_tokens_per_second,
            output_speed: self.output_tokens_per_second,
            output_tokens: self.output_tokens,
            bias: self.bias,
        }
    }
}
