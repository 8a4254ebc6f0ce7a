//! What every route needs: the models, the stage, the wall clock, and admission with its refusals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::http::{Final, refuse};
use super::stage::{Lease, NotAdmitted, Stage};
use crate::domain::ModelName;
use crate::sim::core::{Ask, Core, Limits, LoadFault};
use crate::sim::go::quote;
use crate::sim::model::Model;
use crate::sim::options::{Base, Options, merge};
use crate::sim::settings::{Scheduler, Settings};

/// What Ollama spends on a request whose runner is loaded.
const FAST_PATH: Duration = Duration::from_nanos(1_208_317);

/// The server's state.
pub(super) struct App {
    pub(super) stage: Arc<Stage>,
    pub(super) settings: Settings,
    /// Everything that runs for this server, and what stops it.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    models: Mutex<Vec<Arc<Model>>>,
}

/// A runner in hand.
pub(super) struct Admitted {
    pub(super) options: Options,
    /// `load_duration`, in the models' time.
    pub(super) load: Duration,
}

impl App {
    pub(super) fn new(settings: Settings) -> Self {
        let limits = Limits {
            max_loaded: settings.max_loaded_models,
            max_queue: settings.max_queue,
            memory: settings.memory,
            keep_alive: settings.keep_alive,
        };
        let core = Core::new(limits);
        let core = if settings.scheduler == Scheduler::Ideal { core.ideal() } else { core };
        let stage = Arc::new(Stage::new(core, settings.speed));
        let models = Mutex::new(settings.models.iter().cloned().map(Arc::new).collect());
        Self { stage, settings, tasks: TaskTracker::new(), stop: CancellationToken::new(), models }
    }

    pub(super) fn models(&self) -> MutexGuard<'_, Vec<Arc<Model>>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, name: &ModelName) -> Option<Arc<Model>> {
        let name = name.to_string();
        self.models().iter().find(|model| model.name == name).cloned()
    }

    /// The time of day.
    pub(super) fn now(&self) -> Timestamp {
        let wall = self.stage.clock.wall();
        Timestamp::from_nanosecond(i128::try_from(wall.as_nanos()).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Waits for the model's runner.
    pub(super) async fn admit(&self, lease: &Lease, model: &Arc<Model>, want: Want<'_>) -> Result<Admitted, Final> {
        let base = Base {
            parameters: &model.parameters,
            context_length: self.settings.context_length,
            trained: model.context_length,
            shift: want.shift.unwrap_or(model.family != "deepseek2"),
        };
        let options = merge(&base, want.options).map_err(|text| refuse(StatusCode::INTERNAL_SERVER_ERROR, &text))?;
        let slots = model.slots(self.settings.num_parallel);
        let ask = |id| Ask {
            id,
            weights: model.weights.as_str().into(),
            tag: model.clone(),
            options: options.runner.clone(),
            keep_alive: want.keep_alive.map(keep_alive),
            load: self.stage.real(Duration::from_millis(model.load_ms)),
            memory: model.memory_for(options.runner.num_ctx, slots),
            slots,
        };
        let waited = lease.admit(ask).await.map_err(|why| refusal(why, want.name))?;
        Ok(Admitted { options, load: self.stage.model(waited) + FAST_PATH })
    }
}

/// What a request says of the runner it wants.
pub(super) struct Want<'a> {
    /// The model as the client wrote it.
    pub(super) name: &'a str,
    pub(super) options: &'a Map<String, Value>,
    /// Nanoseconds.
    pub(super) keep_alive: Option<i64>,
    pub(super) shift: Option<bool>,
}

/// Ollama's words for a runner that cannot be had.
fn refusal(why: NotAdmitted, name: &str) -> Final {
    match why {
        NotAdmitted::Busy => {
            let text = "server busy, please try again.  maximum pending requests exceeded";
            refuse(StatusCode::SERVICE_UNAVAILABLE, text)
        }
        NotAdmitted::Failed(LoadFault::Missing) => {
            refuse(StatusCode::NOT_FOUND, &format!("model {} not found, try pulling it first", quote(name)))
        }
        NotAdmitted::Failed(LoadFault::Fails(text)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &text),
        // it never gets here: such a load only ends with its request
        NotAdmitted::Failed(LoadFault::NeverEnds) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the load did not end"),
    }
}

fn keep_alive(nanos: i64) -> Duration {
    match u64::try_from(nanos) {
        Ok(nanos) if nanos < i64::MAX.unsigned_abs() => Duration::from_nanos(nanos),
        _ => Duration::MAX,
    }
}

/// Nanoseconds for a reply.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
