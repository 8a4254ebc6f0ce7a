//! The store under two handles, two threads, bad files and bad folders.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const THINGS: Collection = Collection("things");
const OTHERS: Collection = Collection("others");

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn body(store: &Store, id: &str) -> Option<String> {
    store.get(THINGS, id).unwrap().map(|document| document.body)
}

#[test]
fn a_document_lives_through_reopening() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    store.commit(&[Change::Insert(THINGS, "a", "1")]).unwrap().unwrap();
    drop(store);
    assert_eq!(body(&Store::open(dir.path()).unwrap(), "a").as_deref(), Some("1"));
}

#[test]
fn folder_and_files_are_for_the_owner_only() {
    let dir = folder();
    let state = dir.path().join("deep/state");
    let store = Store::open(&state).unwrap();
    store.commit(&[Change::Insert(THINGS, "a", "1")]).unwrap().unwrap();
    let _lease = Lease::try_take(&state, "me").unwrap().unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let mut files = 0;
    for file in fs::read_dir(&state).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
        files += 1;
    }
    assert!(files >= 3, "database, log and lock are there: {files}");
}

#[test]
fn a_commit_is_all_or_nothing() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    store.commit(&[Change::Insert(THINGS, "a", "1")]).unwrap().unwrap();
    let refused = store.commit(&[Change::Insert(THINGS, "b", "2"), Change::Insert(THINGS, "a", "3")]).unwrap();
    assert_eq!(refused, None);
    assert_eq!(body(&store, "b"), None);
    assert_eq!(body(&store, "a").as_deref(), Some("1"));
    let kept = store.commit(&[Change::Insert(THINGS, "b", "2"), Change::Ensure(THINGS, "a", "3")]).unwrap();
    assert!(kept.is_some());
    assert_eq!(body(&store, "b").as_deref(), Some("2"));
    assert_eq!(body(&store, "a").as_deref(), Some("1"), "ensure leaves what is there");
}

#[test]
fn a_stale_version_never_writes_not_even_over_a_new_document_of_the_same_name() {
    let dir = folder();
    let one = Store::open(dir.path()).unwrap();
    let two = Store::open(dir.path()).unwrap();
    let first = one.commit(&[Change::Insert(THINGS, "a", "1")]).unwrap().unwrap();
    let second = two.commit(&[Change::Replace(THINGS, "a", first, "2")]).unwrap().unwrap();
    assert_eq!(one.commit(&[Change::Replace(THINGS, "a", first, "3")]).unwrap(), None);
    assert_eq!(one.commit(&[Change::Delete(THINGS, "a", first)]).unwrap(), None);
    two.commit(&[Change::Delete(THINGS, "a", second)]).unwrap().unwrap();
    two.commit(&[Change::Insert(THINGS, "a", "4")]).unwrap().unwrap();
    assert_eq!(one.commit(&[Change::Replace(THINGS, "a", first, "5")]).unwrap(), None);
    assert_eq!(one.commit(&[Change::Replace(THINGS, "a", second, "5")]).unwrap(), None);
    assert_eq!(body(&one, "a").as_deref(), Some("4"));
}

#[test]
fn collections_are_apart_and_listed_by_id() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    store
        .commit(&[Change::Insert(THINGS, "b", "1"), Change::Insert(OTHERS, "a", "2"), Change::Insert(THINGS, "a", "3")])
        .unwrap()
        .unwrap();
    let ids = |from| store.list(from).unwrap().into_iter().map(|document| document.id).collect::<Vec<_>>();
    assert_eq!(ids(THINGS), ["a", "b"]);
    assert_eq!(ids(OTHERS), ["a"]);
}

#[test]
fn a_watch_notices_every_handle_once() {
    let dir = folder();
    let ours = Store::open(dir.path()).unwrap();
    let theirs = Store::open(dir.path()).unwrap();
    let mut watch = ours.watch().unwrap();
    assert!(!watch.changed().unwrap());
    for store in [&theirs, &ours] {
        let id = format!("{}", ours.list(THINGS).unwrap().len());
        store.commit(&[Change::Insert(THINGS, &id, "1")]).unwrap().unwrap();
        assert!(watch.changed().unwrap());
        assert!(!watch.changed().unwrap());
    }
    theirs.get(THINGS, "0").unwrap();
    assert_eq!(theirs.commit(&[Change::Insert(THINGS, "0", "2")]).unwrap(), None);
    assert!(!watch.changed().unwrap(), "reads and refused commits are no change");
}

