//! The keyring of a running gateway follows what another process does.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;

/// A revocation must hold within this.
const BOUND: Duration = Duration::from_secs(1);

struct Running {
    site: Site,
    keyring: Arc<Keyring>,
    policy: watch::Sender<Arc<PolicyKeys>>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// A gateway's keys, kept fresh by the task under test, which has had its first look.
async fn start(site: Site) -> Running {
    let keyring = Arc::new(site.keyring(&PolicyKeys::default()));
    let (policy, follow) = watch::channel(Arc::new(PolicyKeys::default()));
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(keep_fresh(
        site.store.clone(),
        Arc::clone(&keyring),
        site.clock.clone(),
        follow,
        shutdown.clone(),
    ));
    let running = Running { site, keyring, policy, shutdown, task };
    // time is virtual, and stands still while the task looks at the store
    timeout(BOUND, std::future::pending::<()>()).await.expect_err("a second goes by");
    running
}

/// Fails unless `done` holds within the bound.
async fn soon(what: &str, done: impl Fn() -> bool) {
    let step = Duration::from_millis(50);
    let end = Instant::now() + BOUND;
    let mut tick = tokio::time::interval(step);
    while !done() {
        assert!(Instant::now() < end, "not within {BOUND:?}: {what}");
        tick.tick().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_by_another_process_ends_a_stream_within_a_second() {
    let site = Site::new();
    let key = site.create("shop");
    let running = start(site).await;
    let principal = running.site.prove(&running.keyring, &key).unwrap();
    running.site.keys.revoke(&key.record.id.0).unwrap();
    timeout(BOUND, principal.gone().cancelled()).await.expect("within a second");
    refused(running.site.prove(&running.keyring, &key));
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_accepted_and_shuts_the_open_door() {
    let running = start(Site::new()).await;
    assert!(!running.keyring.is_sealed());
    let key = running.site.create("shop");
    soon("the key is known", || running.site.prove(&running.keyring, &key).is_ok()).await;
    assert!(running.keyring.is_sealed());
}

#[tokio::test(start_paused = true)]
async fn expiry_ends_a_stream_without_any_change_of_the_store() {
    let site = Site::new();
    let key = site.keys.create(&app("shop"), Some(HOUR), None).unwrap();
    let running = start(site).await;
    let principal = running.site.prove(&running.keyring, &key).unwrap();
    running.site.clock.advance(HOUR);
    timeout(BOUND, principal.gone().cancelled()).await.expect("within a second");
}

#[tokio::test(start_paused = true)]
async fn policies_are_followed_and_may_fall_silent() {
    let running = start(Site::new()).await;
    let hash = sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), "text")).into();
    running.policy.send(Arc::new(PolicyKeys { applications: true, hashes: vec![(app("shop"), hash)] })).unwrap();
    let known = || running.keyring.prove("text", running.site.clock.wall()).is_ok();
    soon("the hash is known", known).await;
    drop(running.policy);
    let key = running.site.create("wiki");
    soon("keys are still followed", || running.site.prove(&running.keyring, &key).is_ok()).await;
    assert!(running.keyring.prove("text", running.site.clock.wall()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_taken_away_leaves_the_keys_as_they_were() {
    let site = Site::new();
    let key = site.create("shop");
    let running = start(site).await;
    std::fs::remove_file(running.site.dir.path().join("gaucho.db")).unwrap();
    timeout(BOUND, std::future::pending::<()>()).await.expect_err("a second goes by");
    assert!(running.site.prove(&running.keyring, &key).is_ok());
    assert!(!running.task.is_finished());
    running.shutdown.cancel();
    timeout(BOUND, running.task).await.expect("stops").unwrap();
}
