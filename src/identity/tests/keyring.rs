//! Proof of keys, and what ends when a key does.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::super::record::KEYS;
use super::*;
use crate::store::Change;

fn by_hash(name: &str, text: &str) -> PolicyKeys {
    PolicyKeys { applications: true, hashes: vec![(app(name), Sha256::digest(text).into())] }
}

#[test]
fn a_valid_key_proves_its_application() {
    let site = Site::new();
    let (shop, wiki) = (site.create("shop"), site.create("wiki"));
    let keyring = site.keyring(&PolicyKeys::default());
    for key in [&shop, &wiki] {
        let principal = site.prove(&keyring, key).unwrap();
        assert_eq!((principal.app(), principal.key()), (&key.record.app, Some(&key.record.id)));
        assert!(!principal.is_gone());
    }
}

#[test]
fn every_bad_key_gets_the_same_answer_and_the_log_knows_why() {
    let site = Site::new();
    let expired = site.keys.create(&app("shop"), Some(HOUR), None).unwrap();
    let revoked = site.create("shop");
    let good = site.create("shop");
    site.keys.revoke(&revoked.record.id.0).unwrap();
    site.clock.advance(HOUR);
    let keyring = site.keyring(&PolicyKeys::default());
    let good_text = good.text.expose();
    let cases = [
        (expired.text.expose().to_owned(), "expired"),
        (revoked.text.expose().to_owned(), "revoked"),
        (format!("gk_{}_{}", good.record.id, "x".repeat(43)), &*good.record.id.0),
        (String::new(), "unknown"),
        (good.record.id.to_string(), "unknown"),
        (format!("{good_text} "), "unknown"),
        (good_text.to_uppercase(), "unknown"),
        (format!("{good_text}{}", "\0".repeat(10_000)), "unknown"),
        ("\u{1f511}".repeat(200), "unknown"),
    ];
    let mut answers: Vec<String> = cases
        .iter()
        .map(|(text, why)| {
            let outcome = keyring.prove(text, site.clock.wall());
            let detail = outcome.as_ref().unwrap_err().detail.clone().unwrap();
            assert!(detail.contains(why), "{detail} should say {why}");
            assert!(!detail.contains(&"x".repeat(43)) && !detail.contains(good_text), "no secret in the log: {detail}");
            refused(outcome)
        })
        .collect();
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    for word in ["gaucho key create APP", "Authorization: Bearer", "x-api-key", "/k/KEY/"] {
        assert!(answers[0].contains(word), "{word} in {}", answers[0]);
    }
    assert!(site.prove(&keyring, &good).is_ok());
}

#[test]
fn a_revocation_reaches_what_runs() {
    let site = Site::new();
    let (shop, wiki) = (site.create("shop"), site.create("wiki"));
    let keyring = site.keyring(&PolicyKeys::default());
    let (running, other) = (site.prove(&keyring, &shop).unwrap(), site.prove(&keyring, &wiki).unwrap());
    let stream = running.gone();
    site.reload(&keyring);
    assert!(!stream.is_cancelled(), "a reload alone ends nothing");
    site.keys.revoke(&shop.record.id.0).unwrap();
    site.reload(&keyring);
    assert!(stream.is_cancelled() && running.is_gone() && running.gone().is_cancelled());
    refused(site.prove(&keyring, &shop));
    assert!(!other.is_gone() && site.prove(&keyring, &wiki).is_ok());
}

#[test]
fn a_removed_key_ends_what_runs() {
    let site = Site::new();
    let shop = site.create("shop");
    let keyring = site.keyring(&PolicyKeys::default());
    let running = site.prove(&keyring, &shop).unwrap();
    let document = site.store.get(KEYS, &shop.record.id.0).unwrap().unwrap();
    site.store.commit(&[Change::Delete(KEYS, &document.id, document.version)]).unwrap().unwrap();
    site.reload(&keyring);
    assert!(running.is_gone());
    refused(site.prove(&keyring, &shop));
}

#[test]
fn expiry_ends_what_runs_and_what_comes() {
    let site = Site::new();
    let short = site.keys.create(&app("shop"), Some(HOUR), None).unwrap();
    let long = site.create("shop");
    let keyring = site.keyring(&PolicyKeys::default());
    let running = [site.prove(&keyring, &short).unwrap(), site.prove(&keyring, &long).unwrap()];
    site.clock.advance(HOUR - Duration::from_nanos(1));
    keyring.expire(site.clock.wall());
    assert!(!running[0].is_gone() && site.prove(&keyring, &short).is_ok());
    site.clock.advance(Duration::from_nanos(1));
    refused(site.prove(&keyring, &short));
    keyring.expire(site.clock.wall());
    assert_eq!(running.map(|principal| principal.is_gone()), [true, false]);
    assert!(keyring.prove(short.text.expose(), Duration::ZERO).is_err(), "a clock set back revives no key");
}

