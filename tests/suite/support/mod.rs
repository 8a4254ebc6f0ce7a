//! What the suite's modules share: waiting for an event, HTTP by hand, what every dialect says.

pub(crate) mod dialect;
pub(crate) mod fake;
pub(crate) mod gateway;
pub(crate) mod h2;
pub(crate) mod nvml;
pub(crate) mod raw;

use std::time::Duration;

/// Waits until `seen` is true, and fails after ten seconds with `what`.
pub(crate) async fn eventually(what: &str, mut seen: impl FnMut() -> bool) {
    let wait = async {
        while !seen() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "never happened: {what}");
}
