//! Live reload of the policies: a good edit reaches every room at once, a bad one changes nothing. The settings are not
//! reloaded: their change is told.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{self, SettingsFile};
use crate::identity::PolicyKeys;
use crate::policy::{Desk, Folder, Policies};
use crate::telemetry::RequestMetrics;

use super::build::policy_keys;

/// The rooms that take new policies.
pub(super) struct Reload {
    pub(super) desk: Arc<Desk>,
    pub(super) keys: watch::Sender<Arc<PolicyKeys>>,
    pub(super) metrics: RequestMetrics,
}

impl Reload {
    /// Follows the folder from which `seen` was read; never ends.
    pub(super) async fn follow(self, seen: Folder) {
        config::watch(seen, |changed| self.take(changed)).await;
    }

    fn take(&self, folder: &Folder) {
        tell_strays(folder);
        let changed = Policies::compile(folder);
        self.metrics.policy_reload(changed.is_ok());
        match changed {
            Ok(policies) => {
                let (applications, before) = (policies.apps().len(), self.desk.policies().apps().len());
                self.keys.send_replace(Arc::new(policy_keys(&policies)));
                self.desk.replace(policies);
                tracing::info!(applications, "the policies were read again and are in force");
                if applications == 0 && before > 0 {
                    tracing::warn!(before, "no application has a policy any more: the defaults hold for all");
                }
            }
            Err(problems) => {
                for problem in &problems {
                    tracing::error!(%problem, "a mistake in the policies");
                }
                tracing::error!(
                    mistakes = problems.len(),
                    "the policies were changed but not taken: those in force stay; `gaucho check` lists the mistakes"
                );
            }
        }
    }
}

/// Says so when the settings file is changed, which only a restart takes; never ends.
pub(super) async fn tell_of_settings(seen: SettingsFile) {
    config::watch(seen, |changed| {
        tracing::warn!(
            file = %changed.path().display(),
            "the settings file changed: it is read at the start only, restart (a standby takes over) to use it"
        );
    })
    .await;
}

/// Names files in the folder that look meant and are not read.
pub(super) fn tell_strays(folder: &Folder) {
    for stray in folder.strays() {
        tracing::warn!(file = %stray.display(), "a file in the policies folder is not read: its name does not end in .toml");
    }
}