#[test]
fn both_keys_of_a_rotation_work_until_the_overlap_ends() {
    let site = Site::new();
    let old = site.create("shop");
    let keyring = site.keyring(&PolicyKeys::default());
    let running = site.prove(&keyring, &old).unwrap();
    let new = site.keys.rotate(&old.record.id.0, HOUR).unwrap();
    site.reload(&keyring);
    assert!(!running.is_gone() && site.prove(&keyring, &old).is_ok() && site.prove(&keyring, &new).is_ok());
    site.clock.advance(HOUR);
    keyring.expire(site.clock.wall());
    assert!(running.is_gone());
    refused(site.prove(&keyring, &old));
    assert!(site.prove(&keyring, &new).is_ok());
}

#[test]
fn one_request_cannot_end_another() {
    let site = Site::new();
    let shop = site.create("shop");
    let keyring = site.keyring(&PolicyKeys::default());
    let principal = site.prove(&keyring, &shop).unwrap();
    principal.gone().cancel();
    assert!(!principal.is_gone() && site.prove(&keyring, &shop).is_ok());
}

#[test]
fn a_policy_hash_is_a_key_until_the_policy_drops_it() {
    let site = Site::new();
    let keyring = site.keyring(&by_hash("shop", "any text at all"));
    let principal = keyring.prove("any text at all", site.clock.wall()).unwrap();
    assert_eq!((principal.app(), principal.key()), (&app("shop"), None));
    keyring.reload(&site.store, &by_hash("wiki", "any text at all"), site.clock.wall()).unwrap();
    assert!(principal.is_gone(), "it belongs to another application now");
    let principal = keyring.prove("any text at all", site.clock.wall()).unwrap();
    assert_eq!(principal.app(), &app("wiki"));
    site.reload(&keyring);
    assert!(principal.is_gone());
    refused(keyring.prove("any text at all", site.clock.wall()));
}

#[test]
fn revoking_a_stored_key_holds_though_its_hash_stands_in_a_policy() {
    let site = Site::new();
    let shop = site.create("shop");
    let policy = by_hash("wiki", shop.text.expose());
    let keyring = site.keyring(&policy);
    assert_eq!(site.prove(&keyring, &shop).unwrap().app(), &app("shop"));
    site.keys.revoke(&shop.record.id.0).unwrap();
    keyring.reload(&site.store, &policy, site.clock.wall()).unwrap();
    refused(site.prove(&keyring, &shop));
}

#[test]
fn the_longest_text_is_looked_at_whole_or_not_at_all() {
    let site = Site::new();
    let (longest, longer) = ("k".repeat(512), "k".repeat(513));
    let keyring = site.keyring(&by_hash("shop", &longest));
    assert!(keyring.prove(&longest, site.clock.wall()).is_ok());
    refused(keyring.prove(&longer, site.clock.wall()));
    let keyring = site.keyring(&by_hash("shop", &longer));
    refused(keyring.prove(&longer, site.clock.wall()));
}

#[test]
fn a_stand_in_is_never_gone() {
    let principal = Principal::stand_in("shop");
    assert!(principal.app() == &app("shop") && !principal.is_gone());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Through any order of changes, exactly the valid keys prove anything, and what runs is gone when its key is.
    #[test]
    fn the_keyring_follows_the_records(steps in prop::collection::vec((0..5_u8, any::<prop::sample::Index>()), 1..24)) {
        let site = Site::new();
        let keyring = site.keyring(&PolicyKeys::default());
        let mut made: Vec<NewKey> = Vec::new();
        let mut running: Vec<Principal> = Vec::new();
        for (verb, which) in steps {
            let pick = (!made.is_empty()).then(|| made[which.index(made.len())].record.id.clone());
            match (verb, pick) {
                (1, Some(id)) => { site.keys.revoke(&id.0).unwrap(); }
                (2, Some(id)) => { if let Ok(new) = site.keys.rotate(&id.0, HOUR) { made.push(new); } }
                (3, _) => site.clock.advance(HOUR / 2),
                (4, _) => made.push(site.keys.create(&app("shop"), Some(HOUR), None).unwrap()),
                _ => made.push(site.create("wiki")),
            }
            site.reload(&keyring);
            keyring.expire(site.clock.wall());
            let now = site.clock.wall();
            let records = site.keys.list().unwrap();
            let valid = |id: &crate::domain::KeyId| {
                records.iter().any(|record| record.id == *id && record.state(now) == KeyState::Active)
            };
            for key in &made {
                match site.prove(&keyring, key) {
                    Ok(principal) => {
                        prop_assert!(valid(&key.record.id));
                        running.push(principal);
                    }
                    Err(_) => prop_assert!(!valid(&key.record.id)),
                }
            }
            for principal in &running {
                prop_assert_eq!(principal.is_gone(), !valid(principal.key().unwrap()));
            }
        }
    }

    /// No text that was not made as a key proves anything, or panics.
    #[test]
    fn no_other_text_is_a_key(text in "(gk_)?[0-9a-z_\\PC]{0,80}") {
        let site = Site::new();
        site.create("shop");
        prop_assert!(site.keyring(&PolicyKeys::default()).prove(&text, site.clock.wall()).is_err());
    }
}
