//! The principal: an application that proved who it is.
//!
//! Owns the type only. It is made by the keyring and by the doorkeeper, so whoever holds one need not check again.

use tokio_util::sync::CancellationToken;

use crate::domain::{AppName, KeyId};

/// Who a request acts for.
#[derive(Debug, Clone)]
pub struct Principal {
    app: AppName,
    key: Option<KeyId>,
    gone: CancellationToken,
}

impl Principal {
    pub(super) fn new(app: AppName, key: Option<KeyId>, gone: CancellationToken) -> Self {
        Self { app, key, gone }
    }

    /// A principal that no key stands for; for tests of later rooms.
    #[cfg(test)]
    pub(crate) fn stand_in(app: &str) -> Self {
        Self::new(AppName::parse(app).unwrap_or_else(|_| AppName::local()), None, CancellationToken::new())
    }

    /// The application.
    #[must_use]
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// The key that proved it; `None` for a key that is known by its hash only, and for local callers.
    #[must_use]
    pub fn key(&self) -> Option<&KeyId> {
        self.key.as_ref()
    }

    /// Cancelled when the key is revoked, expires or is removed: what runs for this principal must end then. Cancelling
    /// it oneself reaches nobody else.
    #[must_use]
    pub fn gone(&self) -> CancellationToken {
        self.gone.child_token()
    }

    /// Whether the key is no longer valid.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }
}
