//! A key's life, as an operator leads it.

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use super::super::key::{generate, id_in, id_meant};
use super::super::record::{IDENTITY, KEYS, SEAL};
use super::*;
use crate::store::Change;

#[test]
fn key_texts_are_url_safe_distinct_and_carry_their_id() {
    let mut seen = HashSet::new();
    let mut letters = HashSet::new();
    for _ in 0..300 {
        let (id, text) = generate().unwrap();
        let text = text.expose();
        let (prefix, rest) = text.split_at(3);
        let (found, secret) = rest.split_once('_').unwrap();
        assert_eq!((prefix, found, secret.len()), ("gk_", &*id.0, 43));
        assert!(secret.bytes().all(|letter| letter.is_ascii_alphanumeric()), "{text}");
        letters.extend(secret.bytes());
        assert_eq!(id_in(text), Some(id.clone()));
        assert_eq!(id_meant(&id.0), Some(id.clone()));
        assert_eq!(id_meant(&format!(" gk_{id} ")), Some(id));
        assert!(seen.insert(text.to_owned()));
    }
    assert_eq!(letters.len(), 62, "every letter occurs");
    for other in ["", "gk_", "0123456789", "gk_0123456789", "gk_012345678_x", "gk_012345678I_x", "sk_0123456789_x"] {
        assert_eq!(id_in(other), None, "{other}");
    }
}

#[test]
fn the_text_is_nowhere_on_disk_and_in_no_debug() {
    let site = Site::new();
    let made = site.create("shop");
    let text = made.text.expose();
    assert!(!format!("{made:?}").contains(text));
    let secret = text.rsplit('_').next().unwrap().as_bytes();
    for file in std::fs::read_dir(site.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn records_come_back_as_they_were_made_oldest_first() {
    let site = Site::new();
    let first = site.keys.create(&app("shop"), Some(HOUR), Some("till \u{e9} \"3\"")).unwrap();
    site.clock.advance(HOUR);
    let second = site.create("wiki");
    assert_eq!(first.record.expires, Some(site.clock.wall()));
    assert_eq!(site.keys.list().unwrap(), [first.record.clone(), second.record.clone()]);
    assert_eq!(first.record.state(site.clock.wall()), KeyState::Expired, "the end is not part of the life");
    assert_eq!(first.record.state(first.record.created), KeyState::Active);
    assert_eq!(second.record.state(Duration::MAX), KeyState::Active);
}

#[test]
fn revoking_is_for_good_and_may_be_repeated() {
    let site = Site::new();
    let made = site.create("shop");
    let revoked = site.keys.revoke(&made.record.id.0).unwrap();
    site.clock.advance(HOUR);
    assert_eq!(site.keys.revoke(made.text.expose()).unwrap(), revoked, "by the whole key, too");
    assert_eq!(site.keys.list().unwrap(), [revoked]);
    assert!(matches!(
        site.keys.rotate(made.text.expose(), HOUR),
        Err(KeyError::Ended { state: KeyState::Revoked, .. })
    ));
}

#[test]
fn rotation_keeps_app_label_and_length_of_life_and_ends_the_old_key() {
    let site = Site::new();
    let old = site.keys.create(&app("shop"), Some(HOUR * 10), Some("till")).unwrap().record;
    site.clock.advance(HOUR);
    let new = site.keys.rotate(&old.id.0, HOUR).unwrap().record;
    let now = site.clock.wall();
    assert_eq!((&new.app, &new.label, new.created), (&old.app, &old.label, now));
    assert_eq!((new.expires, &new.rotated_from), (Some(now + HOUR * 10), &Some(old.id.clone())));
    let ending = site.keys.list().unwrap().into_iter().find(|key| key.id == old.id).unwrap();
    assert_eq!(ending.expires, Some(now + HOUR));

    let again = site.keys.rotate(&old.id.0, HOUR * 100).unwrap().record;
    let ending = site.keys.list().unwrap().into_iter().find(|key| key.id == old.id).unwrap();
    assert_eq!(ending.expires, Some(now + HOUR), "an overlap never lengthens a life");
    assert_ne!(again.id, new.id);
    assert_eq!(again.expires, Some(now + HOUR * 10), "as long a life as the old one was made for");

    site.clock.advance(HOUR);
    assert!(matches!(site.keys.rotate(&old.id.0, HOUR), Err(KeyError::Ended { state: KeyState::Expired, .. })));
}

#[test]
fn mistakes_name_the_remedy() {
    let site = Site::new();
    let id = site.create("shop").record.id;
    let mut typo = id.to_string();
    let last = typo.pop();
    typo.push(if last == Some('0') { '1' } else { '0' });
    let text = site.keys.revoke(&typo).unwrap_err().to_string();
    assert!(text.contains(&format!("did you mean {id}?")) && text.contains("gaucho key list"), "{text}");
    for label in ["a\nb", "\u{1b}[31m", &"x".repeat(201)] {
        assert!(matches!(site.keys.create(&app("shop"), None, Some(label)), Err(KeyError::Label { .. })));
    }
    assert!(matches!(site.keys.create(&app("shop"), Some(Duration::ZERO), None), Err(KeyError::NoLife)));
    assert_eq!(site.keys.list().unwrap().len(), 1);
}

#[test]
fn changes_by_many_at_once_are_all_kept() {
    let site = Site::new();
    let old = site.create("shop").record.id;
    let (path, clock) = (site.dir.path().to_owned(), site.clock.clone());
    let rotate = Arc::new(move |id: &str| {
        Keys::new(Store::open(&path).unwrap(), clock.clone()).rotate(id, HOUR).unwrap().record.id
    });
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (rotate, old) = (Arc::clone(&rotate), old.clone());
            thread::spawn(move || rotate(&old.0))
        })
        .collect();
    let made: HashSet<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    assert_eq!((made.len(), site.keys.list().unwrap().len()), (4, 5));
}

#[test]
fn a_damaged_record_harms_no_other_key() {
    let site = Site::new();
    let good = site.create("shop");
    site.store.commit(&[Change::Insert(KEYS, "0123456789", "{\"app\":7}")]).unwrap().unwrap();
    assert_eq!(site.keys.list().unwrap().len(), 1);
    assert!(matches!(site.keys.revoke("0123456789"), Err(KeyError::Unknown { .. })));
    assert!(site.prove(&site.keyring(&PolicyKeys::default()), &good).is_ok());
}

#[test]
fn the_first_key_seals_the_folder() {
    let site = Site::new();
    assert!(site.store.get(IDENTITY, SEAL).unwrap().is_none());
    site.create("shop");
    let seal = site.store.get(IDENTITY, SEAL).unwrap().unwrap();
    site.create("wiki");
    assert_eq!(site.store.get(IDENTITY, SEAL).unwrap().unwrap(), seal);
}