#[test]
fn a_watch_says_that_its_file_was_taken_away() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    let mut watch = store.watch().unwrap();
    fs::remove_file(dir.path().join("gaucho.db")).unwrap();
    assert!(matches!(watch.changed(), Err(StoreError::Replaced(_))));
    Store::open(dir.path()).unwrap();
    assert!(matches!(watch.changed(), Err(StoreError::Replaced(_))));
    assert!(matches!(store.watch(), Err(StoreError::Replaced(_))), "a new watch is not fooled by the new file");
}

#[test]
fn many_may_open_and_write_a_new_folder_at_once() {
    const WRITERS: usize = 8;
    let dir = folder();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let path = dir.path().to_owned();
            thread::spawn(move || {
                let store = Store::open(&path).unwrap();
                store.commit(&[Change::Insert(THINGS, &writer.to_string(), "1")]).unwrap().unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(Store::open(dir.path()).unwrap().list(THINGS).unwrap().len(), WRITERS);
}

#[test]
fn troubles_name_the_path_and_the_remedy() {
    let check = |error: StoreError, words: &[&str]| {
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} in {text:?}");
        }
    };
    let dir = folder();
    let at = |name: &str| dir.path().join(name);

    check(Store::open_existing(&at("none")).unwrap_err(), &["none", "--state"]);
    assert!(!at("none").exists(), "looking makes nothing");

    fs::write(at("file"), "x").unwrap();
    check(Store::open(&at("file")).unwrap_err(), &["file", "user that runs"]);
    check(Lease::try_take(&at("file"), "me").unwrap_err(), &["file"]);

    fs::create_dir(at("noise")).unwrap();
    fs::write(at("noise").join("gaucho.db"), "not a database, but long enough to look at".repeat(20)).unwrap();
    check(Store::open(&at("noise")).unwrap_err(), &["noise/gaucho.db", "damaged", "restore"]);

    drop(Store::open(&at("future")).unwrap());
    let raw = rusqlite::Connection::open(at("future").join("gaucho.db")).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    check(Store::open(&at("future")).unwrap_err(), &["schema 99", "newer gaucho"]);
}

#[test]
fn a_damaged_page_is_an_error_and_no_panic() {
    let dir = folder();
    let store = Store::open(dir.path()).unwrap();
    for id in 0..200 {
        store.commit(&[Change::Insert(THINGS, &id.to_string(), &"x".repeat(200))]).unwrap().unwrap();
    }
    drop(store);
    let path = dir.path().join("gaucho.db");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[4096 * 2..middle].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let outcome = Store::open(dir.path()).and_then(|store| store.list(THINGS));
    assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{outcome:?}");
}

/// Every file with its bytes and when it was written; but for where SQLite's connections meet while there are any.
fn snapshot(folder: &std::path::Path) -> BTreeMap<std::path::PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let file = |path: std::path::PathBuf| {
        let written = (fs::read(&path).unwrap(), path.metadata().unwrap().modified().unwrap());
        (path, written)
    };
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| !path.to_string_lossy().ends_with("-shm")).map(file).collect()
}

#[test]
fn a_look_changes_nothing_and_finds_what_is_there() {
    let dir = folder();
    let state = dir.path().join("a state? #1%");
    assert!(Store::inspect(&state).unwrap().store.is_none());
    assert!(!state.exists(), "looking makes nothing");
    let store = Store::open(&state).unwrap();
    store.commit(&[Change::Insert(THINGS, "a", "1")]).unwrap().unwrap();
    let lease = Lease::try_take(&state, "pid 7").unwrap().unwrap();
    let look = |whose: Option<&str>| {
        let before = snapshot(&state);
        let found = Store::inspect(&state).unwrap();
        let read = found.store.unwrap();
        assert_eq!((body(&read, "a").as_deref(), found.holder.as_deref()), (Some("1"), whose));
        assert!(read.commit(&[Change::Insert(THINGS, "b", "2")]).is_err(), "it only reads");
        drop(read);
        assert!(snapshot(&state) == before, "it changed something");
    };
    look(Some("pid 7"));
    // a gateway that crashed leaves its log behind
    let crashed = dir.path().join("crashed");
    fs::create_dir(&crashed).unwrap();
    for (path, (bytes, _)) in snapshot(&state) {
        fs::write(crashed.join(path.file_name().unwrap()), bytes).unwrap();
    }
    drop((store, lease));
    look(None);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 3, "nor does it leave anything");
    let found = Store::inspect(&crashed).unwrap();
    assert_eq!((body(&found.store.unwrap(), "a").as_deref(), found.holder), (Some("1"), None));
    assert_eq!(body(&Store::open(&crashed).unwrap(), "a").as_deref(), Some("1"));
}

