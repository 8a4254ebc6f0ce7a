//! Keeps the keyring up to date while the gateway runs.
//!
//! Owns the pace: a look at the store every 200 ms (microseconds unless something changed), so that a revocation made
//! by any process holds well within a second. While the store cannot be read the keys stay as they were, and the log
//! says so once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::domain::Clock;
use crate::store::{Store, StoreError, Watch};

use super::keyring::{Keyring, PolicyKeys};

const POLL: Duration = Duration::from_millis(200);

/// Follows the store, the policies and the clock until `shutdown`.
pub async fn keep_fresh(
    store: Store,
    keyring: Arc<Keyring>,
    clock: Clock,
    mut policy: watch::Receiver<Arc<PolicyKeys>>,
    shutdown: CancellationToken,
) {
    let mut tick = interval(POLL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = None;
    let mut failing = false;
    loop {
        let mut stale = false;
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
            // once the sender is gone this never fires again
            Ok(()) = policy.changed() => stale = true,
        }
        let now = clock.wall();
        keyring.expire(now);
        let policy = Arc::clone(&policy.borrow());
        let look = Look { store: store.clone(), keyring: Arc::clone(&keyring), policy, now };
        let seen = spawn_blocking(move || look.look(watch, stale)).await;
        watch = match seen {
            Ok(Ok(watch)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("keys are up to date again");
                }
                Some(watch)
            }
            Err(error) if error.is_cancelled() => return, // the runtime is shutting down
            Ok(Err(error)) => report(&mut failing, &error),
            Err(panic) => report(&mut failing, &panic),
        };
    }
}

/// Says so in the log, once until it works again; without a watch the next look starts afresh.
fn report(failing: &mut bool, error: &dyn std::error::Error) -> Option<Watch> {
    if !std::mem::replace(failing, true) {
        tracing::error!(%error, "keys cannot be brought up to date; those known stay as they are");
    }
    None
}

struct Look {
    store: Store,
    keyring: Arc<Keyring>,
    policy: Arc<PolicyKeys>,
    now: Duration,
}

impl Look {
    /// Reloads if anything changed; without a `watch` (at first, and after a failure) always.
    fn look(self, watch: Option<Watch>, stale: bool) -> Result<Watch, StoreError> {
        let (mut watch, stale) = match watch {
            Some(watch) => (watch, stale),
            None => (self.store.watch()?, true),
        };
        if watch.changed()? || stale {
            self.keyring.reload(&self.store, &self.policy, self.now)?;
        }
        Ok(watch)
    }
}