#[test]
fn a_look_tells_what_opening_would_and_damage_that_it_would_not() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    let why = |name: &str| Store::inspect(&at(name)).unwrap_err().to_string();
    fs::write(at("file"), "x").unwrap();
    for name in ["file", "file/below"] {
        assert!(why(name).contains("cannot write"), "{}", why(name));
    }
    fs::create_dir(at("noise")).unwrap();
    fs::write(at("noise").join("gaucho.db"), "not a database, but long enough to look at".repeat(20)).unwrap();
    assert!(why("noise").contains("damaged"), "{}", why("noise"));

    let store = Store::open(&at("torn")).unwrap();
    for id in 0..200 {
        store.commit(&[Change::Insert(THINGS, &id.to_string(), &"x".repeat(200))]).unwrap().unwrap();
    }
    drop(store);
    let path = at("torn").join("gaucho.db");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4096;
    bytes[last..].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    assert!(why("torn").contains("damaged"), "{}", why("torn"));

    drop(Store::open(&at("future")).unwrap());
    let raw = rusqlite::Connection::open(at("future").join("gaucho.db")).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    drop(raw);
    assert!(why("future").contains("newer gaucho"), "{}", why("future"));

    drop(Store::open(&at("closed")).unwrap());
    fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o500)).unwrap();
    let shut = fs::write(at("closed").join("probe"), "").is_err();
    assert_eq!(Store::inspect(&at("closed")).is_err(), shut, "root may write anywhere");
    fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn the_lease_has_one_owner_and_passes_on() {
    let dir = folder();
    let first = Lease::try_take(dir.path(), "pid 1 on 127.0.0.1:1").unwrap().unwrap();
    assert!(Lease::try_take(dir.path(), "pid 2").unwrap().is_none());
    assert_eq!(Lease::holder(dir.path()).as_deref(), Some("pid 1 on 127.0.0.1:1"));
    drop(first);
    let _second = Lease::try_take(dir.path(), "pid 2").unwrap().unwrap();
    assert_eq!(Lease::holder(dir.path()).as_deref(), Some("pid 2"), "the longer note is gone");
}

#[tokio::test(start_paused = true)]
async fn a_standby_waits_for_the_lease() {
    let dir = folder();
    let first = Lease::try_take(dir.path(), "first").unwrap().unwrap();
    let mut standby = Box::pin(Lease::take(dir.path().to_owned(), "second".into()));
    let early = tokio::time::timeout(std::time::Duration::from_secs(60), &mut standby).await;
    assert!(early.is_err(), "held");
    drop(first);
    standby.await.unwrap();
    assert_eq!(Lease::holder(dir.path()).as_deref(), Some("second"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the order of changes, through whichever handle, the store holds what a plain map would.
    #[test]
    fn two_handles_are_one_map(steps in prop::collection::vec((any::<bool>(), 0..4_u8, 0..4_u8), 1..40)) {
        let dir = folder();
        let handles = [Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap()];
        let mut model: BTreeMap<String, (String, Version)> = BTreeMap::new();
        for (step, (second, verb, id)) in steps.into_iter().enumerate() {
            let store = &handles[usize::from(second)];
            let (id, text) = (id.to_string(), step.to_string());
            let known = model.get(&id).map(|(_, version)| *version);
            match (verb, known) {
                (0, known) => {
                    let done = store.commit(&[Change::Insert(THINGS, &id, &text)]).unwrap();
                    prop_assert_eq!(done.is_some(), known.is_none());
                    if let Some(version) = done { model.insert(id, (text, version)); }
                }
                (1, known) => {
                    let version = store.commit(&[Change::Ensure(THINGS, &id, &text)]).unwrap().unwrap();
                    if known.is_none() { model.insert(id, (text, version)); }
                }
                (2, Some(old)) => {
                    let version = store.commit(&[Change::Replace(THINGS, &id, old, &text)]).unwrap().unwrap();
                    prop_assert_eq!(store.commit(&[Change::Delete(THINGS, &id, old)]).unwrap(), None);
                    model.insert(id, (text, version));
                }
                (_, Some(old)) => {
                    store.commit(&[Change::Delete(THINGS, &id, old)]).unwrap().unwrap();
                    model.remove(&id);
                }
                (_, None) => {}
            }
        }
        for store in &handles {
            let stored: BTreeMap<_, _> = store
                .list(THINGS).unwrap().into_iter().map(|d| (d.id, (d.body, d.version))).collect();
            prop_assert_eq!(&stored, &model);
        }
    }
}
